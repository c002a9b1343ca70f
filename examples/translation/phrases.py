"""The rival that learns: a phrase table from word alignments, and a bigram model of French, as NLTK has them."""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from examples.translation.corpus import Sentence

ITERATIONS = 5  # of IBM model 1
LONGEST = 4  # words of a phrase
MOST_CHOICES = 12  # translations kept of a phrase, the likeliest ones
STACK = 20  # hypotheses of as many translated words that go on
SPACE = "▁"  # stands before a word that follows a space, so that words are put together as they were
Words = tuple[str, ...]


class Setting(NamedTuple):
    """What is tuned. distortion: factor for each word that a phrase is moved by. word: nats that each word costs."""

    distortion: float = 0.5
    word: float = 0.0

    def __str__(self) -> str:
        """What it is, in the table."""
        return f"distortion {self.distortion:g}, {self.word:g} a word"


SETTINGS = [Setting(distortion, word) for distortion in (0.1, 0.5) for word in (-0.5, 0.0)]


def words_of(text: str) -> Words:
    """The words and signs of a text."""
    return tuple(re.findall(rf"{SPACE}?(?:\w+'?|[^\w\s{SPACE}])", SPACE + text.replace(" ", SPACE)))


def text_of(words: Iterable[str]) -> str:
    """The text of words."""
    return "".join(words).replace(SPACE, " ").strip()


class Bigrams:
    """A bigram model with absolute discounting over single words, in the form that NLTK's decoder asks for."""

    DISCOUNT = 0.75

    def __init__(self, sentences: Iterable[Words]) -> None:
        self._single: Counter[str] = Counter()
        self._after: dict[str, Counter[str]] = defaultdict(Counter)
        for words in sentences:
            for before, word in zip(("", *words), (*words, ""), strict=True):
                self._single[word] += 1
                self._after[before][word] += 1
        self._words = self._single.total()

    def _logprob(self, before: str, word: str) -> float:
        alone = (self._single[word] + 0.1) / (self._words + 0.1 * (len(self._single) + 1))
        counts = self._after.get(before)
        if not counts:
            return math.log(alone)
        total = counts.total()
        kept = max(counts[word] - self.DISCOUNT, 0) / total
        return math.log(kept + self.DISCOUNT * len(counts) / total * alone)

    def probability(self, phrase: Words) -> float:
        """ln p of a phrase by itself."""
        return sum(map(self._logprob, phrase, phrase[1:]))

    def probability_change(self, context: Any, phrase: Words) -> float:
        """ln p of a phrase after a hypothesis."""
        before = context.translation_so_far()[-1:] or [""]
        return sum(map(self._logprob, (*before, *phrase), phrase))


class PhraseModel:
    """Phrases that alignments of both directions agree on (Koehn et al. 2003), with a bigram model of the target."""

    def __init__(self, pairs: Sequence[tuple[str, str]]) -> None:
        from nltk.translate import PhraseTable

        split = [(words_of(source), words_of(target)) for source, target in pairs]
        self._bigrams = Bigrams(target for _, target in split)
        counts: dict[Words, Counter[Words]] = defaultdict(Counter)
        for source, target in _phrases(split):
            counts[source][target] += 1
        self._table = PhraseTable()
        for source, targets in counts.items():
            total = targets.total()
            for target, count in targets.most_common(MOST_CHOICES):
                self._table.add(source, target, math.log(count / total))

    def translate(self, sentences: Sequence[Sentence], setting: Setting) -> list[str]:
        """The likeliest translation that a beam over phrases finds; a word that no phrase has stays as it is."""
        from nltk.translate import StackDecoder

        decoder = StackDecoder(self._table, self._bigrams)
        decoder.stack_size, decoder.distortion_factor, decoder.word_penalty = STACK, *setting
        found = []
        for sentence in sentences:
            words = words_of(sentence.source)
            for word in words:
                if (word,) not in self._table:
                    self._table.add((word,), (word,), 0.0)
            found.append(text_of(decoder.translate(list(words))))
        return found


def _phrases(pairs: Sequence[tuple[Words, Words]]) -> Iterator[tuple[Words, Words]]:
    """The phrases of all pairs, each as often as it stands there."""
    from nltk.translate.gdfa import grow_diag_final_and
    from nltk.translate.phrase_based import phrase_extraction

    there = alignments(pairs)
    back = alignments([(target, source) for source, target in pairs])
    for (source, target), one, other in zip(pairs, there, back, strict=True):
        forward = " ".join(f"{mot}-{word}" for word, mot in enumerate(one))
        backward = " ".join(f"{word}-{mot}" for word, mot in enumerate(other))
        joined = grow_diag_final_and(len(source), len(target), forward, backward)
        for _, _, of_source, of_target in phrase_extraction(
            " ".join(source), " ".join(target), sorted(joined), LONGEST
        ):
            yield tuple(of_source.split()), tuple(of_target.split())


def alignments(pairs: Sequence[tuple[Words, Words]]) -> list[list[int]]:
    """For each word of each target the place of the word in the source that it is likeliest from.

    IBM model 1 (Brown et al. 1993) by expectation maximisation, all pairs in a few arrays.
    """
    numbers: dict[str, int] = defaultdict(lambda: len(numbers))
    sizes = np.array([(len(source), len(target)) for source, target in pairs])
    sources = np.array([numbers[word] for source, _ in pairs for word in source])
    targets = np.array([numbers[word] for _, target in pairs for word in target])
    starts = np.cumsum(sizes[:, 0]) - sizes[:, 0]
    widths = np.repeat(sizes[:, 0], sizes[:, 1])  # of each target word: the source words it may be from
    begins = np.cumsum(widths) - widths
    word = np.repeat(np.arange(len(targets)), widths)
    within = np.arange(len(word)) - begins[word]
    source = sources[np.repeat(np.repeat(starts, sizes[:, 1]), widths) + within]
    kinds, kind = np.unique(source * np.int64(len(numbers)) + targets[word], return_inverse=True)
    chance = np.ones(len(kinds))
    for _ in range(ITERATIONS):
        share = chance[kind]
        share /= np.add.reduceat(share, begins)[word]
        counts = np.bincount(kind, share)
        chance = counts / np.bincount(kinds // len(numbers), counts)[kinds // len(numbers)]
    found, last = chance[kind], begins + widths
    best = [int(found[begin:end].argmax()) for begin, end in zip(begins.tolist(), last.tolist(), strict=True)]
    borders = np.cumsum(sizes[:, 1]).tolist()
    return [best[begin:end] for begin, end in zip([0, *borders], borders, strict=False)]
