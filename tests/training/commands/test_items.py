"""`unroll train --items`: the checkpoint knows that it writes items, and every verb begins and ends them right."""

import json
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.numpy import load_file
from typer.testing import CliRunner

from model.checkpoint import load
from model.decoding.decoder import Decoder
from model.errors import CorpusError, ParameterError
from model.generate import generate
from model.held_out_surprise import HeldOutSurprise
from model.network import from_tensors
from model.sampling.parameters import SamplingParameters
from tests.training.commands.program import unroll
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


def invoke(*words: Any) -> None:
    """Run a verb that is to fail, and raise what it does."""
    result = CliRunner().invoke(make_program(), [str(word) for word in words])
    assert result.exception is not None
    raise result.exception


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


def test_evaluate_repeats_the_figures_of_the_card_alone_and_of_the_run_s_own_parts(trained: Path) -> None:
    figures = load(trained / "run" / "best").training["figures"]
    common = ["evaluate", trained / "run", trained / "list.txt", "--split", "90/5/5"]
    for reader, tolerance in (("network", 1e-4), ("int8", 0.02)):
        answer = json.loads(unroll(*common, "--reader", reader, "--json").splitlines()[-1])
        assert list(answer["protocols"]) == ["alone"]
        for part in ("validation", "test", "validation and test"):
            found, kept = answer["parts"][part], figures[part]
            assert (found["items"], found["characters"]) == (kept["items"], kept["characters"])
            assert found["bits_per_character"] == pytest.approx(kept["bits_per_character"], abs=tolerance)
            assert found["bits_per_item"] == pytest.approx(kept["bits_per_item"], abs=20 * tolerance)
    table = unroll(*common).splitlines()
    assert max(map(len, table)) <= 80
    [row] = [line.split() for line in table if line.split()[:1] == ["test"]]
    assert row[-2:] == [str(figures["test"]["items"]), f"{figures['test']['bits_per_item']:.2f}"]
    (trained / "shuffled.txt").write_text("\n".join(random.Random(2).sample(words(), len(words()))))
    shuffled = unroll("evaluate", trained / "run", trained / "shuffled.txt", "--split", "90/5/5", "--json")
    assert json.loads(shuffled.splitlines()[-1])["parts"]["test"]["items"] == figures["test"]["items"]


def test_evaluate_says_what_a_list_or_a_text_lacks(trained: Path, tmp_path: Path) -> None:
    for protocol in ("carried", "cold"):
        with pytest.raises(ParameterError, match=f"measured alone and not {protocol}; leave out --protocol"):
            invoke("evaluate", trained / "run", trained / "list.txt", "--protocol", protocol)
    (tmp_path / "few.txt").write_text("aAA10\n\nbBB11\n")
    with pytest.raises(CorpusError, match="fewer than 20 different items, so none is held out"):
        invoke("evaluate", trained / "run", tmp_path / "few.txt", "--split", "90/5/5")
    whole = json.loads(unroll("evaluate", trained / "run", tmp_path / "few.txt", "--json").splitlines()[-1])
    assert (whole["parts"]["whole"]["items"], whole["parts"]["whole"]["characters"]) == (2, 12)
    (tmp_path / "none.txt").write_text("\n\n")
    with pytest.raises(CorpusError, match="no item that is not empty"):
        invoke("evaluate", trained / "run", tmp_path / "none.txt")


def test_the_scale_is_measured_anew_per_item_by_length(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "run" / "best", tmp_path / "best")
    before = HeldOutSurprise.of(load(tmp_path / "best").training)
    unroll("evaluate", tmp_path / "best", trained / "list.txt", "--split", "90/5/5", "--write-surprise")
    assert HeldOutSurprise.of(load(tmp_path / "best").training) == before
    assert before is not None
    unroll("evaluate", tmp_path / "best", trained / "list.txt", "--split", "10/80/10", "--write-surprise")
    after = HeldOutSurprise.of(load(tmp_path / "best").training)
    assert after is not None
    assert len(after.lengths) > len(before.lengths)
    assert max(after.lengths) <= max(map(len, words()))


def test_copied_counts_whole_items(trained: Path, tmp_path: Path) -> None:
    found = json.loads(unroll("copied", trained / "run", trained / "list.txt", "--characters", "2000", "--json"))
    assert found["items"] > 200
    assert 0.1 * found["items"] < found["items_in_corpus"] < 0.9 * found["items"]
    (tmp_path / "sample.txt").write_text(f"{words()[3]}\nzzz\n{words()[5][:-1]}\n{words()[9]}\n")
    judged = unroll("copied", trained / "run", trained / "list.txt", "--text", tmp_path / "sample.txt")
    assert "Of 4 items of sample.txt, 50 % stand in the corpus whole." in " ".join(judged.split())


def test_what_is_copied_of_a_list_lies_inside_of_an_item(trained: Path, tmp_path: Path) -> None:
    """Two items that the corpus has side by side copy no more than one of them; the report says what it looked in."""
    (tmp_path / "sample.txt").write_text("".join(f"{word}\n" for word in words()[3:9]))
    command = ["copied", trained / "run", trained / "list.txt", "--text", tmp_path / "sample.txt"]
    found = json.loads(unroll(*command, "--json"))
    assert (found["items"], found["items_in_corpus"]) == (6, 6)
    assert found["length"] == max(map(len, words()[3:9]))
    assert found["longest"] in words()[3:9]
    assert found["novel"] == {}
    said = " ".join(unroll(*command).split())
    assert "looks in what the model learnt alone: --split 90/5/5 does the same." in said
    assert "stand in the train part whole" in " ".join(unroll(*command, "--split", "90/5/5").split())


def test_items_are_lines_or_files_and_not_both() -> None:
    with pytest.raises(ParameterError, match="--item-files makes each file an item, and --items each line; leave out"):
        invoke("train", "x.txt", "--items", "--item-files")


def test_evaluate_explains_items_once(trained: Path) -> None:
    said = " ".join(unroll("evaluate", trained / "run", trained / "list.txt").split())
    assert said.count("zero state") == 1
    assert "empty state" not in said
    assert said.count("its end") == 1


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
    (tmp_path / "one.txt").write_text("z")
    alone = unroll("train", tmp_path / "one.txt", "--from", base, "--epochs", "30", "--out", tmp_path / "one")
    for said in (" ".join(output.split()), " ".join(alone.split())):
        assert "none is held out" in said
        assert re.search(r"Done: the items it learnt from, \d\.\d\d bits per character", said)
        for misleading in ("still learning", "that were planned", " test 0", " test 1"):
            assert misleading not in said
    tuned = load(tmp_path / "run" / "best")
    assert tuned.tokenizer.frame.separator == "\n"


def test_five_molecules_are_enough_to_train_a_checkpoint_on(trained: Path, tmp_path: Path) -> None:
    molecules = [
        "CC(=O)OC1=CC=CC=C1C(=O)O",  # aspirin
        "CN1C=NC2=C1C(=O)N(C(=O)N2C)C",  # caffeine
        "CC(=O)NC1=CC=C(C=C1)O",  # paracetamol
        "CC(C)CC1=CC=C(C=C1)C(C)C(=O)O",  # ibuprofen
        "C1=CC=C(C=C1)C=O",  # benzaldehyde
    ]
    (tmp_path / "five.smi").write_text("\r\n".join(molecules) + "\r\n\r\n")
    base = trained / "run" / "best"
    output = unroll("train", tmp_path / "five.smi", "--from", base, "--epochs", "60", "--out", tmp_path / "run")
    assert "fewer than 20 different items, so none is held out" in " ".join(output.split())
    tuned = load(tmp_path / "run" / "best")
    assert any("none is held out" in note for note in tuned.training["notes"])
    assert tuned.training["figures"]["test"]["items"] == 5
    assert tuned.training["figures"]["test"]["characters"] == sum(map(len, molecules)) + 5
    pieces = list(generate(Decoder(tuned), tuned.tokenizer, "", max_tokens=200, parameters=SamplingParameters(seed=1)))
    text = "".join(piece.text for piece in pieces)
    assert set(text) <= set("".join(molecules) + "".join(words()))
    bits = []
    for model in (load(base), tuned):
        ids = model.tokenizer.encode("".join(one + "\n" for one in molecules))
        score = alone(decoder_reader(Decoder(model, "fp32")), ids, model.tokenizer.encode("\n").tolist())
        bits.append(score.bits_per_character)
    assert bits[1] < 0.7 * bits[0]


def test_files_are_items_where_the_user_says_so(tmp_path: Path) -> None:
    for number, word in enumerate(words()):
        (tmp_path / f"{number:03}.txt").write_text(f"{word}\n{word}\n")
    unroll("train", tmp_path, "--item-files", *QUICK[:-1], "2", "--out", tmp_path.parent / "files")
    frame = load(tmp_path.parent / "files" / "best").tokenizer.frame
    assert frame.separator == "\x1e"
