"""Beside texts of others one caller's pieces are few and long, alone they come sooner: of the same text."""

from collections import Counter
from copy import copy
from typing import Any

from model.sampling.parameters import SamplingParameters
from service.engine.lanes import Lanes
from service.engine.prefix_cache import PrefixCache
from service.engine.scheduler import Row, Scheduler
from service.engine.sequence import EngineModel, SequenceGroup
from service.engine.text_request import TextRequest
from service.engine.turn_budget import CROWD_SECONDS, DECODE_SECONDS, PIECE_SECONDS, spacing
from tests.service.serving import Reference

TEXTS, LENGTH, TICK = 8, 3_000, 1e-4


class Clock:
    """Seconds that pass with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += TICK
        return self.now


def written(reference: Reference, others: bool) -> tuple[list[str], int, float]:
    """Texts of a caller by the character, in how many pieces, and how long that took; beside others or not."""
    decoder, cache, clock = copy(reference.decoder), PrefixCache(0), Clock()
    decoder.computes_here = False  # what a call takes is what the clock says
    model = EngineModel(decoder, reference.checkpoint.tokenizer)
    scheduler: Scheduler[SequenceGroup, Any] = Scheduler([2 * TEXTS], 0)
    lanes = Lanes(2 * TEXTS, cache, clock, crowd=scheduler.crowd)
    groups: list[SequenceGroup] = []
    for caller, n, length in [("greedy", TEXTS, LENGTH), ("other", 1, 100 * LENGTH)][: 1 + others]:
        parameters = SamplingParameters(seed=3)
        asked = TextRequest(prompts=["ab"], parameters=parameters, max_tokens=length, n=n, interval=0.0)
        groups.append(SequenceGroup(model, asked, cache=cache))
        scheduler.add({groups[-1]: groups[-1].sequences}, caller=caller)
    texts, pieces = Counter[int](), 0
    parts: list[list[str]] = [[] for _ in range(TEXTS)]
    while len(texts) < TEXTS:
        turn = lanes.turn(scheduler.changes(0))
        for group in turn.read:
            scheduler.fork(group)
        for row, piece in turn.events:
            if row.group is groups[0]:
                pieces += 1
                parts[row.choice].append(piece.text)
                if piece.finish_reason is not None:
                    texts[row.choice] += 1
                    scheduler.finish(row.group, row)
    return ["".join(one) for one in parts], pieces, clock.now


def test_a_caller_of_many_texts_gets_longer_pieces_while_others_have_texts(reference: Reference) -> None:
    alone, many, alone_seconds = written(reference, others=False)
    beside, few, seconds = written(reference, others=True)
    assert beside == alone
    assert few <= seconds / CROWD_SECONDS + 2 * TEXTS, "at the pace of one caller, and the first and last of each text"
    assert few / seconds < many / alone_seconds / 2, "else nothing was spaced"


def test_pieces_are_spaced_by_the_slots_of_a_caller_who_has_others_beside_it() -> None:
    scheduler: Scheduler[str, Any] = Scheduler([4], 4)
    for name, caller in (("a", "one"), ("b", "one")):
        scheduler.add({name: [Row()]}, caller=caller)
    assert scheduler.crowd("one") == 0, "alone"
    scheduler.add({"c": [Row()]}, caller="two")
    assert (scheduler.crowd("one"), scheduler.crowd("two"), scheduler.crowd("three")) == (2, 1, 0)
    assert spacing(scheduler.crowd("one"), 3) == 2 * CROWD_SECONDS
    scheduler.drop("c")
    assert scheduler.crowd("one") == 0


def test_pieces_of_many_texts_are_spaced_by_how_many_are_drawn_together() -> None:
    """To write a piece and to send it takes longer than to draw a character."""
    assert spacing(0, 1) == PIECE_SECONDS
    assert spacing(0, 64) == 64 * PIECE_SECONDS > DECODE_SECONDS > spacing(0, 8)
    assert spacing(1, 64) == spacing(0, 64)
    assert spacing(64, 64) == 64 * CROWD_SECONDS
