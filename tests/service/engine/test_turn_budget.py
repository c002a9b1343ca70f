"""What one turn may do: calls stay short, everybody's prompt advances, and text hardly slows while others read."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.engine.turn_budget import (
    DECODE_SECONDS,
    MOST_PREFILLED,
    MOST_STEPS,
    PREFILL_ALONE_SECONDS,
    PREFILL_SHARE,
    Cost,
    UnreadPrompts,
    decode_steps,
    prefill_chunk,
    prefill_seconds,
)

SECONDS = st.floats(1e-6, 0.1)


@dataclass(eq=False)
class Prompt:
    """A prompt that is being read."""

    unread: int
    mark: int = 1 << 30

    @property
    def until_mark(self) -> int:
        return min(self.unread, self.mark)


def known(seconds: float, rows: int = 1) -> Cost:
    """Costs of which one is known."""
    cost = Cost()
    cost.record(rows, 1, seconds)
    return cost


@given(st.integers(1, 4096), st.integers(1, 10**6), SECONDS)
def test_a_call_that_draws_is_short(rows: int, left: int, seconds: float) -> None:
    steps = decode_steps(rows, left, known(seconds, rows))
    assert 1 <= steps <= min(MOST_STEPS, left)
    assert steps == 1 or steps * seconds <= DECODE_SECONDS
    assert steps in (MOST_STEPS, left) or (steps + 1) * seconds > DECODE_SECONDS


def test_the_first_call_of_all_is_careful() -> None:
    assert decode_steps(1, 1000, Cost()) == 1
    _, count = prefill_chunk([Prompt(1000)], PREFILL_ALONE_SECONDS, Cost())
    assert count <= 4


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(1, 10**6)), min_size=1, max_size=80),
    SECONDS,
    SECONDS,
    st.integers(2, 64),
)
def test_a_slice_reads_the_same_of_all_and_keeps_to_its_time(
    prompts: list[tuple[int, int]], cost: float, seconds: float, most: int
) -> None:
    readers = [Prompt(unread, mark) for unread, mark in prompts]
    chosen, count = prefill_chunk(readers, seconds, known(cost, min(len(readers), most)), most)
    assert len(set(chosen)) == len(chosen) == min(len(readers), most)
    assert set(chosen) <= set(readers)
    assert 1 <= count <= min(reader.until_mark for reader in chosen)
    assert count == 1 or count * cost <= seconds * (1 + 1e-9)


@given(
    st.integers(1, 128),
    st.integers(1, 10**6),
    SECONDS,
    st.lists(st.integers(1, 10**6), min_size=1, max_size=40),
    SECONDS,
)
def test_text_keeps_most_of_its_pace_while_others_read(
    rows: int, left: int, draw: float, prompts: list[int], read: float
) -> None:
    decoding, reading = known(draw, rows), known(read, min(len(prompts), MOST_PREFILLED))
    seconds = prefill_seconds(rows, left, decoding)
    call = decode_steps(rows, left, decoding) * draw
    assert seconds == pytest.approx(PREFILL_SHARE * call)
    _, count = prefill_chunk([Prompt(unread) for unread in prompts], seconds, reading)
    assert count == 1 or count * read <= PREFILL_SHARE * call * (1 + 1e-9)


def read_all(prompts: list[Prompt], arrivals: dict[int, Prompt] | None = None) -> dict[Prompt, int]:
    """In which turn each prompt is read to its end, when a turn can afford 32 × 8 ids and some arrive later."""
    cost, ended, turn, readers = known(1e-3, MOST_PREFILLED), {}, 0, list(prompts)
    later = dict(arrivals or {})
    while readers or later:
        if turn in later:
            readers.append(later.pop(turn))
        if readers:
            chosen, count = prefill_chunk(readers, 8e-3, cost)
            for reader in chosen:
                reader.unread -= count
            ended.update({reader: turn for reader in chosen if not reader.unread})
            readers = [reader for reader in readers if reader.unread]
        turn += 1
    return ended


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=100))
def test_every_prompt_is_read_and_none_is_starved(lengths: list[int]) -> None:
    prompts = [Prompt(length) for length in lengths]
    ended = read_all(prompts, {at: Prompt(1) for at in range(1, 200)})
    assert set(prompts) <= set(ended)


def test_the_oldest_prompt_advances_in_every_turn() -> None:
    oldest = Prompt(800)
    ended = read_all([oldest, *(Prompt(1000) for _ in range(200))], {at: Prompt(8) for at in range(1, 500)})
    assert ended[oldest] == 99


def test_a_short_prompt_does_not_wait_for_long_ones() -> None:
    short = Prompt(20)
    ended = read_all([*(Prompt(100_000) for _ in range(100)), short])
    assert ended[short] <= 3


def test_a_long_prompt_is_read_beside_short_ones_that_never_end() -> None:
    """24 clients ask again and again, and a step of all prompts takes ten times that of one."""
    unread: UnreadPrompts[Prompt] = UnreadPrompts()
    unread.cost.record(1, 1, 4e-5)
    unread.cost.record(24, 1, 4e-4)
    long, calls = Prompt(3000), 0
    unread.prompts = [long, *(Prompt(8) for _ in range(23))]
    begun = dict.fromkeys(unread.prompts[1:], 0)
    while long.unread:
        calls += 1
        chosen, count = unread.chunk(unread.prompts, 5e-4, alone=False)
        for prompt in chosen:
            prompt.unread -= count
        ended = [prompt for prompt in begun if not prompt.unread]
        assert all(calls - begun.pop(prompt) <= 12 for prompt in ended)  # 8, and every third without it
        unread.forget()
        new = [Prompt(8) for _ in ended]
        unread.prompts += new
        begun |= dict.fromkeys(new, calls)
    assert calls < 800  # 3,000 where all are always side by side, an id in each call


def test_costs_follow_what_is_measured_and_forget_what_was_held_up() -> None:
    cost = known(1e-4)
    cost.record(1, 10, 10.0)
    assert cost.per_step(1) < 2e-4
    for _ in range(50):
        cost.record(1, 10, 5e-3)
    assert cost.per_step(1) == pytest.approx(5e-4, rel=0.01)
    for _ in range(50):
        cost.record(1, 10, 1e-3)
    assert cost.per_step(1) == pytest.approx(1e-4, rel=0.01)


@given(st.integers(1, 4096), st.integers(1, 4096))
def test_a_cost_nobody_measured_is_not_taken_for_less_than_its_share(measured: int, asked: int) -> None:
    """A step of more rows costs at most as much more; one of fewer at most as much."""
    estimate = known(1e-3, measured).per_step(asked)
    if asked.bit_length() <= measured.bit_length():
        assert estimate == 1e-3
    else:
        assert 1e-3 < estimate <= 1e-3 * 2 * asked / measured * 2
