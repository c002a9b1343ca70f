"""Learning from teachers: the gradient, what is expected of a text, and what does not fit."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import training.teachers
from model.checkpoint import Checkpoint
from model.config import NetworkConfig
from model.errors import ParameterError
from model.network import Network, from_tensors, to_tensors
from model.text.frame import TextFrame
from model.text.tokenizer import Tokenizer
from tests.training.verse import TEXT, TOKENIZER
from training.data.batches import Batches, Taught
from training.distributed.ranks import Ranks
from training.loop.learner import Learner
from training.loop.masked_forward import TaughtRows, taught_nats
from training.planning.config import TrainingConfig
from training.planning.regularisation import Regularisation
from training.teachers import Teacher, check_teachers, taught_bytes, teach

CPU = torch.device("cpu")
IDS = TOKENIZER.encode(TEXT)


def network_config(attention: int = 0, size: int = TOKENIZER.size) -> NetworkConfig:
    return NetworkConfig(
        cell="lstm", layers=2, hidden=32, embedding=16, vocabulary=size, skip=True, attention=attention
    )


def teacher(seed: int, attention: int = 0, tokenizer: Tokenizer = TOKENIZER) -> Teacher:
    torch.manual_seed(seed)
    config = network_config(attention, tokenizer.size)
    network = Network(config)
    torch.nn.init.normal_(network.out.weight)
    return Teacher(f"/runs/{seed}/best", Checkpoint(config=config, tokenizer=tokenizer, tensors=to_tensors(network)))


def config(attention: int = 0, threads: int = 1, share: float = 0.5) -> TrainingConfig:
    dropout = Regularisation(
        input_dropout=0.1, layer_dropout=0.2, output_dropout=0.3, weight_drop=0.2, drop_state=0.2, locked=True
    )
    return TrainingConfig(
        network=network_config(attention),
        regularisation=dropout,
        batch_size=6,
        epochs=1,
        threads=threads,
        teacher_share=share,
    )


def certain(share: float) -> Taught:
    """A teacher that is certain of the text."""
    others = np.zeros_like(IDS)
    chances = np.stack([np.ones(len(IDS)), np.zeros(len(IDS))], -1).astype(np.float16)
    return Taught(np.stack([IDS, others], -1), chances, share)


def learnt(config: TrainingConfig, taught: Taught | None) -> tuple[Learner, list[float]]:
    """A learner after three windows, and their losses; its rate is 0, so its weights are as they were."""
    torch.manual_seed(1)
    learner = Learner(config, CPU)
    batches = Batches(IDS, config.batch_size, 20, 1, taught=taught)
    return learner, [float(learner.learn(batches.next(), 0.0).loss) for _ in range(3)]


@pytest.mark.parametrize(("attention", "threads"), [(0, 1), (0, 4), (32, 2)])
def test_a_teacher_that_is_certain_of_the_text_teaches_what_the_text_does(attention: int, threads: int) -> None:
    plain, losses = learnt(config(attention, threads), None)
    taught, others = learnt(config(attention, threads), certain(0.7))
    assert others == pytest.approx(losses, rel=1e-5)
    for one, other in zip(plain.network.parameters(), taught.network.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert float((one.grad - other.grad).norm()) <= 1e-4 * float(one.grad.norm()) + 1e-7


def test_the_gradient_is_what_is_predicted_less_the_text_and_the_teachers_by_their_shares() -> None:
    rows, length, size, share = 2, 3, 5, 0.3
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(length, rows, size, generator=generator, requires_grad=True)
    targets = torch.randint(size, (rows, length), generator=generator)
    expected = torch.randn(rows, length, size, generator=generator).softmax(-1)
    ids = torch.arange(size).flip(0).expand(rows, length, size)
    value = taught_nats(logits, targets, TaughtRows(ids, expected.flip(-1), share))
    value.backward()  # type: ignore[no-untyped-call]
    predicted = logits.detach().softmax(-1).transpose(0, 1)
    text = torch.nn.functional.one_hot(targets, size)
    by_hand = (predicted - (1 - share) * text - share * expected) / (rows * length)
    assert logits.grad is not None
    assert torch.allclose(logits.grad.transpose(0, 1), by_hand, atol=1e-6)
    of_text = -predicted.gather(-1, targets[..., None]).log().mean()
    assert float(value.detach()) == pytest.approx(float(of_text), rel=1e-5)  # the value is the text's alone


def expected_of(teachers: Sequence[Teacher], ids: np.ndarray) -> torch.Tensor:
    """The mean of the teachers' distributions after each id but the last, each read in one go; (n - 1, V)."""
    read = torch.from_numpy(ids[None, :-1].astype(np.int64))
    networks = [from_tensors(one.checkpoint.config, one.checkpoint.tensors) for one in teachers]
    with torch.no_grad():
        return torch.stack([network(read)[0][0].softmax(-1) for network in networks]).mean(0)


@pytest.mark.parametrize("attentions", [(0,), (0, 0), (0, 32)])
def test_what_is_expected_is_the_mean_of_all_teachers_with_the_state_carried_on(
    attentions: Sequence[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sequence, read in windows of seven; and of the likeliest ids."""
    monkeypatch.setattr(training.teachers, "LOGITS", 7 * TOKENIZER.size)
    teachers = [teacher(number, attention) for number, attention in enumerate(attentions)]
    ids = IDS[:300]
    taught = teach(teachers, ids, config(), CPU)
    assert taught.share == 0.5
    assert (taught.ids[0, 0], taught.chances[0, 0]) == (ids[0], 1)  # nothing was read before it
    assert np.allclose(taught.chances.sum(-1, dtype=np.float32), 1, atol=2e-3)
    whole = expected_of(teachers, ids)
    likeliest, _ = whole.topk(taught.ids.shape[1], -1)
    given = whole.gather(-1, torch.from_numpy(taught.ids[1:].astype(np.int64)))
    loose = 1e-3 if max(attentions) == 0 else 2e-2  # a key in whole numbers may be rounded to the other side
    assert torch.allclose(given, likeliest, rtol=loose, atol=loose)
    assert np.allclose(taught.chances[1:], likeliest / likeliest.sum(-1, keepdim=True), rtol=loose, atol=loose)


def test_sequences_side_by_side_cover_the_text_and_the_rest_is_the_text_itself() -> None:
    one, ids = teacher(3), IDS[:3333]
    taught = teach([one], ids, config(threads=3), CPU)
    sequences = (len(ids) - 1) // training.teachers.SHORTEST
    width = (len(ids) - 1) // sequences
    for number in range(sequences):
        begin = number * width
        whole = expected_of([one], ids[begin : begin + width + 1])
        given = whole.gather(-1, torch.from_numpy(taught.ids[begin + 1 : begin + width + 1].astype(np.int64)))
        assert np.allclose(
            given / given.sum(-1, keepdim=True), taught.chances[begin + 1 : begin + width + 1], atol=1e-3
        )
    rest = slice(sequences * width + 1, None)
    assert len(ids[rest]) > 0
    assert np.array_equal(taught.ids[rest, 0], ids[rest])
    assert (taught.chances[rest, 0] == 1).all()


def test_a_window_has_what_is_expected_of_its_targets_and_each_process_that_of_its_rows() -> None:
    batches = Batches(IDS, 6, 20, 1, taught=certain(0.5))
    for _ in range(len(IDS) // 120 + 3):  # into the second pass, and round the end of the text
        window = batches.next()
        assert window.taught is not None
        assert np.array_equal(window.taught.ids[..., 0], window.targets)
        for number in range(3):
            own = Ranks(number=number, count=3).share(window)
            assert own.taught is not None
            assert np.array_equal(own.taught.ids[..., 0], own.targets)


def test_teachers_that_do_not_fit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_teachers([teacher(1)], TOKENIZER, len(IDS))
    with pytest.raises(ParameterError, match=r"knows 3 characters that are not the .* of this run"):
        check_teachers([teacher(1), teacher(2, tokenizer=Tokenizer("abc"))], TOKENIZER, len(IDS))
    of_list = teacher(1)
    of_list = replace(of_list, checkpoint=replace(of_list.checkpoint, tokenizer=TOKENIZER.framed(TextFrame("\n"))))
    with pytest.raises(ParameterError, match="The teacher 1 has learnt a list"):
        check_teachers([of_list], TOKENIZER, len(IDS))
    needed = taught_bytes(len(IDS), TOKENIZER)
    taught = teach([teacher(1)], IDS, config(), CPU)
    assert needed == taught.ids.nbytes + taught.chances.nbytes
    monkeypatch.setattr(training.teachers, "MOST_BYTES", needed - 1)
    with pytest.raises(ParameterError, match=f"train on {len(IDS) - 1:,} ids at most, or without --teacher"):
        check_teachers([teacher(1)], TOKENIZER, len(IDS))
    check_teachers([], TOKENIZER, len(IDS))


def test_the_name_of_a_teacher_is_that_of_its_run(tmp_path: Path) -> None:
    assert replace(teacher(1), path=str(tmp_path / "verse" / "best")).name == "verse"
    assert replace(teacher(1), path=str(tmp_path / "verse")).name == "verse"
