"""Messages between processes: the length in 4 bytes, then the content."""

from typing import BinaryIO

LENGTH = 4  # bytes that say how long a message is


def read_message(stream: BinaryIO) -> bytes | None:
    """The next message; None at the end."""
    head = stream.read(LENGTH)
    return stream.read(int.from_bytes(head, "big")) if len(head) == LENGTH else None


def message(content: bytes) -> bytes:
    """A message as it is sent."""
    return len(content).to_bytes(LENGTH, "big") + content
