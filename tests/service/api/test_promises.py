"""What is unknown and promises something is refused by name; what only tunes is ignored; each "off" means off."""

from typing import Any

import pytest

from service.api.promises import EMPTY_IS_MEANT, PROMISES
from service.openai.schemas import CompletionRequest
from service.tgi.schemas import Parameters
from tests.service.error_cases import COMPLETIONS, check
from tests.service.serving import Reference, Running
from tests.service.sse_client import stream, texts
from tests.service.tgi_client import generate

OPENAI = sorted(PROMISES.keys() - CompletionRequest.model_fields.keys())
TGI = sorted(PROMISES.keys() - Parameters.model_fields.keys())


@pytest.mark.parametrize("name", OPENAI)
@pytest.mark.parametrize("value", [{"type": "json_object"}, ["a"], "a", 5, True, 0])
def test_a_promise_is_kept_or_refused_by_name(name: str, value: Any, server: Running) -> None:
    error = check(server.client.post(COMPLETIONS, json={"prompt": "a", name: value, "stream": True}), 400)
    assert error["param"] == name
    assert error["message"].startswith(f"{name} is not supported: ")


@pytest.mark.parametrize("name", TGI)
def test_a_promise_is_refused_in_the_other_dialect_too(name: str, server: Running) -> None:
    for body, named in (
        ({"inputs": "a", name: ["x"]}, name),
        ({"inputs": "a", "parameters": {name: ["x"]}}, f"parameters.{name}"),
    ):
        for path in ("/", "/generate", "/generate_stream"):
            response = server.client.post(path, json=body)
            assert response.status_code == 422
            assert response.json()["error"].startswith(f"{named} is not supported: ")


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ("/v1/embeddings", {"input": "a"}),
        ("/v1/score", {"texts": "a"}),
        ("/v1/inspect", {"text": "a"}),
        ("/v1/inspect/units", {"text": "a"}),
        ("/v1/inspect/influence", {"text": "abc", "position": 1}),
    ],
)
def test_every_other_route_refuses_what_it_would_not_do(path: str, fields: dict[str, Any], server: Running) -> None:
    assert server.client.post(path, json=fields).status_code == 200
    unkept = ["documents", "web_search_options", "chat_template", "echo", "suffix", "prompt"]
    if "chat" not in path and "score" not in path:
        unkept += ["state", "return_state"]
    for name in unkept if "score" in path else [*unkept, "memory"]:
        error = check(server.client.post(path, json={**fields, name: "x"}), 400)
        assert error["param"] == name
        assert error["message"].startswith(f"{name} is not supported: ")


def test_a_search_with_all_its_defaults_is_a_search(server: Running) -> None:
    asked = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    error = check(server.client.post("/v1/chat/completions", json={**asked, "web_search_options": {}}), 400)
    assert error["param"] == "web_search_options"
    server.client.post("/v1/chat/completions", json={**asked, "web_search_options": None}).raise_for_status()


def test_a_chat_is_answered_by_a_message_or_continues_one(server: Running) -> None:
    asked = {"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": False, "seed": 1}
    error = check(server.client.post("/v1/chat/completions", json=asked), 400)
    assert error["param"] == "add_generation_prompt"
    continued = server.client.post("/v1/chat/completions", json={**asked, "continue_final_message": True}).json()
    del asked["add_generation_prompt"]
    same = server.client.post("/v1/chat/completions", json={**asked, "continue_final_message": True}).json()
    assert continued["choices"] == same["choices"]


@pytest.mark.parametrize("off", [None, False, "", [], {}])
def test_a_promise_of_nothing_is_only_named(off: Any, server: Running) -> None:
    names = [name for name in OPENAI if name not in EMPTY_IS_MEANT or off in (None, False)]
    response = server.client.post(COMPLETIONS, json={"prompt": "a", **dict.fromkeys(names, off)})
    assert response.status_code == 200
    named = response.headers.get("x-unroll-ignored-fields", "")
    assert set(named.split(", ")) == ({""} if off is None else set(names))


@pytest.mark.parametrize(
    ("name", "value"),
    [("format", {}), ("ebnf", []), ("regex", {}), ("structural_tag", {}), ("choice", ["a"]), ("json_object", True)],
)
def test_an_empty_pattern_that_is_not_kept_is_refused_as_any_other(name: str, value: Any, server: Running) -> None:
    error = check(server.client.post(COMPLETIONS, json={"prompt": "a", name: value}), 400)
    assert error["message"].startswith(f"{name} is not supported: ")
    server.complete("a", format="", regex="", ebnf="")


def test_free_text_is_a_format_too(server: Running) -> None:
    server.complete("a", response_format={"type": "text"}, tool_choice="none", truncate_prompt_tokens=-1)


def test_what_only_tunes_is_ignored_and_named(server: Running) -> None:
    tuning = {"mirostat": 2, "top_n_sigma": 1.0, "dry_multiplier": 0.8, "xtc_probability": 0.5}
    response = server.client.post(COMPLETIONS, json={"prompt": "a", "seed": 1, **tuning})
    assert response.headers["x-unroll-ignored-fields"] == ", ".join(tuning)
    assert response.json()["choices"] == server.complete("a", seed=1)["choices"]


@pytest.mark.parametrize(
    "off", [{"top_k": -1}, {"top_k": 0}, {"top_p": 1}, {"typical_p": 1}, {"min_p": 0}, {"repetition_penalty": 1.0}]
)
def test_a_filter_that_is_off_changes_nothing(off: dict[str, Any], server: Running) -> None:
    plain = server.complete("abc", seed=3, max_tokens=60)["choices"]
    assert server.complete("abc", seed=3, max_tokens=60, **off)["choices"] == plain
    ours = {"max_new_tokens": 60, "seed": 3, "do_sample": True}
    assert generate(server, "abc", **ours, **off)["generated_text"] == plain[0]["text"]


@pytest.mark.parametrize("off", [{"top_k": -1}, {"top_k": 0}, {"typical_p": 1.0}, {"seed": -1}])
def test_what_is_off_does_not_make_the_other_dialect_draw(off: dict[str, Any], server: Running) -> None:
    likeliest = generate(server, "abc", max_new_tokens=40)["generated_text"]
    assert generate(server, "abc", max_new_tokens=40, **off)["generated_text"] == likeliest


def test_seed_minus_one_is_random_and_returned(server: Running) -> None:
    answers = [server.complete("abc", seed=-1, max_tokens=60) for _ in range(3)]
    assert len({answer["choices"][0]["text"] for answer in answers}) == 3
    for answer in answers:
        assert answer["seed"] >= 0
        assert server.complete("abc", seed=answer["seed"], max_tokens=60)["choices"] == answer["choices"]
    drawn = [generate(server, "abc", seed=-1, do_sample=True, max_new_tokens=60, details=True) for _ in range(2)]
    assert drawn[0]["generated_text"] != drawn[1]["generated_text"]
    assert min(one["details"]["seed"] for one in drawn) >= 0


@pytest.mark.parametrize("typical_p", [1e-9, 0.2, 0.95])
def test_typical_p_draws_what_the_sampler_draws(typical_p: float, server: Running, reference: Reference) -> None:
    fields: dict[str, Any] = {"max_tokens": 60, "seed": 7, "typical_p": typical_p}
    text = reference.write("abc", **fields).text
    assert server.complete("abc", **fields)["choices"][0]["text"] == text
    assert texts(stream(server.client, prompt="abc", **fields)) == [text]
    answer = generate(server, "abc", max_new_tokens=60, seed=7, typical_p=typical_p)
    assert answer["generated_text"] == text  # it draws: typical_p would have no effect otherwise
    assert text != reference.write("abc", max_tokens=60, seed=7).text


def ids_of(server: Running, text: str) -> list[int]:
    ids: list[int] = server.client.post("/tokenize", json={"prompt": text}).json()["tokens"]
    return ids


@pytest.mark.parametrize("included", [False, True])
def test_a_stop_token_ends_a_text_as_its_character_does(included: bool, server: Running) -> None:
    fields = {"max_tokens": 300, "seed": 2, "n": 4, "include_stop_str_in_output": included}
    (token,) = ids_of(server, "e")
    expected = server.complete("abc", stop="e", **fields)
    found = server.complete("abc", stop_token_ids=[token], **fields)
    assert [one["stop_reason"] for one in expected["choices"]] == ["e"] * 4
    assert [one["stop_reason"] for one in found["choices"]] == [token] * 4
    for one, other in zip(found["choices"], expected["choices"], strict=True):
        assert {**one, "stop_reason": None} == {**other, "stop_reason": None}
    streamed = stream(server.client, prompt="abc", stop_token_ids=[token], **fields)
    assert texts(streamed, 4) == [one["text"] for one in found["choices"]]
    both = server.complete("abc", stop=["e"], stop_token_ids=[token], **fields)
    assert both["choices"] == expected["choices"]


def test_stop_tokens_wait_for_min_tokens_and_the_first_of_several_ends_it(server: Running) -> None:
    tokens = [ids_of(server, one)[0] for one in "ea"]
    free = server.complete("abc", seed=2, max_tokens=300)["choices"][0]["text"]
    end = min(free.index("e", 50), free.index("a", 50))
    choice = server.complete("abc", seed=2, max_tokens=300, min_tokens=50, stop_token_ids=tokens)["choices"][0]
    assert choice["text"] == free[:end]
    assert choice["stop_reason"] == tokens["ea".index(free[end])]
