"""Texts made ids and back over HTTP: every text comes back, every wrong request is answered with the remedy."""

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.checkpoint import save
from model.text.tokenizer import Tokenizer
from service.analysis.token_routes import (
    Detokenized,
    DetokenizeRequest,
    TokenizeRequest,
    TokenizerInfo,
    Tokens,
    positions,
)
from service.settings import Settings
from tests.model.small import CHARACTERS, SIZE, small_checkpoint
from tests.service.error_cases import BODIES, HUGE, JSON, MARK, Case, check
from tests.service.serving import Running, serving

A, E_ACUTE = (256 + CHARACTERS.index(character) for character in "aé")
MOST_IDS = 20_000 + 100_000  # of the server's longest prompt, and of its longest continuation


def ask(server: Running, path: str, **fields: Any) -> Any:
    """The answer to a request that succeeds."""
    response = server.client.post(path, json=fields)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


def test_a_prompt_is_made_ids(server: Running) -> None:
    expected = {"count": 5, "max_model_len": MOST_IDS, "tokens": [A, 0xE2, 0x82, 0xAC, E_ACUTE], "token_strs": None}
    assert ask(server, "/tokenize", prompt="a€é") == expected
    strings = ["a", "<0xE2>", "<0x82>", "<0xAC>", "é"]
    assert ask(server, "/tokenize", prompt="a€é", return_token_strs=True) == {**expected, "token_strs": strings}
    assert Tokens.model_validate(expected).count == 5


def test_inputs_are_made_ids_with_their_places(server: Running) -> None:
    assert ask(server, "/tokenize", inputs="a€é") == [
        {"id": A, "text": "a", "start": 0, "stop": 1},
        {"id": 0xE2, "text": "", "start": 1, "stop": 1},
        {"id": 0x82, "text": "", "start": 1, "stop": 1},
        {"id": 0xAC, "text": "€", "start": 1, "stop": 2},
        {"id": E_ACUTE, "text": "é", "start": 2, "stop": 3},
    ]
    assert ask(server, "/tokenize", inputs="") == []


@pytest.mark.parametrize("fields", [{"add_special_tokens": False}, {"add_special_tokens": True}, {"model": "small"}])
def test_no_ids_are_added(fields: dict[str, Any], server: Running) -> None:
    assert ask(server, "/tokenize", prompt="", **fields)["tokens"] == []
    assert ask(server, "/tokenize", prompt="a", **fields)["tokens"] == [A]


def test_null_is_absent(server: Running) -> None:
    nulls = dict.fromkeys(("inputs", "model", "add_special_tokens", "return_token_strs"))
    assert ask(server, "/tokenize", prompt="a", **nulls) == ask(server, "/tokenize", prompt="a")
    assert ask(server, "/tokenize", prompt=None, inputs="a")[0]["id"] == A
    assert ask(server, "/detokenize", tokens=[A], model=None) == {"prompt": "a"}


@given(st.text(st.characters(codec="utf-8") | st.sampled_from(CHARACTERS), max_size=20))
def test_every_text_comes_back(server: Running, text: str) -> None:
    ids = ask(server, "/tokenize", prompt=text)["tokens"]
    assert ask(server, "/detokenize", tokens=ids) == {"prompt": text}
    placed = ask(server, "/tokenize", inputs=text)
    assert [token["id"] for token in placed] == ids
    assert "".join(token["text"] for token in placed) == text
    assert all(token["text"] == text[token["start"] : token["stop"]] for token in placed)


def test_places_go_on_from_block_to_block() -> None:
    text = "aé€𝄞" * 10_000
    found = list(positions(Tokenizer(CHARACTERS), text))
    assert [token for token, *_ in found] == Tokenizer(CHARACTERS).encode(text).tolist()
    assert "".join(text[start:stop] for _, start, stop in found) == text


@pytest.mark.parametrize(
    ("ids", "text"),
    [([], ""), ([0xE2, 0x82], "\ufffd"), ([0xFF, A], "\ufffda"), ([0], "\0"), ([SIZE - 1], "😀"), ([0x0D], "\r")],
)
def test_ids_are_made_text(ids: list[int], text: str, server: Running) -> None:
    answer = ask(server, "/detokenize", tokens=ids)
    assert answer == {"prompt": text}
    assert Detokenized.model_validate(answer).prompt == text


@pytest.mark.parametrize(("characters", "between"), [("b\na", "\n"), ("ba", "b")])
def test_what_stands_between_texts_is_a_known_character(characters: str, between: str, tmp_path: Path) -> None:
    save(small_checkpoint(characters=characters), tmp_path / "few")
    with serving(Settings(checkpoint=tmp_path / "few")) as running:
        info = TokenizerInfo.model_validate(running.client.get("/tokenizer_info").json())
        assert info.eos_token == info.bos_token == between
        assert info.vocab_size == 256 + len(characters)
        assert info.model_max_length == 1_100_000
        assert ask(running, "/tokenize", prompt=info.eos_token)["tokens"] == [256 + characters.index(between)]
        written = running.client.get("/tokenizer_info").json()
        assert written["pad_token"] is written["chat_template"] is None


def test_the_version_is_that_of_the_package(server: Running) -> None:
    version = server.client.get("/version").json()
    assert version == {"version": server.client.get("/openapi.json").json()["info"]["version"]}


def field(path: str, name: str, text: str, param: str | None = "") -> Case:
    """A request with one field of JSON text; the other field it needs is right."""
    needed = {"/tokenize": ("prompt", '"a"'), "/detokenize": ("tokens", "[1]")}[path]
    others = "" if name in (needed[0], "inputs") else f'"{needed[0]}": {needed[1]}, '
    case = f"{path} {name}={text[:20]}"
    return Case(case, 400, name if param == "" else param, path=path, content=f'{{{others}"{name}": {text}}}')


NO_TEXT = ["1", "true", "[]", "{}", '"\\ud800"', '"\\udc00\\ud800"', "NaN", '["a"]', json.dumps("a" * 20_001)]
NO_IDS = ["1", '"a"', "{}", "[-1]", "[1.5]", "[true]", '["1"]', "[null]", "[[1]]", "[NaN]", f"[{HUGE}]", f"[1, {SIZE}]"]
NO_BOOL = ["1", '"true"', "[]", "0.0"]
CASES = [
    *(field("/tokenize", name, text) for name in ("prompt", "inputs") for text in NO_TEXT),
    *(field("/tokenize", name, text) for name in ("add_special_tokens", "return_token_strs") for text in NO_BOOL),
    *(field("/detokenize", "tokens", text) for text in NO_IDS),
    field("/detokenize", "tokens", "[" + "1" * 5000 + "]", None),
    *(field(path, "model", text) for path in ("/tokenize", "/detokenize") for text in ("1", "[]", '"\\ud800"')),
    *(Case(f"{path} nothing", 400, param, path=path, content="{}") for path, param in [("/tokenize", "prompt")]),
    Case("/tokenize both", 400, "prompt", path="/tokenize", content='{"prompt": "a", "inputs": "a"}'),
    Case("/detokenize nothing", 400, "tokens", path="/detokenize", content="{}"),
    Case("/tokenize chat", 400, "prompt", path="/tokenize", content='{"messages": []}'),
    Case("/tokenize another model", 404, "model", path="/tokenize", content='{"prompt": "a", "model": "b"}'),
    Case("/detokenize another model", 404, "model", path="/detokenize", content='{"tokens": [], "model": "b"}'),
    *(
        replace(case, name=f"{path} {case.name}", path=path)
        for path in ("/tokenize", "/detokenize")
        for case in BODIES
        if case.status != 400 or "prompt" not in str(case.content)
    ),
    *(Case(f"{path} too large", 413, None, path=path, content=b"[" * 100_001) for path in ("/tokenize", "/detokenize")),
    *(Case(f"GET {path}", 405, None, "GET", path) for path in ("/tokenize", "/detokenize")),
    *(Case(f"POST {path}", 405, None, "POST", path) for path in ("/tokenizer_info", "/version")),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_error_names_field_and_remedy(case: Case, server: Running) -> None:
    response = server.client.request(case.method, case.path, content=case.content, headers=case.headers)
    error = check(response, case.status)
    assert error["param"] == case.param
    assert error["type"] == "invalid_request_error"
    assert MARK * 5 not in response.text


def test_an_id_that_is_not_there_is_named(server: Running) -> None:
    response = server.client.post("/detokenize", json={"tokens": [A, SIZE]})
    message = f"Id {SIZE} at place 1 is not in the vocabulary; send ids from 0 to {SIZE - 1}."
    assert check(response, 400)["message"] == message


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 400) | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
FIELDS = dict.fromkeys([*TokenizeRequest.model_fields, *DetokenizeRequest.model_fields], ANYTHING)


@given(st.fixed_dictionaries({}, optional=FIELDS) | ANYTHING, st.sampled_from(["/tokenize", "/detokenize"]))
def test_p10_no_json_makes_the_server_fail(server: Running, request: Any, path: str) -> None:
    response = server.client.post(path, content=json.dumps(request), headers=JSON)
    if response.status_code != 200:
        check(response, 404 if response.status_code == 404 else 400)


@pytest.fixture(scope="module")
def roomy(checkpoint_folder: Path) -> Iterator[Running]:
    """A server as it comes, for texts of a million characters."""
    with serving(Settings(checkpoint=checkpoint_folder)) as running:
        yield running


def test_a_long_text_keeps_nobody_waiting(roomy: Running) -> None:
    text = "the €uro, " * 100_000
    answers: list[Any] = []
    asked = threading.Thread(target=lambda: answers.append(ask(roomy, "/tokenize", inputs=text)))
    with httpx.Client(base_url=roomy.url) as other:
        other.get("/health")
        asked.start()
        waits = []
        while asked.is_alive():
            waits.append(other.get("/health").elapsed.total_seconds())
    asked.join()
    assert "".join(token["text"] for token in answers[0]) == text
    assert len(waits) > 10
    ids = ask(roomy, "/tokenize", prompt=text, return_token_strs=True)
    assert ids["count"] == len(ids["token_strs"]) == len(answers[0])
    some = ask(roomy, "/detokenize", tokens=ids["tokens"][:150_000])["prompt"]  # more values than it takes at once
    assert len(some) > 50_000
    assert text.startswith(some.rstrip("\ufffd"))
