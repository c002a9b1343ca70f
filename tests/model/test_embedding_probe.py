"""An example of what vectors are for: languages told apart by a linear probe, which is least squares here."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import unroll
from tests.benchmarks.embeddings import pieces

TRAINED, TESTED = 120, 60


def shares(vectors: NDArray[np.float32], trained: int, kinds: int) -> NDArray[np.float64]:
    """The share of pieces found of each kind, from vectors (kinds, pieces, D); the first ones are trained on."""
    train = vectors[:, :trained].reshape(kinds * trained, -1).astype(np.float64)
    mean, spread = train.mean(0), train.std(0) + 1e-6
    wanted = np.repeat(np.eye(kinds), trained, 0)
    train = np.c_[(train - mean) / spread, np.ones(len(train))]
    weights = np.linalg.solve(train.T @ train + 300 * np.eye(train.shape[1]), train.T @ wanted)
    test = (vectors[:, trained:].astype(np.float64) - mean) / spread
    found = (test @ weights[:-1] + weights[-1]).argmax(-1)
    return np.array([(found[kind] == kind).mean() for kind in range(kinds)])


def test_languages_are_told_apart_by_what_the_network_carries(corpus: Callable[[str], Any]) -> None:
    pairs = [line.split("\t") for line in corpus("fra-eng.txt").decode().splitlines()[60_000:70_000]]
    texts = [
        " ".join(pair[0] for pair in pairs),
        " ".join(pair[1] for pair in pairs),
        corpus("genesis-french.latin1.txt").decode("latin-1"),
    ]
    chosen = [pieces(text, TRAINED + TESTED) for text in texts]
    model = unroll.load()
    vectors = model.embed([piece for own in chosen for piece in own], pooling="mean")
    found = shares(vectors.reshape(len(texts), TRAINED + TESTED, -1), TRAINED, len(texts))
    assert found.min() > 0.75  # 1/3 is chance
    assert found.mean() > 0.85
