"""Beam search: the likeliest text of all where it is wide enough, and elsewhere what a search by hand finds."""

import math
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from model.checkpoint import Checkpoint
from model.decoding.beams import BeamOptions, Found
from model.decoding.decoder import Decoder
from model.decoding.kernel_library import processors
from model.errors import ParameterError
from model.generate import generate, search
from model.sampling.parameters import SamplingParameters
from model.sampling.probabilities import log_probabilities
from model.text.frame import TextFrame
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES
from tests.model.plain import PlainReader
from tests.model.small import CHARACTERS, small_checkpoint

SMALL = small_checkpoint()
TINY = small_checkpoint(characters="\nabc", hidden=16, seed=3)  # four characters: all its texts can be listed
PROCESSORS = [*processors(), "numpy"]


def found(checkpoint: Checkpoint, prompt: str, processor: str | None = None, **asked: Any) -> list[Found]:
    names = ("width", "length_penalty", "early_stopping")
    options = BeamOptions(**{name: asked.pop(name) for name in names if name in asked})
    decoder = Decoder(checkpoint, "int8", processor)
    return search(decoder, checkpoint.tokenizer, prompt, options, **asked)


class Probabilities:
    """ln p of every next character after a text, each text read anew from its first character on."""

    def __init__(self, checkpoint: Checkpoint, prompt: str) -> None:
        self._checkpoint, self._prompt = checkpoint, prompt
        self._known: dict[str, dict[str, float]] = {}

    def after(self, text: str) -> dict[str, float]:
        if text not in self._known:
            reader, tokenizer = PlainReader(self._checkpoint), self._checkpoint.tokenizer
            for token in tokenizer.encode(self._prompt + text).tolist():
                reader.read(token)
            logprobs = log_probabilities(reader.logits())[0].tolist()
            self._known[text] = dict(zip(map(tokenizer.piece, reader.ids.tolist()), logprobs, strict=True))
        return self._known[text]

    def of(self, text: str) -> float:
        return math.fsum(self.after(text[:at])[character] for at, character in enumerate(text))


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_a_search_wide_enough_finds_the_likeliest_of_all_texts(penalty: float) -> None:
    """All 3 + 3·3 + … texts without a line break that end in one, and those of full length, by enumeration."""
    most = 4
    probabilities = Probabilities(TINY, "ab")
    every = {}
    for length in range(most):
        for letters in product("abc", repeat=length):
            text = "".join(letters)
            every[text] = probabilities.of(text + "\n") / (length + 1) ** penalty
    for letters in product("abc", repeat=most):
        every["".join(letters)] = probabilities.of("".join(letters)) / most**penalty
    ranked = sorted(every, key=lambda text: -every[text])
    texts = found(
        TINY, "ab", width=4**most, length_penalty=penalty, early_stopping="never", n=4, max_tokens=most, stop=["\n"]
    )
    assert [text.text for text in texts] == ranked[:4]
    assert [text.score for text in texts] == pytest.approx([every[text] for text in ranked[:4]], rel=1e-6)
    assert {text.finish_reason for text in texts} <= {"stop", "length"}


def searched_by_hand(
    checkpoint: Checkpoint, prompt: str, width: int, most: int, stop: str, early: bool | str, penalty: float = 1.0
) -> list[tuple[str, float]]:
    """The search as textbooks have it, on texts instead of states."""
    probabilities = Probabilities(checkpoint, prompt)
    beams, finished = [("", 0.0)], list[tuple[str, float]]()
    for length in range(1, most + 1):
        following = [
            (text + character, total + logprob)
            for text, total in beams
            for character, logprob in probabilities.after(text).items()
        ]
        following.sort(key=lambda one: -one[1])
        ended = [(text, total) for text, total in following[:width] if text.endswith(stop)]
        finished += [(text.removesuffix(stop), total / length**penalty) for text, total in ended]
        finished = sorted(finished, key=lambda one: -one[1])[:width]
        beams = [one for one in following if not one[0].endswith(stop)][:width]
        if len(finished) == width:
            reach = most if early == "never" and penalty > 0 else length
            if early is True or beams[0][1] / reach**penalty <= finished[-1][1]:
                return finished
    finished += [(text, total / most**penalty) for text, total in beams]
    return sorted(finished, key=lambda one: -one[1])[:width]


@pytest.mark.parametrize("early", [True, False, "never"])
@pytest.mark.parametrize(("width", "stop"), [(1, "."), (3, "."), (5, "ab")])
def test_a_narrow_search_finds_what_a_search_by_hand_does(width: int, stop: str, early: bool | str) -> None:
    expected = searched_by_hand(SMALL, "the ", width, 12, stop, early)
    texts = found(SMALL, "the ", width=width, early_stopping=early, n=width, max_tokens=12, stop=[stop])
    assert [text.text for text in texts] == [text for text, _ in expected]
    assert [text.score for text in texts] == pytest.approx([score for _, score in expected], rel=1e-6)


def test_one_beam_takes_the_likeliest_character_always() -> None:
    greedy = SamplingParameters(temperature=0)
    pieces = generate(Decoder(SMALL), SMALL.tokenizer, "the ", max_tokens=60, parameters=greedy)
    [text] = found(SMALL, "the ", width=1, max_tokens=60)
    assert text.text == "".join(piece.text for piece in pieces)
    assert (text.tokens, text.finish_reason) == (60, "length")


@pytest.mark.parametrize("processor", PROCESSORS)
def test_every_processor_finds_the_same_to_the_bit(processor: str) -> None:
    asked: dict[str, Any] = {"width": 6, "n": 6, "max_tokens": 40, "stop": ["e "], "length_penalty": 0.7}
    for ours, theirs in zip(found(SMALL, "the ", processor, **asked), found(SMALL, "the ", **asked), strict=True):
        assert (ours.text, ours.score, ours.stop_reason) == (theirs.text, theirs.score, theirs.stop_reason)
        assert np.array_equal(ours.logprobs, theirs.logprobs)


def test_characters_that_are_bytes_are_whole_and_an_item_ends_by_itself() -> None:
    tokenizer = Tokenizer(CHARACTERS, frame=TextFrame(separator="\n"))
    whole = small_checkpoint(unseen=np.arange(BYTES - 64))  # its texts may have bytes that continue a character
    items = replace(whole, tokenizer=tokenizer)
    texts = found(items, "a", width=8, n=8, max_tokens=30)
    assert all("\n" not in text.text and text.stop_reason is None for text in texts)
    assert len({text.text for text in texts}) > 1
    for text in texts:
        assert tokenizer.decode(text.ids.tolist()).startswith(text.text)


def test_the_sum_of_the_reported_log_probabilities_is_the_text_s() -> None:
    for text in found(SMALL, "the ", width=4, n=4, max_tokens=25):
        assert text.logprob == pytest.approx(float(text.logprobs.astype(np.float64).sum()))
        assert text.score == pytest.approx(text.logprob / 25)
        assert text.logprob == pytest.approx(Probabilities(SMALL, "the ").of(text.text), rel=1e-5)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"width": 0}, "beams is 0"),
        ({"width": 2, "n": 3}, "n is 3 and beams 2"),
        ({"width": 2, "length_penalty": math.nan}, "length_penalty is nan"),
        ({"width": 2, "early_stopping": "soon"}, "early_stopping is 'soon'"),
        ({"width": 2, "max_tokens": 0}, "max_tokens is 0"),
        ({"width": 64, "n": 40}, "n is 40; of this model"),
    ],
)
def test_what_cannot_be_searched_is_refused(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        found(SMALL, "the ", **{"max_tokens": 5, **asked})
