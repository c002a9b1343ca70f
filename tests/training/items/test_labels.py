"""Labels of items: read from the beginnings of items, or put there from the names of files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.errors import CorpusError
from model.text.frame import MOST_LABELS, TextFrame
from model.text.tokenizer import Tokenizer
from training.data.corpus import with_label
from training.data.named_corpus import open_corpus
from training.data.prepared_corpus import prepare
from training.items.labels import labels_of


def labels(text: str, separator: str = "\n") -> tuple[str, ...]:
    tokenizer = Tokenizer.learn([text.replace("é", "")]).framed(TextFrame(separator))
    return labels_of(tokenizer.encode(text), tokenizer)


def test_a_label_is_what_stands_before_the_first_mark() -> None:
    assert labels("F|Anna\nM|Ben\n\nF|Eve|x\nélan|y\n") == ("F", "M", "élan")
    assert labels("a\nb|1--a\nb|2--c|3--", "--") == ("a\nb", "c")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("F|Anna\nBen\n|Eve\n", r"2 of 3 items have no label before a \|, the first is 'Ben'"),
        ("F|Anna\nBen\n", r"1 of 2 items has no label before a \|, the first is 'Ben'"),
        ("Ben\n", r"1 of 1 item has no label before a \|, the first is 'Ben'"),
        ("x" * 65 + "|Anna\n", "the longest of 65 characters"),
        ("".join(f"{number}|a\n" for number in range(MOST_LABELS + 1)), "1,025 different labels"),
    ],
)
def test_what_is_no_label_is_told(text: str, sentence: str) -> None:
    with pytest.raises(CorpusError, match=sentence):
        labels(text)


@given(
    st.lists(st.text("ab-", max_size=4), max_size=8), st.sampled_from(["-", "--", "ab", "aab"]), st.integers(0, 2**32)
)
def test_each_item_gets_the_label_wherever_blocks_are_cut(parts: list[str], separator: str, cuts: int) -> None:
    text = "".join(parts)
    expected = separator.join(item and f"L|{item}" for item in text.split(separator))
    blocks = [text[at : at + 1] for at in range(len(text))]
    joined: list[str] = []
    for number, block in enumerate(blocks):
        if number and cuts >> (number % 32) & 1:
            joined[-1] += block
        else:
            joined.append(block)
    assert "".join(with_label(iter(joined), "L", separator)) == expected


def test_the_items_of_a_file_have_its_name(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("cat\n\ndog")
    (tmp_path / "fr.v2.txt").write_text("chat\n")
    corpus = open_corpus([str(tmp_path)], ending="\n", labelled=True)
    assert "".join(corpus.blocks()) == "en|cat\n\nen|dog\nfr|chat\n"
    first = prepare(corpus, tmp_path / "prepared")
    (tmp_path / "en.txt").rename(tmp_path / "de.txt")
    second = prepare(open_corpus([str(tmp_path)], ending="\n", labelled=True), tmp_path / "prepared")
    assert first.facts.sha256 != second.facts.sha256
    (tmp_path / "a|b.txt").write_text("cat\n")
    with pytest.raises(CorpusError, match=r"a\|b\.txt is no label"):
        open_corpus([str(tmp_path)], ending="\n", labelled=True)
