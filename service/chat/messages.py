"""The messages of a chat as they are sent, checked and read; what is no text is refused by its name."""

from typing import Any

from pydantic_core import PydanticCustomError

from model.text.chat_format import LARGEST_NAME, ROLES, Message
from service.api.schemas import whole_characters

MOST_MESSAGES = 4_096
MOST_PARTS = 1_024  # of one message
SHOWN = 40  # characters of a wrong value that an error repeats
SAME_AS = {"developer": "system"}
OF_TOOLS = ("tool", "function")
REFUSED = {
    "tool_calls": "this server calls no tools; leave it out",
    "function_call": "this server calls no functions; leave it out",
    "audio": "this server reads text alone; leave it out",
}
"""Members of a message that mean something which is not done here."""
NOTHING: list[Any] = [None, [], {}]
"""Values with which they mean nothing, as some clients send them."""

TEXT = {"type": "string"}
PART = {"type": "object", "properties": {"type": {"const": "text"}, "text": TEXT}, "required": ["type", "text"]}
CONTENT = {"anyOf": [TEXT, {"type": "array", "items": PART, "maxItems": MOST_PARTS}]}
MESSAGES = {
    "type": "array",
    "minItems": 1,
    "maxItems": MOST_MESSAGES,
    "items": {
        "type": "object",
        "properties": {
            "role": {"enum": [*ROLES, *SAME_AS]},
            "content": CONTENT,
            "name": {"anyOf": [{**TEXT, "maxLength": LARGEST_NAME}, {"type": "null"}]},
            **{name: {"enum": NOTHING} for name in REFUSED},
        },
        "required": ["role", "content"],
    },
}


def messages_of(messages: Any) -> list[Message]:
    """The messages of a request; an error names the first thing that is wrong."""
    if not isinstance(messages, list) or not messages:
        raise _wrong("send a list of messages, each an object with role and content")
    if len(messages) > MOST_MESSAGES:
        raise _wrong(f"there are {len(messages):,} messages; send at most {MOST_MESSAGES:,}")
    return [_message(message, f"message {number}") for number, message in enumerate(messages)]


def _message(message: Any, where: str) -> Message:
    if not isinstance(message, dict):
        raise _wrong(f"{where} is no object; send one with role and content")
    role, name = message.get("role"), message.get("name")
    for member, remedy in REFUSED.items():
        if message.get(member) not in NOTHING:
            raise _wrong(f"{where} has {member}, and {remedy}")
    if not isinstance(role, str) or role in OF_TOOLS or (role := SAME_AS.get(role, role)) not in ROLES:
        tools = "; this server calls no tools" if role in OF_TOOLS else ""
        raise _wrong(f"{where} has the role {_shown(role)}; send one of {', '.join([*ROLES, *SAME_AS])}{tools}")
    if name is not None and not (isinstance(name, str) and len(name) <= LARGEST_NAME):
        raise _wrong(f"{where} has a name that is no text of at most {LARGEST_NAME} characters; leave it out")
    return Message(role, _content(message.get("content"), where), None if name is None else whole_characters(name))


def _content(content: Any, where: str) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, str):
        return whole_characters(content)
    if not isinstance(content, list):
        raise _wrong(f"{where} has no content; send a text, or a list of parts of the type text")
    if len(content) > MOST_PARTS:
        raise _wrong(f"{where} has {len(content):,} parts; send at most {MOST_PARTS:,}")
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind != "text":
            raise _wrong(
                f"{where} has a part of the type {_shown(kind)}; this server reads only parts of the type text"
            )
        if not isinstance(part.get("text"), str):
            raise _wrong(f"{where} has a part without text; send a text in it")
    return whole_characters("".join(part["text"] for part in content))


def _shown(value: Any) -> str:
    return value[:SHOWN].encode("ascii", "replace").decode() if isinstance(value, str) else "of no text"


def _wrong(why: str) -> PydanticCustomError:
    return PydanticCustomError("messages", "{why}", {"why": why})
