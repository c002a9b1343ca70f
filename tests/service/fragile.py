"""A decoder whose calls fail on chosen characters."""

import numpy as np
from numpy.typing import NDArray

from model.decoding.decoder import Decoder
from model.decoding.rows import Drawn, Rows, Scored, Slots
from model.sampling.sampler import RowSampling
from tests.model.small import CHARACTERS
from tests.service.serving import SlowRows

FATAL = 256 + CHARACTERS.index("月")
DEADLY = 256 + CHARACTERS.index("明")


class Killed(BaseException):
    """What no handler of errors catches."""


class FragileRows(SlowRows):
    """Rows that cannot read 月, be it in the prompt or as its last character, and kill their thread by 明."""

    def __init__(self, rows: Rows) -> None:
        super().__init__(rows)
        self.last: dict[int, int] = {}

    def set(self, slot: int, sampling: RowSampling, last_id: int) -> None:
        self.last[slot] = last_id
        super().set(slot, sampling, last_id)

    def read(self, slots: Slots, ids: NDArray[np.int32]) -> None:
        self.refuse(ids.ravel().tolist())
        super().read(slots, ids)

    def draw(self, slots: Slots, steps: int) -> Drawn:
        self.refuse([self.last.pop(int(slot), 0) for slot in slots])
        return super().draw(slots, steps)

    def score(
        self,
        slots: Slots,
        ids: NDArray[np.int32],
        following: NDArray[np.int32],
        top: int | None = None,
        columns: NDArray[np.int32] | None = None,
        weights: bool = False,
    ) -> Scored:
        self.refuse(ids.ravel().tolist())
        return super().score(slots, ids, following, top, columns, weights)

    def refuse(self, ids: list[int]) -> None:
        if FATAL in ids:
            raise RuntimeError("secret words about the machine")
        if DEADLY in ids:
            raise Killed


class FragileDecoder(Decoder):
    """A decoder of such rows."""

    def rows(self, slots: int) -> Rows:
        return FragileRows(super().rows(slots))
