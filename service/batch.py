"""The running rows as arrays: what one step of decoder and sampler reads and writes."""

from collections.abc import Sequence

import numpy as np

from model.decoder import Decoder
from model.sampling import Sampler
from service.generation import Generation


class Batch:
    """Rows that advance together, one id per step: an id of the prompt while it lasts, then the last one drawn.

    Arrays are gathered anew only when rows come or go, and rows are sorted into readers and drawers only then and
    when a row has read its prompt; while all rows draw, a step indexes nothing.
    """

    def __init__(self, decoder: Decoder) -> None:
        self.rows: list[Generation] = []
        self._decoder = decoder
        self._state = decoder.initial_state(0)
        self._ids = np.zeros(0, np.int64)  # (B,) what each row reads next
        self._positions = np.zeros(0, np.int64)  # (B,) how many ids each row has drawn
        self._sort()

    def step(self, rows: Sequence[Generation]) -> list[tuple[Generation, int]]:
        """Advance the given rows by one id; the rows that drew one, each with its id.

        A row that was there in the last step continues; any other starts at the beginning of its prompt.
        """
        if rows != self.rows:
            self._gather(list(rows))
        logits, self._state = self._decoder.step(self._ids, self._state)
        if self._readers:
            return self._advance_some(logits)
        self._ids = self._decoder.ids[self._sampler.sample(logits, self._positions)]
        self._positions += 1
        return list(zip(self.rows, self._ids.tolist(), strict=True))

    def _advance_some(self, logits: np.ndarray) -> list[tuple[Generation, int]]:
        """The rest of a step in which some rows still read: the others draw."""
        drawing = self._drawing
        columns = self._sampler.sample(logits[drawing], self._positions[drawing])
        ids = self._ids.copy()
        ids[drawing] = self._decoder.ids[columns]
        self._positions[drawing] += 1
        drawn = [(self.rows[at], int(ids[at])) for at in drawing]
        for at, row in self._readers:
            row.read += 1
            ids[at] = row.prompt[row.read]
        self._ids = ids
        if not all(row.reading for _, row in self._readers):
            self._sort()
        return drawn

    def _gather(self, rows: list[Generation]) -> None:
        """Bring the arrays into the order of `rows`; newcomers start from zeros and their prompt's first id."""
        old = {row: at for at, row in enumerate(self.rows)}
        stay = [at for at, row in enumerate(rows) if row in old]
        came_from = [old[rows[at]] for at in stay]
        ids = np.array([row.prompt[row.read] for row in rows], np.int64)
        ids[stay] = self._ids[came_from]
        state = self._decoder.initial_state(len(rows))
        for new, before in zip(state, self._state, strict=True):
            new[stay] = before[came_from]
        self.rows, self._ids, self._state = rows, ids, state
        self._positions = np.array([row.drawn for row in rows], np.int64)
        self._sort()

    def _sort(self) -> None:
        """Tell rows that only read in the next step from rows that draw."""
        self._readers = [(at, row) for at, row in enumerate(self.rows) if row.reading]
        drawing = [at for at, row in enumerate(self.rows) if not row.reading]
        self._drawing = np.array(drawing, np.intp)
        self._sampler = Sampler([self.rows[at].sampling for at in drawing])
