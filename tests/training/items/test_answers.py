"""Items of a question and an answer: all is read, and the answer alone is learnt and scored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

import unroll
from model.config import NetworkConfig
from model.decoding.decoder import Decoder
from model.errors import CorpusError, ParameterError
from model.network import Network, from_tensors
from model.text.frame import START, TextFrame, answer_starts, item_ends
from model.text.tokenizer import Tokenizer
from training.data.split import Split
from training.evaluation.network_reader import network_reader
from training.evaluation.protocols import alone
from training.evaluation.readers import decoder_reader
from training.items.batches import PADDING, ItemBatches
from training.items.split import split_items
from training.loop.learner import Learner
from training.loop.run_record import RunRecord, read_record
from training.planning.config import TrainingConfig
from training.planning.train_options import Precision
from unroll import make_program

PAIRS = [
    (word, word[::-1].upper())
    for word in (f"{a}{b}" * (1 + n % 9) + str(n) for n in range(60) for a, b in [("k", "r"), ("l", "o")])
]
TEXT = "".join(f"{question}\t{answer}\n" for question, answer in PAIRS)
TOKENIZER = Tokenizer.learn([TEXT]).framed(TextFrame("\n"))


def parts_of(learn_after: str = "\t") -> Split:
    return split_items(TOKENIZER.encode(TEXT), "80/10/10", TOKENIZER, learn_after=learn_after)


def test_an_answer_begins_after_the_first_mark_and_an_item_without_one_is_all_answer() -> None:
    text = "a\tb\tc\nde\n\tf\ng\t\n"
    ids = TOKENIZER.encode(text)
    ends = item_ends(ids, TOKENIZER.encode("\n").tolist())
    starts = np.concatenate([[0], ends[:-1]])
    assert answer_starts(ids, starts, ends, TOKENIZER.encode("\t").tolist()).tolist() == [2, 6, 10, 14]
    assert answer_starts(ids, starts, ends, ()).tolist() == starts.tolist() == [0, 6, 9, 12]


def test_answers_to_one_question_are_in_one_part() -> None:
    text = "".join(f"{question}\t{answer}\n{question}\t{answer}!\n" for question, answer in PAIRS)
    tokenizer = Tokenizer.learn([text]).framed(TextFrame("\n"))
    parts = split_items(tokenizer.encode(text), "80/10/10", tokenizer, learn_after="\t")
    asked = [
        {item.partition("\t")[0] for item in tokenizer.decode(part.tolist()).splitlines()}
        for part in (parts.train, parts.validation, parts.test)
    ]
    assert all(asked)
    assert sum(map(len, asked)) == len(set.union(*asked)) == len({question for question, _ in PAIRS})


@pytest.mark.parametrize("sequence_length", [4, 64])
def test_all_of_an_item_is_read_and_its_answer_learnt(sequence_length: int) -> None:
    """Of windows of 4 there are some in which nothing is learnt."""
    parts = parts_of()
    batches = ItemBatches(parts.train, parts.separator, 4, sequence_length, 1, parts.learn_after)
    read, found = 0, []
    rows: list[tuple[list[int], list[int]]] = []
    while read < batches.ids_per_pass:
        window = batches.next()
        assert window.learnt is not None
        assert (window.targets != PADDING).sum(axis=1).tolist() == window.learnt.tolist()
        rows = [([], []) for _ in window.inputs] if window.fresh else rows
        assert window.counts is not None
        for (before, learnt), inputs, targets, count in zip(
            rows, window.inputs, window.targets, window.counts, strict=False
        ):
            before += inputs[:count].tolist()
            learnt += [one for one in targets[:count].tolist() if one != PADDING]
            if learnt and learnt[-1] == parts.separator[-1]:
                assert before[0] == START
                found.append((TOKENIZER.decode(before[1:]), TOKENIZER.decode(learnt)))
        read += window.ids
    items = TOKENIZER.decode(parts.train.tolist()).splitlines()
    assert sorted(found) == sorted((item, item.split("\t")[1] + "\n") for item in items)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sequence_length", [4, 64])
def test_the_loss_and_its_gradient_are_those_of_the_answers(
    sequence_length: int, threads: int, precision: Precision
) -> None:
    parts = parts_of()
    network = NetworkConfig(layers=2, hidden=32, embedding=8, vocabulary=TOKENIZER.size, skip=True)
    config = TrainingConfig(
        network=network, batch_size=8, sequence_length=sequence_length, precision=precision, threads=threads,
        epochs=1.0, max_grad_norm=1e9,
    )  # fmt: skip
    learner = Learner(config, torch.device("cpu"))
    batches = ItemBatches(parts.train, parts.separator, 8, sequence_length, 1, parts.learn_after)
    nothing_learnt = 0
    for _ in range(20):
        window, state = batches.next(), learner.state
        loss = learner.learn(window, 0.0).loss
        assert window.learnt is not None
        nothing_learnt += not window.learnt.sum()
        before = None if window.fresh or state is None else [part[: len(window.inputs)] for part in state]
        own = Network(network)
        own.load_state_dict(learner.network.state_dict())
        logits, _ = own(torch.from_numpy(window.inputs), before)
        targets = torch.from_numpy(window.targets).flatten()
        expected = F.cross_entropy(logits.flatten(0, 1), targets, reduction="sum") / max(1, window.learnt.sum())
        expected.backward()
        close = 1e-5 if precision == "fp32" else 0.02
        assert float(loss) == pytest.approx(expected.detach().item(), rel=close)
        for name, weight in own.named_parameters():
            mine = learner.network.get_parameter(name).grad
            assert mine is not None
            assert weight.grad is not None
            assert float((mine - weight.grad).norm()) <= close * 10 * float(weight.grad.norm()) + 1e-9, name
    assert bool(nothing_learnt) == (sequence_length == 4)


def test_the_score_is_that_of_the_answers() -> None:
    torch.manual_seed(1)
    network = Network(NetworkConfig(layers=1, hidden=16, embedding=8, vocabulary=TOKENIZER.size))
    read, parts = network_reader(network), parts_of()
    separator, ids = parts.separator, parts.test
    answers = alone(read, ids, separator, learn_after=parts.learn_after)
    items = TOKENIZER.decode(ids.tolist()).splitlines(keepends=True)
    assert answers.characters == sum(len(item.split("\t")[1]) for item in items)
    assert "its answer counted" in answers.protocol
    total = 0.0
    for item in items:
        whole = TOKENIZER.encode(item).astype(np.int64)
        before = np.concatenate([[START], whole[:-1]])
        at = item.index("\t") + 1
        _, state = read(before[None, :at], whole[None, :at], None)
        total += read(before[None, at:], whole[None, at:], state)[0]
    assert answers.nats == pytest.approx(total, rel=1e-5)


QUICK: dict[str, Any] = {"layers": 1, "hidden": 32, "embedding": 8, "precision": "fp32", "batch_size": 4, "seed": 3}


def test_a_run_learns_answers_and_its_figures_are_theirs(tmp_path: Path) -> None:
    """The first letters of a question are chance: what is asked has little to do with what is learnt."""
    chance = np.random.default_rng(1)
    questions = ["".join(chance.choice(list("abcdefghijklmnopqrst"), 5)) + "?" + "yn"[n % 2] for n in range(300)]
    corpus = tmp_path / "list.txt"
    corpus.write_text("".join(f"{one}\t{'yes' if one[-1] == 'y' else 'no'}\n" for one in questions))
    model = unroll.train(corpus, out=tmp_path / "run", items=True, learn_after=r"\t", epochs=6, quiet=True, **QUICK)
    assert [model.generate(f"abcde?{asked}\t", temperature=0) for asked in "yn"] == [["yes"], ["no"]]
    best = model.checkpoint
    figures = best.training["figures"]["test"]
    assert best.training["plan"]["learn_after"] == "\t"
    assert figures["bits_per_character"] < 0.1
    assert figures["characters"] < 5 * figures["items"]
    result = CliRunner().invoke(
        make_program(), ["evaluate", str(tmp_path / "run"), str(corpus), "--split", "90/5/5", "--json"]
    )
    ids, separator, after = (model.checkpoint.tokenizer.encode(text).tolist() for text in ("ab?n\tno\n", "\n", "\t"))
    readers = network_reader(from_tensors(best.config, best.tensors)), decoder_reader(Decoder(best, "fp32"))
    one, other = (alone(read, np.array(ids), separator, learn_after=after).nats for read in readers)
    assert one == pytest.approx(other, rel=1e-3)
    evaluated = json.loads(result.output.splitlines()[-1])["parts"]["test"]
    assert evaluated["bits_per_character"] == pytest.approx(figures["bits_per_character"], abs=1e-3)
    assert evaluated["characters"] == figures["characters"]


def test_a_resumed_run_still_learns_answers_alone(tmp_path: Path) -> None:
    corpus = tmp_path / "list.txt"
    corpus.write_text(TEXT)
    options = [
        "--items",
        "--learn-after",
        r"\t",
        "--epochs",
        "2",
        "--layers",
        "1",
        "--hidden",
        "16",
        "--embedding",
        "8",
    ]
    CliRunner().invoke(make_program(), ["train", str(corpus), *options, "--out", str(tmp_path / "run")])
    record, _ = read_record(tmp_path / "run")
    assert record.config.learn_after == "\t"
    assert RunRecord.from_json(json.loads(json.dumps(record.to_json()))) == record


@pytest.mark.parametrize(
    ("options", "text", "error"),
    [
        (["--learn-after", "|", "--items"], "No item has '|', after which it would be learnt", CorpusError),
        (["--learn-after", r"\t"], "--learn-after is for a list of items; add --items", ParameterError),
        (["--learn-after", "", "--items"], "--learn-after has 0 characters; choose 1 to 64", ParameterError),
    ],
)
def test_what_cannot_be_learnt_after_is_said(
    options: list[str], text: str, error: type[Exception], tmp_path: Path
) -> None:
    corpus = tmp_path / "list.txt"
    corpus.write_text(TEXT)
    result = CliRunner().invoke(make_program(), ["train", str(corpus), *options, "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, error)
    assert text in str(result.exception)
