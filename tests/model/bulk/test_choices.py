"""How likely each choice is to come next: the sums that scoring gives, whatever is read together."""

import math
from itertools import product
from pathlib import Path

import pytest

import unroll
from model.checkpoint import save
from model.errors import ParameterError
from model.language_model import LanguageModel
from model.text.frame import TextFrame
from model.text.tokenizer import Tokenizer
from tests.model.small import small_checkpoint

TWO = ["".join(pair) for pair in product("abcdefgh", repeat=2)]
VARIED = ["a", "ab", "abc", "b", "月", "é明", "bcd", "abd", "ŵ", "abc"]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(small_checkpoint(skip=True))


def by_scoring(model: LanguageModel, choices: list[str], context: str) -> list[float]:
    return [-float(bits) * math.log(2) for bits in model.score(choices, context).bits]


@pytest.mark.parametrize("choices", [TWO, VARIED], ids=["two", "varied"])
@pytest.mark.parametrize("context", ["the ", "月", "a\nb"])
def test_choices_are_as_likely_as_scoring_says(model: LanguageModel, choices: list[str], context: str) -> None:
    found = model.choice_logprobs(choices, context)
    assert found.shape == (len(choices),)
    assert found.tolist() == pytest.approx(by_scoring(model, choices, context), abs=1e-4)


def test_a_series_that_is_carried_on_gives_what_each_context_alone_gives(model: LanguageModel) -> None:
    contexts = ["the", "the ", "the cat sat", "the cat sat", "the c", "other", "other one", ""]
    together = model.choice_logprobs(VARIED, contexts)
    alone = [model.choice_logprobs(VARIED, context).tolist() for context in contexts]
    assert together.tolist() == alone
    assert model.choice_logprobs(VARIED, []).shape == (0, len(VARIED))


def test_a_choice_is_its_first_characters_and_then_its_last(model: LanguageModel) -> None:
    parts = [*"abcdefgh"]
    first = model.choice_logprobs(parts, "the ")
    second = model.choice_logprobs(parts, [f"the {part}" for part in parts])
    assert model.choice_logprobs(TWO, "the ").tolist() == pytest.approx((first[:, None] + second).ravel(), abs=1e-9)


def test_items_begin_with_their_label(tmp_path: Path) -> None:
    frame = TextFrame(separator="\n", labels=("a", "b"))
    tokenizer = Tokenizer("\nabc|", frame=frame)
    plain = small_checkpoint(characters="\nabc|")
    save(type(plain)(**{**vars(plain), "tokenizer": tokenizer}), tmp_path / "items")
    model = unroll.load(tmp_path / "items")
    labelled = model.choice_logprobs(["ab", "c"], ["", "ab"], label="b")
    assert labelled.tolist() == model.choice_logprobs(["ab", "c"], ["b|", "b|ab"]).tolist()
    assert labelled[0].tolist() == pytest.approx(by_scoring(model, ["ab", "c"], "b|"), abs=1e-4)
    with pytest.raises(ParameterError, match="There is no label c; there are: a, b"):
        model.choice_logprobs(["ab"], label="c")


@pytest.mark.parametrize(
    ("choices", "sentence"),
    [
        ([], "choices is empty; give the texts"),
        (["a", ""], r"choices\[1\] is empty; leave it out"),
        ([1], r"choices is \[1\]; give a text, or a list of texts"),
    ],
)
def test_what_is_no_choice_is_refused(model: LanguageModel, choices: list[str], sentence: str) -> None:
    with pytest.raises(ParameterError, match=sentence):
        model.choice_logprobs(choices)
    with pytest.raises(ParameterError, match="contexts is None; give a text"):
        model.choice_logprobs(["a"], None)  # type: ignore[arg-type]
