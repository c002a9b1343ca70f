"""A run learns, repeats itself, stops when told, and keeps the last good checkpoint when it is lost."""

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from model.checkpoint import load
from model.config import Cell, NetworkConfig
from model.decoder import Decoder
from model.errors import TrainingError
from model.generate import generate
from model.sampling import SamplingParameters
from model.tokenizer import Tokenizer
from training.config import TrainingConfig
from training.plan import SIZES, Wishes, make_plan
from training.run import Request, run
from training.schedule import Budget
from training.split import split
from training.trainer import Check, Outcome, Trainer

VERSE = "Tyger Tyger, burning bright,\nIn the forests of the night;\nWhat immortal hand or eye,\n"
TEXT = VERSE * 60
TOKENIZER = Tokenizer.learn([TEXT])


class Recorder:
    """Keeps the checks of a run, and can stop it at a step."""

    def __init__(self) -> None:
        self.checks: list[Check] = []
        self.stop_at = -1
        self.trainer: Trainer | None = None

    def stepped(self, step: int, progress: float, characters_per_second: float, train_bits: float) -> None:  # noqa: ARG002
        if step == self.stop_at and self.trainer is not None:
            self.trainer.stop = True

    def checked(self, check: Check, best: bool) -> None:  # noqa: ARG002
        self.checks.append(check)


def trainer(folder: Path, recorder: Recorder, *, cell: Cell = "lstm", seed: int = 1, rate: float = 1e-2,
            epochs: float = 4) -> Trainer:  # fmt: skip
    network = NetworkConfig(cell=cell, layers=1, hidden=48, embedding=16, dropout=0.1, vocabulary=TOKENIZER.size)
    config = TrainingConfig(network=network, lanes=8, length=32, rate=rate, seed=seed, epochs=epochs)
    parts = split(TOKENIZER.encode(TEXT))
    recorder.trainer = Trainer(config, TOKENIZER, parts, folder, [recorder], device=torch.device("cpu"))
    return recorder.trainer


def train(folder: Path, **options: object) -> Outcome:
    return trainer(folder, Recorder(), **options).run()  # type: ignore[arg-type]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_every_cell_learns_a_verse_by_heart(tmp_path: Path, cell: Cell) -> None:
    outcome = train(tmp_path, cell=cell, epochs=40, rate=5e-3)
    first, last = outcome.checks[0], outcome.checks[-1]
    assert first.validation_bits > 2
    assert last.validation_bits < 0.5
    best = load(tmp_path / "best")
    pieces = generate(
        Decoder(best), best.tokenizer, "Tyger Tyger, b", max_tokens=40, parameters=SamplingParameters(temperature=0)
    )
    assert "".join(piece.text for piece in pieces) == "urning bright,\nIn the forests of the nig"


def test_the_same_seed_trains_the_same_weights_to_the_bit(tmp_path: Path) -> None:
    train(tmp_path / "a")
    train(tmp_path / "b")
    train(tmp_path / "c", seed=2)
    a, b, c = (load(tmp_path / name / "last").tensors for name in "abc")
    assert all(np.array_equal(a[name], b[name]) for name in a)
    assert not np.array_equal(a["out.weight"], c["out.weight"])


def test_a_budget_used_before_the_first_step_is_a_sentence_and_saves_nothing(tmp_path: Path) -> None:
    running = trainer(tmp_path, Recorder())
    running.budget = Budget(seconds=1)
    running.started -= 60
    with pytest.raises(TrainingError, match="used its budget before its first step"):
        running.run()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
def test_bf16_learns_what_fp32_learns(tmp_path: Path, cell: Cell) -> None:
    fp32, bf16 = (trainer(tmp_path / name, Recorder(), cell=cell, epochs=6) for name in ("fp32", "bf16"))
    bf16.config = replace(bf16.config, arithmetic="bf16")
    exact, rounded = (running.run().checks[-1].validation_bits for running in (fp32, bf16))
    assert rounded == pytest.approx(exact, abs=0.15)


def test_checks_are_spread_over_the_budget_and_the_best_is_kept(tmp_path: Path) -> None:
    recorder = Recorder()
    outcome = trainer(tmp_path, recorder, epochs=6).run()
    assert recorder.checks == outcome.checks
    assert 20 <= len(outcome.checks) <= 21
    assert outcome.checks[-1].step == outcome.steps
    best = min(outcome.checks, key=lambda check: check.validation_bits)
    assert outcome.best_step == best.step
    written = load(tmp_path / "best").training
    assert written["step"] == best.step
    assert round(written["validation"]["bits_per_character"], 4) == best.validation_bits


def test_a_run_told_to_stop_saves_what_it_has(tmp_path: Path) -> None:
    recorder = Recorder()
    running = trainer(tmp_path, recorder, epochs=50)
    recorder.stop_at = 7
    outcome = running.run()
    assert outcome.stopped_early
    assert outcome.steps == 7
    assert load(tmp_path / "last").training["step"] == 7


class Poisoner(Recorder):
    """Spoils the weights of a run after its 20th step, as a bad batch or a bad rate would."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def checked(self, check: Check, best: bool) -> None:  # noqa: ARG002
        if check.step > 20 and self.trainer is not None:
            with torch.no_grad():
                self.trainer.network.out.weight.mul_(self.factor)


@pytest.mark.parametrize(("factor", "what"), [(float("nan"), "is not a number any more"), (1000, "rose by")])
def test_a_lost_run_keeps_the_last_good_checkpoint_and_says_what_to_change(
    tmp_path: Path, factor: float, what: str
) -> None:
    running = trainer(tmp_path, Poisoner(factor), epochs=50)
    with pytest.raises(TrainingError, match=rf"{what}.* at step .* last good state.*lower --rate \(it was 0.01\)"):
        running.run()
    kept = load(tmp_path / "last")  # load refuses NaN
    assert kept.training["step"] > 20
    assert kept.training["validation"]["bits_per_character"] < 4


def test_ids_never_seen_in_training_are_named_and_their_embeddings_say_nothing(tmp_path: Path) -> None:
    train(tmp_path, epochs=1)
    checkpoint = load(tmp_path / "best")
    assert checkpoint.unseen.tolist() == list(range(256))
    assert not checkpoint.tensors["embedding.weight"][:256].any()
    assert checkpoint.tensors["embedding.weight"][256:].any()


def test_a_budget_in_minutes_is_kept_from_the_start_of_the_command(tmp_path: Path) -> None:
    corpus = tmp_path / "verse.txt"
    corpus.write_text(TEXT)
    out = tmp_path / "run"
    request = Request(names=(str(corpus),), out=out, wishes=Wishes(minutes=0.1, hidden=32, layers=1, seed=5))
    started = time.monotonic()
    with open(tmp_path / "log", "w") as log:
        outcome = run(request, Console(file=log), started)
    assert not outcome.stopped_early
    assert outcome.checks[-1].progress > 0.5
    trained = outcome.began - started + outcome.seconds  # from the start of the command to the last step's end
    assert trained <= 6 + 100 * outcome.seconds / outcome.steps
    assert {path.name for path in out.iterdir()} == {"best", "last", "metrics.jsonl", "curves.png"}
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    for name in ("best", "last"):
        assert load(out / name).card.startswith("# run\n")
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [check.step for check in outcome.checks]


def test_a_plan_in_epochs_is_the_same_everywhere_and_grows_with_the_corpus() -> None:
    cpu = torch.device("cpu")
    sizes = []
    for characters in (2_000, 200_000, 1_000_000, 10_000_000):
        plans = [make_plan(Wishes(epochs=10, arithmetic="fp32"), 321, characters, cpu) for _ in range(2)]
        assert plans[0] == plans[1]
        network = plans[0].config.network
        sizes.append(SIZES.index((network.layers, network.hidden, network.embedding)))
        assert plans[0].config.lanes * plans[0].config.length < characters
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert sizes[-1] == len(SIZES) - 1


def test_a_plan_in_epochs_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(*_: object) -> float:
        raise AssertionError("the speed of this machine was measured")

    monkeypatch.setattr("training.plan.weights_per_second", measure)
    make_plan(Wishes(epochs=10), 321, 100_000, torch.device("cpu"))


def test_what_the_user_chose_is_not_planned() -> None:
    wishes = Wishes(
        cell="gru", layers=3, hidden=40, embedding=9, dropout=0.25, lanes=5, length=17, rate=0.1, epochs=1.5,
        arithmetic="fp32", seed=9,
    )  # fmt: skip
    config = make_plan(wishes, 300, 50_000, torch.device("cpu")).config
    assert config == TrainingConfig(
        network=NetworkConfig(cell="gru", layers=3, hidden=40, embedding=9, dropout=0.25, vocabulary=300),
        lanes=5, length=17, rate=0.1, epochs=1.5, seed=9, arithmetic="fp32",
    )  # fmt: skip


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_checkpoint_saved_on_a_gpu_loads_on_a_cpu(tmp_path: Path) -> None:
    running = trainer(tmp_path, Recorder())
    on_gpu = Trainer(
        running.config, TOKENIZER, running.split, tmp_path / "gpu", [Recorder()], device=torch.device("cuda")
    )
    outcome = on_gpu.run()
    assert outcome.checks[-1].validation_bits < outcome.checks[0].validation_bits
    checkpoint = load(tmp_path / "gpu" / "best")
    state = Decoder(checkpoint).initial_state(1)
    logits, _ = Decoder(checkpoint).step(np.array([300]), state)
    assert np.isfinite(logits).all()
