"""A Reader whose rows are read by several processes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.distributed.ranks import Ranks
from training.evaluation.readers import Reader
from training.evaluation.score import Score


@dataclass(frozen=True)
class _Rows:
    """What this process has of a state's part for all rows, which can be cut as that can.

    own: of its rows (n, …); None where it has none. mine: which of all rows those are (B,).
    """

    own: Any
    mine: NDArray[np.bool_]

    def __getitem__(self, chosen: slice) -> "_Rows":
        kept = self.mine.copy()
        kept[chosen] = False
        stays = ~kept[self.mine]
        return _Rows(None if self.own is None else self.own[stays], self.mine[chosen])


def score_together(ranks: Ranks, read: Reader, score: Callable[[Reader], Score]) -> Score:
    """A score whose rows the processes share; all get the same, that of one process but for the rounding of sums.

    score: computes it with a reader; its state is only cut, never looked into.
    """
    if ranks.count == 1:
        return score(read)

    def read_own(
        inputs: NDArray[np.int64], targets: NDArray[np.int64], state: Sequence[_Rows] | None
    ) -> tuple[float, Sequence[_Rows]]:
        mine = np.arange(len(inputs)) % ranks.count == ranks.number if state is None else state[0].mine
        if not mine.any():
            return 0.0, [_Rows(None, mine)]
        before = None if state is None else [part.own for part in state]
        nats, after = read(inputs[mine], targets[mine], before)
        return nats, [_Rows(part, mine) for part in after]

    found = score(read_own)
    return replace(found, nats=ranks.sum_of(found.nats))
