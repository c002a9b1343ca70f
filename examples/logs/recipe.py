"""One log from its lines to its results: Unroll and its rivals on the same lines, tuned on the same validation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from examples.logs import by_unroll, sets
from examples.logs.evaluation import Ranking, Result, best_on_validation, found_at, is_odd, lead, threshold
from examples.logs.rivals import DISCOUNTS, FORESTS, CharacterGrams, forest
from examples.logs.sets import Line, LogSet
from examples.logs.sources import Library
from examples.logs.surprise import HIGHEST, Scores
from examples.running import RecipeError

OPTIONS = {
    "HDFS": ("--layers", "2", "--hidden", "192", "--embedding", "64", "--epochs", "20"),
    "made": ("--layers", "2", "--hidden", "128", "--embedding", "32", "--epochs", "12"),
    "other": ("--layers", "2", "--hidden", "128", "--embedding", "32", "--epochs", "40"),
}
"""Of `unroll train`: sizes as it plans them for such lists, and passes that take a minute or two on two cores."""
MADE = (4_000, 2_000)  # lines to learn and to rank of the log that is made here
QUICK = ("--hidden", "32", "--embedding", "16", "--epochs", "8")  # to see that all works
FALSE_ALARMS = 0.01  # share of usual lines that the threshold lets through


@dataclass(frozen=True)
class Outcome:
    """What came out for a log. threshold: of `unroll score --by highest`. pace: characters in a second of a core."""

    log: LogSet
    checkpoint: Path
    unroll: Result
    grams: Result
    forest: Result
    threshold: float
    pace: float

    @property
    def rival(self) -> Result:
        """The better of the rivals, by what it did on the lines to rank."""
        return max(self.grams, self.forest, key=lambda result: result.auroc)

    def lead(self) -> tuple[float, float]:
        """The middle 95 % of the lead in AUROC over the better rival."""
        return lead(is_odd(self.log.test), self.unroll.ranking, self.rival.ranking)

    def found_at(self, false_alarms: float) -> tuple[float, float]:
        """The share of odd lines found at a share of false alarms, by Unroll and by the 5-gram."""
        odd = is_odd(self.log.test)
        return found_at(odd, self.unroll.ranking, false_alarms), found_at(odd, self.grams.ranking, false_alarms)


LOGS: Mapping[str, Callable[[Library], LogSet]] = {
    "HDFS": sets.hdfs,
    "BGL": sets.labelled,
    **{name: partial(sets.planted, name=name) for name in sets.FOREIGN},
    "made": lambda _: sets.made(*MADE),
}


def run(log: LogSet, folder: Path, quick: bool = False) -> Outcome:
    """Train, tune and rank. folder: of what is written. quick: a small model, one forest, and its pace on few lines.

    Raises RecipeError where lines of one kind alone are there.
    """
    for part, lines in (("tune on", log.validate), ("rank", log.test)):
        if len(set(is_odd(lines).tolist())) < 2:
            raise RecipeError(f"{log.name} has no odd lines to {part}, or no usual ones; it takes a longer log.")
    options = QUICK if quick else OPTIONS.get(log.name, OPTIONS["other"])
    checkpoint = by_unroll.train(log.train, folder, options)
    unroll, tuned = rank(log, checkpoint, folder)
    return Outcome(
        log,
        checkpoint,
        unroll,
        rank_by_grams(log),
        rank_by_forest(log, FORESTS[-1:] if quick else FORESTS),
        threshold(tuned[HIGHEST][~is_odd(log.validate)], FALSE_ALARMS),
        by_unroll.pace(checkpoint, texts(log.test), folder / "pace.txt", *((20_000,) if quick else ())),
    )


def rank(log: LogSet, checkpoint: Path, folder: Path) -> tuple[Result, Scores]:
    """Unroll's result, and its figures of the lines to tune on."""
    validate = by_unroll.score(checkpoint, texts(log.validate), folder / "validate.txt")
    test = by_unroll.score(checkpoint, texts(log.test), folder / "test.txt")
    return _best(log, {name: (validate[name], test[name]) for name in validate}), validate


def rank_by_grams(log: LogSet) -> Result:
    """The character 5-gram's result."""
    found: dict[str, tuple[Ranking, Ranking]] = {}
    for discount in DISCOUNTS:
        grams = CharacterGrams(log.train, discount)
        validate, test = grams.scores(texts(log.validate)), grams.scores(texts(log.test))
        found |= {f"{name}, discount {discount:g}": (validate[name], test[name]) for name in validate}
    return _best(log, found)


def rank_by_forest(log: LogSet, forests: Sequence[tuple[str, int, float]]) -> Result:
    """The isolation forest's result. forests: the settings that validation chooses from."""
    parts = [log.train, texts(log.validate), texts(log.test)]
    if log.name == "HDFS":  # a session's events are its words; its letters stand side by side
        parts = [[" ".join(session) for session in part] for part in parts]
    found = {}
    for analyzer, longest, samples in forests:
        validate, test = forest(parts[0], analyzer, longest, samples, *parts[1:])
        found[f"{analyzer} 1- to {longest}-grams, {samples} samples a tree"] = (validate, test)
    return _best(log, found)


def texts(lines: Sequence[Line]) -> list[str]:
    """Lines without what is odd about them."""
    return [line.text for line in lines]


def _best(log: LogSet, settings: Mapping[str, tuple[Ranking, Ranking]]) -> Result:
    return best_on_validation(is_odd(log.validate), is_odd(log.test), settings)
