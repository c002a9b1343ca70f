"""MOSES's measures of a list of molecules, each computed by the function that MOSES itself has for it."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from examples.molecules.moses_package import moses

UNIQUE_AMONG = 10_000


class Measures(NamedTuple):
    """The columns of MOSES's table that the recipe has.

    valid: share that rdkit can read. unique: share of different ones among the first 10,000 valid ones. fcd: Fréchet
    ChemNet distance to the test part (Preuer et al. 2018). snn: mean Tanimoto similarity to the nearest molecule of the
    test part. diversity: 1 − the mean similarity of two. filters: share that passes the filters the set was made
    with. novelty: share of the different valid ones that are not in the train part.
    """

    valid: float
    unique: float
    fcd: float
    snn: float
    diversity: float
    filters: float
    novelty: float


def measures_of(smiles: Sequence[str], train: Sequence[str], test: dict[str, Any], among: int) -> Measures:
    """The measures of a list of molecules, in the order and with the settings of `moses.get_all_metrics`.

    test: MOSES's statistics of the test part. among: how many of the valid ones are looked at for `unique`.
    """
    own = moses("moses.metrics.metrics")
    with _quiet():
        valid = own.fraction_valid(list(smiles))
        kept = own.remove_invalid(list(smiles), canonize=True)
        unique = own.fraction_unique(kept, min(among, len(kept)))
        found = [own.get_mol(one) for one in kept]
        return Measures(
            float(valid),
            float(unique),
            float(own.FCDMetric()(gen=kept, pref=test["FCD"])),
            float(own.SNNMetric()(gen=found, pref=test["SNN"])),
            float(own.internal_diversity(found)),
            float(own.fraction_passes_filters(found)),
            float(own.novelty(found, train)),
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without rdkit's word on each invalid molecule, and the packages' on what of numpy and scipy is old."""
    own = moses("moses.utils")
    own.disable_rdkit_log()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        own.enable_rdkit_log()
