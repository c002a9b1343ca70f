"""A list of items: whole items in every part, equal ones on one side, each read from its beginning once a pass."""

import re
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from model.errors import CorpusError, ParameterError
from model.text.frame import START, TextFrame, item_ends
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids
from training.data.split import Split
from training.items.batches import PADDING, ItemBatches
from training.items.separator import separator_of
from training.items.split import split_items

WORDS = [
    f"{a}{b}{'x' * (number % 7)}" for number, (a, b) in enumerate((a, b) for a in "abcdefghij" for b in "klmnopqrst")
]
LIST = [*WORDS, *WORDS[:40], *WORDS[:20]]


def parts_of(items: list[str], separator: str = "\n", any_number: bool = False) -> tuple[Tokenizer, Split]:
    text = "".join(item + separator for item in items)
    tokenizer = Tokenizer.learn([text]).framed(TextFrame(separator))
    return tokenizer, split_items(tokenizer.encode(text), "80/10/10", tokenizer, any_number)


def items_of(ids: Ids, tokenizer: Tokenizer) -> list[str]:
    text = tokenizer.decode(ids.tolist())
    assert text.endswith(tokenizer.frame.separator)
    return text.removesuffix(tokenizer.frame.separator).split(tokenizer.frame.separator)


@pytest.mark.parametrize("separator", ["\n", "\n\n", "%%\n"])
def test_parts_hold_whole_items_and_equal_ones_are_on_one_side(separator: str) -> None:
    tokenizer, parts = parts_of(LIST * 3, separator)
    sides = [items_of(part, tokenizer) for part in (parts.train, parts.validation, parts.test)]
    assert Counter([*sides[0], *sides[1], *sides[2]]) == Counter(LIST * 3)
    assert parts.held_out
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert set(sides[one]).isdisjoint(sides[other])
    assert 0.6 < len(sides[0]) / len(LIST * 3) < 0.95


def test_the_order_of_a_list_changes_no_side() -> None:
    _, parts = parts_of(LIST * 3)
    tokenizer, sorted_parts = parts_of(sorted(LIST * 3))
    assert Counter(items_of(parts.test, tokenizer)) == Counter(items_of(sorted_parts.test, tokenizer))
    np.testing.assert_array_equal(np.sort(parts.validation), np.sort(sorted_parts.validation))


def test_empty_items_are_left_out_and_a_handful_holds_nothing_out() -> None:
    tokenizer, parts = parts_of(["CCO", "", "c1ccccc1", ""], any_number=True)
    assert items_of(parts.train, tokenizer) == ["CCO", "c1ccccc1"]
    assert not parts.held_out
    np.testing.assert_array_equal(parts.train, parts.test)
    with pytest.raises(CorpusError, match="2 items of 13 characters together, too few"):
        parts_of(["CCO", "c1ccccc1"])
    with pytest.raises(CorpusError, match="1 item of 2 characters together, too few"):
        parts_of(["C"])
    with pytest.raises(CorpusError, match="0 items"):
        parts_of(["", ""], any_number=True)


@pytest.mark.parametrize("sequence_length", [1, 4, 64])
def test_a_pass_reads_each_item_once_from_its_beginning_and_carries_nothing_on(sequence_length: int) -> None:
    """With windows of 4 most items are cut, and the rows of a window go on those of the one before."""
    tokenizer, parts = parts_of(LIST * 3)
    batches = ItemBatches(parts.train, parts.separator, 4, sequence_length, seed=1)
    passes = []
    for _ in range(2):
        read = 0
        found: list[str] = []
        rows: list[list[int]] = []
        while read < batches.ids_per_pass:
            window = batches.next()
            assert window.counts is not None
            assert (window.targets != PADDING).sum(axis=1).tolist() == window.counts.tolist()
            assert sorted(window.counts, reverse=True) == window.counts.tolist()
            rows = [[START] for _ in window.inputs] if window.fresh else rows
            for row, inputs, targets, count in zip(rows, window.inputs, window.targets, window.counts, strict=False):
                assert inputs[0] == row[-1]
                np.testing.assert_array_equal(inputs[1:count], targets[: count - 1])
                row += targets[:count].tolist()
                if row[-1] == parts.separator[-1]:
                    found.append(tokenizer.decode(row[1:-1]))
            read += window.ids
        assert read == batches.ids_per_pass == len(parts.train)
        assert Counter(found) == Counter(items_of(parts.train, tokenizer))
        passes.append(found)
    assert passes[0] != passes[1]


def test_reading_goes_on_from_a_position_that_was_kept() -> None:
    _, parts = parts_of(LIST * 3)
    one, other = (ItemBatches(parts.train, parts.separator, 4, 4, seed=2) for _ in range(2))
    for _ in range(150):
        one.next()
    other.next()
    other.go_to(one.position())
    for _ in range(150):
        for mine, its in zip(one.next(), other.next(), strict=True):
            np.testing.assert_array_equal(mine, its)


def test_separators_do_not_overlap() -> None:
    ends = item_ends(np.array([1, 7, 7, 7, 2, 7, 7]), [7, 7])
    assert ends.tolist() == [3, 7]
    assert [end - begin for begin, end in pairwise([0, *ends.tolist()])] == [3, 4]


def test_a_separator_is_read_as_a_person_means_it() -> None:
    assert separator_of(r"\n\n") == "\n\n"
    assert separator_of(r"\\n\t|") == "\\n\t|"
    with pytest.raises(ParameterError, match="choose 1 to 64"):
        separator_of("")


def test_a_part_that_has_no_room_among_temporary_files_is_told() -> None:
    """It is mapped: writing what the disk has no room for would end the process by a signal."""
    script = """
import resource, signal
from model.errors import CorpusError
from model.text.frame import TextFrame
from model.text.tokenizer import Tokenizer
from training.items import split
split.IN_MEMORY = 0
text = "".join(f"{number}\\n" for number in range(10_000))
tokenizer = Tokenizer.learn([text]).framed(TextFrame("\\n"))
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, 1_000))
try:
    split.split_items(tokenizer.encode(text), "90/5/5", tokenizer)
except CorpusError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-B", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert re.fullmatch(
        r"A temporary copy has no room in \S+ \(File too large\); free some space, or set TMPDIR to a folder with more"
        r"\.\n",
        ended.stdout,
    )
