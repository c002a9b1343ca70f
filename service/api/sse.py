"""A server-sent event as a value that knows its bytes (WHATWG HTML, section 9.2)."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# The only ends of a line the format knows; str.splitlines knows more, and would tear data apart at them.
LINE_END = re.compile("\r\n|\r|\n")
NEXT_LINE = "\ndata: "

ENCODE = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
"""A value as JSON in one line of ASCII."""


@dataclass(frozen=True, slots=True)
class ServerSentEvent:
    """An event of some data, which may have several lines."""

    data: str

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> "ServerSentEvent":
        """An event whose data is JSON in one line of ASCII, so that no reader takes U+2028 or U+0085 for its end."""
        return cls(ENCODE(value))

    def encode(self) -> bytes:
        """The event as it stands in the stream."""
        return f"data: {LINE_END.sub(NEXT_LINE, self.data)}\n\n".encode()


DONE = ServerSentEvent("[DONE]")
"""The event that ends a stream in OpenAI's dialect."""
