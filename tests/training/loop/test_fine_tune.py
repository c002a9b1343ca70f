"""A trained network trained on: its vocabulary grows, what it knew it keeps, and it learns a new text faster."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from model.checkpoint import Checkpoint, load, save
from model.errors import ParameterError
from model.network import Network, from_tensors
from model.text.tokenizer import Tokenizer
from tests.training.verse import TEXT, TOKENIZER, VERSE, Recorder, make_trainer
from training.data.prepared_corpus import count_ids
from training.data.split import split
from training.evaluation.network_reader import network_reader
from training.evaluation.protocols import carried
from training.loop.initial_weights import InitialWeights, fits
from training.loop.run_state import newest

FRENCH = "Tigre, tigre, feu et flamme,\nÀ travers la forêt, l'âme,\nQuelle main, quel œil immortel,\n" * 60
GROWN = Tokenizer(TOKENIZER.characters + "".join(sorted(set(FRENCH) - set(TOKENIZER.characters))))


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("base")
    make_trainer(folder, epochs=12).run()
    return load(folder / "best")


def initial_weights(base: Checkpoint, text: str = FRENCH) -> InitialWeights:
    return InitialWeights(count_ids(split(GROWN.encode(text)).train, GROWN.size), base)


def test_old_characters_keep_their_weights_and_new_ones_begin_as_often_as_they_occur(base: Checkpoint) -> None:
    network = Network(fits(base, GROWN))
    started = initial_weights(base)
    unseen = started.put_into(network)
    old = base.config.vocabulary
    known = base.seen()
    for name, tensor in base.tensors.items():
        grown = network.get_parameter(name).detach().numpy()
        if name in ("embedding.weight", "out.weight", "out.bias"):
            assert np.array_equal(grown[known], tensor[known])
            if name != "out.bias":
                assert not grown[old:].any()
        else:
            assert np.array_equal(grown, tensor)
    assert unseen.tolist() == list(range(256))  # characters of either text may be generated
    bias = network.out.bias.detach().numpy()
    common, rare = (GROWN.encode(character)[0] for character in "êœ")
    counts = started.counts
    assert counts[common] != 0
    assert bias[common] - bias[rare] == pytest.approx(np.log((counts[common] + 0.5) / (counts[rare] + 0.5)), abs=1e-4)


def test_a_network_trained_on_still_reads_the_old_text_before_its_first_step(base: Checkpoint) -> None:
    network = Network(fits(base, GROWN))
    initial_weights(base).put_into(network)
    grown, before = network_reader(network), network_reader(from_tensors(base.config, base.tensors))
    text = split(TOKENIZER.encode(TEXT)).validation
    # New characters take their share of the probability, and nothing else changes.
    assert carried(grown, text).nats_per_character == pytest.approx(carried(before, text).nats_per_character, abs=0.1)


def test_training_on_learns_a_new_text_faster_than_training_from_nothing(base: Checkpoint, tmp_path: Path) -> None:
    """Half of the new text's lines are the old one's, as far as a verse can be like a language."""
    figures, mixed = {}, FRENCH[: len(VERSE)] + TEXT[: len(VERSE)]
    for name, start in (("on", initial_weights(base, mixed * 30)), ("anew", None)):
        running = make_trainer(tmp_path / name, tokenizer=GROWN, text=mixed * 30, initial_weights=start, epochs=2)
        figures[name] = running.run().validations[-1].validation_bits
    assert figures["on"] < figures["anew"] - 0.2


def test_training_on_resumes_to_the_bit_without_the_base(base: Checkpoint, tmp_path: Path) -> None:
    whole = make_trainer(
        tmp_path / "whole", tokenizer=GROWN, text=FRENCH, initial_weights=initial_weights(base), epochs=2
    )
    whole.run()
    first = make_trainer(
        tmp_path / "parts", Recorder(5), tokenizer=GROWN, text=FRENCH, initial_weights=initial_weights(base), epochs=2
    )
    first.run()
    saved = newest(tmp_path / "parts")
    assert saved is not None
    second = make_trainer(tmp_path / "parts", tokenizer=GROWN, text=FRENCH, epochs=2)
    second.resume(*saved)
    second.run()
    one, other = (load(tmp_path / name / "last").tensors for name in ("whole", "parts"))
    assert all(np.array_equal(one[name], other[name]) for name in one)


def test_a_vocabulary_that_is_another_is_refused(base: Checkpoint) -> None:
    with pytest.raises(ParameterError, match="does not begin with that of the checkpoint"):
        fits(base, Tokenizer("xyz"))


def test_the_verb_trains_on_and_says_what_it_trained_on(base: Checkpoint, tmp_path: Path) -> None:
    save(base, tmp_path / "base")
    (tmp_path / "french.txt").write_text(FRENCH)
    command = ["train", str(tmp_path / "french.txt"), "--from", str(tmp_path / "base"), "--epochs", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "unroll", *command, "--out", str(tmp_path / "run"), "--precision", "fp32"],
        capture_output=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr.decode()
    best = load(tmp_path / "run" / "best")
    assert best.tokenizer.characters == GROWN.characters
    assert (best.config.hidden, best.config.layers) == (48, 1)
    assert best.training["trained_on"]["name"] == "base"
    assert "| trained on | base" in best.card
    refused = subprocess.run(
        [sys.executable, "-m", "unroll", *command, "--hidden", "64"], capture_output=True, timeout=100
    )
    assert refused.returncode == 1
    assert "leave out --hidden" in " ".join(refused.stderr.decode().split())
