"""Lines of files or of a pipe, scored on all cores in flat memory and told in their order."""

import math
import os
import select
import stat
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import local
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bulk.line_rows import FileRows, LineRows
from model.cores import available_cores
from model.decoding.rows import AnyDecoder
from model.errors import ParameterError
from model.held_out_surprise import HeldOutSurprise
from model.online_memory.weights import MemoryWeights
from model.surprise_sum import BITS, nats_of
from model.text.tokenizer import Tokenizer

BLOCK = 1 << 18  # bytes that are read, and scored by one thread, at a time
LONGEST_LINE = 1 << 24  # bytes; a line is held whole


class LineScore(NamedTuple):
    """How much a line surprises, as /v1/score says of the same text.

    bits_per_character: None of an empty line. percentile: of held-out passages of about this length that surprise
    less, None where the checkpoint does not know. surprises: bits of each character, where they were asked for.
    highest: bits of the character that surprises most, where it was asked for; None of an empty line.
    """

    text: str
    characters: int
    bits: float
    bits_per_character: float | None
    percentile: float | None
    surprises: NDArray[np.float64] | None = None
    highest: float | None = None


class LineScorer:
    """Scores lines on all cores.

    context: what every line follows; without one, a line begins as a text does. surprises: also of each character.
    highest: also of the character that surprises most, which may be the end.
    ends: the end of each line is scored, too, as one more character that `text` does not show: a line that is cut short
        surprises by that.
    memory: the weights of an online memory, with which lines are read. remembers: whether that of a line holds the
        context and the line alone, or all lines before in its file, too, which one thread reads then.
    threads: as many as there are processors by default. Use as a context manager: it ends the threads.
    """

    def __init__(
        self,
        decoder: AnyDecoder,
        tokenizer: Tokenizer,
        held_out: HeldOutSurprise | None = None,
        *,
        context: str = "",
        surprises: bool = False,
        highest: bool = False,
        ends: bool = False,
        memory: MemoryWeights | None = None,
        remembers: Literal["line", "file"] = "line",
        threads: int | None = None,
    ) -> None:
        self._decoder, self._tokenizer, self._held_out = decoder, tokenizer, held_out
        line_begins = "" if tokenizer.frame.items else tokenizer.piece(tokenizer.start_id)
        self._prefix = context or line_begins
        tokenizer.encode(self._prefix)  # text that is not Unicode is refused here
        self._surprises, self._highest = surprises, highest
        self._end = (tokenizer.frame.separator or "\n") if ends else ""
        self._memory, self._whole_file = memory, memory is not None and remembers == "file"
        self._threads = 1 if self._whole_file else threads or available_cores()
        self._pool = ThreadPoolExecutor(self._threads, "score")
        self._own = local()

    def __enter__(self) -> "LineScorer":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def score(self, blocks: Iterable[list[str] | None]) -> Iterator[LineScore | None]:
        """The scores of a file's lines that come in blocks; a block of None means that others may not come for a while.

        None is told, too, once all lines before it are.

        As many blocks are held at a time as keep all threads busy. Raises TokenizerError on text that is not Unicode.
        """
        if self._whole_file:
            self._own = local()
        pending: deque[Future[list[LineScore]]] = deque()
        for block in blocks:
            if block is not None:
                pending.append(self._pool.submit(self._score, block))
            while pending and (block is None or len(pending) > 2 * self._threads):
                yield from pending.popleft().result()
            if block is None:
                yield None
        while pending:
            yield from pending.popleft().result()

    def _score(self, lines: list[str]) -> list[LineScore]:
        rows = getattr(self._own, "rows", None)
        if rows is None:
            rows = self._own.rows = self._rows()
        scored = rows.score([f"{line}{self._end}" for line in lines] if self._end else lines)
        by_character = self._surprises or self._highest
        return [
            self._line(
                line, nats_of(scored.of_line(number)), scored.of_characters(number) * -BITS if by_character else None
            )
            for number, line in enumerate(lines)
        ]

    def _rows(self) -> LineRows:
        """What reads the lines of one thread."""
        if self._whole_file and self._memory is not None:
            end = "" if self._end else self._tokenizer.frame.separator or "\n"
            return FileRows(self._decoder, self._tokenizer, self._prefix, self._memory, end)
        return LineRows(self._decoder, self._tokenizer, self._prefix, memory=self._memory)

    def _line(self, line: str, nats: float, by_character: NDArray[np.float64] | None) -> LineScore:
        characters, bits = len(line) + len(self._end), nats * BITS
        surprises = by_character[: len(line)] if by_character is not None and self._surprises else None
        if not characters:
            return LineScore(line, 0, bits, None, None, surprises)
        per_character = bits / characters
        percentile = None if self._held_out is None else self._held_out.percentile(per_character, characters)
        highest = float(by_character.max()) if by_character is not None and self._highest else None
        return LineScore(line, characters, bits, per_character, percentile, surprises, highest)


class LineReader:
    """Reads the lines of an open file, a pipe too, in blocks that come as soon as they are there.

    replaced: bytes so far that are not UTF-8 and were read as U+FFFD, by lines that have any.
    """

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor, self._name = descriptor, name
        self._waits = not stat.S_ISREG(os.fstat(descriptor).st_mode)
        self.replaced = 0

    def blocks(self) -> Iterator[list[str] | None]:
        """Lines without their ends, or None where the next may not come for a while.

        Raises ParameterError on a line too long to be held.
        """
        begun: list[bytes] = []  # of a line whose end has not come
        size = 0
        while True:
            if self._waits and not select.select([self._descriptor], [], [], 0)[0]:
                yield None
            data = os.read(self._descriptor, BLOCK)
            if not data:
                break
            whole, end, rest = data.rpartition(b"\n")
            if end:
                yield self._lines(b"".join([*begun, whole]))
                begun, size = [], 0
            begun.append(rest)
            size += len(rest)
            if size > LONGEST_LINE:
                raise ParameterError(
                    "file",
                    f"{self._name} has a line of more than {LONGEST_LINE >> 20} MiB; break it first, for instance "
                    "with fold.",
                )
        if size:
            yield self._lines(b"".join(begun))

    def _lines(self, data: bytes) -> list[str]:
        return [self._decode(line.removesuffix(b"\r")) for line in data.split(b"\n")]

    def _decode(self, line: bytes) -> str:
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            self.replaced += 1
            return line.decode("utf-8", errors="replace")


def oddness(score: LineScore) -> tuple[float, float]:
    """By which lines are ranked, the oddest last: highest surprise if it was asked for, else percentile; then bits per
    character."""
    first = score.percentile if score.highest is None else score.highest
    bits = score.bits_per_character
    return (-math.inf if first is None else first, -math.inf if bits is None else bits)
