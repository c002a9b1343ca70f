"""A network that learns, with its optimiser, its state in the text, and the average of its weights."""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.network import Network, State
from training.data.batches import Taught, Window
from training.distributed.gradient_sum import GradientSum, Summed
from training.distributed.ranks import ALONE, Ranks
from training.loop.masked_forward import TaughtRows
from training.loop.masks import MaskSource
from training.loop.parallel_step import ParallelStep
from training.planning.config import TrainingConfig
from training.row_threads import one_kernel_thread

STATE, AVERAGE = "carried", "average"


class Learnt(NamedTuple):
    """The results of a step.

    loss: mean nats per learnt id, before the step.
    norm: of the gradient before clipping. Both are scalars on the
    device: reading them would wait for it.
    asides: those of `Learner.learn`, summed over the processes.
    """

    loss: Tensor
    norm: Tensor
    asides: Sequence[float]


class Learner:
    """Makes one step of training at a time, and keeps everything that the next step needs.

    config: the run's. device: of the network; its weights are made on the CPU, the same for every device.
    ranks: the processes that share the rows of each window. All of them have the network and draw the masks of all
    rows; each process reads its own rows and has only the state of those.
    """

    def __init__(self, config: TrainingConfig, device: torch.device, ranks: Ranks = ALONE) -> None:
        self.config, self.device, self.ranks = config, device, ranks
        self.network = Network(config.network).to(device)
        self.masks = MaskSource(config.network, config.regularisation, device, shared=ranks.count > 1)
        self.step = ParallelStep(self.network, config.precision, config.threads if device.type == "cpu" else 1)
        self.optimiser = make_optimiser(self.network, config)
        self.sum = GradientSum(list(self.network.parameters()), ranks, config.compression)
        self.state: State | None = None
        """The state of this process's rows."""
        self.rows = 0
        """The rows of the last window in all processes."""
        self.average: list[Tensor] = []
        self.averaged = 0
        """The number of steps whose weights are in the average."""

    def learn(
        self, window: Window, rate: float, *, more: Sequence[Window] = (), asides: Sequence[float] = ()
    ) -> Learnt:
        """One step: forward and backward through one or several windows, then the optimiser.

        more: further windows of the same step.
        asides: numbers to sum over the processes with the gradient.
        """
        with one_kernel_thread() if self.device.type == "cpu" else nullcontext():
            windows = [window, *more]
            length = sum(one.length for one in windows) / len(windows)
            for group in self.optimiser.param_groups:  # a short window counts less (Merity et al. 2018)
                group["lr"] = rate * length / self.config.sequence_length
            loss, asides = self._gradient(windows, asides)
            norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.config.max_grad_norm)
            self.optimiser.step()
            return Learnt(loss, norm, asides)

    def _gradient(self, windows: Sequence[Window], asides: Sequence[float]) -> Summed:
        """Set the gradient of all ids of some windows in the network's parameters."""
        if self.ranks.count == 1 and len(windows) == 1:
            loss = self._read(windows[0], windows[0], 1.0)
            assert loss is not None
            return Summed(loss, asides)
        ids = max(1, sum(window.learnt_ids for window in windows))
        for window in windows:
            own = self.ranks.share(window)
            self.sum.add(self._read(window, own, own.learnt_ids / ids))
        return self.sum.over_ranks(asides)

    def _read(self, window: Window, own: Window, weight: float) -> Tensor | None:
        """Set the gradient of this process's rows of a window in the parameters; returns their loss, None without
        rows.

        weight: of the rows' ids in the step; both are multiplied by it.
        """
        rows, carried = len(window.inputs), not window.fresh and self.state is not None
        masks = self.masks.draw(rows, carried=carried)
        self.rows = rows
        if not len(own.inputs):
            self.state = self.network.initial_state(0)
            return None
        state = [part[: len(own.inputs)] for part in self.state or []] if carried else None
        masks = masks if self.ranks.count == 1 else masks.rows(self.ranks.rows)
        inputs, targets = (self._move(part) for part in (own.inputs, own.targets))
        taught = None if own.taught is None else self._taught(own.taught)
        loss, self.state = self.step(inputs, targets, state, masks, own.counts, own.usual, weight, own.learnt, taught)
        return loss

    def _taught(self, taught: Taught) -> TaughtRows:
        return TaughtRows(self._move(taught.ids.astype(np.int64)), self._move(taught.chances), taught.share)

    def _move(self, part: Any) -> Tensor:
        tensor = torch.from_numpy(part)
        return tensor.pin_memory().to(self.device, non_blocking=True) if self.device.type == "cuda" else tensor

    def add_to_average(self) -> None:
        """Add the current weights to their average (Polyak & Juditsky 1992)."""
        weights = [weight.detach() for weight in self.network.parameters()]
        self.averaged += 1
        if not self.average:
            self.average = [weight.clone() for weight in weights]
        else:
            torch._foreach_lerp_(self.average, weights, 1 / self.averaged)

    @contextmanager
    def best_weights(self) -> Iterator[Network]:
        """The network with its averaged weights, if there is an average; afterwards it is as before."""
        if not self.average:
            yield self.network
            return
        weights = [weight.data for weight in self.network.parameters()]
        try:
            for weight, mean in zip(self.network.parameters(), self.average, strict=True):
                weight.data = mean
            yield self.network
        finally:
            for weight, own in zip(self.network.parameters(), weights, strict=True):
                weight.data = own

    def tensors(self) -> dict[str, Tensor]:
        """Everything that is needed to continue training exactly, on the CPU.

        It has the states of all rows in every process, so that another number of processes can continue.
        """
        kept: dict[str, Tensor] = {f"network.{name}": weight for name, weight in self.network.named_parameters()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            kept |= {f"optimiser.{number}.{name}": value for name, value in moments.items()}
        state = [self.ranks.whole(part, self.rows) for part in self.state or []]
        kept |= {f"{STATE}.{number}": part for number, part in enumerate(state)}
        kept |= {f"{AVERAGE}.{number}": mean for number, mean in enumerate(self.average)}
        kept["random.cpu"] = torch.get_rng_state()
        if self.device.type == "cuda":
            kept["random.cuda"] = torch.cuda.get_rng_state(self.device)
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in kept.items()}

    def restore(self, kept: dict[str, Tensor], averaged: int) -> None:
        """Restore the result of `tensors`. averaged: the number of steps in the average."""
        with torch.no_grad():
            for name, weight in self.network.named_parameters():
                weight.copy_(kept[f"network.{name}"])
        saved = self.optimiser.state_dict()
        saved["state"] = {}
        for name, value in kept.items():
            if name.startswith("optimiser."):
                _, number, moment = name.split(".")
                saved["state"].setdefault(int(number), {})[moment] = value.clone()
        self.optimiser.load_state_dict(saved)
        state = _numbered(kept, STATE)
        self.rows = len(state[0]) if state else 0
        self.state = [part[self.ranks.rows].contiguous().to(self.device) for part in state] or None
        self.average = [value.to(self.device, copy=True) for value in _numbered(kept, AVERAGE)]
        self.averaged = averaged
        torch.set_rng_state(kept["random.cpu"])
        if self.device.type == "cuda" and "random.cuda" in kept:
            torch.cuda.set_rng_state(kept["random.cuda"], self.device)


def _numbered(kept: dict[str, Tensor], kind: str) -> list[Tensor]:
    numbers = sorted(int(name.split(".")[1]) for name in kept if name.startswith(f"{kind}."))
    return [kept[f"{kind}.{number}"] for number in numbers]


class PlainAdamW(torch.optim.AdamW):
    """PyTorch's AdamW without its wrapper for torch.compile, whose import takes a second and is not needed here."""

    add_param_group = inspect.unwrap(torch.optim.AdamW.add_param_group)
    state_dict = inspect.unwrap(torch.optim.AdamW.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.AdamW.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def make_optimiser(network: Network, config: TrainingConfig) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019) with decay of matrices only, not of embeddings and biases."""
    decayed = [p for name, p in network.named_parameters() if p.dim() == 2 and not name.startswith("embedding")]
    free = [p for name, p in network.named_parameters() if p.dim() == 1 or name.startswith("embedding")]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return PlainAdamW(groups, lr=config.learning_rate, betas=(0.9, 0.99), fused=True)
