"""The figures of a comparison on cases whose answer is known: sizes, tasks, fading, exponents, training's ways back."""

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from model.cells.spec import CELLS, Cell
from model.config import NetworkConfig
from model.network import Network
from tests.training.verse import TEXT, TOKENIZER
from training.comparison.language_run import LanguageRun, Steps
from training.comparison.length_cost import Attention, exponent
from training.comparison.memory_tasks import DELAYS, TASKS, learn_task, steps_at, task_network
from training.comparison.sizes import Compared, attention_width, equal_networks, layer_parameters, nearest_width
from training.comparison.use_of_past import context_bits, fading_gradient, fading_state, half_life
from training.data.batches import Window
from training.data.prepared_corpus import count_ids
from training.loop.learner import Learnt

IDS = TOKENIZER.encode(TEXT)


def network(cell: Cell = "lstm") -> Network:
    torch.manual_seed(3)
    return Network(NetworkConfig(cell=cell, layers=1, hidden=16, embedding=8, vocabulary=TOKENIZER.size)).eval()


def test_no_other_multiple_of_eight_comes_nearer_to_the_parameters() -> None:
    cells: tuple[Compared, ...] = ("rnn", "gru", "lstm", "hybrid")
    found = equal_networks(cells, 200_000, 321)
    for one in found.values():
        assert abs(one.parameters() - 200_000) < (0.04 if one.attention else 0.02) * 200_000
        for width in (one.hidden - 8, one.hidden + 8):
            other = replace(one, hidden=width)
            assert abs(other.parameters() - 200_000) >= abs(one.parameters() - 200_000)
    assert found["rnn"].hidden > found["gru"].hidden > found["lstm"].hidden
    assert nearest_width(lambda width: width * width, 100, step=4) == 8


@pytest.mark.parametrize("cell", CELLS)
def test_parameters_of_a_layer_are_counted_as_pytorch_has_them(cell: Cell) -> None:
    layer = task_network(cell, "recall", 1)
    assert sum(one.numel() for one in layer.layer.parameters()) == layer_parameters(cell, 9, layer.hidden)
    assert abs(sum(one.numel() for one in layer.parameters()) - 20_000) < 1_500


def test_attention_of_equal_parameters_reads_the_same_with_a_cache_and_without() -> None:
    width = attention_width(50_000, 90)
    torch.manual_seed(1)
    layer, ids = Attention(90, width).eval(), torch.randint(90, (12,))
    assert abs(sum(one.numel() for one in layer.parameters()) - 50_000) < 5_000
    keys, values = torch.empty(12, width), torch.empty(12, width)
    with torch.no_grad():
        for at in range(12):
            step = layer.step(ids[at : at + 1], keys, values, at)
            assert torch.allclose(step, layer.whole(ids[: at + 1]), atol=1e-5)


def test_copy_asks_for_what_came_before_the_blanks_and_the_mark() -> None:
    x, wanted = TASKS["copy"].draw(50, 3, torch.Generator().manual_seed(1))
    read = x.argmax(-1)
    assert x.shape == (70, 3, 10)
    assert torch.equal(read[:10], wanted)
    assert set(read[10:59].flatten().tolist()) == {8}
    assert set(read[59:].flatten().tolist()) == {9}


def test_recall_asks_for_the_first_symbol_at_a_mark_after_the_delay() -> None:
    x, wanted = TASKS["recall"].draw(50, 3, torch.Generator().manual_seed(1))
    read = x.argmax(-1)
    assert torch.equal(read[0], wanted[0])
    assert read[50].tolist() == [8, 8, 8]
    assert int(read[:50].max()) == 7


def test_adding_asks_for_the_sum_of_a_marked_number_of_each_half() -> None:
    x, wanted = TASKS["adding"].draw(50, 400, torch.Generator().manual_seed(1))
    numbers, marks = x.unbind(-1)
    assert torch.equal(marks[:25].sum(0), torch.ones(400))
    assert torch.equal(marks[25:].sum(0), torch.ones(400))
    assert torch.allclose((numbers * marks).sum(0), wanted[0])
    assert float(((wanted - 1) ** 2).mean()) == pytest.approx(1 / 6, rel=0.15)  # the baseline


def test_what_is_learnt_is_reached_and_what_is_not_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.comparison.memory_tasks.DELAYS", (10, 20))
    monkeypatch.setattr("training.comparison.memory_tasks.SHARES", {10: 1.0, 20: 0.0})
    untrained = learn_task(task_network("rnn", "copy", 1), "rnn", "copy", 1, 1)["figures"]
    assert untrained["reached"] == 0
    assert untrained["delays"]["20"]["share"] < 0.5
    monkeypatch.setattr("training.comparison.memory_tasks.DELAYS", (10,))
    part = learn_task(task_network("lstm", "recall", 1), "lstm", "recall", 500, 1)["figures"]
    assert part["delays"]["10"]["share"] >= 0.9
    assert part["reached"] == 10
    assert part["baseline"] == pytest.approx(math.log(8))


def test_short_delays_get_more_steps_and_every_one_gets_one() -> None:
    assert DELAYS == (10, 50, 100, 200, 500)
    assert [steps_at(delay, 100) for delay in DELAYS] == [600, 300, 200, 100, 50]
    assert steps_at(500, 1) == 1


def test_half_life_is_where_half_is_left() -> None:
    assert half_life(0.5 ** (np.arange(20) / 4)) == pytest.approx(5.0)  # of the value at 1, four further
    assert half_life(np.array([1.0, 0.9, 0.8])) is None
    assert half_life(np.array([1.0, 0.0])) == pytest.approx(1.5)


def test_the_gradient_of_a_network_fades_as_its_recurrent_weights_say() -> None:
    faded = network("rnn")
    with torch.no_grad():
        faded.get_parameter("layers.0.weight_hh_l0").mul_(0.1)  # orthogonal, so each step leaves a tenth at most
    windows = IDS[np.arange(8)[:, None] * 9 + np.arange(12)].astype(np.int64)
    fading = fading_gradient(faded, windows)
    assert fading[0] == 1
    assert all(after <= 0.11 * before for before, after in pairwise(fading))


def test_a_state_that_is_thrown_away_has_no_influence_after_its_character() -> None:
    blind = network("rnn")
    with torch.no_grad():
        blind.get_parameter("layers.0.weight_hh_l0").mul_(0.05)
    windows = IDS[np.arange(8)[:, None] * 9 + np.arange(41)].astype(np.int64)
    fading = fading_state(blind, windows, 20)
    assert fading[0] == 1
    assert fading[4] < 1e-3


def test_bits_by_context_are_those_of_the_network_read_by_hand() -> None:
    one = network()
    found = context_bits(one, IDS[:400], [1, 8], 1, 5)
    ends = np.sort(np.random.default_rng(7).integers(392, size=5)) + 8
    for length, bits in found.items():
        windows = torch.from_numpy(IDS[ends[:, None] + np.arange(-length, 1)].astype(np.int64))
        with torch.no_grad():
            logits, _ = one(windows[:, :-1])
        logs = logits[:, -1].log_softmax(-1).gather(1, windows[:, -1:])
        assert bits == pytest.approx(float(-logs.mean()) / math.log(2), abs=1e-5)


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_the_exponent_is_that_of_the_power(power: float) -> None:
    lengths: NDArray[np.float64] = np.array([100.0, 1_000.0, 10_000.0])
    assert exponent(lengths, 3e-6 * lengths**power) == pytest.approx(power)


def run_of(steps: int) -> Steps:
    run = LanguageRun(network().config, 1, "fp32", 1, 8, 32, 512, steps=steps)
    return Steps(run, IDS, count_ids(IDS, TOKENIZER.size))


def test_a_lost_run_goes_back_three_times_with_half_the_rate_and_then_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = run_of(40)
    learn = steps.learner.learn

    def broken(window: Window, rate: float) -> Learnt:
        return learn(window, rate)._replace(norm=torch.tensor(math.nan))

    monkeypatch.setattr(steps.learner, "learn", broken)
    steps.run()
    assert steps.lost
    assert steps.rolled_back == 4
    assert steps.factor == 0.5**4
    assert len(steps.norms) == 4


def test_a_run_learns_and_tells_the_norm_of_every_step() -> None:
    steps = run_of(150)
    before = context_bits(steps.learner.network, IDS, [32], 1, 64)[32]
    steps.run()
    assert len(steps.norms) == 150
    assert not steps.lost
    assert context_bits(steps.learner.network, IDS, [32], 1, 64)[32] < before - 0.5
