"""A chat as one text: what a format writes, where it is kept, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import CONFIG, load, read, save
from model.errors import CheckpointError, ParameterError
from model.text.chat_format import PLAIN_CHAT, ChatFormat, Message, RoleFormat
from model.text.frame import TextFrame
from tests.model.small import small_checkpoint

LINES = ChatFormat({"user": RoleFormat("> ", "\n"), "assistant": RoleFormat("{name}: ", "\n", "bot")}, ("\n", "> "))


def test_messages_become_one_text_that_ends_where_the_answer_begins() -> None:
    talk = [Message("user", "hello"), Message("assistant", "hi"), Message("user", "and {name}?", "x")]
    assert LINES.write(talk) == "> hello\nbot: hi\n> and {name}?\nbot: "
    assert LINES.write([talk[0], Message("assistant", "h", "she")], going_on=True) == "> hello\nshe: h"
    assert PLAIN_CHAT.write([Message("system", "A room."), Message("user", "Who?", "HAMLET"), *talk[:2]]) == (
        "A room.\n\nHAMLET:\nWho?\n\nUser:\nhello\n\nAssistant:\nhi\n\nAssistant:\n"
    )
    for form in (LINES, PLAIN_CHAT):
        assert form.length(talk) >= len(form.write(talk))
    with pytest.raises(ParameterError, match="no role system"):
        LINES.write([Message("system", "a")])


def test_a_format_is_a_file_and_a_part_of_a_checkpoint_that_names_another_model(tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(LINES.to_json()))
    assert ChatFormat.read(file) == LINES
    plain = small_checkpoint()
    chatting = replace(plain, tokenizer=plain.tokenizer.framed(TextFrame(context="abc", chat=LINES)))
    save(plain, tmp_path / "plain")
    save(chatting, tmp_path / "chatting")
    assert load(tmp_path / "plain").tokenizer.frame.chat is None
    assert load(tmp_path / "chatting").tokenizer.frame == TextFrame(context="abc", chat=LINES)
    assert read(tmp_path / "plain").digests.model != read(tmp_path / "chatting").digests.model
    config = json.loads((tmp_path / "chatting" / CONFIG).read_text())
    assert config["texts"]["chat"] == LINES.to_json()
    del config["digests"]
    config["texts"]["chat"]["stop"] = [""]
    (tmp_path / "chatting" / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"texts are damaged .stop is a list of at most 8 texts of 1 to 256"):
        load(tmp_path / "chatting")


ROLES: dict[str, Any] = {"user": {}, "assistant": {"prefix": "a"}}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ([], "an object with roles and stop"),
        ({"stop": []}, "an object with roles and stop"),
        ({"roles": ROLES, "more": 1}, "an object with roles and stop"),
        ({"roles": {"user": {}}}, "the roles are system, user, assistant"),
        ({"roles": {**ROLES, "robot": {}}}, "the roles are system, user, assistant"),
        ({"roles": {**ROLES, "system": "x"}}, "a role is an object"),
        ({"roles": {**ROLES, "system": {"before": "x"}}}, "a role is an object"),
        ({"roles": {**ROLES, "system": {"prefix": 1}}}, "a prefix is a text of at most 1,024"),
        ({"roles": {**ROLES, "system": {"suffix": "x" * 1025}}}, "a suffix is a text of at most 1,024"),
        ({"roles": {**ROLES, "system": {"name": "x" * 65}}}, "a name is a text of at most 64"),
        ({"roles": ROLES, "stop": "x"}, "stop a list"),
        ({"roles": ROLES, "stop": ["x"] * 9}, "at most 8 texts"),
        ({"roles": ROLES, "stop": [1]}, "at most 8 texts"),
        ({"roles": ROLES, "stop": ["x" * 257]}, "at most 8 texts"),
    ],
)
def test_what_is_no_format_is_refused_with_the_reason(values: Any, why: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=why):
        ChatFormat.from_json(values)
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(values))
    with pytest.raises(ParameterError, match=f"chat.json cannot be read: .*{why}"):
        ChatFormat.read(file)


@pytest.mark.parametrize("content", [None, b"{", b"\xff", b" " * (1 << 18), b'{"roles": {}, "roles": {}}'])
def test_a_file_that_cannot_be_read_is_named(content: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "chat.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ParameterError, match=r"chat.json cannot be read: .*; name a file of JSON"):
        ChatFormat.read(file)
