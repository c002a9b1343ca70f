"""Measures the best checkpoint of a run that has ended; its processes do so together."""

import time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from model.checkpoint import Checkpoint
from model.decoding.decoder import Decoder
from model.held_out_surprise import HeldOutSurprise
from model.network import Network, from_tensors
from model.online_memory.weights import NAME as MEMORY
from model.online_memory.weights import MemoryWeights
from model.text.utf8_ids import Ids
from training.data.split import Split
from training.distributed.ranks import ALONE, Ranks
from training.evaluation.calibration import MOST_IDS, fit_temperature, scale_output
from training.evaluation.measure_surprise import held_out_surprise
from training.evaluation.memorisation import draw
from training.evaluation.network_reader import network_reader
from training.evaluation.online_memory import fit_memory
from training.evaluation.protocols import (
    COLD_WINDOWS,
    LARGEST_BATCH,
    SHORTEST_SEQUENCE,
    WINDOW,
    alone_in_pieces,
    carried,
    carried_in_pieces,
    cold_parts,
)
from training.evaluation.readers import Reader
from training.evaluation.score import Score
from training.evaluation.sharing import measured, pieces_each
from training.loop.finished_run import FinishedRun
from training.loop.joint_start import checkpoint_of_first
from training.planning.config import TrainingConfig

# Shares of a budget in minutes that the end of a run may take: to score both parts with the state carried, to score
# cold windows, to measure how surprising passages are, and to fit the weights of the online memory.
SHARE, COLD_SHARE, SURPRISE_SHARE, MEMORY_SHARE = 0.02, 0.01, 0.005, 0.005
FITTING = 4  # readings of the fitted text until its temperature is found, and one that learns nothing
REPORTING = 3.0  # seconds: what was copied, a held-out page, cards, curves and report
IN_A_HURRY = 1 << 16  # ids of each part scored after a run that was stopped early: a user waits for it to end
SURPRISED = 1 << 20  # ids of the validation part among which passages are sought
SECONDS_IN_A_HURRY = 2.0  # for cold windows and for surprise, each
COLD = 256  # windows of each part where there is no budget in minutes: 65,536 ids, the same however busy the machine is

FITTED = "temperature"  # in a checkpoint's `training` table: what its logits were divided by

Figures = dict[str, Score]


@dataclass(frozen=True)
class Measured:
    """What was measured of a run.

    best: its best checkpoint, which is scaled to predict the validation part best. figures: of it, carried and cold, by
    part and protocol. surprise: of passages of the validation part. memory: weights of the online memory. sample: ids
    (n,) it has drawn. The last three are as their functions give them.
    """

    best: Checkpoint
    figures: Figures
    surprise: HeldOutSurprise | None
    memory: MemoryWeights | None
    sample: Ids


def final_scores(config: TrainingConfig, parts: Split, device: torch.device, ranks: Ranks = ALONE) -> tuple[int, float]:
    """How many ids of validation and of test to score at the end, and the seconds to keep for it.

    All of them, unless that would take more than its share of a budget in minutes on this machine, which is measured.
    ranks: the processes that will do so together, and measure at the same time.
    """
    longest = max(len(parts.validation), len(parts.test))
    if config.minutes is None:
        return longest, 0.0
    read = network_reader(Network(config.network).to(device), threads=config.threads)
    piece = parts.validation[: WINDOW * 16]
    batch_size = min(16, max(1, longest // SHORTEST_SEQUENCE))
    carried(read, piece, batch_size)
    start = time.perf_counter()
    carried(read, piece, batch_size)
    per_id = (time.perf_counter() - start) / len(piece)
    budget = config.minutes * 60
    by_one = min(longest, int(SHARE * budget / per_id / 2))
    shares = min(ranks.count, 2 * max(1, min(by_one // SHORTEST_SEQUENCE, LARGEST_BATCH)))
    scored = min(longest, max(int(SHARE * budget / per_id / 2 * shares), 4 * WINDOW))
    fitted = FITTING * min(scored, MOST_IDS, len(parts.validation)) if config.fit_temperature else 0
    seconds = (2 * scored + fitted) / shares * per_id + (COLD_SHARE + SURPRISE_SHARE + MEMORY_SHARE) * budget
    return scored, min(seconds + REPORTING, 0.5 * budget)


def measure(run: FinishedRun, scored: int, ranks: Ranks = ALONE) -> Measured:
    """Measure the best checkpoint, which the first process has in its folder.

    scored: ids of each part at most. ranks: the processes that do so together; all get the same, that of one process
    but for the rounding of sums.
    """
    if run.stopped_early:
        scored = min(scored, IN_A_HURRY)
    best = _calibrated(run, checkpoint_of_first(run.folder / "best", ranks), scored, ranks)
    network = from_tensors(best.config, best.tensors).to(run.device)
    figures = _figures(run, network_reader(network, threads=run.config.threads), scored, ranks)
    validation = run.split.validation
    surprise = held_out_surprise(best, validation[:SURPRISED], _seconds(run, SURPRISE_SHARE), ranks)
    # Neither can be cut: a text is drawn character by character, and the memory learns from what it has read.
    memory, sample = ranks.dealt([partial(_memory, run, best), lambda: draw_sample(best).tolist()])
    return Measured(
        best=best,
        figures=figures,
        surprise=surprise,
        memory=MemoryWeights.of({MEMORY: memory}),
        sample=np.array(sample, best.tokenizer.dtype),
    )


def draw_sample(best: Checkpoint) -> Ids:
    """The sample that is held against the train part."""
    return draw(Decoder(best), best.tokenizer)


def _calibrated(run: FinishedRun, best: Checkpoint, scored: int, ranks: Ranks) -> Checkpoint:
    """The checkpoint with its logits scaled to predict the validation part best, where the run is complete."""
    if not run.config.fit_temperature or run.stopped_early or FITTED in best.training:
        return best
    network = from_tensors(best.config, best.tensors).to(run.device)
    temperature = _temperature(run, network, scored, ranks)
    fitted = {**best.training, FITTED: round(temperature, 4)}
    scaled = scale_output(best.tensors, temperature)
    # Rounded as it will be stored, so that what is measured is what is kept.
    stored = {name: value.astype(run.dtype).astype(np.float32) for name, value in scaled.items()}
    return replace(best, tensors=stored, training=fitted)


def _temperature(run: FinishedRun, network: Network, scored: int, ranks: Ranks) -> float:
    separator, validation = run.split.separator, run.split.validation
    # A list is not cut inside of an item: what is read of it is bounded in any case.
    part = validation if separator else validation[:scored]
    return fit_temperature(
        network,
        part,
        threads=run.config.threads,
        separator=separator,
        learn_after=run.split.learn_after,
        sharing=ranks,
    )


def _figures(run: FinishedRun, read: Reader, scored: int, ranks: Ranks) -> Figures:
    """Carried and cold scores of validation, test and both; of lists the score of items alone."""
    parts, separator = {"validation": run.split.validation, "test": run.split.test}, run.split.separator
    pieces = pieces_each(ranks.count, len(parts))
    texts = {
        name: alone_in_pieces(read, part, separator, pieces, scored, run.split.learn_after)
        if separator
        else carried_in_pieces(read, part[:scored], pieces)
        for name, part in parts.items()
    }
    figures = {name: _described(score, parts[name], scored) for name, score in measured(texts, ranks).items()}
    figures["validation and test"] = figures["validation"] + figures["test"]
    if separator:
        return figures
    seconds = _seconds(run, COLD_SHARE)
    cold = cold_parts(read, parts, seconds, COLD if seconds is None else COLD_WINDOWS, sharing=ranks)
    return figures | {f"{name}, cold": score for name, score in cold.items()}


def _described(score: Score, part: Ids, most: int) -> Score:
    score = replace(score, scored=None if len(part) <= most else (most, len(part)))
    return replace(score, protocol=f"{score.protocol}, network in fp32{score.stretch}")


def _memory(run: FinishedRun, best: Checkpoint) -> dict[str, Any] | None:
    """The weights of the online memory beside the best checkpoint, fitted in the time there is for it."""
    if not run.split.held_out:
        return None
    weights = fit_memory(best, run.split.validation, _seconds(run, MEMORY_SHARE))
    return None if weights is None else weights.to_json()


def _seconds(run: FinishedRun, share: float) -> float | None:
    """What a share of a budget in minutes is; None for as many as it takes."""
    minutes = run.config.minutes
    seconds = None if minutes is None else share * minutes * 60
    return min(SECONDS_IN_A_HURRY, seconds or SECONDS_IN_A_HURRY) if run.stopped_early else seconds
