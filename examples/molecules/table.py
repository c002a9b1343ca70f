"""The results as the table that the README has, beside rows that MOSES published."""

from collections.abc import Iterable

from examples.molecules.measures import Measures
from examples.molecules.recipe import Outcome

HEAD = (
    "| molecules from | Valid | Unique@10k | FCD/Test | SNN | IntDiv | Filters | Novelty |\n"
    "|---|---|---|---|---|---|---|---|"
)
PUBLISHED = {  # of MOSES's table (Polykovskiy et al. 2020), means of three runs
    "CharRNN of MOSES, 11.9 M parameters, 80 passes": Measures(0.9748, 0.9994, 0.0732, 0.6015, 0.8562, 0.9943, 0.8419),
    "VAE of MOSES": Measures(0.9767, 0.9984, 0.0990, 0.6257, 0.8558, 0.9970, 0.6949),
    "n-gram of MOSES": Measures(0.2376, 0.9217, 5.5069, 0.5209, 0.8738, 0.9582, 0.9694),
}


def row(name: str, measures: Measures) -> str:
    """A row of the table."""
    return f"| {name} | " + " | ".join(f"{figure:.4f}" for figure in measures) + " |"


def choices(outcome: Outcome) -> Iterable[str]:
    """What a setting was chosen from, in lines."""
    for one in outcome.chosen:
        yield f"{outcome.name}, on held-out molecules: {one.setting}: {one.nats:.4f} nats per character"
