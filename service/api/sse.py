"""Server-sent events and their bytes (WHATWG HTML, section 9.2)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The only line ends of the format; str.splitlines has more, and would split data at them.
LINE_END = re.compile("\r\n|\r|\n")
NEXT_LINE = "\ndata: "

ENCODE = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""A value as JSON in one line of ASCII."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event; its data may have several lines."""

    data: str

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> "ServerSentEvent":
        """An event whose data is JSON in one line of ASCII, so that no parser takes U+2028 or U+0085 for its end."""
        return cls(ENCODE(value))

    def encode(self) -> bytes:
        """The bytes of the event in the stream."""
        return f"data: {LINE_END.sub(NEXT_LINE, self.data)}\n\n".encode()


DONE = ServerSentEvent("[DONE]")
"""The event that ends a stream in OpenAI's dialect."""
