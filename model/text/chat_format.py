"""How a chat is written as one text: what stands before and after the message of each role, and what ends an answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from model.errors import ParameterError
from model.strict_json import parse_json

ROLES = ("system", "user", "assistant")
NAME = "{name}"
"""What stands in a prefix for the name of who speaks."""
LARGEST_AFFIX = 1024  # characters of a prefix or suffix
LARGEST_NAME = 64  # characters
MOST_STOPS, LARGEST_END = 8, 256  # stop strings, and characters of one
LARGEST_FILE = 1 << 17  # bytes


class Message(NamedTuple):
    """One message of a chat; its role is one of ROLES, and without a name its role's name speaks."""

    role: str
    content: str
    name: str | None = None


@dataclass(frozen=True)
class RoleFormat:
    """What stands before and after the messages of a role.

    prefix: the first {name} in it is the name of who speaks. name: who speaks where the message does not say.
    Raises ValueError where one of them is too long, or no Unicode.
    """

    prefix: str = ""
    suffix: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        for what, text, most in (
            ("prefix", self.prefix, LARGEST_AFFIX),
            ("suffix", self.suffix, LARGEST_AFFIX),
            ("name", self.name, LARGEST_NAME),
        ):
            if type(text) is not str or len(text) > most or not _is_unicode(text):
                raise ValueError(f"a {what} is a text of at most {most:,} characters")

    def before(self, name: str | None) -> str:
        """What stands before a message."""
        return self.prefix.replace(NAME, self.name if name is None else name, 1)


@dataclass(frozen=True)
class ChatFormat:
    """How the messages of a chat become one text, and where an answer in it ends.

    roles: user and assistant, and system where there is one. stop: strings that end an answer.
    Raises ValueError where a role is missing or unknown, or there are too many stop strings.
    """

    roles: Mapping[str, RoleFormat] = field(hash=False)
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not {"user", "assistant"} <= self.roles.keys() <= set(ROLES):
            raise ValueError(f"the roles are {', '.join(ROLES)}, of which system may be left out")
        if len(self.stop) > MOST_STOPS or not all(map(_is_stop, self.stop)):
            raise ValueError(f"stop is a list of at most {MOST_STOPS} texts of 1 to {LARGEST_END:,} characters")

    def length(self, messages: Sequence[Message]) -> int:
        """Most characters of the text of some messages and of what stands before the answer."""
        around = {role: len(one.prefix) + len(one.name) + len(one.suffix) for role, one in self.roles.items()}
        each = (len(one.content) + len(one.name or "") + around.get(one.role, 0) for one in messages)
        return sum(each) + around["assistant"]

    def write(self, messages: Sequence[Message], going_on: bool = False) -> str:
        """The text of some messages, up to where the answer begins.

        going_on: the answer goes on with the last message. Raises ParameterError on a role that the format lacks.
        """
        parts = []
        for message in messages:
            role = self.roles.get(message.role)
            if role is None:
                sentence = f"The chat format of this model has no role {message.role}; say it in the first message."
                raise ParameterError("messages", sentence)
            parts += [role.before(message.name), message.content, role.suffix]
        if going_on:
            return "".join(parts[:-1])
        return "".join([*parts, self.roles["assistant"].before(None)])

    def to_json(self) -> dict[str, Any]:
        """The format as JSON values, what is empty left out."""
        roles = {
            role: {what: text for what in ("prefix", "suffix", "name") if (text := getattr(one, what))}
            for role, one in self.roles.items()
        }
        return {"roles": roles, "stop": list(self.stop)}

    @classmethod
    def from_json(cls, values: Any) -> "ChatFormat":
        """Read what `to_json` wrote. Raises ValueError on anything else."""
        if not isinstance(values, dict) or not {"roles"} <= values.keys() <= {"roles", "stop"}:
            raise ValueError("a chat format is an object with roles and stop")
        roles, stop = values["roles"], values.get("stop", [])
        if not isinstance(roles, dict) or not isinstance(stop, list):
            raise ValueError("roles is an object, and stop a list of texts")
        for role in roles.values():
            if not isinstance(role, dict) or not role.keys() <= {"prefix", "suffix", "name"}:
                raise ValueError("a role is an object with prefix, suffix and name")
        return cls({name: RoleFormat(**role) for name, role in roles.items()}, tuple(stop))

    @classmethod
    def read(cls, path: Path) -> "ChatFormat":
        """The format in a file of JSON. Raises ParameterError where it cannot be read or is none."""
        try:
            with path.open("rb") as file:
                content = file.read(LARGEST_FILE + 1)
            if len(content) > LARGEST_FILE:
                raise ValueError(f"it has more than {LARGEST_FILE:,} bytes")
            return cls.from_json(parse_json(content.decode("utf-8")))
        except OSError as error:
            why = error.strerror or str(error)
        except ValueError as error:
            why = str(error)
        raise ParameterError("chat_format", f"The chat format {path} cannot be read: {why}; name a file of JSON.")


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _is_stop(text: Any) -> bool:
    return type(text) is str and 0 < len(text) <= LARGEST_END and _is_unicode(text)


PLAIN_CHAT = ChatFormat(
    {
        "system": RoleFormat(suffix="\n\n"),
        "user": RoleFormat("{name}:\n", "\n\n", "User"),
        "assistant": RoleFormat("{name}:\n", "\n\n", "Assistant"),
    },
    ("\n\n",),
)
"""Of models that have none: as in a play, the name of who speaks in a line, the words, and an empty line."""
