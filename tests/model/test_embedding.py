"""A text's vector: the state after it or the mean of its states, whatever is read beside it."""

from typing import Any

import numpy as np
import pytest

import unroll
from model.decoding.decoder import Decoder
from model.decoding.kernel_library import processors
from model.embedding import Embedder, EmbeddingOptions
from model.errors import ParameterError
from model.language_model import LanguageModel
from tests.model.small import CELLS, small_checkpoint

SMALL = small_checkpoint()
TEXTS = ["the cat", "", "é月😀Ω", "a", "to be or not to be " * 60, "the cat"]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"pooling": "mean"},
    {"layer": 0, "part": "cell"},
    {"layer": None, "normalised": False},
    {"pooling": "mean", "layer": None, "part": "cell", "normalised": False},
]


def by_hand(text: str, options: EmbeddingOptions) -> np.ndarray[Any, Any]:
    """One text, an id at a time, in numpy."""
    rows, tokenizer = Decoder(SMALL, processor="numpy").rows(1), SMALL.tokenizer
    states = []
    ids = tokenizer.encode(text).tolist() or [tokenizer.start_id]
    for token in ids:
        rows.read([0], np.array([[token]], np.int32))
        states.append(rows.state[0].astype(np.float64))
    layout = SMALL.config.state_layout()
    names = [f"{'h' if options.part == 'hidden' else 'c'}{layer}" for layer in range(SMALL.config.layers)]
    chosen = names if options.layer is None else [names[options.layer]]
    state = states[-1] if options.pooling == "last" else np.mean(states, axis=0)
    vector = np.concatenate([state[layout[name]] for name in chosen])
    return vector / np.linalg.norm(vector) if options.normalised else vector


@pytest.mark.parametrize("given", OPTIONS)
@pytest.mark.parametrize("processor", [*processors(), "numpy"])
def test_vectors_are_the_states_alone_and_beside_others(given: dict[str, Any], processor: str) -> None:
    options = EmbeddingOptions(**given)
    decoder = Decoder(SMALL, processor=processor)
    together = Embedder(decoder, SMALL.tokenizer, options, rows=4).embed(TEXTS)
    assert together.dtype == np.float32
    for text, vector in zip(TEXTS, together, strict=True):
        assert np.array_equal(Embedder(decoder, SMALL.tokenizer, options).embed([text])[0], vector)
        assert vector == pytest.approx(by_hand(text, options), abs=1e-6)
    assert np.array_equal(together, Embedder(Decoder(SMALL), SMALL.tokenizer, options).embed(TEXTS))


def test_texts_that_end_alike_are_near() -> None:
    model = unroll.load()
    near, also, far = model.embed(["my lord the king", "my good lord the king", "0 0 0 |||| 17:55"])
    assert float(near @ near) == pytest.approx(1, abs=1e-6)
    assert float(near @ also) > float(near @ far)
    assert np.array_equal(model.embed("my lord the king"), near)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"pooling": "max"}, "pooling is 'max'; choose last or mean"),
        ({"part": "gate"}, "part is 'gate'; choose hidden or cell"),
        ({"layer": 2}, "layer is 2; this network's are 0 to 1"),
        ({"layer": "top"}, "layer is 'top'; choose a whole number"),
    ],
)
def test_what_there_is_not_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        LanguageModel(SMALL).embed("a", **given)


def test_only_an_lstm_has_a_cell_state() -> None:
    for cell in CELLS:
        model = LanguageModel(small_checkpoint(cell))
        assert model.embed("the").shape == (24,)
        if cell == "lstm":
            assert model.embed(["a", "b"], part="cell", layer=None).shape == (2, 48)
        else:
            with pytest.raises(ParameterError, match=f"this network is of {cell.upper()} cells"):
                model.embed("the", part="cell")
