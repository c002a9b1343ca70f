"""BLEU and chrF of translations against all references, as sacrebleu has them."""

from collections.abc import Sequence
from typing import NamedTuple

from examples.translation.corpus import Sentence

RESAMPLED = 1_000  # bootstrap samples of an interval


class Scores(NamedTuple):
    """BLEU and chrF (Papineni et al. 2002, Popović 2015), 0 to 100, each with half of its 95 % interval."""

    bleu: float
    bleu_within: float
    chrf: float
    chrf_within: float

    @property
    def sum(self) -> float:
        """What settings are chosen by."""
        return self.bleu + self.chrf


def scores_of(sentences: Sequence[Sentence], translations: Sequence[str], resampled: int = RESAMPLED) -> Scores:
    """The scores of some translations. resampled: bootstrap samples; 0 for no interval."""
    from sacrebleu.metrics import BLEU, CHRF

    most = max(len(sentence.references) for sentence in sentences)
    references = [[_nth(sentence.references, number) for sentence in sentences] for number in range(most)]
    bleu = BLEU().corpus_score(list(translations), references, n_bootstrap=max(1, resampled))
    chrf = CHRF().corpus_score(list(translations), references, n_bootstrap=max(1, resampled))
    within = (getattr(score, "_ci", -1.0) if resampled > 1 else 0.0 for score in (bleu, chrf))
    return Scores(bleu.score, next(within), chrf.score, next(within))


def _nth(references: Sequence[str], number: int) -> str | None:
    return references[number] if number < len(references) else None
