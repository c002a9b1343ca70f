"""Pairs of sentences, read from their file and split by a hash of the source, so that no source is on two sides."""

import hashlib
import unicodedata
from pathlib import Path
from typing import Literal, NamedTuple

from examples.running import RecipeError, text_of

FILE = "fra-eng.txt"
SHA256 = "2546838ae46e0eac4c02ab7032ea0a02a006074a5340077a36a9444f41e02888"
PARTS = 200  # into which sources are dealt by their hash: two are for the test, two for validation
Part = Literal["train", "validation", "test"]


class Sentence(NamedTuple):
    """An English sentence and all the French ones that the file has for it."""

    source: str
    references: tuple[str, ...]


class Corpus(NamedTuple):
    """Sentences to learn, to tune on and to test on; no two parts have a source in common, letters' case aside."""

    train: list[Sentence]
    validation: list[Sentence]
    test: list[Sentence]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """The pairs to learn, one for each reference."""
        return [(source, reference) for source, references in self.train for reference in references]


class MissingCorpus(RecipeError):
    """The file of pairs is not there; the text says where to put it."""


def read(file: Path) -> Corpus:
    """The corpus in a file of lines `English TAB French`, what follows another TAB left out.

    Raises MissingCorpus, and RecipeError where it is not UTF-8.
    """
    try:
        lines = text_of(file).splitlines()
    except OSError as error:
        raise MissingCorpus(
            f"The pairs are not at {file} ({error.strerror}). Put there {FILE} (French - English) of "
            "manythings.org/anki, lines of English, a tabulator and French; or name it with --pairs."
        ) from None
    references: dict[str, dict[str, None]] = {}
    for line in lines:
        source, target, *_ = (*map(plain, line.split("\t")), "", "")
        if source and target:
            references.setdefault(source, {})[target] = None
    corpus = Corpus([], [], [])
    for source, targets in references.items():
        getattr(corpus, part_of(source)).append(Sentence(source, tuple(targets)))
    if not all(corpus):
        raise MissingCorpus(f"{file} has {len(references):,} sentences, too few to learn, to tune on and to test on.")
    return corpus


def is_known(file: Path) -> bool:
    """Whether a file is the one that the README's figures are from."""
    return hashlib.sha256(file.read_bytes()).hexdigest() == SHA256


def plain(text: str) -> str:
    """A sentence with composed letters, plain spaces and one kind of apostrophe."""
    return " ".join(unicodedata.normalize("NFC", text).replace("’", "'").split())


def part_of(source: str) -> Part:
    """On which side a source lies; that follows from its letters alone."""
    number = int(hashlib.sha256(source.lower().encode()).hexdigest()[:8], 16) % PARTS
    return "test" if number < 2 else "validation" if number < 4 else "train"
