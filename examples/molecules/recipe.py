"""The recipe: a model of MOSES's training molecules, what it draws, and the measures of that beside its rivals'."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from examples.molecules import by_unroll
from examples.molecules.measures import UNIQUE_AMONG, Measures, measures_of
from examples.molecules.moses_package import TEST, TRAIN, molecules, statistics
from examples.molecules.ngram import LONGEST, CharacterGrams

HELD_OUT = 50  # one of so many training molecules is held out, to choose on
SEED = 2  # of what is drawn and measured
TEMPERATURE = 1.0  # training has scaled the logits as fits its own validation part best
OURS, BOUND = "Unroll", "training molecules themselves"


class Size(NamedTuple):
    """How much is learnt, drawn and tried.

    molecules: learnt from at most, the first ones; None is all. options: of `unroll train`. draws: molecules drawn and
    measured: the Fréchet distance depends on it, and MOSES has 30,000. orders, weights: of the n-gram, from which the
    molecules held out choose, the first of them, as many as `judged`.
    """

    molecules: int | None
    options: Sequence[str]
    draws: int
    orders: Sequence[int]
    weights: Sequence[float]
    judged: int


WHOLE = Size(
    molecules=None,
    options=(
        *("--layers", "2", "--hidden", "384", "--embedding", "48", "--split", "98/1/1", "--epochs", "1"),
        *("--batch-size", "32", "--sequence-length", "64", "--learning-rate", "0.004"),
    ),
    draws=30_000,
    orders=range(5, LONGEST + 1),
    weights=(0.25, 1.0, 4.0),
    judged=5_000,
)
QUICK = Size(
    molecules=3_000,
    options=("--layers", "1", "--hidden", "96", "--embedding", "16", "--epochs", "6", "--threads", "1"),
    draws=150,
    orders=(4, 8),
    weights=(1.0,),
    judged=50,
)


class Chosen(NamedTuple):
    """A setting and what it had on the molecules held out. nats: per character."""

    setting: str
    nats: float


class Outcome(NamedTuple):
    """A row of the table, and what its setting was chosen from."""

    name: str
    measures: Measures
    chosen: Sequence[Chosen] = ()


class Recipe:
    """The molecules, and each row of the table when it is asked for. folder: of what is written."""

    def __init__(self, folder: Path, size: Size) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.size = folder, size
        self.every = molecules(TRAIN)
        few = self.every[: size.molecules]
        self.learnt = [one for one in few if not is_held_out(one)]
        self.held_out = [one for one in few if is_held_out(one)]
        self._test = statistics(TEST)

    def trained(self) -> Path:
        """The checkpoint: what is not trained yet is, a run that was stopped goes on."""
        corpus = self.folder / "train.smi"
        if not corpus.is_file():
            unfinished = corpus.with_suffix(".unfinished")
            unfinished.write_text("".join(f"{one}\n" for one in self.learnt), encoding="utf-8")
            unfinished.replace(corpus)
        return by_unroll.train(corpus, self.folder / "run", self.size.options)

    def rows(self, checkpoint: Path) -> Iterator[Outcome]:
        """The rows that are made here, one after the other."""
        yield self.of_model(checkpoint)
        yield self.of_grams()
        yield self._outcome(BOUND, random.Random(SEED).sample(self.learnt, min(self.size.draws, len(self.learnt))))

    def of_model(self, checkpoint: Path) -> Outcome:
        """What the model draws."""
        drawn = by_unroll.draw(checkpoint, self.size.draws, TEMPERATURE, SEED, self.folder / "drawn.smi")
        return self._outcome(OURS, drawn)

    def of_grams(self) -> Outcome:
        """What the n-gram draws, with the order and the prior that the molecules held out are likeliest with."""
        grams = CharacterGrams(self.learnt)
        judged = self.held_out[: self.size.judged]
        tried = {
            (order, weight): grams.nats(judged, order, weight)
            for order in self.size.orders
            for weight in self.size.weights
        }
        order, weight = min(tried, key=lambda one: tried[one])
        chosen = [Chosen(f"{order}-gram, weight {weight:g}", nats) for (order, weight), nats in tried.items()]
        return self._outcome(f"character {order}-gram", grams.draw(self.size.draws, order, weight, SEED), chosen)

    def _outcome(self, name: str, drawn: Sequence[str], chosen: Sequence[Chosen] = ()) -> Outcome:
        return Outcome(name, measures_of(drawn, self.every, self._test, UNIQUE_AMONG), chosen)


def is_held_out(smiles: str) -> bool:
    """Whether a training molecule is held out, by its characters alone."""
    return int.from_bytes(hashlib.blake2b(smiles.encode(), digest_size=8).digest()) % HELD_OUT == 0
