"""A row's state as a value: everything that its text follows from, as bytes and back, in a versioned layout of parts.

The layout is a byte that says its version, and then parts: the length of a name in a byte, the name, the length of the
content in four bytes, the content; all numbers little-endian. What the cell carries is in a part for each part of
`NetworkConfig.state_layout`, of any width. A part that is empty or zero is left out, so a new cell, or a new part with
a meaning for "none", joins the layout and older bytes can still be read.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.cells.state_layout import StateLayout
from model.errors import ParameterError
from model.sampling.sampler import RowSampling
from model.sampling.transitions import BEGINNING, DEEPEST
from model.text.frame import LARGEST_SEPARATOR

VERSION = 1
FLOATS = "<f4"
ROW = struct.Struct("<IQQI")  # last, position, seed, choice
SIZE = struct.Struct("<I")
EXTRAS = ("row", "drawn", "prompt", "undecoded", "held", "pattern", "walk", "written", "ends")
PART_BYTES = 16  # of a part's name and lengths, at most
COUNT_BYTES = 5  # of a count, at most
LONGEST_HELD = 4_096  # bytes of text that is held back: four of each character of a stop string
MOST_WRITTEN = 2_048  # columns of a text whose pattern has no table, which are followed again


@dataclass(frozen=True, slots=True, kw_only=True)
class RowState:
    """What a row carries from one id to the next, and what its text is so far, wherever it goes on.

    network: what the cell carries, (floats,), as the network's layout has it, after all ids but `last`, which is read
        next.
    seed, choice: what the draws are made from; position: how many ids the text has.
    drawn: how often the text has the id of each column (S,). in_prompt: whether what stands before it has it (S,).
    undecoded: bytes of a character that is not complete. held: text that may begin a stop string and was not shown.
    ends: as `TextStream.ends` has it, where `held` may be the beginning of a separator.
    pattern: a digest of what the text must match, empty if nothing. walk: the place of its table the text is at; or
        written: the columns of the text, where there is no table.
    """

    network: Array
    last: int
    seed: int = 0
    choice: int = 0
    position: int = 0
    drawn: NDArray[np.int32]
    in_prompt: NDArray[np.bool_]
    undecoded: bytes = b""
    held: str = ""
    pattern: bytes = b""
    walk: tuple[int, ...] = BEGINNING
    written: tuple[int, ...] = ()
    ends: tuple[int, ...] = ()

    @property
    def seen(self) -> NDArray[np.bool_]:
        """Which columns' ids have occurred, in the text or before it (S,)."""
        seen: NDArray[np.bool_] = self.in_prompt | (self.drawn > 0)
        return seen

    def resume(self, sampling: RowSampling) -> None:
        """Let a row that has drawn nothing go on in the middle of the text."""
        sampling.position = self.position
        if sampling.parameters.penalises:
            sampling.drawn[:] = self.drawn

    def to_bytes(self, layout: StateLayout) -> bytes:
        """The state in the layout of this file."""
        parts = {name: self.network[layout[name]].astype(FLOATS).tobytes() for name in layout.widths}
        parts["row"] = ROW.pack(self.last, self.position, self.seed % 2**64, self.choice % 2**32)
        parts["drawn"] = b"".join(_varints(np.trim_zeros(self.drawn, "b").tolist()))
        parts["prompt"] = np.packbits(self.in_prompt).tobytes() if self.in_prompt.any() else b""
        parts["undecoded"], parts["held"] = self.undecoded, self.held.encode()
        parts["pattern"] = self.pattern
        parts["walk"] = b"".join(_varints(self.walk)) if self.walk != BEGINNING else b""
        parts["written"], parts["ends"] = b"".join(_varints(self.written)), b"".join(_varints(self.ends))
        return bytes([VERSION]) + b"".join(_part(name, content) for name, content in parts.items() if content)

    @classmethod
    def from_bytes(cls, content: bytes, layout: StateLayout, columns: int) -> "RowState":
        """The state that `to_bytes` wrote. columns: of the logits.

        Raises ParameterError where it is of another network, of a later version, or damaged.
        """
        parts = dict(_parts(content))
        if wrong := parts.keys() - {*layout.widths, *EXTRAS}:
            raise _unreadable(f"it has the parts {', '.join(sorted(wrong))[:100]}, which this program does not know")
        network = np.concatenate([_floats(parts, name, width) for name, width in layout.widths.items()])
        if len(parts.get("row", b"")) != ROW.size:
            raise _unreadable("its part row is damaged")
        last, position, seed, choice = ROW.unpack(parts["row"])
        counts = _numbers(parts.get("drawn", b""))
        if len(counts) > columns or max(counts, default=0) >= 2**31:
            raise _unreadable("its part drawn is damaged")
        drawn = np.zeros(columns, np.int32)
        drawn[: len(counts)] = counts
        return cls(
            network=network,
            last=last,
            seed=seed,
            choice=choice,
            position=position,
            drawn=drawn,
            in_prompt=_flags(parts.get("prompt", b""), columns),
            undecoded=parts.get("undecoded", b""),
            held=_text(parts.get("held", b"")),
            pattern=parts.get("pattern", b""),
            walk=tuple(_numbers(parts.get("walk", b""))) or BEGINNING,
            written=tuple(_numbers(parts.get("written", b""))),
            ends=tuple(_numbers(parts.get("ends", b""))),
        )


def most_bytes(layout: StateLayout, columns: int) -> int:
    """Of a state in this layout, at most."""
    numbers = MOST_WRITTEN + DEEPEST + LARGEST_SEPARATOR
    extras = columns * (COUNT_BYTES + 1) + LONGEST_HELD + numbers * COUNT_BYTES + 100
    return 4 * layout.floats + (len(layout.widths) + len(EXTRAS)) * PART_BYTES + extras


def _part(name: str, content: bytes) -> bytes:
    return bytes([len(name)]) + name.encode("ascii") + SIZE.pack(len(content)) + content


def _parts(content: bytes) -> Iterator[tuple[str, bytes]]:
    if content[:1] != bytes([VERSION]):
        raise _unreadable("it is of another version")
    at = 1
    while at < len(content):
        name = content[at + 1 : at + 1 + content[at]]
        at += 1 + len(name)
        if at + SIZE.size > len(content):
            raise _unreadable("it is cut off")
        (size,) = SIZE.unpack_from(content, at)
        at += SIZE.size
        if at + size > len(content):
            raise _unreadable("it is cut off")
        yield name.decode("ascii", "replace"), content[at : at + size]
        at += size


def _floats(parts: Mapping[str, bytes], name: str, width: int) -> Array:
    """The numbers of one part of the network's state."""
    content = parts.get(name, b"")
    if len(content) != 4 * width:
        raise _unreadable(f"it does not fit this network, whose part {name} has {width:,} numbers")
    return np.frombuffer(content, FLOATS).astype(np.float32)


def _flags(content: bytes, columns: int) -> NDArray[np.bool_]:
    if not content:
        return np.zeros(columns, np.bool_)
    if len(content) != -(-columns // 8):
        raise _unreadable("its part prompt is damaged")
    return np.unpackbits(np.frombuffer(content, np.uint8), count=columns).astype(np.bool_)


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise _unreadable("its part held is damaged") from None


def _varints(numbers: list[int] | tuple[int, ...]) -> Iterator[bytes]:
    """Numbers of 7 bits a byte, the lowest first; all but the last byte of a number have the highest bit (LEB128)."""
    for number in numbers:
        while number >= 0x80:
            yield bytes([number & 0x7F | 0x80])
            number >>= 7
        yield bytes([number])


def _numbers(content: bytes) -> list[int]:
    numbers, number, shift = [], 0, 0
    for byte in content:
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            numbers.append(number)
            number = shift = 0
        elif shift > 63:
            raise _unreadable("a number in it is damaged")
    if shift:
        raise _unreadable("it is cut off")
    return numbers


def _unreadable(why: str) -> ParameterError:
    return ParameterError("state", f"The state cannot be read: {why}. Begin with the text again.")
