"""One thread's rows that score lines: short and long ones side by side, each from the same state."""

import numpy as np
from numpy.typing import NDArray

from model.arithmetic import Array
from model.decoding.rows import AnyDecoder
from model.text.prompt import Prompt
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import begins_character

ROWS = 128
MOST = 64  # ids × rows of one call


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

    prefix: what every line follows, at least a character.
    """

    def __init__(self, decoder: AnyDecoder, tokenizer: Tokenizer, prefix: str, rows: int = ROWS) -> None:
        self._tokenizer = tokenizer
        self._rows = decoder.rows(rows)
        self._slots = np.arange(rows)
        before = Prompt(tokenizer, decoder.ids, prefix).ids
        self._rows.read([0], before[None, :-1])
        self._state, self._last = self._rows.state[0].copy(), before[-1]

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
        begun = min(len(order), len(self._slots))
        slots = self._slots[:begun].copy()
        at, left = starts[order[:begun]], lengths[order[:begun]]
        self._rows.state[slots] = self._state
        while len(slots):
            steps = min(int(left.min()), max(1, MOST // len(slots)))
            columns = at[:, None] + np.arange(steps)
            out[columns] = self._rows.score(slots, previous[columns], ids[columns]).logprobs
            at, left = at + steps, left - steps
            ended = np.flatnonzero(left == 0)
            if not len(ended):
                continue
            following = order[begun : begun + len(ended)]
            begun += len(following)
            refilled, gone = ended[: len(following)], ended[len(following) :]
            self._rows.state[slots[refilled]] = self._state
            at[refilled], left[refilled] = starts[following], lengths[following]
            if len(gone):
                slots, at, left = (np.delete(part, gone) for part in (slots, at, left))
