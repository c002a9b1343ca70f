"""The results as the table that the README has."""

from collections.abc import Iterable

from examples.translation.corpus import Sentence
from examples.translation.recipe import Outcome

HEAD = "| translated by | BLEU | chrF | chosen on validation |\n|---|---|---|---|"


def row(outcome: Outcome) -> str:
    """A row of the table."""
    scores = outcome.scores
    bleu, chrf = f"{scores.bleu:.1f} ± {scores.bleu_within:.1f}", f"{scores.chrf:.1f} ± {scores.chrf_within:.1f}"
    return f"| {outcome.name} | {bleu} | {chrf} | {outcome.setting} |"


def shown(sentences: Iterable[Sentence], outcome: Outcome, every: int) -> list[str]:
    """Some sentences with their translation and a reference."""
    pairs = zip(sentences, outcome.translations, strict=True)
    return [
        f"{sentence.source} → {text} ({' / '.join(sentence.references[:2])})"
        for number, (sentence, text) in enumerate(pairs)
        if number % every == every // 2
    ]
