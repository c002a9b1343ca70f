"""One thread's rows that score lines: short and long ones side by side, each from the same state."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.decoding.rows import AnyDecoder
from model.online_memory.memory import OnlineMemory, memory_bytes
from model.online_memory.scoring import score_with
from model.online_memory.weights import MemoryWeights
from model.text.prompt import Prompt
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import begins_character

ROWS = 128
MOST = 64  # ids × rows of one call
MEMORY_BYTES = 1 << 25  # of the memories of all rows together; fewer rows are read side by side where they are larger


class ScoredLines:
    """The scores of some lines.

    logprobs: ln p of all their ids, one line after the other (T,). firsts: which of these ids begin a character, and T.
    begins: how many characters stand before each line, and how many there are (lines + 1,).
    """

    def __init__(self, logprobs: Array, firsts: NDArray[np.intp], begins: NDArray[np.int64]) -> None:
        self.firsts, self.begins, self._logprobs = firsts, begins, logprobs

    def of_line(self, number: int) -> Array:
        """ln p of a line's ids (n,)."""
        return self._logprobs[self.firsts[self.begins[number]] : self.firsts[self.begins[number + 1]]]

    def of_characters(self, number: int) -> NDArray[np.float64]:
        """ln p of a line's characters (m,): of the ids of each together."""
        if self.begins[number] == self.begins[number + 1]:
            return np.zeros(0)
        firsts = self.firsts[self.begins[number] : self.begins[number + 1]]
        return np.add.reduceat(self.of_line(number).astype(np.float64), firsts - firsts[0])


class LineRows:
    """Scores lines, each as if nothing but the prefix stood before it; for one thread at a time.

    prefix: what every line follows, at least a character. memory: the weights of an online memory, with which each line
    is read; that of a line holds the prefix and the line.
    """

    def __init__(
        self,
        decoder: AnyDecoder,
        tokenizer: Tokenizer,
        prefix: str,
        rows: int = ROWS,
        memory: MemoryWeights | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._rows = decoder.rows(rows + (memory is not None))  # one more reads the prefix for memories
        self._slots = np.arange(rows)
        before = Prompt(tokenizer, decoder.ids, prefix).ids
        first = self._rows.state[0].copy()
        self._rows.read([0], before[None, :-1])
        self._state, self._last = self._rows.state[0].copy(), before[-1]
        self._weights, self._before, self._first = memory, before.astype(np.int32), first
        self._memories: dict[int, OnlineMemory] = {}

    def score(self, lines: list[str]) -> ScoredLines:
        """Score some lines. A line's scores depend on the line and the prefix alone."""
        ids = self._tokenizer.encode("".join(lines)).astype(np.int32)
        firsts = np.append(np.flatnonzero(begins_character(ids)), len(ids))
        begins = np.zeros(len(lines) + 1, np.int64)
        np.cumsum([len(line) for line in lines], out=begins[1:])
        starts = firsts[begins]
        scores = np.empty(len(ids), np.float32)
        self._score(ids, starts[:-1], np.diff(starts), scores)
        return ScoredLines(scores, firsts, begins)

    def _score(self, ids: NDArray[np.int32], starts: NDArray[np.intp], lengths: NDArray[np.intp], out: Array) -> None:
        """Score ids, in `out`, of lines that begin at `starts`, the longest first so that all rows end together."""
        order = np.argsort(-lengths, kind="stable")
        order = order[: np.count_nonzero(lengths)]
        previous = np.concatenate([[self._last], ids[:-1]]).astype(np.int32)  # what each id follows
        previous[starts[order]] = self._last
        begun = min(len(order), self._most_rows(int(lengths.max(initial=0))))
        slots = self._slots[:begun].copy()
        memories = [self._memory(length) for length in lengths[order[:begun]].tolist()]
        at, left = starts[order[:begun]], lengths[order[:begun]]
        self._rows.state[slots] = self._state
        while len(slots):
            steps = min(int(left.min()), max(1, MOST // len(slots)))
            columns = at[:, None] + np.arange(steps)
            out[columns] = self._scores(memories, slots, previous[columns], ids[columns])
            at, left = at + steps, left - steps
            ended = np.flatnonzero(left == 0)
            if not len(ended):
                continue
            following = order[begun : begun + len(ended)]
            begun += len(following)
            refilled, gone = ended[: len(following)], ended[len(following) :]
            self._rows.state[slots[refilled]] = self._state
            at[refilled], left[refilled] = starts[following], lengths[following]
            for row, length in zip(refilled.tolist(), lengths[following].tolist(), strict=True):
                memories[row] = self._memory(length)
            if len(gone):
                slots, at, left = (np.delete(part, gone) for part in (slots, at, left))
                for row in gone[::-1].tolist():
                    del memories[row]

    def _scores(
        self,
        memories: Sequence[OnlineMemory | None],
        slots: NDArray[np.intp],
        ids: NDArray[np.int32],
        following: NDArray[np.int32],
    ) -> Array:
        """ln p of the ids that follow others (B, T)."""
        if self._weights is None:
            return self._rows.score(slots, ids, following).logprobs
        return score_with(self._rows, memories, slots, ids, following).logprobs

    def _most_rows(self, longest: int) -> int:
        """How many rows are read side by side. longest: ids of a line."""
        if self._weights is None:
            return len(self._slots)
        return max(1, min(len(self._slots), MEMORY_BYTES // memory_bytes(self._room(longest))))

    def _room(self, length: int) -> int:
        """Room of the memory of a line of so many ids, in ids: of few sizes, so that each is made once."""
        return 1 << (len(self._before) + length).bit_length()

    def _memory(self, length: int) -> OnlineMemory | None:
        """The memory that a line of so many ids begins with, which knows the prefix."""
        if self._weights is None:
            return None
        room = self._room(length)
        if room not in self._memories:
            memory = OnlineMemory(self._weights, room)
            self._read_prefix(memory)
            self._memories[room] = memory
        return self._memories[room].copy()

    def _read_prefix(self, memory: OnlineMemory) -> None:
        """Have a memory read what every line follows."""
        spare, before = np.array([len(self._slots)]), self._before[None]
        self._rows.state[spare] = self._first
        if before.shape[1] > 1:
            score_with(self._rows, [memory], spare, before[:, :-1], before[:, 1:])


class FileRows(LineRows):
    """Scores the lines of one file after the other with one memory, which holds the prefix and all lines so far.

    The network begins each line from the same state all the same. end: what ends a line and is read, but not scored;
    "" where lines come with their end.
    """

    def __init__(
        self, decoder: AnyDecoder, tokenizer: Tokenizer, prefix: str, memory: MemoryWeights, end: str = ""
    ) -> None:
        super().__init__(decoder, tokenizer, prefix, 1, memory)
        self._whole = OnlineMemory(memory)
        self._read_prefix(self._whole)
        self._end = tokenizer.encode(end).astype(np.int32)

    def _score(self, ids: NDArray[np.int32], starts: NDArray[np.intp], lengths: NDArray[np.intp], out: Array) -> None:
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            following = np.concatenate([ids[start : start + length], self._end])[None]
            read = np.concatenate([[self._last], following[0, :-1]]).astype(np.int32)[None]
            if following.size:
                self._rows.state[0] = self._state
                scores = score_with(self._rows, [self._whole], self._slots, read, following).logprobs
                out[start : start + length] = scores[0, :length]
