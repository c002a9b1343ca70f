"""Features of a text are the same however it is cut into blocks, and are what their descriptions say."""

from itertools import pairwise
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.text.features import DESCRIPTIONS, FEATURES, Feature, TextFeatures

TEXTS = st.text(st.sampled_from("ab A.\n\"'“”„«»()[]{}7é明\u3000😀"), max_size=60)


@given(text=TEXTS, cuts=st.lists(st.integers(0, 60), max_size=5))
def test_blocks_do_not_show(text: str, cuts: list[int]) -> None:
    whole, features = TextFeatures().block(text), TextFeatures()
    ends = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    parts = [features.block(text[start:end]) for start, end in pairwise(ends)]
    for name in FEATURES:
        assert np.concatenate([part[name] for part in parts]).tolist() == whole[name].tolist()


def test_every_feature_is_described() -> None:
    assert set(DESCRIPTIONS) == set(get_args(Feature)) == set(TextFeatures().block("a"))


@pytest.mark.parametrize(
    ("name", "text", "numbers"),
    [
        ("quotes", 'a "b" c', "0011000"),
        ("quotes", "“a” „b“ «c»", "11001100110"),
        ("quotes", '"a\nb\n\nc', "1111100"),
        ("brackets", "(a[b]{)})", "112212100"),
        ("brackets", "):(a\n\nb", "0011100"),
        ("line_position", "ab\n\nc\n", "120010"),
        ("word_position", "ab, cde1f", "120012301"),
        ("spaces", "a \t\n\u3000", "01101"),
        ("capital_letters", "aBÉ明", "0110"),
        ("line_breaks", "a\n\n", "011"),
        ("digits", "a1²٣", "0111"),
        ("punctuation", "a.,—「 $", "0111100"),
    ],
)
def test_a_feature_of_a_text(name: Feature, text: str, numbers: str) -> None:
    assert "".join(f"{number:.0f}" for number in TextFeatures().block(text)[name]) == numbers
