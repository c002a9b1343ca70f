"""What a trained model writes: greedily, by beam search, or the text found that agrees most with draws."""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol

from examples.translation.corpus import Sentence
from examples.translation.pieces import Pieces

MOST_PIECES = 120  # of a translation; the longest French sentence has fewer
SEED = 1


class Model(Protocol):
    """What the recipe asks of a model that `unroll.train` or `unroll.load` gave."""

    def generate(self, prompt: str, n: int = 1, *, max_tokens: int, seed: int, **options: Any) -> list[str]:
        """`n` continuations of a prompt."""

    def beam_search(self, prompt: str, beams: int, n: int = 1, *, max_tokens: int, length_penalty: float) -> list[str]:
        """The `n` likeliest continuations that a search finds."""


class Beams(NamedTuple):
    """Beam search. width: of the beam. length_penalty: ln p is divided by the length to this power."""

    width: int
    length_penalty: float

    def __str__(self) -> str:
        """What it is, in the table."""
        return f"{self.width} beams, length penalty {self.length_penalty:g}"


class Agreed(NamedTuple):
    """Of all texts of a beam search the one with the highest expected score (minimum Bayes risk, Kumar & Byrne 2004).

    beams: the search. draws: texts drawn, over which the expectation is. temperature: at which they are.
    bleu: weight of sentence BLEU in the score; the rest is chrF.
    """

    beams: Beams
    draws: int
    temperature: float
    bleu: float

    def __str__(self) -> str:
        """What it is, in the table."""
        weights = f"{self.bleu:.0%} BLEU, {1 - self.bleu:.0%} chrF"
        return f"{self.beams}; {self.draws} draws at temperature {self.temperature:g}, {weights}"


BEAMS = [Beams(width, penalty) for width in (4, 12) for penalty in (0.0, 0.3, 0.6)]
AGREED = [Agreed(Beams(12, 0.3), 32, temperature, bleu) for temperature in (0.5, 0.8) for bleu in (0.5, 1.0)]


class Translator:
    """A model with the pieces that its texts are written in."""

    def __init__(self, model: Model, pieces: Pieces) -> None:
        self._model, self._pieces = model, pieces
        self._draws: dict[tuple[str, int, float], list[str]] = {}
        self._found: dict[tuple[str, Beams], list[str]] = {}

    def greedy(self, sentences: Sequence[Sentence]) -> list[str]:
        """The likeliest piece at each place."""
        return [texts[0] for texts in self._drawn(sentences, 1, 0.0)]

    def by_beams(self, sentences: Sequence[Sentence], beams: Beams) -> list[str]:
        """The likeliest text that a beam search finds."""
        return [texts[0] for texts in self._searched(sentences, beams)]

    def by_agreement(self, sentences: Sequence[Sentence], agreed: Agreed) -> list[str]:
        """The text of a search that draws agree with most."""
        found = self._searched(sentences, agreed.beams)
        drawn = self._drawn(sentences, agreed.draws, agreed.temperature)
        return [most_agreed(texts, draws, agreed.bleu) for texts, draws in zip(found, drawn, strict=True)]

    def _searched(self, sentences: Sequence[Sentence], beams: Beams) -> Iterator[list[str]]:
        """All texts of the search for each sentence, the likeliest first; kept, as draws are."""
        for source, _ in sentences:
            if (source, beams) not in self._found:
                found = self._model.beam_search(
                    self._pieces.question(source),
                    beams.width,
                    beams.width,
                    max_tokens=MOST_PIECES,
                    length_penalty=beams.length_penalty,
                )
                self._found[source, beams] = list(map(self._pieces.read, found))
            yield self._found[source, beams]

    def _drawn(self, sentences: Sequence[Sentence], count: int, temperature: float) -> Iterator[list[str]]:
        """Draws of each sentence, kept: another setting may judge them otherwise."""
        for source, _ in sentences:
            key = (source, count, temperature)
            if key not in self._draws:
                question = self._pieces.question(source)
                drawn = self._model.generate(
                    question, count, max_tokens=MOST_PIECES, temperature=temperature, seed=SEED
                )
                self._draws[key] = list(map(self._pieces.read, drawn))
            yield self._draws[key]


def most_agreed(texts: Sequence[str], draws: Sequence[str], bleu: float) -> str:
    """The text with the highest mean score against draws; the first of equals. bleu: as of Agreed."""
    counts = Counter(draws)

    def expected(text: str) -> float:
        return sum(count * agreement(text, draw, bleu) for draw, count in counts.items())

    return max(dict.fromkeys(texts), key=expected)


def agreement(text: str, other: str, bleu: float) -> float:
    """The score of a text where another is right, 0 to 100."""
    if text == other:
        return 100.0
    of_bleu, of_chrf = _metrics()
    weights = ((of_bleu, bleu), (of_chrf, 1 - bleu))
    return sum(float(weight * metric.sentence_score(text, [other]).score) for metric, weight in weights if weight)


@cache
def _metrics() -> tuple[Any, Any]:
    from sacrebleu.metrics import BLEU, CHRF

    return BLEU(effective_order=True), CHRF()
