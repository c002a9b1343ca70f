"""What is seen inside the model is what it does: the numbers of /v1/score and the states that reading leaves."""

import json
import math
import threading
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from pydantic import BaseModel

from model.checkpoint import save
from model.decoding.decoder import NUMPY, Decoder
from model.sampling.probabilities import log_probabilities
from model.text.features import FEATURES
from model.text.frame import TextFrame
from service.analysis.inspect_schemas import MOST_NUMBERS, Influence, Inspection, UnitSearch
from service.settings import Settings
from tests.model.plain import PlainReader
from tests.model.small import CHARACTERS, small_checkpoint
from tests.service.serving import Reference, Running, SlowDecoder, eventually, serving

STRANGE = "naïve 日本 a明b😀 \u2028\r\n\0 é"  # some of it is spelt in bytes
PATHS = ("/v1/inspect", "/v1/inspect/units", "/v1/inspect/influence")
KINDS: dict[str, type[BaseModel]] = dict(zip(PATHS, (Inspection, UnitSearch, Influence), strict=True))
UNITS = [
    {"layer": 1, "part": "cell", "unit": 23},
    {"layer": 0, "part": "hidden", "unit": 0},
    {"layer": 1, "part": "hidden", "unit": 5},
    {"layer": 0, "part": "hidden", "unit": 0},
]


def text_of(length: int, seed: int = 3) -> str:
    letters = list(CHARACTERS + 'ŵ日\t"()A1')
    return "".join(np.random.default_rng(seed).choice(letters, length))


def asked(server: Running, path: str, **fields: Any) -> dict[str, Any]:
    response = server.client.post(path, json=fields)
    assert response.status_code == 200, response.text
    KINDS[path].model_validate(response.json())
    body: dict[str, Any] = response.json()
    return body


def inspect(server: Running, text: str, **fields: Any) -> dict[str, Any]:
    return asked(server, PATHS[0], text=text, **fields)


def scored(server: Running, text: str, **fields: Any) -> dict[str, Any]:
    answer = server.client.post("/v1/score", json={"texts": text, "details": True, **fields}).raise_for_status()
    body: dict[str, Any] = answer.json()["results"][0]
    return body


def states(reference: Reference, text: str) -> "np.ndarray[Any, np.dtype[np.float32]]":
    """The state after each character of a text that follows a line break (characters, floats), a step at a time."""
    rows, encode, found = reference.decoder.rows(1), reference.checkpoint.tokenizer.encode, []
    rows.read([0], encode("\n")[None].astype(np.int32))
    for character in text:
        rows.read([0], encode(character)[None].astype(np.int32))
        found.append(np.array(rows.state[0]))
    return np.stack(found)


@pytest.mark.parametrize("context", [None, "", "HAMLET:\n", "é明" * 200])
@pytest.mark.parametrize("text", [STRANGE, "a", text_of(700)], ids=["strange", "short", "long"])
def test_it_says_what_score_says(server: Running, text: str, context: str | None) -> None:
    found = inspect(server, text, context=context, top_logprobs=4, units=UNITS)
    expected = scored(server, text, context=context, top_logprobs=4)
    shown = [{name: value for name, value in one.items() if name != "units"} for one in found["details"]]
    assert shown == expected["details"]
    for name in ("characters", "tokens", "bits", "bits_per_character", "unseen_characters"):
        assert found[name] == expected[name]


def test_units_are_those_of_the_state_after_each_character(server: Running, reference: Reference) -> None:
    text = STRANGE + text_of(200)
    found, state = inspect(server, text, units=UNITS), states(reference, text)
    layout = reference.checkpoint.config.state_layout()
    columns = [layout[name].start + unit for name, unit in (("c1", 23), ("h0", 0), ("h1", 5), ("h0", 0))]
    expected = np.round(state[:, columns].astype(np.float64), 6)
    assert [one["units"] for one in found["details"]] == expected.tolist()
    assert [(one["least"], one["greatest"]) for one in found["units"]] == [
        *zip(expected.min(axis=0).tolist(), expected.max(axis=0).tolist(), strict=True)
    ]
    assert [{name: one[name] for name in UNITS[0]} for one in found["units"]] == UNITS
    assert found["network"] == {"cell": "lstm", "layers": 2, "width": 24, "parts": ["hidden", "cell"]}


def test_it_says_what_comes_next(server: Running, reference: Reference) -> None:
    text = "the cat"
    found = inspect(server, text, top_logprobs=3)["next"]
    expected = scored(server, text + "x", top_logprobs=3)["details"][-1]
    assert found == {name: expected[name] for name in ("entropy_bits", "alternatives")}
    assert inspect(server, text, top_logprobs=0)["next"]["alternatives"] is None
    assert reference.checkpoint.tokenizer.size > 3


def test_an_empty_text_has_a_next_character_alone(server: Running) -> None:
    found = inspect(server, "", top_logprobs=2, units=UNITS[:1])
    assert (found["characters"], found["bits"], found["bits_per_character"], found["details"]) == (0, 0, None, [])
    assert found["units"] == [{**UNITS[0], "least": None, "greatest": None}]
    assert found["next"]["alternatives"] == scored(server, "a", top_logprobs=2)["details"][0]["alternatives"]
    search = asked(server, PATHS[1], text="")
    assert [(one["mean"], one["units"]) for one in search["features"]] == [(None, [])] * len(FEATURES)


@pytest.mark.parametrize("cell", ["gru", "rnn"])
def test_other_cells_have_no_cell_state(cell: Any, tmp_path: Path) -> None:
    save(small_checkpoint(cell, 3), tmp_path / "other")
    with serving(Settings(checkpoint=tmp_path / "other")) as running:
        found = inspect(running, "the cat", units=[{"layer": 2, "unit": 23}])
        assert found["network"]["parts"] == ["hidden"]
        assert len(found["details"][0]["units"]) == 1
        wrong = running.client.post(PATHS[0], json={"text": "a", "units": [{"layer": 0, "part": "cell", "unit": 0}]})
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "units")
        assert asked(running, PATHS[1], text="the cat sat", features=["spaces"])["features"][0]["units"]


def test_items_are_inspected_as_they_are_scored(item_folder: Path) -> None:
    with serving(Settings(checkpoint=item_folder)) as running:
        shown = [one["bits"] for one in inspect(running, "anna")["details"]]
        assert shown == [one["bits"] for one in scored(running, "anna")["details"]]
        assert asked(running, PATHS[2], text="a", position=0)["details"] == []


@pytest.fixture
def item_folder(tmp_path: Path) -> Path:
    """A checkpoint whose texts are items."""
    plain = small_checkpoint()
    save(replace(plain, tokenizer=plain.tokenizer.framed(TextFrame(separator="e"))), tmp_path / "items")
    return tmp_path / "items"


def test_a_crowd_changes_nothing(server: Running) -> None:
    """Texts that are scored, written and inspected at once, with other units and alternatives each."""
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/inspect", {"text": text_of(900, 1), "units": UNITS, "top_logprobs": 1}),
        ("/v1/inspect", {"text": text_of(1_500, 2), "units": UNITS[:1], "top_logprobs": 20}),
        ("/v1/inspect", {"text": text_of(300, 5)}),
        ("/v1/inspect/units", {"text": text_of(3_000, 4)}),
        ("/v1/inspect/influence", {"text": text_of(1_500, 6), "position": 700, "window": 300}),
        ("/v1/score", {"texts": [text_of(2_000, 7)] * 3, "top_logprobs": 5}),
        ("/v1/completions", {"prompt": "the", "max_tokens": 800, "n": 4, "seed": 1}),
    ]

    def answer(ask: tuple[str, dict[str, Any]]) -> Any:
        body = server.client.post(ask[0], json=ask[1]).raise_for_status().json()
        del body["usage"]  # what came from the cache may differ
        return [choice["text"] for choice in body["choices"]] if "choices" in body else body

    alone = [answer(ask) for ask in bodies]
    with ThreadPoolExecutor(len(bodies)) as pool:
        for _ in range(3):
            assert list(pool.map(answer, bodies)) == alone


def test_a_search_finds_what_correlates(server: Running, reference: Reference) -> None:
    text = text_of(1_000)
    found = asked(server, PATHS[1], text=text, features=["line_position", "spaces", "spaces"], most=4)
    state = states(reference, text).astype(np.float64)
    line = [float(index) - (text.rfind("\n", 0, index + 1)) for index in range(len(text))]
    spaces = [float(character in " \t") for character in text]
    layout, network = reference.checkpoint.config.state_layout(), found["network"]
    assert [one["feature"] for one in found["features"]] == ["line_position", "spaces"]
    for one, feature in zip(found["features"], (line, spaces), strict=True):
        assert one["mean"] == pytest.approx(np.mean(feature))
        correlations = np.array([np.corrcoef(feature, column)[0, 1] for column in state.T])
        best = np.sort(np.abs(correlations))[::-1][:4]
        assert [abs(unit["correlation"]) for unit in one["units"]] == pytest.approx(best.tolist(), abs=2e-6)
        for unit in one["units"]:
            part = "hc"[network["parts"].index(unit["part"])]
            column = layout[f"{part}{unit['layer']}"].start + unit["unit"]
            assert unit["correlation"] == pytest.approx(correlations[column], abs=2e-6)


def test_a_feature_that_never_changes_has_no_units(server: Running) -> None:
    found = asked(server, PATHS[1], text="abc" * 50, features=["quotes", "digits"])["features"]
    assert [(one["mean"], one["units"]) for one in found] == [(0, []), (0, [])]


def test_influence_is_the_difference_of_two_readings(server: Running, reference: Reference) -> None:
    text, at, window = "naïve 日本 " + text_of(300), 40, 120
    for replacement in ("x", "日", None, ""):
        fields = {"text": text, "position": at, "window": window, "replacement": replacement}
        found = asked(server, PATHS[2], **fields)
        assert (found["character"], found["replacement"]) == (text[at], replacement or None)
        changed = text[:at] + (replacement or "") + text[at + 1 :]
        plain, other = scored(server, text)["details"], scored(server, changed)["details"]
        own, theirs = plain[at + 1 :][:window], other[at + len(replacement or "") :][:window]
        details = found["details"]
        assert [one["character"] for one in details] == list(text[at + 1 :][:window])
        assert [one["bits"] for one in details] == [one["bits"] for one in own]
        assert [one["changed_bits"] for one in details] == [one["bits"] for one in theirs]
        assert all(one["difference"] == one["changed_bits"] - one["bits"] for one in details)
        assert found["total_difference"] == pytest.approx(sum(one["difference"] for one in details))
        felt = [index + 1 for index, one in enumerate(details) if one["divergence_bits"] >= 0.01]
        assert found["felt"] == max(felt, default=None)
    p, q = (everything(reference, "\n" + text[:at] + middle) for middle in (text[at], ""))
    expected = float((np.exp(p) * (p - q)).sum() / math.log(2))
    assert found["details"][0]["divergence_bits"] == pytest.approx(expected, abs=1e-5)


def everything(reference: Reference, text: str) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """ln p of every id after a text, read an id at a time in numpy (V,)."""
    reader = PlainReader(reference.checkpoint)
    for token in reference.checkpoint.tokenizer.encode(text).tolist():
        reader.read(token)
    logprobs: np.ndarray[Any, np.dtype[np.float64]] = log_probabilities(reader.every_logits()[None])[0]
    return logprobs.astype(np.float64)


def test_the_same_character_changes_nothing(server: Running) -> None:
    text = text_of(100)
    found = asked(server, PATHS[2], text=text, position=50, replacement=text[50])
    assert {(one["difference"], one["divergence_bits"]) for one in found["details"]} == {(0, 0)}
    assert (found["total_difference"], found["felt"]) == (0, None)
    last = asked(server, PATHS[2], text=text, position=99)
    assert (last["details"], last["total_difference"], last["felt"]) == ([], 0, None)


@pytest.mark.parametrize("cache", [0, 50_000_000])
def test_the_prefix_cache_changes_nothing(server: Running, checkpoint_folder: Path, cache: int) -> None:
    fields: dict[str, Any] = {"text": text_of(400), "context": text_of(300, 9)}
    more: dict[str, dict[str, Any]] = {PATHS[0]: {"units": UNITS}, PATHS[1]: {}, PATHS[2]: {"position": 200}}
    with serving(Settings(checkpoint=checkpoint_folder, prefix_cache_bytes=cache)) as running:
        for path in PATHS:
            first, second = (asked(running, path, **fields, **more[path]) for _ in range(2))
            cached = [one.pop("usage")["prompt_tokens_details"]["cached_tokens"] for one in (first, second)]
            assert (
                first
                == second
                == {
                    name: value
                    for name, value in asked(server, path, **fields, **more[path]).items()
                    if name != "usage"
                }
            )
            assert (cached[1] > 0) == (cache > 0)


@pytest.fixture(scope="module")
def narrow(checkpoint_folder: Path) -> Iterator[Running]:
    """A server that reads little."""
    with serving(Settings(checkpoint=checkpoint_folder, max_work=150_000)) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "fields", "param", "remedy"),
    [
        (PATHS[0], {}, "text", "it is required"),
        (PATHS[0], {"text": "\ud800"}, "text", "surrogate"),
        (PATHS[0], {"text": "a" * (MOST_NUMBERS // 8 + 1)}, "text", "at most 50,000 at a time"),
        (PATHS[0], {"text": "a", "units": [UNITS[0]] * 17}, "units", "at most 16"),
        (PATHS[0], {"text": "a", "units": [{"layer": 2, "unit": 0}]}, "units", "layers 0 to 1"),
        (PATHS[0], {"text": "a", "units": [{"layer": 0, "unit": 24}]}, "units", "units 0 to 23"),
        (PATHS[0], {"text": "a", "units": [{"layer": 0, "unit": 1, "part": "heart"}]}, "units", "hidden"),
        (PATHS[0], {"text": "a", "top_logprobs": 21}, "top_logprobs", "send 20 or less"),
        (PATHS[1], {"text": "a" * 100_000, "context": "b" * 50_001}, "text", "max_work is 150,000"),
        (PATHS[1], {"text": "a", "features": ["smell"]}, "features", "quotes"),
        (PATHS[1], {"text": "a", "most": 0}, "most", "send 1 or more"),
        (PATHS[2], {"text": "abc", "position": 3}, "position", "The text has 3 characters"),
        (PATHS[2], {"text": "abc"}, "position", "it is required"),
        (PATHS[2], {"text": "abc", "position": 0, "replacement": "ab"}, "replacement", "at most 1"),
        (PATHS[2], {"text": "abc", "position": 0, "window": 2_001}, "window", "send 2,000 or less"),
    ],
)
def test_what_cannot_be_inspected_is_refused(
    narrow: Running, path: str, fields: dict[str, Any], param: str, remedy: str
) -> None:
    response = narrow.client.post(path, content=json.dumps(fields), headers={"content-type": "application/json"})
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["param"] == param
    assert remedy in error["message"]
    assert eventually(lambda: narrow.ledger.held == 0)


@pytest.mark.parametrize("path", PATHS)
def test_models_keys_and_unknown_fields_are_as_elsewhere(narrow: Running, path: str) -> None:
    fields = {"text": "abc", **({"position": 0} if path == PATHS[2] else {})}
    wrong = narrow.client.post(path, json={**fields, "model": "other"})
    assert (wrong.status_code, wrong.json()["error"]["param"]) == (404, "model")
    digest = narrow.client.get("/v1/models").json()["data"][0]["digest"][:16]
    assert asked(narrow, path, **fields, model=f"{narrow.model}@{digest}") == asked(narrow, path, **fields)
    gone = narrow.client.post(path, json={**fields, "model": f"{narrow.model}@{'0' * 16}"})
    assert gone.status_code == 409
    unknown = narrow.client.post(path, json={**fields, "colour": "red", "context": None})
    assert unknown.headers["x-unroll-ignored-fields"] == "colour"
    metrics = narrow.client.get("/metrics").text
    assert f'unroll_requests_total{{code="404",route="{path}"}} 1.0' in metrics


@pytest.mark.parametrize("path", PATHS)
def test_who_leaves_frees_the_places_and_who_is_late_is_told(checkpoint_folder: Path, path: str) -> None:
    fields = {"text": "ab" * 10_000, **({"position": 15_000} if path == PATHS[2] else {})}
    with serving(Settings(checkpoint=checkpoint_folder, deadline_seconds=0.8), SlowDecoder) as running:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{running.url}{path}", json=fields, timeout=0.3)
        assert eventually(lambda: running.engine.running == 0 and running.ledger.held == 0)
        late = running.client.post(path, json=fields)
        assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
        assert eventually(lambda: running.engine.running == 0 and running.ledger.held == 0)


def test_a_text_is_written_while_a_long_one_is_inspected(slow_server: Running) -> None:
    """The pieces that are read take their share of a turn, not the thread."""
    asking = threading.Thread(
        target=lambda: httpx.post(f"{slow_server.url}/v1/inspect/units", json={"text": "a" * 600}, timeout=60)
    )
    asking.start()
    assert eventually(lambda: slow_server.engine.running == 1)
    assert len(slow_server.complete("a", max_tokens=20)["choices"][0]["text"]) == 20
    assert slow_server.engine.running == 1, "the inspection ended before the text was written"
    asking.join()


def test_a_search_takes_as_much_memory_for_a_long_text_as_for_a_short_one(server: Running) -> None:
    def most(length: int) -> int:
        text = text_of(length)
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        asked(server, PATHS[1], text=text)
        return tracemalloc.get_traced_memory()[1] - before

    tracemalloc.start()
    try:
        most(2_000)
        short, long = most(5_000), most(40_000)
    finally:
        tracemalloc.stop()
    floats = 96
    assert long - short < 35_000 * floats * 4 / 2, "states are held"


@pytest.mark.parametrize("name", ["InspectRequest", "SearchRequest", "InfluenceRequest"])
def test_the_examples_are_answered(server: Running, name: str) -> None:
    document = server.client.get("/openapi.json").json()
    path = PATHS[["InspectRequest", "SearchRequest", "InfluenceRequest"].index(name)]
    for example in document["components"]["schemas"][name]["examples"]:
        assert asked(server, path, **example)["model"] == server.model


def test_a_large_answer_comes_in_pieces(server: Running) -> None:
    with server.client.stream("POST", PATHS[0], json={"text": text_of(20_000), "units": UNITS}) as response:
        assert "content-length" not in response.headers
        body = json.loads(b"".join(response.iter_raw()))
    assert len(body["details"]) == 20_000
    assert all(len(one["units"]) == 4 and len(one["alternatives"]) == 5 for one in body["details"])


def test_the_decoders_agree(server: Running, checkpoint_folder: Path) -> None:
    """On the numpy step the same states come a step at a time."""
    with serving(Settings(checkpoint=checkpoint_folder), PlainDecoder) as plain:
        text = STRANGE + text_of(60)
        more: tuple[dict[str, Any], ...] = ({"units": UNITS}, {}, {"position": 5})
        for path, fields in zip(PATHS, more, strict=True):
            assert asked(plain, path, text=text, **fields) == asked(server, path, text=text, **fields)


class PlainDecoder(Decoder):
    """A decoder without the compiled kernel."""

    def __init__(self, checkpoint: Any, arithmetic: Any = "int8") -> None:
        super().__init__(checkpoint, arithmetic, processor=NUMPY)
