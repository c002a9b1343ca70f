"""Whether a lead is an accident of the odd lines that were planted: the same models on other plantings."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from examples.logs import sets
from examples.logs.by_unroll import checkpoint_of
from examples.logs.recipe import rank, rank_by_grams
from examples.logs.sources import Library

SEEDS = range(1, 9)


class Plantings(NamedTuple):
    """AUROC of each planting of a log, by Unroll and by the 5-gram, each with what validation chose there."""

    name: str
    unroll: list[float]
    grams: list[float]

    def __str__(self) -> str:
        ahead = sum(ours > theirs for ours, theirs in zip(self.unroll, self.grams, strict=True))
        return (
            f"{self.name}, {len(self.unroll)} plantings: Unroll {np.mean(self.unroll):.4f} on average, the 5-gram "
            f"{np.mean(self.grams):.4f}; Unroll ahead in {ahead}."
        )


def replant(library: Library, out: Path) -> Iterator[Plantings]:
    """Rank the lines of each log anew, with other odd lines among them. out: folder of the models."""
    for name in sets.FOREIGN:
        found = Plantings(name, [], [])
        for seed in SEEDS:
            log = sets.planted(library, name, seed)
            found.unroll.append(rank(log, checkpoint_of(out / name), out / name)[0].auroc)
            found.grams.append(rank_by_grams(log).auroc)
        yield found
