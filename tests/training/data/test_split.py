"""A split cuts a corpus into contiguous parts that miss no character."""

import numpy as np
import pytest

from model.errors import CorpusError, ParameterError
from model.text.tokenizer import Tokenizer
from training.data.split import split


def test_parts_are_contiguous_and_miss_nothing() -> None:
    ids = np.arange(10_000, dtype=np.uint16) % 60 + 256
    for scheme, sizes in (
        ("90/5/5", (9000, 500, 500)),
        ("80/10/10", (8000, 1000, 1000)),
        ("nanogpt", (9000, 500, 500)),
    ):
        parts = split(ids, scheme)
        assert (len(parts.train), len(parts.validation), len(parts.test)) == sizes
        assert np.concatenate([parts.train, parts.validation, parts.test]).tolist() == ids.tolist()


def test_the_nanogpt_split_has_the_published_sizes() -> None:
    parts = split(np.full(1_115_394, 300, np.uint16), "nanogpt")
    assert len(parts.train) == 1_003_854
    assert (len(parts.validation), len(parts.test)) == (55_770, 55_770)


def test_no_part_begins_inside_a_character() -> None:
    tokenizer = Tokenizer("a")
    ids = tokenizer.encode("詩a" * 2000)  # 詩 is spelt in three bytes
    for scheme in ("90/5/5", "nanogpt", "70/10/20", "33/33/34"):
        parts = split(ids, scheme)
        for part in (parts.train, parts.validation, parts.test):
            assert "\ufffd" not in tokenizer.decode(part.tolist())


@pytest.mark.parametrize("scheme", ["", "90", "90/10", "90/5/6", "100/0/0", "a/b/c", "nanoGPT"])
def test_a_scheme_that_is_none_is_refused(scheme: str) -> None:
    with pytest.raises(ParameterError, match="choose nanogpt, or three percentages") as caught:
        split(np.zeros(10_000, np.uint16), scheme)
    assert caught.value.parameter == "split"


def test_a_corpus_too_small_is_told_what_is_enough() -> None:
    with pytest.raises(CorpusError, match=r"1,999 characters, too few .* 2,000 are enough"):
        split(np.zeros(1_999, np.uint16))
    assert len(split(np.zeros(2_000, np.uint16)).validation) == 100
    in_bytes = Tokenizer("a").encode("詩" * 2_000)  # three ids a character
    assert len(split(in_bytes).validation) == 300
    with pytest.raises(CorpusError, match="1,999 characters"):
        split(in_bytes[3:])
