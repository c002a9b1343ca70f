"""`unroll train --items`: the checkpoint knows that it writes items, and every verb begins and ends them right."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from model.checkpoint import load
from model.decoding.decoder import Decoder
from model.generate import generate
from model.held_out_surprise import HeldOutSurprise
from model.network import from_tensors
from model.sampling.parameters import SamplingParameters
from training.evaluation.network_reader import network_reader
from training.evaluation.protocols import alone, carried
from training.evaluation.readers import decoder_reader
from unroll import make_program

QUICK = [
    "--layers",
    "1",
    "--hidden",
    "32",
    "--embedding",
    "8",
    "--precision",
    "fp32",
    "--batch-size",
    "4",
    "--epochs",
    "30",
]


def words() -> list[str]:
    """Some hundred: a first letter, and the same letter doubled in upper case."""
    chance = random.Random(1)
    return [
        letter * chance.randint(1, 3) + letter.upper() * 2 + str(chance.randint(10, 99)) for letter in "abcdefgh" * 60
    ]


def unroll(*words: Any) -> str:
    result = CliRunner().invoke(make_program(), [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("items")
    (folder / "list.txt").write_text("\n".join(words()))  # the last has no line break
    output = unroll("train", folder / "list.txt", "--items", *QUICK, "--out", folder / "run")
    assert "whole items, equal ones in one part" in output
    assert "bits per item" in output
    return folder


def test_an_empty_prompt_begins_an_item_that_ends_by_itself(trained: Path) -> None:
    best = load(trained / "run" / "best")
    decoder = Decoder(best)
    whole = 0
    for seed in range(40):
        parameters = SamplingParameters(seed=seed, temperature=0.7)
        pieces = list(generate(decoder, best.tokenizer, "", max_tokens=40, parameters=parameters))
        text = "".join(piece.text for piece in pieces)
        assert "\n" not in text
        assert pieces[-1].finish_reason == "stop"
        whole += text[0] in "abcdefgh" and text[-2:].isdigit()
    assert whole >= 36


def test_figures_are_of_items_alone_and_scales_of_whole_items(trained: Path) -> None:
    best = load(trained / "run" / "best")
    score = best.training["figures"]["test"]
    assert score["items"] > 10
    assert "each item alone" in score["protocol"]
    surprise = HeldOutSurprise.of(best.training)
    assert surprise is not None
    assert "items of the validation part" in surprise.protocol


def test_alone_is_the_sum_of_what_each_item_costs_from_the_zero_state(trained: Path) -> None:
    best = load(trained / "run" / "best")
    ids = best.tokenizer.encode("".join(word + "\n" for word in words()))
    separator = best.tokenizer.encode("\n").tolist()
    for read in (network_reader(from_tensors(best.config, best.tensors)), decoder_reader(Decoder(best, "fp32"))):
        each = [alone(read, best.tokenizer.encode(word + "\n"), separator) for word in words()]
        together = alone(read, ids, separator)
        assert together.items == len(words())
        assert together.nats == pytest.approx(sum(score.nats for score in each), rel=1e-5)
        assert together.characters == len(ids)
        assert together.nats < 0.7 * carried(read, ids).nats


def test_another_number_of_threads_trains_the_same_but_for_rounding(trained: Path, tmp_path: Path) -> None:
    for threads in (1, 3):
        options = [*QUICK[:-1], "1", "--threads", threads, "--dropout", "0.2"]
        unroll("train", trained / "list.txt", "--items", *options, "--out", tmp_path / str(threads))
    one, other = (load_file(tmp_path / name / "last" / "model.safetensors") for name in ("1", "3"))
    for name, tensor in one.items():
        torch.testing.assert_close(torch.from_numpy(tensor), torch.from_numpy(other[name]), rtol=1e-3, atol=1e-4)


def test_a_handful_is_enough_to_train_a_checkpoint_on_and_is_said_to_prove_nothing(
    trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "few.txt").write_text("zzZZ77\nzZZ78\n")
    base = trained / "run" / "best"
    output = unroll("train", tmp_path / "few.txt", "--from", base, "--epochs", "30", "--out", tmp_path / "run")
    assert "none is held out" in " ".join(output.split())
    tuned = load(tmp_path / "run" / "best")
    assert tuned.tokenizer.frame.separator == "\n"
    (tmp_path / "one.txt").write_text("z")
    unroll("train", tmp_path / "one.txt", "--from", base, "--epochs", "3", "--out", tmp_path / "one")


def test_files_are_items_where_the_user_says_so(tmp_path: Path) -> None:
    for number, word in enumerate(words()):
        (tmp_path / f"{number:03}.txt").write_text(f"{word}\n{word}\n")
    unroll("train", tmp_path, "--item-files", *QUICK[:-1], "2", "--out", tmp_path.parent / "files")
    frame = load(tmp_path.parent / "files" / "best").tokenizer.frame
    assert frame.separator == "\x1e"
