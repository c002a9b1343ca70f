"""Several models of one server: each route finds the one that is asked for, and a key only those that it may use."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import openai
import pytest

from model.checkpoint import save
from service.api.sse import ENCODE
from service.app import create_application
from service.errors import SettingsError
from service.models.naming import named_places
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import Reference, Running, serving

FIELDS: dict[str, Any] = {"prompt": "abc", "max_tokens": 40, "seed": 5}
LIMITED = "limited-key-of-the-tests"
FREE = "free-key-of-the-tests-1"


def settings_of(folders: dict[str, Path], **more: Any) -> Settings:
    others = (f"two={folders['two']}", str(folders["training"] / "best"))
    return Settings(checkpoint=folders["one"], others=others, alias="gpt-3.5-turbo-instruct=two, t=training", **more)


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[Running]:
    with serving(settings_of(folders)) as running:
        yield running


@pytest.fixture(scope="module")
def keyed(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server with a key for one model, by another name of it, and a key for all."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(f"limited {LIMITED} models=gpt-3.5-turbo-instruct,gone\n{FREE}\n")
    with serving(settings_of(folders, api_keys_file=keys)) as running:
        yield running


def completed(server: Running, **fields: Any) -> Any:
    response = server.client.post("/v1/completions", json={**FIELDS, **fields})
    assert response.status_code == 200, response.text
    return response.json()


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "one"),
        ({"model": None}, "one"),
        ({"model": ""}, "one"),
        ({"model": "one"}, "one"),
        ({"model": "two"}, "two"),
        ({"model": "gpt-3.5-turbo-instruct"}, "two"),
    ],
)
def test_a_request_chooses_by_model(
    asked: dict[str, Any], name: str, server: Running, written: dict[str, Reference]
) -> None:
    answer = completed(server, **asked)
    assert answer["model"] == name
    assert answer["choices"][0]["text"] == written[name].write(**FIELDS).text


def test_models_are_listed_with_all_that_is_known(server: Running) -> None:
    cards = {card["id"]: card for card in server.client.get("/v1/models").json()["data"]}
    assert list(cards) == ["one", "two", "training"]
    assert [name for name, card in cards.items() if card["default"]] == ["one"]
    assert [card["aliases"] for card in cards.values()] == [[], ["gpt-3.5-turbo-instruct"], ["t"]]
    assert len({card["digest"] for card in cards.values()}) == 3
    for name, card in cards.items():
        assert card["loaded"]
        assert card["parameters"] > 1000
        assert card["max_model_len"] > 1_000_000
        assert server.client.get(f"/v1/models/{name}").json() == card
        assert server.client.get(f"/v1/models/{name}@{card['digest'][:12]}").json() == card
    assert server.client.get("/v1/models/t").json() == cards["training"]


SCORE = {"bits_per_character": 2.5}


@pytest.mark.parametrize(
    ("training", "told"),
    [
        ({"figures": {"test": SCORE, "validation": {"bits_per_character": 2.25}, "test, cold": SCORE}},
         {"validation": 2.25, "test": 2.5}),
        ({"figures": {"test": {"bits_per_character": "<b>"}, "validation": {"bits_per_character": 1e9}}}, {}),
        ({"figures": [2.5]}, {}),
        ({}, {}),
    ],
)  # fmt: skip
def test_held_out_figures_are_listed_where_they_can_be_believed(
    tmp_path: Path, training: dict[str, Any], told: dict[str, float]
) -> None:
    save(replace(small_checkpoint(), training=training), tmp_path / "m")
    with serving(Settings(checkpoint=tmp_path / "m")) as running:
        (card,) = running.client.get("/v1/models").json()["data"]
    assert card["bits_per_character"] == told


def test_the_openai_package_lists_and_finds_them(server: Running) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    assert [model.id for model in client.models.list()] == ["one", "two", "training"]
    assert client.models.retrieve("two").id == "two"
    assert client.completions.create(model="two", **FIELDS).model == "two"


def test_a_key_of_some_models_is_told_of_no_other(keyed: Running) -> None:
    """Wherever names, versions and counts of models are told."""
    free, limited = ({"Authorization": f"Bearer {key}"} for key in (FREE, LIMITED))
    for path in ("/metrics", "/", "/health", "/info", "/v1/models", "/version", "/openapi.json", "/tokenizer_info"):
        told = [keyed.client.get(path, headers=headers) for headers in (free, limited)]
        assert [answer.status_code for answer in told] == [200, 200], path
        digest = keyed.client.get("/v1/models/one", headers=free).json()["digest"]
        if path in ("/metrics", "/", "/health", "/info", "/v1/models"):
            assert '"one"' in told[0].text, path
        for foreign in ('"one"', '"training"', "/one", digest[:8]):
            assert foreign not in told[1].text, path
    counted = keyed.client.get("/metrics", headers=limited).text
    assert 'unroll_model_texts_total{model="two"}' in counted
    assert keyed.client.get("/health", headers=limited).json()["model"] == "two"
    assert "model" not in keyed.client.get("/health").json()


def test_an_unknown_model_is_404_and_names_what_there_is(server: Running) -> None:
    for path, body in (
        ("/v1/completions", {**FIELDS, "model": "three"}),
        ("/v1/score", {"texts": "ab", "model": "three"}),
        ("/tokenize", {"prompt": "ab", "model": "three"}),
        ("/detokenize", {"tokens": [256], "model": "three"}),
    ):
        response = server.client.post(path, json=body)
        assert response.status_code == 404
        error = response.json()["error"]
        assert (error["code"], error["param"]) == ("model_not_found", "model")
        assert error["message"] == "There is no model 'three'; this server has 'one', 'two', 'training'."
    tgi = server.client.post("/models/three/generate", json={"inputs": "ab"})
    assert tgi.status_code == 404
    assert tgi.json()["error_type"] == "validation"
    for path in ("/tokenizer_info?model=three", "/info?model=three"):
        assert server.client.get(path).status_code == 404
    assert server.client.get("/info?model=two").json() == server.client.get("/models/two/info").json()
    for path in ("/models//generate", "/models/", "/models//generate_stream"):
        assert server.client.post(path, json={"inputs": "ab"}).status_code == 404
    assert server.client.get("/v1/models/three").status_code == 404


def test_a_version_is_pinned_by_its_digest(server: Running) -> None:
    digest = server.client.get("/v1/models/two").json()["digest"]
    for pin in (digest, digest[:8]):
        assert completed(server, model=f"two@{pin}")["model"] == "two"
        assert completed(server, model=f"gpt-3.5-turbo-instruct@{pin}")["model"] == "two"
    gone = server.client.post("/v1/completions", json={**FIELDS, "model": f"two@{'0' * 64}"})
    assert gone.status_code == 409
    assert gone.json()["error"]["code"] == "model_version_gone"
    assert f"two@{digest}" in gone.json()["error"]["message"]
    for no_digest in ("two@", "two@xyz", "two@" + digest[:7], "two@" + digest.upper(), "@" + digest):
        answer = server.client.post("/v1/completions", json={**FIELDS, "model": no_digest})
        assert answer.status_code == 404
        assert ("8 or more of its first digits" in answer.text) == no_digest.startswith("two"), no_digest


def test_a_version_of_a_model_that_is_gone_is_409_and_names_what_there_is(server: Running) -> None:
    for pin in ("three@01234567", f"three@{'a' * 64}"):
        for path, body in (("/v1/completions", FIELDS), ("/v1/score", {"texts": "ab"}), ("/tokenize", {"prompt": "a"})):
            answer = server.client.post(path, json={**body, "model": pin})
            assert answer.status_code == 409
            error = answer.json()["error"]
            assert (error["code"], error["param"]) == ("model_version_gone", "model")
            assert error["message"] == f"The version {pin!r} is not served; this server has 'one', 'two', 'training'."
    assert server.client.get("/v1/models/three@01234567").status_code == 409


def test_a_query_names_no_other_model_than_the_body(server: Running) -> None:
    for path, body in (("/v1/completions", FIELDS), ("/v1/score", {"texts": "ab"}), ("/tokenize", {"prompt": "a"})):
        for named in ({}, {"model": "one"}):
            answer = server.client.post(path, params={"model": "two"}, json={**body, **named})
            assert answer.status_code == 400
            assert answer.json()["error"]["message"].endswith("name it in the body.")
        same = server.client.post(path, params={"model": "two", "api-version": "1"}, json={**body, "model": "two"})
        assert same.status_code == 200
        for default in ({}, {"model": None}, {"model": ""}, {"model": "one"}):  # an empty name is none
            assert server.client.post(path, params={"model": ""}, json={**body, **default}).status_code == 200


def test_a_path_names_no_other_model_than_the_body(server: Running) -> None:
    body = {"inputs": "ab", "parameters": {"max_new_tokens": 3}}
    for path in ("/models/one/generate", "/models/one/generate_stream", "/models/one"):
        assert server.client.post(path, json={**body, "model": "two"}).status_code == 422
        assert server.client.post(path, json={**body, "model": "one"}).status_code == 200


def test_what_would_change_ids_is_refused_and_other_unknown_fields_are_named(server: Running) -> None:
    for path, body in (("/tokenize", {"prompt": "ab"}), ("/detokenize", {"tokens": [97]})):
        answer = server.client.post(path, json={**body, "state": "x"})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, "state")
        assert server.client.post(path, json={**body, "state": None}).status_code == 200
        named = server.client.post(path, json={**body, "max_tokens": 3})
        assert named.headers["x-unroll-ignored-fields"] == "max_tokens"


def test_every_other_route_knows_the_model(server: Running, written: dict[str, Reference]) -> None:
    """Characters that one vocabulary has and the other has not tell them apart."""
    count = {
        name: server.client.post("/tokenize", json={"prompt": "abcé", "model": name}).json()["count"]
        for name in ("one", "two")
    }
    assert count == {"one": 5, "two": 4}
    sizes = [server.client.get("/tokenizer_info", params={"model": name}).json()["vocab_size"] for name in count]
    assert sizes == [written[name].checkpoint.tokenizer.size for name in count]
    last = sizes[1] - 1
    assert server.client.post("/detokenize", json={"tokens": [last], "model": "two"}).json()["prompt"] == "é"
    assert server.client.post("/detokenize", json={"tokens": [last], "model": "one"}).status_code == 400
    scored = [server.client.post("/v1/score", json={"texts": "abc", "model": name}).json() for name in count]
    assert [one["model"] for one in scored] == ["one", "two"]
    assert scored[0]["results"][0]["bits"] != scored[1]["results"][0]["bits"]


def test_tgi_finds_the_model_in_the_path_and_in_the_body(server: Running, written: dict[str, Reference]) -> None:
    parameters = {"max_new_tokens": 30, "seed": 3, "do_sample": True}
    expected = {name: written[name].write("abc", max_tokens=30, seed=3).text for name in written}
    body = {"inputs": "abc", "parameters": parameters}
    assert server.client.post("/generate", json=body).json()["generated_text"] == expected["one"]
    assert server.client.post("/generate", json={**body, "model": "two"}).json()["generated_text"] == expected["two"]
    assert server.client.post("/models/two/generate", json=body).json()["generated_text"] == expected["two"]
    assert server.client.post("/models/two", json=body).json()[0]["generated_text"] == expected["two"]
    streamed = server.client.post("/models/two/generate_stream", json=body).text
    assert ENCODE(expected["two"])[1:-1] in streamed
    assert server.client.get("/models/two/info").json()["model_id"] == "two"
    assert server.client.get("/info").json()["model_id"] == "one"


def test_huggingface_hub_writes_with_each_model(server: Running, written: dict[str, Reference]) -> None:
    for name, reference in written.items():
        client = huggingface_hub.InferenceClient(model=f"{server.url}/models/{name}", token="none")
        text = client.text_generation("abc", max_new_tokens=30, seed=3, do_sample=True)
        assert text == reference.write("abc", max_tokens=30, seed=3).text


def test_metrics_count_each_model(server: Running) -> None:
    before = counts(server)
    completed(server, model="two", n=2)
    after = counts(server)
    key = ("two", "generation_tokens")
    assert after[key] - before[key] == 80
    assert after["two", "texts"] - before["two", "texts"] == 2
    assert after["one", "texts"] == before["one", "texts"]
    text = server.client.get("/metrics").text
    assert [name for name in ("one", "two", "training") if f'unroll_model_loaded{{model="{name}"}} 1.0' in text] == [
        *("one", "two", "training")
    ]


def counts(server: Running) -> dict[tuple[str, str], float]:
    found: dict[tuple[str, str], float] = {}
    for line in server.client.get("/metrics").text.splitlines():
        for what in ("texts", "generation_tokens"):
            if line.startswith(f"unroll_model_{what}_total{{"):
                found[line.split('"')[1], what] = float(line.split()[-1])
    return found


def test_a_key_uses_only_the_models_of_its_line(keyed: Running) -> None:
    limited, free = ({"Authorization": f"Bearer {key}"} for key in (LIMITED, FREE))
    listed = keyed.client.get("/v1/models", headers=limited).json()["data"]
    assert [(card["id"], card["default"]) for card in listed] == [("two", True)]
    assert len(keyed.client.get("/v1/models", headers=free).json()["data"]) == 3
    for asked in (None, "", "two", "gpt-3.5-turbo-instruct"):
        response = keyed.client.post("/v1/completions", json={**FIELDS, "model": asked}, headers=limited)
        assert response.json()["model"] == "two"
    for asked in ("one", "training", "t", "three"):
        for path, body in (
            ("/v1/completions", {**FIELDS, "model": asked}),
            ("/v1/score", {"texts": "ab", "model": asked}),
            ("/tokenize", {"prompt": "ab", "model": asked}),
            ("/generate", {"inputs": "ab", "model": asked}),
            (f"/models/{asked}/generate", {"inputs": "ab"}),
        ):
            refused = keyed.client.post(path, json=body, headers=limited)
            assert refused.status_code == 404, path
            assert "'one'" not in refused.text.replace(f"'{asked}'", "")
    assert keyed.client.get("/v1/models/one", headers=limited).status_code == 404
    assert keyed.client.post("/v1/completions", json=FIELDS, headers=free).json()["model"] == "one"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("models=one", "here is none"),
        (f"{FREE} models=", "names no model"),
        (f"{FREE} models=*", "write whole names"),
        (f"a b {FREE} models=x", "no spaces"),
    ],
)
def test_a_line_of_keys_that_is_wrong_is_named(line: str, words: str, folders: dict[str, Path], tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# keys\n{line}\n")
    with pytest.raises(SettingsError, match=rf"keys, line 2: .*{words}"):
        create_application(Settings(checkpoint=folders["one"], api_keys_file=keys))


def test_a_folder_of_models_that_is_not_there_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"There is no folder .*nothing; make it, or name another with --models"):
        create_application(Settings(models=tmp_path / "nothing"))


def test_places_are_named_by_folder_or_by_hand(folders: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a=b").mkdir()
    given = (f"x={folders['two']}", str(tmp_path / "a=b"), "shakespeare")
    names = [place.name for place in named_places(Settings(checkpoint=folders["training"] / "best", others=given))]
    assert names == ["training", "x", "a=b", "shakespeare"]
    assert named_places(Settings())[0].name == "shakespeare"
    assert named_places(Settings(models=tmp_path)) == []


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"others": ("two=x", "two=y")}, "Two models are called 'two'"),
        ({"others": ("a b=x",)}, "names no model; write NAME=FOLDER"),
        ({"others": ("a=",)}, "names no model; write NAME=FOLDER"),
        ({"others": ("two=x",), "name": "z"}, "--name is for one model"),
        ({"alias": "two"}, "write pairs such as"),
        ({"alias": "one=one"}, "write pairs such as"),
        ({"alias": "one=bundled", "default_model": "bundled"}, "There is no model 'bundled'"),
        ({"default_model": "three"}, "There is no model 'three'"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(
    more: dict[str, Any], words: str, folders: dict[str, Path]
) -> None:
    with pytest.raises(SettingsError, match=words):
        create_application(Settings(checkpoint=folders["one"], **more))
