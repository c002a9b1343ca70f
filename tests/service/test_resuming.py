"""Streams that survive: the same request with `Last-Event-ID` goes on exactly after that event, on any server."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.checkpoint import save
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import Running, SlowDecoder, serving, serving_process
from tests.service.sse_client import chunks, events_and_ids, texts

COMPLETIONS = "/v1/completions"
KEEP_ALIVE = b": keep-alive\n"


@pytest.fixture(scope="module")
def other(checkpoint_folder: Path) -> Iterator[Running]:
    """A replica: nothing is shared but the checkpoint."""
    with serving(Settings(checkpoint=checkpoint_folder)) as running:
        yield running


def ask(server: Running, path: str, body: dict[str, Any], last: str = "") -> httpx.Response:
    return server.client.post(path, json=body, headers={"Last-Event-ID": last} if last else {})


def after(server: Running, path: str, body: dict[str, Any], last: str) -> list[tuple[str, str]]:
    response = ask(server, path, body, last)
    assert response.status_code == 200, response.text
    return events_and_ids(response.content.replace(KEEP_ALIVE, b""))


def told(events: list[tuple[str, str]], texts_: int = 1) -> list[Any]:
    """What events say of each text: its characters, what was reported of its tokens, and its end."""
    found: list[Any] = [["", [], [], None] for _ in range(texts_)]
    for data, _ in events:
        if data == "[DONE]":
            continue
        for choice in json.loads(data)["choices"]:
            one = found[choice["index"]]
            one[0] += choice["text"]
            if choice["logprobs"]:
                one[1] += choice["logprobs"]["token_logprobs"]
                one[2] += choice["logprobs"]["text_offset"]
            one[3] = choice["finish_reason"] or one[3]
    return found


REQUESTS = st.fixed_dictionaries(
    {
        "prompt": st.sampled_from(["the é", ["ab", ""], "aX明"]),
        "n": st.sampled_from([1, 1, 3]),
        "stop": st.lists(st.text("abc ", min_size=1, max_size=2), max_size=2),
        "logprobs": st.sampled_from([None, 1]),
        "echo": st.booleans(),
        "stream_interval": st.sampled_from([0, 20]),
        "presence_penalty": st.sampled_from([0.0, 0.5]),
        "temperature": st.sampled_from([0, 1]),
        "stream_options": st.sampled_from([None, {"include_usage": True}]),
    }
)


@given(REQUESTS, st.data())
@settings(max_examples=60)
def test_a_stream_goes_on_after_any_of_its_events(
    server: Running, other: Running, fields: dict[str, Any], data: st.DataObject
) -> None:
    body = {"max_tokens": 30, "stream": True, **fields}
    whole = events_and_ids(ask(server, COMPLETIONS, body).content)
    count = len(body["prompt"]) * body["n"] if isinstance(body["prompt"], list) else body["n"]
    at = data.draw(st.integers(0, len(whole) - 2))
    rest = after(other, COMPLETIONS, body, whole[at][1])
    assert told(whole[: at + 1] + rest, count) == told(whole, count)
    assert rest[-1][0] == "[DONE]"
    assert rest[-1][1] == whole[-1][1]
    usages = [json.loads(one)["usage"] for one, _ in whole[: at + 1] + rest if one != "[DONE]"]
    assert sum(usage is not None for usage in usages) == (fields["stream_options"] is not None)


def test_after_its_end_there_is_nothing(server: Running, other: Running) -> None:
    body = {"prompt": "a", "stream": True}
    *_, (_, last) = events_and_ids(ask(server, COMPLETIONS, body).content)
    response = ask(other, COMPLETIONS, body, last)
    assert (response.status_code, response.content) == (204, b"")
    streamed = ask(server, "/generate_stream", {"inputs": "a"}).text
    last = streamed.rstrip().rpartition("id: ")[2]
    assert ask(other, "/generate_stream", {"inputs": "a"}, last).status_code == 204


@pytest.mark.parametrize("at", [1, 2, 11, 39])
@pytest.mark.parametrize("parameters", [{"do_sample": True}, {"seed": 4, "top_n_tokens": 2, "details": True}, {}])
def test_the_stream_of_tgi_goes_on(parameters: dict[str, Any], at: int, server: Running, other: Running) -> None:
    body = {"inputs": "the", "parameters": {"max_new_tokens": 40, **parameters}}
    whole = ask(server, "/generate_stream", body).text.removesuffix("\n\n").split("\n\n")
    last = whole[at - 1].partition("\nid: ")[2]
    rest = ask(other, "/generate_stream", body, last).text.removesuffix("\n\n").split("\n\n")
    assert [json.loads(one.partition("\n")[0][5:]) for one in whole[:at] + rest] == [
        json.loads(one.partition("\n")[0][5:]) for one in whole
    ]
    assert [one.partition("\nid: ")[2] for one in rest] == [one.partition("\nid: ")[2] for one in whole[at:]]


def test_the_stream_of_scores_goes_on(server: Running, other: Running) -> None:
    body = {"texts": ["the moon", "é"], "stream": True, "details": True}
    whole = events_and_ids(ask(server, "/v1/score", body).content)
    assert after(other, "/v1/score", body, whole[0][1])[-2:] == whole[-2:]
    assert after(other, "/v1/score", body, whole[-2][1]) == whole[-1:]


def refusal(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["message"]


def test_another_request_or_model_is_refused(server: Running, tmp_path: Path) -> None:
    body = {"prompt": "a", "stream": True, "max_tokens": 9}
    (_, first), *_, (_, last) = events_and_ids(ask(server, COMPLETIONS, body).content)
    status, message = refusal(ask(server, COMPLETIONS, {**body, "max_tokens": 10}, first))
    assert (status, "belongs to another request" in message) == (400, True)
    status, message = refusal(ask(server, COMPLETIONS, {**body, "prompt": ["a", "b"]}, first))
    assert status == 400
    for wrong in ("x", first[:-1] + "x", first + ",1", "0" * 5000, first.replace(".", ".-")):
        status, message = refusal(ask(server, COMPLETIONS, body, wrong))
        assert (status, "Last-Event-ID" in message) == (400, True)
    assert ask(server, COMPLETIONS, {**body, "stream": False}, "x").status_code == 200
    save(small_checkpoint(seed=1), tmp_path / "small")
    with serving(Settings(checkpoint=tmp_path / "small")) as changed:
        status, message = refusal(ask(changed, COMPLETIONS, body, first))
        assert ask(changed, COMPLETIONS, body, last).status_code == 204  # all was sent, by whichever version
    assert (status, "another version of the model" in message) == (409, True)


def test_an_id_that_says_too_much_gets_an_empty_rest(server: Running) -> None:
    body = {"prompt": "a", "stream": True, "max_tokens": 9, "logprobs": 1}
    (_, first), *_ = events_and_ids(ask(server, COMPLETIONS, body).content)
    (text, _, _, reason) = told(after(server, COMPLETIONS, body, first.partition(".")[0] + ".999999999+999999999"))[0]
    assert (text, reason) == ("", "length")


def test_a_stream_of_very_many_texts_has_no_ids(server: Running) -> None:
    content = ask(server, COMPLETIONS, {"prompt": ["a"] * 65, "stream": True, "max_tokens": 1}).content
    assert b"id: " not in content
    assert content.endswith(b"data: [DONE]\n\n")


def until_killed(process: "subprocess.Popen[str]", url: str, body: dict[str, Any]) -> list[tuple[str, str]]:
    """The whole events of a stream whose server is killed in its middle."""
    received = b""
    with suppress(httpx.HTTPError), httpx.stream("POST", url + COMPLETIONS, json=body, timeout=30) as response:
        for piece in response.iter_raw():
            received += piece
            if len(received) > 20_000:
                process.kill()
    return events_and_ids(received[: received.rindex(b"\n\n") + 2])


class TestKilled:
    """The process that writes is killed, and another one goes on."""

    def test_texts_are_completed_by_another_process(self, checkpoint_folder: Path, server: Running) -> None:
        for seed in (None, 5):
            body = {"prompt": "ab", "stream": True, "max_tokens": 400, "stream_interval": 0, "seed": seed, "n": 2}
            with serving_process(str(checkpoint_folder), "--port", "0", rows=Slow) as (process, url):
                begun = until_killed(process, url, body)
            rest = after(server, COMPLETIONS, body, begun[-1][1])
            drawn = json.loads(begun[0][0])["seed"]
            whole = server.complete("ab", max_tokens=400, seed=drawn, n=2)
            assert [one[0] for one in told(begun + rest, 2)] == [choice["text"] for choice in whole["choices"]]
            assert 10 < len(begun) < 700


class Slow:
    """Rows that take 1 ms a step, so that a kill comes in the middle of a text."""

    def __init__(self, rows: Any) -> None:
        self._rows = rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    def draw(self, slots: Any, steps: int) -> Any:
        time.sleep(0.001 * steps)
        return self._rows.draw(slots, steps)


def test_life_is_shown_while_a_prompt_is_read(checkpoint_folder: Path) -> None:
    settings_ = Settings(checkpoint=checkpoint_folder, first_comment_seconds=0.1, keep_alive_seconds=0.1)
    with serving(settings_, SlowDecoder) as running:
        for path, body in (
            (COMPLETIONS, {"prompt": "a" * 400, "max_tokens": 2, "stream": True, "seed": 3}),
            ("/generate_stream", {"inputs": "b" * 400, "parameters": {"max_new_tokens": 2}}),
        ):
            content = ask(running, path, body).content
            assert content.startswith(KEEP_ALIVE)
            assert content.count(KEEP_ALIVE) >= 3


def test_an_error_before_the_first_sign_has_its_status_and_a_later_one_is_an_event(checkpoint_folder: Path) -> None:
    settings_ = Settings(checkpoint=checkpoint_folder, first_comment_seconds=0.2, deadline_seconds=0.6, max_rows=1)
    with serving(settings_, SlowDecoder) as running:
        body = {"prompt": "a" * 2000, "max_tokens": 2, "stream": True}
        content = ask(running, COMPLETIONS, body).content
        assert content.startswith(KEEP_ALIVE)
        error, _ = events_and_ids(content.replace(KEEP_ALIVE, b""))
        assert json.loads(error[0])["error"]["code"] == "deadline_exceeded"
        assert ask(running, COMPLETIONS, {**body, "max_tokens": 2, "stop": [""]}).status_code == 400
    settings_ = Settings(checkpoint=checkpoint_folder, first_comment_seconds=5, deadline_seconds=0.3)
    with serving(settings_, SlowDecoder) as running:
        assert ask(running, COMPLETIONS, body).status_code == 504


def test_a_pattern_that_is_compiled_for_long_is_waited_for_in_the_stream(server: Running) -> None:
    body = {"prompt": "a", "max_tokens": 20, "stream": True, "guided_regex": "[a-f ]+", "seed": 1}
    content = ask(server, COMPLETIONS, body).content
    whole = server.complete("a", max_tokens=20, guided_regex="[a-f ]+", seed=1)
    assert texts(chunks(content.replace(KEEP_ALIVE, b""))) == [whole["choices"][0]["text"]]
