"""Chats: an answer is the completion of the messages' text, streamed or whole, and what is no text is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from model.checkpoint import save
from model.text.chat_format import PLAIN_CHAT, ChatFormat, Message, RoleFormat
from model.text.frame import TextFrame
from service.api.streaming import KEEP_ALIVE
from service.app import create_application
from service.chat.schemas import ChatCompletion, ChatCompletionChunk
from service.errors import SettingsError
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.error_cases import check
from tests.service.serving import Running, serving
from tests.service.sse_client import events, events_and_ids

CHATS = "/v1/chat/completions"
LINES = ChatFormat({"user": RoleFormat("", "\n"), "assistant": RoleFormat("a", "\n")}, ("é", "\n"))
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "abc"},
    {"role": "user", "content": [{"type": "text", "text": "def "}, {"type": "text", "text": "ghi"}], "name": "xyz"},
    {"role": "assistant", "content": "jkl"},
    {"role": "user", "content": "mno"},
]
READ = [
    Message("system", "abc"),
    Message("user", "def ghi", "xyz"),
    Message("assistant", "jkl"),
    Message("user", "mno"),
]
WAYS: list[dict[str, Any]] = [
    {},
    {"n": 3, "temperature": 0.7},
    {"logprobs": True, "top_logprobs": 3, "n": 2},
    {"logprobs": True, "stop": ["e", "a"]},
    {"guided_regex": "[a-d]{5,9}", "logprobs": True},
    {"continue_final_message": True, "return_state": True},
    {"max_completion_tokens": 7, "min_tokens": 3, "logit_bias": {"260": 5}, "stop_token_ids": [262]},
]


def chat(server: Running, **fields: Any) -> Any:
    response = server.client.post(CHATS, json={"messages": TALK, "max_tokens": 40, "seed": 5, **fields})
    assert response.status_code == 200, response.text
    return response.json()


def completion(server: Running, prompt: str, form: ChatFormat, **fields: Any) -> Any:
    """The same asked of /v1/completions."""
    fields = {"max_tokens": 40, "seed": 5, **fields}
    fields.pop("continue_final_message", None)
    fields["max_tokens"] = fields.pop("max_completion_tokens", fields["max_tokens"])
    fields["logprobs"] = fields.pop("top_logprobs", 0) if fields.get("logprobs") else None
    stop = fields.pop("stop", [])
    return server.complete(prompt, stop=[*stop, *(one for one in form.stop if one not in stop)], **fields)


def streamed(server: Running, **fields: Any) -> list[dict[str, Any]]:
    body = {"messages": TALK, "max_tokens": 40, "seed": 5, **fields, "stream": True}
    response = server.client.post(CHATS, json=body)
    assert response.status_code == 200, response.text
    *data, done = events(response.content)
    assert done == "[DONE]"
    parsed = [json.loads(one) for one in data]
    for one in parsed:
        ChatCompletionChunk.model_validate(one)
    return parsed


def arrays(logprobs: Any) -> Any:
    """The entries of a chat's tokens in the arrays of a completion."""
    if logprobs is None:
        return None
    entries = logprobs["content"]
    for one in entries:
        assert bytes(one["bytes"]).decode() == one["token"]
        assert (one["logprob"] in [top["logprob"] for top in one["top_logprobs"]]) == any(
            top["token"] == one["token"] for top in one["top_logprobs"]
        )
    return {
        "tokens": [one["token"] for one in entries],
        "token_logprobs": [one["logprob"] for one in entries],
        "top_logprobs": [
            {top["token"]: top["logprob"] for top in one["top_logprobs"]} | {one["token"]: one["logprob"]}
            for one in entries
        ],
    }


@pytest.mark.parametrize("fields", WAYS, ids=str)
def test_an_answer_is_the_completion_of_the_messages_text(fields: dict[str, Any], server: Running) -> None:
    going_on = "continue_final_message" in fields
    prompt = PLAIN_CHAT.write(READ, going_on)
    same, answer = completion(server, prompt, PLAIN_CHAT, **fields), chat(server, **fields)
    ChatCompletion.model_validate(answer)
    assert answer["id"].startswith("chatcmpl-")
    assert (answer["object"], answer["model"], answer["seed"]) == ("chat.completion", "small", 5)
    for ours, theirs in zip(answer["choices"], same["choices"], strict=True):
        assert ours["message"] == {"role": "assistant", "content": theirs["text"], "refusal": None}
        for name in ("index", "finish_reason", "stop_reason"):
            assert ours[name] == theirs[name]
        expected = theirs["logprobs"]
        if expected is not None:
            expected = {name: expected[name] for name in ("tokens", "token_logprobs", "top_logprobs")}
        assert arrays(ours["logprobs"]) == expected
        assert ("state" in ours) == bool(fields.get("return_state"))
    assert answer["usage"]["completion_tokens"] == same["usage"]["completion_tokens"]
    assert answer["usage"]["prompt_tokens"] == len(prompt)


@pytest.mark.parametrize("fields", WAYS, ids=str)
def test_p_a_stream_is_the_whole_answer_in_pieces(fields: dict[str, Any], server: Running) -> None:
    whole = chat(server, **fields)
    parts = streamed(server, **fields, stream_interval=0, stream_options={"include_usage": True})
    assert parts[-1]["choices"] == []
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert parts[-1]["usage"][name] == whole["usage"][name]
    for choice in whole["choices"]:
        own = [one for part in parts for one in part["choices"] if one["index"] == choice["index"]]
        assert [one["delta"].get("role") for one in own] == ["assistant"] + [None] * (len(own) - 1)
        assert "".join(one["delta"].get("content", "") for one in own) == choice["message"]["content"]
        assert [one["finish_reason"] for one in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
        if choice["logprobs"] is not None:
            found = [entry for one in own if one["logprobs"] for entry in one["logprobs"]["content"]]
            assert found == choice["logprobs"]["content"]


def test_a_stream_that_broke_goes_on_after_any_event(server: Running) -> None:
    body = {"messages": TALK, "max_tokens": 12, "n": 2, "stream": True, "stream_interval": 0}
    whole = events_and_ids(server.client.post(CHATS, json=body).content)
    for at in range(0, len(whole) - 1, 3):
        after = server.client.post(CHATS, json=body, headers={"Last-Event-ID": whole[at][1]}).content
        after = after.replace(KEEP_ALIVE, b"")  # a sign of life, while what was sent is written again
        texts, roles = ["", ""], [0, 0]
        for data, _ in [*whole[: at + 1], *events_and_ids(after)]:
            for choice in json.loads(data)["choices"] if data != "[DONE]" else ():
                texts[choice["index"]] += choice["delta"].get("content", "")
                roles[choice["index"]] += "role" in choice["delta"]
        assert roles == [1, 1]  # clients join the roles of several events into "assistantassistant"
        # After the last text only the end follows, and on a busy machine any event may be the last.
        seeds = {json.loads(data)["seed"] for data in events(after) if data != "[DONE]"}
        assert seeds <= {json.loads(whole[0][0])["seed"]}
        same = chat(server, max_tokens=12, n=2, seed=json.loads(whole[0][0])["seed"])
        assert texts == [choice["message"]["content"] for choice in same["choices"]]


def test_a_state_takes_the_place_of_what_was_said(server: Running) -> None:
    before = chat(server, return_state=True, stop=["b", "c", "d"], max_tokens=200)["choices"][0]
    assert before["finish_reason"] == "stop"
    again = chat(server, messages=TALK[3:], state=before["state"], seed=6)["choices"][0]["message"]["content"]
    said = PLAIN_CHAT.write(READ) + before["message"]["content"] + before["stop_reason"]
    same = server.complete(said + PLAIN_CHAT.write(READ[3:]), seed=6, max_tokens=40, stop="\n\n")
    assert again == same["choices"][0]["text"]


def test_the_format_is_the_servers_or_the_models_or_a_plain_one(tmp_path: Path) -> None:
    plain = small_checkpoint()
    save(replace(plain, tokenizer=plain.tokenizer.framed(TextFrame(chat=LINES))), tmp_path / "own")
    save(plain, tmp_path / "none")
    other = ChatFormat({"user": RoleFormat("x"), "assistant": RoleFormat("y")}, ("b",))
    (tmp_path / "chat.json").write_text(json.dumps(other.to_json()))
    said, asked = [Message("user", "hello")], [{"role": "user", "content": "hello"}]
    for chat_format, expected in (
        (None, {"own": LINES, "none": PLAIN_CHAT}),
        ("chat.json", dict.fromkeys(("own", "none"), other)),
    ):
        settings = Settings(
            checkpoint=tmp_path / "own",
            others=(str(tmp_path / "none"),),
            chat_format=None if chat_format is None else tmp_path / chat_format,
        )
        with serving(settings) as running:
            for model, form in expected.items():
                found = chat(running, model=model, messages=asked, return_state=True)["choices"][0]
                body = {"model": model, "messages": asked, "state": found["state"]}
                went_on = running.client.post("/v1/chat/completions", json=body)
                exact = form.roles["assistant"].suffix in form.stop
                assert went_on.status_code == (200 if exact else 400)
                assert exact or "suffix a stop string" in went_on.json()["error"]["message"]
                same = completion(running, form.write(said), form, model=model)["choices"][0]
                assert (found["message"]["content"], found["stop_reason"]) == (same["text"], same["stop_reason"])
    (tmp_path / "chat.json").write_text("{")
    with pytest.raises(SettingsError, match=r"chat.json cannot be read"):
        create_application(settings)


def test_without_chat_the_sentence_names_completions(checkpoint_folder: Path) -> None:
    sentence = "This server continues text and has no chat; send the text as a prompt to /v1/completions."
    with serving(Settings(checkpoint=checkpoint_folder, chat=False)) as running:
        for path in (CHATS, "/v1/responses", "/v1/messages", "/chat/completions"):
            assert check(running.client.post(path, json={"messages": TALK}), 404)["message"] == sentence
        document = running.client.get("/openapi.json").json()
        assert CHATS not in document["paths"]
        assert not [name for name in document["components"]["schemas"] if name.startswith("Chat")]


PART = {"type": "text", "text": "a"}


@pytest.mark.parametrize(
    ("fields", "param", "why"),
    [
        ({"messages": None}, "messages", "messages: it is required"),
        ({"messages": []}, "messages", "send a list of messages"),
        ({"messages": "a"}, "messages", "send a list of messages"),
        ({"messages": ["a"]}, "messages", "message 0 is no object"),
        ({"messages": [TALK[0], {"content": "a"}]}, "messages", "message 1 has the role of no text"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages", "has the role robot; send one of system, user"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages", "calls no tools"),
        ({"messages": [{"role": "user"}]}, "messages", "message 0 has no content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages", "message 0 has no content"),
        ({"messages": [{"role": "user", "content": "\ud800"}]}, "messages", "half of a surrogate pair"),
        ({"messages": [{"role": "user", "content": [PART] * 1025}]}, "messages", "1,025 parts"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages", "a part without text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "of the type image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages", "the type input_audio"),
        ({"messages": [{"role": "user", "content": "a", "name": "a" * 65}]}, "messages", "a name that is no text of"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "messages", "message 0 has tool_calls"),
        ({"messages": [{"role": "assistant", "content": "", "audio": {"id": 1}}]}, "messages", "has audio"),
        ({"messages": [0] * 4097}, "messages", "there are 4,097 messages"),
        ({"messages": [{"role": "user", "content": "a" * 20_000}]}, "messages", "send at most 20,000"),
        ({"tools": [{"type": "function"}]}, "tools", "calls no tools"),
        ({"functions": [{}]}, "functions", "calls no tools"),
        ({"tool_choice": "required"}, "tool_choice", "calls no tools"),
        ({"modalities": ["text", "audio"]}, "modalities", "only text"),
        ({"audio": {"voice": "a"}}, "audio", "only text"),
        ({"top_logprobs": 2}, "top_logprobs", "send logprobs as true"),
        ({"logprobs": 2}, "logprobs", "send true or false"),
        ({"max_completion_tokens": -1}, "max_completion_tokens", "send 0 or more"),
        ({"logit_bias": {"999": 1}}, "logit_bias", "this model's ids are"),
        ({"response_format": {"type": "xml"}}, "response_format", "choose text, json_object or json_schema"),
        ({"stream_options": {}}, "stream_options", "send stream as true"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_chat_of_texts_is_refused(fields: dict[str, Any], param: str, why: str, server: Running) -> None:
    content = json.dumps({"messages": TALK, **fields})
    error = check(server.client.post(CHATS, content=content, headers={"content-type": "application/json"}), 400)
    assert error["param"] == param
    assert why in error["message"]


def test_what_changes_nothing_is_accepted_and_named(server: Running) -> None:
    body = {
        "messages": [{**TALK[3], "tool_calls": None, "audio": None, "mood": "good"}],
        "tools": [],
        "tool_choice": "none",
        "modalities": ["text"],
        "store": False,
        "prompt": "",
        "echo": False,
        "max_tokens": 3,
        "logprobs": None,
        "name": None,
    }
    response = server.client.post(CHATS, json=body)
    assert response.status_code == 200, response.text
    assert response.headers["X-Unroll-Ignored-Fields"] == "tools, tool_choice, modalities, store, prompt, echo"
    assert len(response.json()["choices"][0]["message"]["content"]) == 3


def test_a_chat_has_as_many_messages_as_its_body_has_room_for(checkpoint_folder: Path) -> None:
    short = {"role": "user", "content": "a"}
    named = {**short, "name": "ann"}
    with serving(Settings(checkpoint=checkpoint_folder)) as running:

        def answer(messages: list[dict[str, str]]) -> httpx.Response:
            return running.client.post(CHATS, json={"messages": messages, "max_tokens": 1})

        assert answer([short] * 4_096).status_code == 200
        assert check(answer([short] * 4_097), 400)["param"] == "messages"
        assert answer([named] * 3_000).status_code == 200
        assert "the name of a member counts as 20" in check(answer([named] * 4_096), 413)["message"]


def test_openais_client_reads_answers_streams_and_errors(server: Running) -> None:
    messages: list[Any] = TALK
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:
        whole = client.chat.completions.create(model="small", messages=messages, seed=1, stop=["e"])
        with client.chat.completions.stream(model="small", messages=messages, seed=1, stop=["e"]) as stream:
            final = stream.get_final_completion()
        assert final.choices[0].message.content == whole.choices[0].message.content
        assert final.choices[0].message.role == "assistant"
        tools: list[Any] = [{"type": "function", "function": {"name": "f"}}]
        with pytest.raises(openai.BadRequestError) as caught:
            client.chat.completions.create(model="small", messages=messages, tools=tools)
        assert caught.value.param == "tools"
        with pytest.raises(openai.NotFoundError):
            client.chat.completions.create(model="another", messages=messages)
