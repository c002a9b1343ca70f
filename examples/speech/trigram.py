"""Trigrams over words: a recogniser's own, some that are learnt from text, and both mixed into one for its decoder."""

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float64]
History = tuple[str, ...]
Language = Callable[[History, str], float]
"""ln p of a word after the (at most two) words before it; <s> and </s> are the ends of a sentence."""
BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
LOG_BASE = np.log(1.0001)  # of the recogniser's figures
NEVER = -99.0  # log10 p of what cannot come, as ARPA files have it
LEAST = 1e-6  # mass of a backoff where rounding leaves none
SHARES = tuple(share / 10 for share in range(1, 10))


def recogniser_s(file: Path) -> Language:
    """The language model of a file that the recogniser reads, its own or an ARPA file."""
    from pocketsphinx import Config, LogMath, NGramModel

    model = NGramModel(Config(loglevel="FATAL"), LogMath(), str(file))
    return cache(lambda history, word: float(model.prob([word, *history[::-1]]) * LOG_BASE))


def of_sentence(language: Language, words: Sequence[str]) -> float:
    """ln p of a sentence, its end as well."""
    every = (BEGIN, *words, END)
    return sum(language(every[max(0, at - 2) : at], word) for at, word in enumerate(every) if at)


def interpolated(first: Language, second: Language, share: float) -> Language:
    """`share` of the probability that the first gives, and the rest of the second's."""
    return cache(
        lambda history, word: float(
            np.logaddexp(np.log(share) + first(history, word), np.log1p(-share) + second(history, word))
        )
    )


def best_share(first: Language, second: Language, sentences: Collection[Sequence[str]]) -> float:
    """The share of the first at which sentences are likeliest."""

    def likelihood(share: float) -> float:
        language = interpolated(first, second, share)
        return sum(of_sentence(language, sentence) for sentence in sentences)

    return max(SHARES, key=likelihood)


@dataclass(frozen=True)
class Grams:
    """The n-grams of one order that a model lists.

    keys: sorted, (k,); the words a, b, c of a vocabulary of V have the key (a V + b) V + c.
    chances: p of the last word after the others. backoffs: the weight of the shorter history where a word after this
    n-gram is not listed.
    """

    keys: Ids
    chances: Floats
    backoffs: Floats

    def places(self, keys: Ids) -> tuple[Ids, NDArray[np.bool_]]:
        """Where keys stand among these, and which do stand there."""
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return at, self.keys[at] == keys


@dataclass(frozen=True)
class Trigrams:
    """A backoff model over words. words: the vocabulary, which begins with <s>, </s> and <unk>."""

    words: list[str]
    orders: list[Grams]

    @cached_property
    def numbers(self) -> dict[str, int]:
        """The place of each word in the vocabulary."""
        return {word: at for at, word in enumerate(self.words)}

    def ids(self, words: Iterable[str]) -> Ids:
        """The number of each word; what is not in the vocabulary has that of <unk>."""
        return np.array([self.numbers.get(word, 2) for word in words], np.int64)

    def after(self, grams: Ids) -> Floats:
        """p of the last words of n-grams (k, n) after the others."""
        order = grams.shape[1]
        if order == 1:
            return self.orders[0].chances[grams[:, 0]]
        listing, shorter = self.orders[order - 1], self.orders[order - 2]
        at, listed = listing.places(_keys(grams, len(self.words)))
        before, known = shorter.places(_keys(grams[:, :-1], len(self.words)))
        backed_off = self.after(grams[:, 1:]) * np.where(known, shorter.backoffs[before], 1.0)
        return np.where(listed, listing.chances[at], backed_off)

    def adapted(self, general: Language, share: float) -> "Trigrams":
        """`share` of this model's probability and the rest of a general one's, for the n-grams that this one lists.

        What is not listed backs off to the shorter history, so that all words together have probability 1 after any.
        """
        models: list[Grams] = []
        for order, listed in enumerate(self.orders, 1):
            grams = _grams(listed.keys, order, len(self.words))
            names = ([self.words[one] for one in gram] for gram in grams.tolist())
            others = np.exp([general(tuple(name[:-1]), name[-1]) for name in names])
            if order == 1:
                others[[0, 2]] = 0.0  # what cannot come: the beginning, and what is no word
                others /= others.sum()
            chances = share * listed.chances + (1 - share) * others
            if order > 1:
                shorter = Trigrams(self.words, models)
                histories, of = np.unique(listed.keys // len(self.words), return_inverse=True)
                left = 1 - np.bincount(of, chances)
                below = 1 - np.bincount(of, shorter.after(grams[:, 1:]))
                at = models[-1].places(histories)[0]
                models[-1].backoffs[at] = np.maximum(left, LEAST) / np.maximum(below, LEAST)
            models.append(Grams(listed.keys, chances, np.ones(len(chances))))
        return Trigrams(self.words, models)

    def write(self, file: Path) -> None:
        """Write an ARPA file, without the n-grams of <unk>."""
        tables = [self._table(order) for order in (1, 2, 3)]
        with file.open("w", encoding="utf-8") as opened:
            opened.write("\\data\\\n")
            opened.writelines(f"ngram {order}={len(table)}\n" for order, table in enumerate(tables, 1))
            for order, table in enumerate(tables, 1):
                opened.write(f"\n\\{order}-grams:\n")
                opened.writelines(table)
            opened.write("\n\\end\\\n")

    def _table(self, order: int) -> list[str]:
        listed = self.orders[order - 1]
        grams = _grams(listed.keys, order, len(self.words))
        known = (grams != 2).all(axis=1)
        chances = np.log10(np.maximum(listed.chances[known], 10**NEVER)).tolist()
        backoffs = np.log10(listed.backoffs[known]).tolist()
        return [
            f"{chance:.5f}\t{' '.join(self.words[one] for one in gram)}" + (f"\t{backoff:.5f}\n" if order < 3 else "\n")
            for gram, chance, backoff in zip(grams[known].tolist(), chances, backoffs, strict=True)
        ]


def learnt(sentences: Collection[Sequence[str]], vocabulary: Collection[str]) -> Trigrams:
    """Trigrams of sentences, by modified Kneser-Ney smoothing with three discounts (Chen and Goodman 1999).

    vocabulary: the words that can come; others are <unk>.
    """
    words = [BEGIN, END, UNKNOWN, *sorted(set(vocabulary) - {BEGIN, END, UNKNOWN})]
    size = len(words)
    text = Trigrams(words, []).ids(word for sentence in sentences for word in (BEGIN, *sentence, END))
    pairs, pair_counts = _counted(np.stack([text[:-1], text[1:]], 1), size)
    triples, triple_counts = _counted(np.stack([text[:-2], text[1:-1], text[2:]], 1), size)
    # of shorter n-grams it counts how many words stand before them; before a sentence none does, so its pairs stay
    preceded = np.zeros(len(pairs), np.int64)
    np.add.at(preceded, np.searchsorted(pairs, triples % size**2), 1)
    pair_counts = np.where(pairs // size == 0, pair_counts, preceded)
    counts = np.bincount(pairs % size, minlength=size)
    shares, kept = _discounted(counts, np.zeros(size, np.int64))
    single = shares + kept[0] / (size - 1)
    single[0] = 0.0
    models = [Grams(np.arange(size), single, np.ones(size))]
    for keys, counted in ((pairs, pair_counts), (triples, triple_counts)):
        shorter = models[-1]
        histories, of = np.unique(keys // size, return_inverse=True)
        shares, kept = _discounted(counted, of)
        shorter.backoffs[shorter.places(histories)[0]] = kept
        below = shorter.chances[shorter.places(keys % size ** len(models))[0]]
        models.append(Grams(keys, shares + kept[of] * below, np.ones(len(keys))))
    return Trigrams(words, models)


def _counted(grams: Ids, size: int) -> tuple[Ids, Ids]:
    """The different n-grams that lie in one sentence, sorted, and how often each comes."""
    inside = (grams[:, 1:] != 0).all(axis=1)
    keys, counts = np.unique(_keys(grams[inside], size), return_counts=True)
    return keys, counts


def _discounted(counts: Ids, of: Ids) -> tuple[Floats, Floats]:
    """The share of each count in its history's after the discount, and what each history (of) has over."""
    ones, twos, threes, fours = (int((counts == times).sum()) for times in (1, 2, 3, 4))
    y = ones / max(ones + 2 * twos, 1)
    discounts = [1 - 2 * y * twos / max(ones, 1), 2 - 3 * y * threes / max(twos, 1), 3 - 4 * y * fours / max(threes, 1)]
    taken = np.array([0.0, *np.clip(discounts, 0.1, [0.95, 1.9, 2.85])])[np.minimum(counts, 3)]
    totals = np.bincount(of, counts)
    return (counts - taken) / totals[of], np.bincount(of, taken) / totals


def _keys(grams: Ids, size: int) -> Ids:
    """The keys of n-grams (k, n)."""
    keys = grams[:, 0]
    for column in grams.T[1:]:
        keys = keys * size + column
    return keys


def _grams(keys: Ids, order: int, size: int) -> Ids:
    """The n-grams (k, n) of keys."""
    return np.stack([keys // size**place % size for place in range(order - 1, -1, -1)], 1)
