"""The program `unroll serve`, but some characters at the end of a prompt break it: `python -m tests.load.faulty`.

The bundled model's vocabulary has each of them, and no prompt of a bystander ends with one.
"""

import sys
import time

import numpy as np
from numpy.typing import NDArray

import unroll
from model.checkpoint import BUNDLED, load
from model.decoding.decoder import Decoder
from model.decoding.rows import Drawn, Rows, Scored, Slots
from model.sampling.sampler import RowSampling

JOINS, DRAWS, DIES, HANGS, JUMPS = "$", "&", "3", "-", ";"
"""What a prompt ends with whose text raises as it takes its slot, raises as it draws, ends the thread that draws, lets
it wait for ever, or sets the clock on the wall a year back."""

YEAR = 365 * 86_400.0
ALMOST_FOR_EVER = 3_600.0


class FaultyRows:
    """Rows that do what the last character of a prompt says; otherwise those of the decoder."""

    def __init__(self, rows: Rows, ids: dict[int, str]) -> None:
        self.rows = rows
        self.ids = ids
        self.pending: dict[int, str] = {}

    @property
    def state(self) -> NDArray[np.float32]:
        return self.rows.state

    def set(self, slot: int, sampling: RowSampling, last_id: int) -> None:
        fault = self.ids.get(last_id, "")
        if fault == JOINS:
            raise RuntimeError("injected as a text takes its place")
        if fault == JUMPS:
            before = time.time
            time.time = lambda: before() - YEAR
        elif fault:
            self.pending[slot] = fault
        self.rows.set(slot, sampling, last_id)

    def read(self, slots: Slots, ids: NDArray[np.int32]) -> None:
        self.rows.read(slots, ids)

    def draw(self, slots: Slots, steps: int) -> Drawn:
        faults = {self.pending.pop(int(slot)) for slot in slots if int(slot) in self.pending}
        if DRAWS in faults:
            raise RuntimeError("injected as texts draw")
        if DIES in faults:
            raise SystemExit
        if HANGS in faults:
            time.sleep(ALMOST_FOR_EVER)
        return self.rows.draw(slots, steps)

    def score(
        self,
        slots: Slots,
        ids: NDArray[np.int32],
        following: NDArray[np.int32],
        top: int | None = None,
        columns: NDArray[np.int32] | None = None,
        weights: bool = False,
    ) -> Scored:
        return self.rows.score(slots, ids, following, top, columns, weights)


def main() -> None:
    """Serve with rows that can be broken from outside."""
    encode = load(BUNDLED).tokenizer.encode
    ids = {int(encode(fault)[0]): fault for fault in (JOINS, DRAWS, DIES, HANGS, JUMPS)}
    rows = Decoder.rows
    Decoder.rows = lambda decoder, slots: FaultyRows(rows(decoder, slots), ids)  # type: ignore[assignment, method-assign]
    sys.argv = ["unroll", "serve", *sys.argv[1:]]
    unroll.main()


if __name__ == "__main__":
    main()
