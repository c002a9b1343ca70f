"""Choose what was not chosen: sizes from the corpus and the budget, precision from what this machine does faster."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TypeVar

import torch

from model.cells.spec import CELLS
from model.config import NetworkConfig, products
from model.errors import ParameterError
from training.planning.config import TrainingConfig
from training.planning.machine import check_precision, faster_precision
from training.planning.pace import measure_pace
from training.planning.regularisation import Regularisation
from training.planning.train_options import PlanOverrides
from training.row_threads import default_threads

# Networks from small to large, (layers, hidden, embedding); a plan takes one of them. Two layers with skip connections
# learn more in the same time than one of as many weights (LOG.md, as for the other choices here).
SIZES = [(1, 128, 32), (2, 128, 32), (2, 192, 64), (2, 256, 64), (2, 320, 64), (2, 384, 64), (2, 512, 64), (2, 640, 64)]

# But not where a step's time goes to the output, as with many Chinese characters: one layer learns more with 1,086 ids,
# two do with 617. Nor do two layers of a GRU, whose steps take longer.
LARGE_VOCABULARY = 850
BROAD_SIZES = [(1, 128, 32), (1, 192, 64), (1, 256, 64), (1, 384, 128), (1, 512, 128), (2, 512, 64), (2, 640, 64)]

# A network should read at least this many characters per recurrent weight, over all passes; below that a smaller one
# learnt more in the same time, in first runs on Shakespeare.
CHARACTERS_PER_WEIGHT = 6

# Recurrent weights per character of the train part at most: beyond that the fear is learning it by heart.
WEIGHTS_PER_CHARACTER = 4

FEWEST_CHARACTERS = 64  # that are planned for: a handful of items may have fewer

MOST_PASSES = 60  # over the train part, where nothing else ends a run first

# What is left out, by how often the text is read, in passes: nothing while every pass still brings much that is new.
REGULARISATION = [
    (6, Regularisation()),
    (12, Regularisation(input_dropout=0.05, layer_dropout=0.15, output_dropout=0.2, drop_state=0.02)),
    (20, Regularisation(input_dropout=0.075, layer_dropout=0.3, output_dropout=0.3, drop_state=0.02)),
    (
        math.inf,
        Regularisation(input_dropout=0.1, layer_dropout=0.4, output_dropout=0.4, weight_drop=0.3, drop_state=0.02),
    ),
]

DEEP = 0.67  # of the highest learning rate of one layer, what several take

# Overrides that are fields of TrainingConfig under the same name, where its default is the plan.
PLAIN = (
    *("jitter", "warmup_steps", "decay", "weight_decay", "max_grad_norm", "average", "fit_temperature", "patience"),
    *("accumulate", "compression"),
)


Speed = Callable[[NetworkConfig], float]
"""Characters a second that a network learns from on this machine."""


@dataclass(frozen=True)
class Plan:
    """A complete configuration, and what is expected of it where the machine's speed was measured.

    passes: how often the train part will be read. characters_per_second: None when only epochs were asked for.
    """

    config: TrainingConfig
    passes: float
    characters_per_second: float | None


def make_plan(
    overrides: PlanOverrides,
    vocabulary: int,
    characters: int,
    device: torch.device,
    base: NetworkConfig | None = None,
    processes: int = 1,
) -> Plan:
    """The whole configuration for a train part of `characters` characters.

    With a budget in minutes the machine's speed is measured, in a second or two; with one in epochs nothing is, so
    that the same command plans the same run everywhere.
    base: the network that is trained on, grown to this vocabulary; its sizes are not up for choice.
    processes: that share each batch, and measure at the same time.
    """
    characters = max(characters, FEWEST_CHARACTERS)
    precision = faster_precision(device) if overrides.precision == "auto" else overrides.precision
    check_precision(base.cell if base else overrides.cell, precision, device)
    batch_size, sequence_length = _window(overrides, characters, processes)
    threads = _chosen(overrides.threads, default_threads(batch_size // processes)) if device.type == "cpu" else 1
    speed: Speed | None = None
    if overrides.minutes is not None:
        cell, vocabulary = (base.cell, base.vocabulary) if base else (overrides.cell, vocabulary)
        pace = measure_pace(cell, vocabulary, precision, device, threads, 32 // min(processes, 8))
        speed = partial(pace.characters_per_second, processes=processes)
    network = base or _network(overrides, vocabulary, characters, speed)
    passes = _passes(overrides, network, characters, speed)
    rate = CELLS[network.cell].learning_rate * (1 if network.layers == 1 else DEEP)
    chosen = {name: value for name in PLAIN if (value := getattr(overrides, name)) is not None}
    config = TrainingConfig(
        network=network,
        regularisation=_regularisation(overrides, network, passes),
        batch_size=batch_size,
        sequence_length=sequence_length,
        learning_rate=_chosen(overrides.learning_rate, round(rate, 6)),
        precision=precision,
        threads=threads,
        seed=overrides.seed,
        epochs=float(MOST_PASSES) if overrides.epochs is None else overrides.epochs,
        minutes=overrides.minutes,
        **chosen,
    )
    return Plan(config, passes, None if speed is None else speed(network))


def _network(overrides: PlanOverrides, vocabulary: int, characters: int, speed: Speed | None) -> NetworkConfig:
    layers, hidden, embedding = _size(overrides, vocabulary, characters, speed)
    return _shaped(
        overrides, vocabulary, layers, _chosen(overrides.hidden, hidden), _chosen(overrides.embedding, embedding)
    )


def _shaped(overrides: PlanOverrides, vocabulary: int, layers: int, hidden: int, embedding: int) -> NetworkConfig:
    layers = _chosen(overrides.layers, layers)
    return NetworkConfig(
        cell=overrides.cell,
        layers=layers,
        hidden=hidden,
        embedding=embedding,
        vocabulary=vocabulary,
        skip=layers > 1 if overrides.skip is None else overrides.skip,
        attention=overrides.attention,
    )


def _regularisation(overrides: PlanOverrides, network: NetworkConfig, passes: float) -> Regularisation:
    """What is left out, the more the more often the text is read."""
    planned = next(shares for limit, shares in REGULARISATION if passes <= limit)
    if network.skip:  # the output's dropout meets every layer already
        planned = replace(planned, layer_dropout=0.0)
    if overrides.dropout is not None:
        share = overrides.dropout
        planned = replace(planned, input_dropout=share / 4, layer_dropout=share, output_dropout=share)
    names = [field.name for field in fields(Regularisation)]
    return replace(planned, **{name: value for name in names if (value := getattr(overrides, name)) is not None})


Number = TypeVar("Number", int, float)


def _chosen(wish: Number | None, planned: Number) -> Number:
    return planned if wish is None else wish


def _size(overrides: PlanOverrides, vocabulary: int, characters: int, speed: Speed | None) -> tuple[int, int, int]:
    """The largest size that the corpus and the budget can teach."""
    several = vocabulary < LARGE_VOCABULARY and overrides.cell != "gru"
    sizes = SIZES if several else BROAD_SIZES
    best = sizes[0]
    for size in sizes:
        network = _shaped(overrides, vocabulary, *size)
        # The output's are left out: a large vocabulary does not make a network large; nor does attention.
        recurrent = products(replace(network, attention=0)) - (network.output_width() + 1) * vocabulary
        read = characters * _passes(overrides, network, characters, speed)
        if recurrent <= WEIGHTS_PER_CHARACTER * characters and read >= CHARACTERS_PER_WEIGHT * recurrent:
            best = size
    return best


def _passes(overrides: PlanOverrides, network: NetworkConfig, characters: int, speed: Speed | None) -> float:
    """How often the train part is read within the budget."""
    passes = overrides.epochs if overrides.epochs is not None else float(MOST_PASSES)
    if overrides.minutes is not None and speed is not None:
        passes = min(passes, overrides.minutes * 60 * speed(network) / characters)
    return passes


def _window(overrides: PlanOverrides, characters: int, processes: int) -> tuple[int, int]:
    """Batch size and sequence length, smaller where the text is too short to fill them a few times.

    processes: that deal out the sequences among each other, as many to each.
    """
    sequence_length = _chosen(overrides.sequence_length, max(8, min(64, characters // 64)))
    planned = max(1, min(32, characters // (4 * max(1, sequence_length))))
    batch_size = _chosen(overrides.batch_size, max(1, planned // processes) * processes)
    check_shares(batch_size, processes)
    if batch_size * 4 > characters:
        raise ParameterError(
            "batch_size",
            f"--batch-size is {batch_size:,}, but {characters:,} characters fill {characters // 4:,} at most.",
        )
    return batch_size, min(sequence_length, characters // max(1, batch_size) // 2)


def check_shares(batch_size: int, processes: int) -> None:
    """Raise ParameterError where processes cannot share a batch evenly."""
    if batch_size % processes:
        fewer, more = batch_size // processes * processes, -(-batch_size // processes) * processes
        choices = f"{fewer:,} or {more:,}" if fewer else f"{more:,}"
        raise ParameterError(
            "batch_size",
            f"A batch has {batch_size:,} sequences (--batch-size), which {processes:,} processes cannot share evenly; "
            f"choose {choices}, or another number of processes.",
        )
