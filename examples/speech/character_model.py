"""A character model of the book, trained with Unroll's command and asked from Python."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

import unroll
from examples.speech.book import Sentence, words_of


class Model(Protocol):
    """What the recipe asks of a model that `unroll.load` gave."""

    def choice_logprobs(self, choices: Sequence[str]) -> NDArray[np.float64]:
        """ln p that an item is each of these (choices,), their ends among them."""


class Size(NamedTuple):
    """Of the network and of its training: options of `unroll train`."""

    layers: int = 2
    hidden: int = 320
    epochs: float = 6


def trained(sentences: Sequence[Sentence], folder: Path, size: Size, seed: int) -> Model:
    """A model of sentences, an item each, as the recogniser would write them. The same is not trained twice."""
    folder.mkdir(parents=True, exist_ok=True)
    corpus, made_by = folder / "sentences.txt", folder / "trained_with.txt"
    text = "".join(f"{' '.join(one.words)}\n" for one in sentences)
    how = f"{size} {seed}\n{text}"
    if not (made_by.is_file() and made_by.read_text("utf-8") == how):
        made_by.unlink(missing_ok=True)
        corpus.write_text(text, encoding="utf-8")
        options = {**size._asdict(), "items": True, "split": "96/2/2", "seed": seed}
        unroll.train(corpus, out=folder / "run", overwrite=True, **options)
        made_by.write_text(how, encoding="utf-8")
    return unroll.load(folder / "run" / "best")


def log_chances(model: Model, hypotheses: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """ln p of each of an utterance's hypotheses as a whole sentence, its end as well; what they share is read once."""
    lines = [f"{' '.join(words_of(' '.join(words)))}\n" for words in hypotheses]
    different = list(dict.fromkeys(lines))
    found = dict(zip(different, model.choice_logprobs(different).tolist(), strict=True))
    return np.array([found[line] for line in lines])
