"""The rivals that look up: the source itself, and the translation of the nearest learnt sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from examples.translation.corpus import Sentence

AT_ONCE = 100  # sentences compared with all learnt ones together
KINDS: Mapping[str, Mapping[str, Any]] = {
    "words": {"token_pattern": r"\w+|[^\w\s]", "lowercase": False},
    "words and pairs": {"token_pattern": r"\w+|[^\w\s]", "ngram_range": (1, 2)},
    "2 to 4 characters": {"analyzer": "char", "ngram_range": (2, 4)},
    "1 to 3 characters of words": {"analyzer": "char_wb", "ngram_range": (1, 3)},
}
"""Of scikit-learn's TfidfVectorizer."""


def copied(sentences: Sequence[Sentence]) -> list[str]:
    """The sources themselves."""
    return [sentence.source for sentence in sentences]


def nearest(learnt: Sequence[Sentence], sentences: Sequence[Sentence], kind: str) -> list[str]:
    """The first translation of the learnt source with the largest cosine of tf-idf. kind: of KINDS."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectors = TfidfVectorizer(dtype=np.float32, **KINDS[kind])
    known = vectors.fit_transform([sentence.source for sentence in learnt])
    asked = vectors.transform(copied(sentences))
    blocks = (asked[at : at + AT_ONCE] @ known.T for at in range(0, len(sentences), AT_ONCE))
    places = np.concatenate([np.asarray(block.argmax(1)).ravel() for block in blocks])
    return [learnt[place].references[0] for place in places.tolist()]
