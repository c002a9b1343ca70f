"""The sentences of a book: which are learnt, tuned on and tested, by their place, and how their words are written."""

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

from examples.running import text_of

STRETCHES = 10  # of the book; the end of each is held out
HELD_OUT = 0.12  # of a stretch, its end
VALIDATION = 0.4  # of what is held out, its beginning
FEWEST, MOST = 5, 20  # words of a sentence that is read aloud
WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")
END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[\"'(]*[A-Z])")
SHORT_FORM = re.compile(r"\b(?:Mr|Mrs|Dr|St|M|Mme|Mlle|[A-Z])\.$")  # a full stop after these ends no sentence


class Sentence(NamedTuple):
    """A sentence as the book has it, and its words in lower case without punctuation."""

    text: str
    words: tuple[str, ...]


class Book(NamedTuple):
    """The sentences to learn from, and those of the held-out places: to tune on, and to test on."""

    train: list[Sentence]
    validation: list[Sentence]
    test: list[Sentence]


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, written alike for references, hypotheses and what the models learn."""
    return tuple(WORD.findall(text.lower().replace("’", "'")))


def sentences_of(text: str) -> list[Sentence]:
    """The sentences of a text in their order. Paragraphs are set apart by empty lines."""
    found = []
    for paragraph in re.split(r"\n\s*\n", text.removeprefix("\ufeff")):
        begun = ""
        for piece in END.split(" ".join(paragraph.split())):
            begun = f"{begun} {piece}".strip()
            if not SHORT_FORM.search(begun):
                found.append(begun)
                begun = ""
        found.append(begun)
    every = (Sentence(one, words_of(one)) for one in found)
    return [one for one in every if one.words]


def split(sentences: Sequence[Sentence]) -> Book:
    """Hold out the end of each stretch of the book."""
    book = Book([], [], [])
    for at, sentence in enumerate(sentences):
        place = at * STRETCHES / len(sentences) % 1
        held_out = (place - 1 + HELD_OUT) / HELD_OUT  # from 0 to 1 there
        book[0 if held_out < 0 else 1 if held_out < VALIDATION else 2].append(sentence)
    return book


def read(file: Path) -> Book:
    """The sentences of a book in a file. Raises OSError where it cannot be read, RecipeError where it is not UTF-8."""
    return split(sentences_of(text_of(file)))


def to_read_aloud(sentences: Sequence[Sentence], dictionary: Collection[str], count: int) -> list[Sentence]:
    """So many sentences, drawn from those of 5 to 20 words that are all in a dictionary. Fewer are the first of more.

    Sentences with digits are left out: there is more than one way to read a number.
    """
    fit = [
        one
        for one in sentences
        if FEWEST <= len(one.words) <= MOST
        and not re.search(r"\d", one.text)
        and all(word in dictionary for word in one.words)
    ]
    Random(1).shuffle(fit)
    return fit[:count]
