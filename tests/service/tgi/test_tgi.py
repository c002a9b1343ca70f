"""The dialect of text-generation-inference: the same texts as OpenAI's, token by token, and its own client reads it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import OverloadedError, ValidationError
from hypothesis import given
from hypothesis import strategies as st

from model.checkpoint import save
from service.settings import Settings
from service.tgi.schemas import Parameters, TgiInfo
from tests.model.small import CHARACTERS, small_checkpoint
from tests.service.serving import ENDLESS, Running, SlowDecoder, serving
from tests.service.tgi_client import generate, generate_stream, joined, stream_events

DRAWN: dict[str, Any] = {"do_sample": True, "seed": 5}


@pytest.fixture(scope="module")
def bytes_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server whose model writes bytes of UTF-8 as often as characters."""
    folder = tmp_path_factory.mktemp("bytes") / "small"
    save(small_checkpoint(characters="ab", unseen=np.zeros(0, np.int64)), folder)
    with serving(Settings(checkpoint=folder)) as running:
        yield running


def same(server: Running, inputs: str, stop: list[str], count: int, **drawn: Any) -> str:
    """The text of one request, which is the same whichever way it is asked for."""
    parameters = {"max_new_tokens": count, "stop": stop, "seed": drawn["seed"], **{"do_sample": True, **drawn}}
    whole = generate(server, inputs, **parameters, details=True)
    text, tokens = whole["generated_text"], whole["details"]["tokens"]
    events = generate_stream(server, inputs, **parameters)
    assert generate(server, inputs, **parameters) == {"generated_text": text, "details": None}
    assert [event["token"] for event in events] == tokens
    assert joined(tokens) == events[-1]["generated_text"] == text
    drawn = {"temperature": 1, **drawn} if drawn.pop("do_sample", True) else {**drawn, "temperature": 0}
    fields = {"max_tokens": count, "stop": stop, "include_stop_str_in_output": True}
    choice = server.complete(inputs, **fields, **drawn)["choices"][0]
    assert choice["text"] == text
    assert (choice["finish_reason"] == "stop") == (whole["details"]["finish_reason"] == "stop_sequence")
    return str(text)


STOPS = st.lists(st.text("ab .明", min_size=1, max_size=2), max_size=2)


@given(st.text(st.sampled_from(CHARACTERS + "€\x00\u2028"), max_size=5), STOPS, st.integers(0, 2**64 - 1))
def test_a_text_is_the_same_in_every_way(server: Running, inputs: str, stop: list[str], seed: int) -> None:
    text = same(server, inputs, stop, 30, seed=seed)
    assert len(text) == 30 or text.endswith(tuple(stop))


STRANGE_STOPS = st.sampled_from([[], ["\ufffd"], ["a"], ["\ufffda", "b"]])


@given(st.sampled_from(["", "a", "€"]), STRANGE_STOPS, st.integers(0, 2**32))
def test_a_text_of_bytes_is_the_same_too(bytes_server: Running, inputs: str, stop: list[str], seed: int) -> None:
    same(bytes_server, inputs, stop, 40, seed=seed)


def test_a_byte_adds_nothing_until_its_character_is_whole(bytes_server: Running) -> None:
    events = generate_stream(bytes_server, "a", **DRAWN, max_new_tokens=2000)
    added = {event["token"]["text"] for event in events}
    assert {"", "\ufffd"} <= added
    assert any(text[0] == "\ufffd" for text in added if len(text) == 2)
    assert any("\x80" <= text <= "\u07ff" for text in added)


@pytest.mark.parametrize("drawn", [{"temperature": 0.5}, {"top_k": 3}, {"top_p": 0.5}, {"repetition_penalty": 2.0}])
def test_parameters_mean_the_same_in_both_dialects(drawn: dict[str, Any], server: Running) -> None:
    same(server, "abc", [], 30, seed=1, **drawn)
    same(server, "abc", [], 30, seed=1, frequency_penalty=1.5, **drawn)


def test_characters_are_drawn_only_if_asked_for(server: Running) -> None:
    likeliest = same(server, "abc", [], 20, seed=1, do_sample=False)
    assert generate(server, "abc", max_new_tokens=20, seed=2)["generated_text"] == likeliest
    for drawn in ({"do_sample": True}, {"temperature": 1.0}, {"top_k": 100}, {"top_p": 1.0}):
        assert generate(server, "abc", max_new_tokens=20, seed=2, **drawn)["generated_text"] != likeliest
    details = generate(server, "abc", max_new_tokens=2, seed=2, details=True)["details"]
    assert details["seed"] is None
    seed = generate(server, "abc", max_new_tokens=20, do_sample=True, details=True)["details"]["seed"]
    again = [generate(server, "abc", do_sample=True, max_new_tokens=20, seed=seed) for _ in range(2)]
    assert again[0] == again[1]


def test_details_tell_how_a_text_came_about(server: Running) -> None:
    answer = generate(server, "a€é", **DRAWN, max_new_tokens=4, details=True)
    details = answer["details"]
    assert [details[name] for name in ("finish_reason", "generated_tokens", "seed")] == ["length", 4, 5]
    assert details["prefill"] == []
    assert details["top_tokens"] is details["best_of_sequences"] is None
    assert [token["text"] for token in details["tokens"]] == list(answer["generated_text"])
    assert [CHARACTERS[token["id"] - 256] for token in details["tokens"]] == list(answer["generated_text"])
    last = generate_stream(server, "a€é", **DRAWN, max_new_tokens=4, details=True)[-1]
    ending = {"finish_reason": "length", "generated_tokens": 4, "input_length": 5, "seed": 5}
    assert last["details"] == ending
    assert last["generated_text"] == answer["generated_text"]


def test_a_stop_string_stays_and_is_named_as_the_reason(server: Running) -> None:
    free = generate(server, "a", **DRAWN, max_new_tokens=50)["generated_text"]
    stop = free[10:12]
    details = generate(server, "a", **DRAWN, max_new_tokens=50, stop=[stop], details=True)
    assert details["generated_text"] == free[: free.find(stop) + 2]
    assert details["details"]["finish_reason"] == "stop_sequence"
    assert details["details"]["generated_tokens"] == free.find(stop) + 2


def test_the_inputs_tokens_are_scored_as_by_echo(server: Running) -> None:
    details = generate(server, "a€é", max_new_tokens=1, decoder_input_details=True)["details"]
    prefill = details["prefill"]
    assert [token["text"] for token in prefill] == ["a", "", "", "€", "é"]
    echoed = server.complete("a€é", max_tokens=1, temperature=0, echo=True, logprobs=0)["choices"][0]["logprobs"]
    assert prefill[0]["logprob"] is None
    assert [token["logprob"] for token in prefill] == echoed["token_logprobs"][:5]
    assert details["tokens"][0]["logprob"] == echoed["token_logprobs"][5]
    assert generate(server, "", max_new_tokens=1, decoder_input_details=True)["details"]["prefill"] == []


def test_the_likeliest_tokens_are_told_at_every_place(server: Running) -> None:
    details = generate(server, "a", max_new_tokens=5, top_n_tokens=3, details=True)["details"]
    assert [len(top) for top in details["top_tokens"]] == [3] * 5
    assert [top[0] for top in details["top_tokens"]] == details["tokens"]
    events = generate_stream(server, "a", max_new_tokens=5, top_n_tokens=3)
    assert [event["top_tokens"] for event in events] == details["top_tokens"]


def test_the_best_of_several_is_answered_and_the_others_follow(server: Running) -> None:
    fields: dict[str, Any] = {"best_of": 4, "max_new_tokens": 12, "details": True, **DRAWN}
    answer = generate(server, "abc", **fields, top_n_tokens=2, decoder_input_details=True)
    details = answer["details"]
    ranked = [{"generated_text": answer["generated_text"], **details}, *details["best_of_sequences"]]
    means = [np.mean([token["logprob"] for token in one["tokens"]]) for one in ranked]
    assert means == sorted(means, reverse=True)
    assert all(joined(one["tokens"]) == one["generated_text"] for one in ranked)
    assert all(len(one["prefill"]) == 3 and len(one["top_tokens"]) == 12 for one in ranked)
    drawn = server.complete("abc", n=4, max_tokens=12, seed=5)["choices"]
    assert {one["generated_text"] for one in ranked} == {choice["text"] for choice in drawn}
    assert generate(server, "abc", **{**fields, "details": False})["generated_text"] == answer["generated_text"]


def test_the_whole_text_may_be_asked_for(server: Running) -> None:
    text = generate(server, "abc", **DRAWN)["generated_text"]
    assert len(text) == 100
    assert generate(server, "abc", **DRAWN, return_full_text=True)["generated_text"] == "abc" + text
    assert generate_stream(server, "abc", **DRAWN, return_full_text=True)[-1]["generated_text"] == "abc" + text


@pytest.mark.parametrize(("inputs", "most", "read"), [("xyzabc", 3, "abc"), ("abc", 3, "abc"), ("a" * 30_000, 2, "aa")])
def test_only_the_last_of_the_inputs_are_read(inputs: str, most: int, read: str, server: Running) -> None:
    answer = generate(server, inputs, **DRAWN, truncate=most, decoder_input_details=True)
    assert joined(answer["details"]["prefill"]) == read
    assert answer["generated_text"] == generate(server, read, **DRAWN)["generated_text"]


def test_null_is_absent(server: Running) -> None:
    nulls = dict.fromkeys(Parameters.model_fields)
    assert generate(server, "a", **nulls) == generate(server, "a")
    response = server.client.post("/", json={"inputs": "a", "parameters": None, "stream": None})
    assert response.json() == [generate(server, "a")]
    assert generate(server, "a", watermark=False, typical_p=1.0, unknown=1) == generate(server, "a")


def test_one_route_answers_both_ways(server: Running) -> None:
    fields: dict[str, Any] = {"inputs": "a", "parameters": {**DRAWN, "max_new_tokens": 5, "details": True}}
    assert server.client.post("/", json=fields).json() == [generate(server, "a", **fields["parameters"])]
    streamed = server.client.post("/", json={**fields, "stream": True})
    assert stream_events(streamed.content) == generate_stream(server, "a", **fields["parameters"])


def test_headers_tell_what_it_took(server: Running) -> None:
    fields = {"inputs": "a€", "parameters": {"max_new_tokens": 7}}
    headers = server.client.post("/generate", json=fields).headers
    told = {"compute-type": "cpu", "compute-characters": "2", "prompt-tokens": "4", "generated-tokens": "7"}
    assert {name: headers[f"x-{name}"] for name in told} == told
    seconds = float(headers["x-compute-time"])
    assert 0 < seconds < 30
    assert abs(int(headers["x-total-time"]) - 1000 * seconds) <= 1
    assert int(headers["x-validation-time"]) <= int(headers["x-total-time"])
    streamed = server.client.post("/generate_stream", json=fields).headers
    assert (streamed["x-compute-type"], streamed["x-compute-characters"]) == ("cpu", "2")


def test_a_long_stream_to_a_slow_reader_is_whole(server: Running) -> None:
    events = generate_stream(server, "a", **DRAWN, max_new_tokens=3000)
    assert joined([event["token"] for event in events]) == events[-1]["generated_text"]
    assert len(events) == 3000


def test_a_silent_stream_is_kept_alive(checkpoint_folder: Path) -> None:
    settings = Settings(checkpoint=checkpoint_folder, stream_interval=10_000, keep_alive_seconds=0.02)
    with serving(settings, SlowDecoder) as running:
        body = {"inputs": "a", "parameters": {"max_new_tokens": 100}}
        content = running.client.post("/generate_stream", json=body).content
        assert content.count(b": keep-alive\n") >= 2
        assert len(stream_events(content)) == 100


def test_info_tells_what_may_be_asked_for(server: Running) -> None:
    info = server.client.get("/info").json()
    assert TgiInfo.model_validate(info).model_dump() == info
    told = {"model_id": "small", "model_dtype": "int8", "model_device_type": "cpu", "max_best_of": 16}
    limits = {"max_input_tokens": 20_000, "max_total_tokens": 120_000, "max_stop_sequences": 16}
    assert {name: info[name] for name in {**told, **limits}} == {**told, **limits}
    assert info["model_sha"] == server.complete("a")["system_fingerprint"]


@pytest.fixture
def hub(server: Running) -> InferenceClient:
    return InferenceClient(model=server.url, provider="hf-inference", token="none")


def test_the_hub_client_generates(hub: InferenceClient, server: Running) -> None:
    expected = generate(server, "abc", **DRAWN, max_new_tokens=20, details=True)
    fields: dict[str, Any] = {**DRAWN, "max_new_tokens": 20}
    assert hub.text_generation("abc", **fields) == expected["generated_text"]
    output = hub.text_generation("abc", **fields, details=True, decoder_input_details=True, top_n_tokens=2, best_of=2)
    assert output.details is not None
    assert output.details.finish_reason == "length"
    assert [token.text for token in output.details.prefill] == list("abc")
    assert output.details.best_of_sequences is not None
    assert expected["generated_text"] in (output.generated_text, output.details.best_of_sequences[0].generated_text)


def test_the_hub_client_streams(hub: InferenceClient, server: Running) -> None:
    expected = generate(server, "abc", **DRAWN, max_new_tokens=20)["generated_text"]
    assert "".join(hub.text_generation("abc", **DRAWN, max_new_tokens=20, stream=True)) == expected
    tokens = list(hub.text_generation("abc", **DRAWN, max_new_tokens=20, stream=True, details=True))
    assert "".join(token.token.text for token in tokens) == tokens[-1].generated_text == expected
    assert tokens[-1].details is not None
    assert (tokens[-1].details.generated_tokens, tokens[-1].details.input_length) == (20, 3)


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_the_hub_client_streams_asynchronously(server: Running) -> None:
    async with AsyncInferenceClient(model=server.url, token="none") as client:
        found = [part async for part in await client.text_generation("abc", max_new_tokens=20, stream=True)]
    assert "".join(found) == generate(server, "abc", max_new_tokens=20)["generated_text"]


def test_the_hub_client_knows_health_info_and_errors(hub: InferenceClient) -> None:
    assert hub.health_check()
    assert hub.get_endpoint_info()["model_id"] == "small"
    with pytest.raises(ValidationError, match=r"parameters.temperature: send a number above 0"):
        hub.text_generation("abc", temperature=-1.0)
    with pytest.raises(ValidationError, match="leave out best_of or stream"):
        hub.text_generation("abc", best_of=2, stream=True)


def test_the_hub_client_knows_a_full_queue(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, max_rows=1, max_waiting=0), SlowDecoder) as running:
        body = {"inputs": "a", "parameters": {"max_new_tokens": ENDLESS}}
        with running.client.stream("POST", "/generate_stream", json=body) as response:
            pieces = response.iter_raw()
            assert next(pieces)
            with pytest.raises(OverloadedError):
                InferenceClient(model=running.url, token="none").text_generation("a")


def test_unknown_fields_are_named_in_a_header(server: Running) -> None:
    body = {"inputs": "a", "wish": 1, "parameters": {"max_new_tokens": 2, "top_a": 0.2}}
    for path in ("/generate", "/generate_stream", "/"):
        response = server.client.post(path, json=body)
        assert response.status_code == 200
        assert response.headers["x-unroll-ignored-fields"] == "wish, parameters.top_a"
