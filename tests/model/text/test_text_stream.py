"""The text stream: whole characters once they are certain, the same text in any grouping, no stop string shown."""

import codecs
import time

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from model.errors import ParameterError
from model.text.stop_strings import LARGEST_STOP, StopStrings
from model.text.text_stream import TextStream
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES

TOKENIZER = Tokenizer("ab\né月😀")
IDS = st.lists(
    st.one_of(
        st.integers(0, TOKENIZER.size - 1),
        st.integers(BYTES, TOKENIZER.size - 1),
        st.sampled_from([0x61, 0x62, 0xC3, 0xA9, 0xE6, 0x9C, 0x88, 0xF0, 0x9F, 0x98, 0x80, 0xED, 0xA0, 0xFF]),
    ),
    max_size=40,
)
STOPS = st.lists(st.text("ab\né月😀c\ufffd", min_size=1, max_size=4), max_size=3)
CUTS = st.lists(st.integers(0, 9), max_size=12)


def whole_text(ids: list[int]) -> str:
    """What the ids spell, a character cut off by the end left out: the law in one line, without streaming."""
    raw = b"".join(bytes([token]) if token < BYTES else TOKENIZER.piece(token).encode() for token in ids)
    return codecs.getincrementaldecoder("utf-8")(errors="replace").decode(raw, final=False)


def cut(text: str, stops: list[str]) -> tuple[str, str | None]:
    """The text before the stop string that ends first, the longest of those; and that stop string."""
    for end in range(1, len(text) + 1):
        if complete := [stop for stop in stops if text[:end].endswith(stop)]:
            stop = max(complete, key=len)
            return text[: end - len(stop)], stop
    return text, None


def fed(stream: TextStream, ids: list[int], cuts: list[int]) -> str:
    """What a stream shows of ids that arrive in groups of these sizes, the rest in one."""
    shown, at = "", 0
    for size in [*cuts, len(ids)]:
        shown += stream.feed(ids[at : at + size])
        at += size
    return shown


def stream_of(ids: list[int], stops: list[str]) -> tuple[list[str], str | None]:
    stream = TextStream(TOKENIZER, stops)
    pieces = [stream.feed([token]) for token in ids]
    return [*pieces, stream.flush()], stream.stopped


@settings(max_examples=500)
@given(IDS)
def test_pieces_joined_are_the_whole_text(ids: list[int]) -> None:
    assert "".join(stream_of(ids, [])[0]) == whole_text(ids)


@example([BYTES] * 3 + [BYTES + 1], ["aab"])
@example([BYTES, BYTES + 1], ["ab", "b"])
@settings(max_examples=500)
@given(IDS, STOPS)
def test_pieces_joined_are_the_whole_text_before_the_first_stop_string(ids: list[int], stops: list[str]) -> None:
    pieces, stopped = stream_of(ids, stops)
    assert ("".join(pieces), stopped) == cut(whole_text(ids), stops)


@example([BYTES, BYTES + 1, BYTES], ["ab"], [0])
@example([0xC3, BYTES], ["a"], [1])
@example([0xC3, BYTES, BYTES], ["\ufffd"], [2])
@settings(max_examples=500)
@given(IDS, STOPS, CUTS)
def test_ids_in_groups_of_any_size_give_what_they_give_one_by_one(
    ids: list[int], stops: list[str], cuts: list[int]
) -> None:
    grouped, single = TextStream(TOKENIZER, stops), TextStream(TOKENIZER, stops)
    assert fed(grouped, ids, cuts) == "".join(single.feed([token]) for token in ids)
    found, expected = ((stream.stopped, stream.taken, stream.holding, stream.flush()) for stream in (grouped, single))
    assert found == expected


@settings(max_examples=500)
@given(IDS, STOPS, CUTS)
def test_ids_are_taken_up_to_the_one_that_completes_a_stop_string(
    ids: list[int], stops: list[str], cuts: list[int]
) -> None:
    stream = TextStream(TOKENIZER, stops)
    fed(stream, ids, cuts)
    assert cut(whole_text(ids[: stream.taken]), stops)[1] == stream.stopped
    if stream.stopped is None:
        assert stream.taken == len(ids)
    else:
        assert cut(whole_text(ids[: stream.taken - 1]), stops)[1] is None


@settings(max_examples=300)
@given(IDS, STOPS)
def test_a_stream_is_holding_when_less_is_shown_than_was_spelt(ids: list[int], stops: list[str]) -> None:
    stream = TextStream(TOKENIZER, stops)
    shown = stream.feed(ids)
    unfinished = whole_text([*ids, BYTES]) != whole_text(ids) + "a"
    assert stream.holding == (stream.stopped is None and (unfinished or shown != whole_text(ids)))


@settings(max_examples=500)
@given(IDS, STOPS, CUTS)
def test_nothing_that_starts_no_stop_string_ever_needs_to_be_looked_at(
    ids: list[int], stops: list[str], cuts: list[int]
) -> None:
    starts, stream, at = StopStrings(stops).starts(TOKENIZER), TextStream(TOKENIZER, stops), 0
    for size in cuts:
        group = ids[at : at + size]
        at += size
        harmless = not stream.holding and stream.stopped is None and not starts[group].any()
        shown = stream.feed(group)
        if harmless:
            assert shown == "".join(TOKENIZER.piece(token) for token in group)
            assert (stream.stopped, stream.holding) == (None, False)


@settings(max_examples=500)
@given(IDS, STOPS, CUTS, st.integers(0, 12))
def test_a_stop_string_may_stay_and_may_have_to_wait(
    ids: list[int], stops: list[str], cuts: list[int], least: int
) -> None:
    """The text ends with exactly what ended it; of the first ids nothing is looked at."""
    without, with_ = (TextStream(TOKENIZER, stops, include, least) for include in (False, True))
    left_out, left_in = (fed(stream, ids, cuts) for stream in (without, with_))
    assert (with_.stopped, with_.taken, with_.holding) == (without.stopped, without.taken, without.holding)
    assert left_in + with_.flush() == left_out + without.flush() + (with_.stopped or "")
    single = TextStream(TOKENIZER, stops, False, least)
    assert "".join(single.feed([token]) for token in ids) == left_out
    early = whole_text(ids[:least])
    rest, stop = cut(whole_text(ids)[len(early) :], stops)
    assert (left_out if stop else whole_text(ids), without.stopped) == (early + rest, stop)


def test_what_may_start_a_stop_string_is_every_byte_and_its_first_character() -> None:
    starts = StopStrings(["b\n", "月", "日", "\ud800", "ba"]).starts(TOKENIZER)
    assert starts.dtype == np.bool_
    assert np.flatnonzero(starts).tolist() == [*range(BYTES), BYTES + 1, BYTES + 4]
    assert np.flatnonzero(StopStrings([]).starts(TOKENIZER)).tolist() == list(range(BYTES))


def test_a_long_group_takes_less_than_a_microsecond_per_id() -> None:
    """Between stop strings' first characters nothing is compared; the bound is ten times what was measured."""
    ids = TOKENIZER.encode(("a" * 60 + "\n") * 4_000).tolist()
    stream = TextStream(TOKENIZER, ["\n\n", "b"])
    began = time.process_time()
    shown = stream.feed(ids)
    assert time.process_time() - began < 1e-6 * len(ids)
    assert (len(shown), stream.holding) == (len(ids) - 1, True)


@settings(max_examples=300)
@given(IDS, STOPS)
def test_at_any_moment_all_but_the_beginning_of_a_stop_string_was_shown(ids: list[int], stops: list[str]) -> None:
    stream, shown = TextStream(TOKENIZER, stops), ""
    for number, token in enumerate(ids, 1):
        shown += stream.feed([token])
        text, stop = cut(whole_text(ids[:number]), stops)
        if stop is None:
            started = [stop[:size] for stop in stops for size in range(len(stop)) if text.endswith(stop[:size])]
            text = text[: len(text) - len(max(started, key=len, default=""))]
        assert shown == text


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=3))
def test_no_stop_string_is_ever_in_the_shown_text(text: str, stops: list[str]) -> None:
    shown = "".join(stream_of(TOKENIZER.encode(text).tolist(), stops)[0])
    assert not any(stop in shown for stop in stops)


@pytest.mark.parametrize(
    ("text", "stops", "shown", "stopped"),
    [
        ("aaab", ["aab"], "a", "aab"),
        ("aab", ["ab", "b"], "a", "ab"),
        ("aab", ["b", "ab"], "a", "ab"),
        ("abé", ["abéa", "bé"], "a", "bé"),
        ("aé月😀b", ["月😀"], "aé", "月😀"),
        ("ab", ["aba", "bb"], "ab", None),
        ("a", ["a"], "", "a"),
        ("ababab", ["abab"], "", "abab"),
        ("aéb", ["c"], "aéb", None),
        ("cab", ["c"], "", "c"),
    ],
)
def test_stop_strings_worked_by_hand(text: str, stops: list[str], shown: str, stopped: str | None) -> None:
    pieces, found = stream_of(TOKENIZER.encode(text).tolist(), stops)
    assert ("".join(pieces), found) == (shown, stopped)


def test_what_is_held_back_is_shown_once_it_is_no_stop_string_or_nothing_more_comes() -> None:
    stream = TextStream(TOKENIZER, ["aab"])
    assert [stream.feed([token]) for token in TOKENIZER.encode("aaaéa").tolist()] == ["", "", "a", "aaé", ""]
    assert stream.flush() == "a"
    assert stream.flush() == ""


def test_after_a_stop_string_nothing_is_shown() -> None:
    stream = TextStream(TOKENIZER, ["b"])
    assert [stream.feed([token]) for token in TOKENIZER.encode("abab").tolist()] == ["a", "", "", ""]
    assert (stream.flush(), stream.stopped) == ("", "b")


@pytest.mark.parametrize("character", ["A", "ß", "日", "🚀"])
def test_the_bytes_of_a_character_become_one_piece(character: str) -> None:
    raw = character.encode()
    pieces, _ = stream_of(list(raw), [])
    assert pieces == [""] * (len(raw) - 1) + [character, ""]


def test_a_character_cut_off_by_the_end_is_left_out() -> None:
    assert "".join(stream_of([BYTES, *"日".encode()[:2]], [])[0]) == "a"


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([0xFF, BYTES], "\ufffda"),
        ([0xE6, 0x9C, BYTES], "\ufffda"),
        ([0xE6, BYTES + 4, 0x61], "\ufffd月a"),
        ([0x9C, 0xC3, 0xC3, 0xA9], "\ufffd\ufffdé"),
        ([0xED, 0xA0, 0x80, 0x61], "\ufffd\ufffd\ufffda"),
    ],
)
def test_malformed_bytes_become_replacement_characters(ids: list[int], text: str) -> None:
    assert "".join(stream_of(ids, [])[0]) == text
    assert TOKENIZER.decode(ids) == text


def test_a_stop_string_may_be_spelt_in_bytes() -> None:
    pieces, stopped = stream_of([BYTES, *"月".encode(), BYTES], ["月"])
    assert ("".join(pieces), stopped) == ("a", "月")


def test_the_longest_stop_string_is_matched_and_a_longer_one_refused() -> None:
    longest = "a" * (LARGEST_STOP - 1) + "b"
    ids = TOKENIZER.encode("a" * 500 + longest + "é").tolist()
    assert "".join(stream_of(ids, [longest])[0]) == "a" * 500
    for stop in ("", longest + "a"):
        with pytest.raises(ParameterError, match=r"A stop string has .+ characters; use 1 to 1,024\.") as caught:
            TextStream(TOKENIZER, ["a", stop])
        assert caught.value.parameter == "stop"


@settings(max_examples=500)
@given(IDS, STOPS, st.integers(0, 40), st.integers(0, 6))
@example([0x61, 0xE6, 0x9C, 0x88, 0x62], ["月b"], 2, 0)
@example([BYTES, BYTES, BYTES + 1], ["aab"], 2, 0)
def test_a_stream_goes_on_where_another_was(ids: list[int], stops: list[str], at: int, min_tokens: int) -> None:
    whole = TextStream(TOKENIZER, stops, min_tokens=min_tokens)
    wanted = whole.feed(ids) + whole.flush()

    first = TextStream(TOKENIZER, stops, min_tokens=min_tokens)
    text = first.feed(ids[:at])
    if first.stopped is None:
        second = TextStream(TOKENIZER, stops, min_tokens=min_tokens)
        assert second.resume(first.taken, first.held, first.undecoded) == ""
        assert second.holding == first.holding
        text += second.feed(ids[at:]) + second.flush()
        assert (second.stopped, second.taken) == (whole.stopped, whole.taken)
    assert text == wanted
