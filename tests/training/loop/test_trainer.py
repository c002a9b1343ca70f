"""A run learns, repeats itself, stops when told, and plans what was not chosen."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.cells.spec import CELLS, Cell
from model.checkpoint import load
from model.command_line.console import TerminalConsole
from model.config import NetworkConfig
from model.decoding.decoder import Decoder
from model.errors import ParameterError, TrainingError
from model.generate import generate
from model.network import Network
from model.sampling.parameters import SamplingParameters
from tests.training.verse import TEXT, TOKENIZER, Recorder, make_trainer
from training.loop.run_state import FOLDER, LATEST, RunState, Saved
from training.loop.trainer import Trainer
from training.planning.config import TrainingConfig
from training.planning.plan import SIZES, make_plan
from training.planning.regularisation import Regularisation
from training.planning.schedule import Budget
from training.planning.train_options import PlanOverrides, TrainOptions
from training.run import run


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_cell_learns_a_verse_by_heart(tmp_path: Path, cell: Cell) -> None:
    outcome = make_trainer(tmp_path, cell=cell, epochs=24, learning_rate=8e-3).run()
    first, last = outcome.validations[0], outcome.validations[-1]
    assert first.validation_bits > 2
    assert last.validation_bits < 0.5
    best = load(tmp_path / "best")
    pieces = generate(
        Decoder(best), best.tokenizer, "Tyger Tyger, b", max_tokens=40, parameters=SamplingParameters(temperature=0)
    )
    assert "".join(piece.text for piece in pieces) == "urning bright,\nIn the forests of the nig"


def test_the_same_seed_trains_the_same_weights_to_the_bit(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        make_trainer(tmp_path / name, seed=seed).run()
    a, b, c = (load(tmp_path / name / "last").tensors for name in "abc")
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["out.weight"], c["out.weight"])


def test_a_budget_used_before_the_first_step_is_a_sentence_and_saves_nothing(tmp_path: Path) -> None:
    running = make_trainer(tmp_path)
    running.budget = Budget(seconds=1)
    running.started -= 60
    with pytest.raises(TrainingError, match="used its budget before its first step"):
        running.run()
    assert not list(tmp_path.iterdir())


def bf16_trains(cell: Cell) -> bool:
    """Whether PyTorch has a bf16 kernel for the cell here, tried without anything of ours but the network."""
    network = Network(NetworkConfig(cell=cell, layers=1, hidden=16, embedding=16, vocabulary=280))
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            network(torch.zeros((1, 1), dtype=torch.int64))
    except RuntimeError:
        return False
    return True


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_bf16_learns_what_fp32_learns_or_is_refused(tmp_path: Path, cell: Cell) -> None:
    if not bf16_trains(cell):
        with pytest.raises(ParameterError, match="choose --precision fp32 or auto"):
            make_plan(PlanOverrides(cell=cell, precision="bf16", epochs=1), 280, 10_000, torch.device("cpu"))
        return
    fp32, bf16 = (make_trainer(tmp_path / name, cell=cell, epochs=6, precision=name) for name in ("fp32", "bf16"))
    exact, rounded = (running.run().validations[-1].validation_bits for running in (fp32, bf16))
    assert rounded == pytest.approx(exact, abs=0.15)


def test_checks_are_spread_over_the_budget_and_the_best_is_kept(tmp_path: Path) -> None:
    recorder = Recorder()
    outcome = make_trainer(tmp_path, recorder, epochs=6).run()
    assert tuple(recorder.validations) == outcome.validations
    assert 20 <= len(outcome.validations) <= 21
    assert outcome.validations[-1].step == outcome.step
    best = min(outcome.validations, key=lambda check: check.validation_bits)
    assert outcome.best_step == best.step
    written = load(tmp_path / "best").training
    assert written["step"] == best.step
    assert round(written["validation"]["bits_per_character"], 4) == best.validation_bits


def test_a_run_told_to_stop_saves_what_it_has(tmp_path: Path) -> None:
    running = make_trainer(tmp_path, Recorder(stop_at=7), epochs=50)
    outcome = running.run()
    assert running.stopped_early
    assert outcome.step == 7
    assert load(tmp_path / "last").training["step"] == 7


def test_ids_never_seen_in_training_are_named_and_their_embeddings_say_nothing(tmp_path: Path) -> None:
    make_trainer(tmp_path, epochs=1).run()
    checkpoint = load(tmp_path / "best")
    assert checkpoint.unseen.tolist() == list(range(256))
    assert not checkpoint.tensors["embedding.weight"][:256].any()
    assert checkpoint.tensors["embedding.weight"][256:].any()


def test_a_budget_in_minutes_is_kept_from_the_start_of_the_command(tmp_path: Path) -> None:
    corpus = tmp_path / "verse.txt"
    corpus.write_text(TEXT)
    out = tmp_path / "run"
    options = TrainOptions(
        corpus=(str(corpus),), out=out, overrides=PlanOverrides(minutes=0.1, hidden=32, layers=1, seed=5)
    )
    started = time.monotonic()
    with open(tmp_path / "log", "w") as log:
        outcome = run(options, TerminalConsole(file=log), started)
    assert outcome.validations[-1].progress > 0.5
    kept = RunState.from_json(Saved.read(out / FOLDER / LATEST).state)  # written when the last step was done
    assert kept.elapsed <= 6 + 100 * outcome.seconds / outcome.step
    assert {path.name for path in out.iterdir()} == {
        "best", "last", "metrics.jsonl", "curves.svg", "report.html", "resume",
    }  # fmt: skip
    for name in ("best", "last"):
        assert load(out / name).card.startswith("# run\n")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [check.step for check in outcome.validations]


def test_a_plan_in_epochs_is_the_same_everywhere_and_grows_with_the_corpus() -> None:
    cpu = torch.device("cpu")
    sizes = []
    for characters in (2_000, 200_000, 1_000_000, 10_000_000):
        plans = [make_plan(PlanOverrides(epochs=10, precision="fp32"), 321, characters, cpu) for _ in range(2)]
        assert plans[0] == plans[1]
        network = plans[0].config.network
        sizes.append(SIZES.index((network.layers, network.hidden, network.embedding)))
        assert plans[0].config.batch_size * plans[0].config.sequence_length < characters
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert sizes[-1] == len(SIZES) - 1


def planned(vocabulary: int = 321, **overrides: Any) -> TrainingConfig:
    return make_plan(PlanOverrides(**{"epochs": 10, **overrides}), vocabulary, 1_000_000, torch.device("cpu")).config


def test_several_layers_all_reach_the_output_and_then_nothing_is_left_out_between_them() -> None:
    usual, plain = planned(), planned(skip=False)
    assert usual.network.layers == 2
    assert (usual.network.skip, plain.network.skip) == (True, False)
    assert usual.regularisation.layer_dropout == 0.0 < plain.regularisation.layer_dropout
    assert planned(layer_dropout=0.25).regularisation.layer_dropout == 0.25
    assert planned(dropout=0.25).regularisation.layer_dropout == 0.25


def test_a_plan_has_one_layer_where_it_was_asked_for_and_where_it_learns_more() -> None:
    assert not planned(layers=1).network.skip
    assert planned(layers=1).network.hidden > planned().network.hidden  # about as many weights
    assert [planned(vocabulary=size).network.layers for size in (617, 1_086, 9_984)] == [2, 1, 1]
    assert [planned(cell=cell).network.layers for cell in CELLS] == [2, 1, 2]


def test_a_plan_in_epochs_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object) -> float:
        raise AssertionError("the speed of this machine was measured")

    monkeypatch.setattr("training.planning.plan.measure_pace", measure)
    make_plan(PlanOverrides(epochs=10), 321, 100_000, torch.device("cpu"))


def test_what_the_user_chose_is_not_planned() -> None:
    overrides = PlanOverrides(
        cell="gru", layers=3, hidden=40, embedding=9, skip=True, dropout=0.4, output_dropout=0.2,
        locked=False, weight_drop=0.3, drop_state=0.01, batch_size=5, sequence_length=17, jitter=2.0,
        learning_rate=0.1, warmup_steps=3,
        decay="linear", weight_decay=0.2, max_grad_norm=2.0, average=0.1, fit_temperature=False, patience=4, epochs=1.5,
        precision="fp32", seed=9,
    )  # fmt: skip
    config = make_plan(overrides, 300, 50_000, torch.device("cpu")).config
    assert config == TrainingConfig(
        network=NetworkConfig(cell="gru", layers=3, hidden=40, embedding=9, vocabulary=300, skip=True),
        regularisation=Regularisation(
            input_dropout=0.1, layer_dropout=0.4, output_dropout=0.2, locked=False, weight_drop=0.3, drop_state=0.01
        ),
        batch_size=5, sequence_length=17, jitter=2.0, learning_rate=0.1, warmup_steps=3,
        decay="linear", weight_decay=0.2, max_grad_norm=2.0, average=0.1,
        fit_temperature=False, patience=4, epochs=1.5, seed=9, precision="fp32",
    )  # fmt: skip


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_checkpoint_saved_on_a_gpu_loads_on_a_cpu(tmp_path: Path) -> None:
    running = make_trainer(tmp_path)
    on_gpu = Trainer(
        running.config, TOKENIZER, running.split, tmp_path / "gpu", [Recorder()], device=torch.device("cuda")
    )
    outcome = on_gpu.run()
    assert outcome.validations[-1].validation_bits < outcome.validations[0].validation_bits
    checkpoint = load(tmp_path / "gpu" / "best")
    ids = np.array([[300]], np.int32)
    assert np.isfinite(Decoder(checkpoint).rows(1).score([0], ids, ids).logprobs).all()
