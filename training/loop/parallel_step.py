"""Loss and gradient of a window whose rows are distributed over threads, summed in a fixed order."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from model.network import Network, State, detach
from training.items.batches import PADDING
from training.items.row_blocks import id_parts, like_length, within
from training.loop.masked_forward import TaughtRows, mean_nats, read_ended_rows, window_loss
from training.loop.masks import Masks
from training.lstm_window import rows_may_end
from training.planning.train_options import Precision
from training.row_threads import row_parts, side_by_side

OF_A_SHAPE = 64  # characters of rows that end; making a kernel for a shape takes longer than reading 1,000 characters


class ParallelStep:
    """Computes windows forward and backward; each thread takes some of the rows.

    The gradient is that of the whole batch, except for the rounding of sums; the same number of threads gives the
    same bytes. Every thread after the first has a network of its own, with shared weights and its own gradients.

    threads: with 1 the whole batch is computed at once.
    """

    def __init__(self, network: Network, precision: Precision, threads: int) -> None:
        self.network, self.precision, self.threads = network, precision, threads
        self._replicas = [network, *(deepcopy(network) for _ in range(threads - 1))]

    def __call__(
        self,
        inputs: Tensor,
        targets: Tensor,
        state: State | None,
        masks: Masks,
        counts: NDArray[np.int64] | None = None,
        usual: NDArray[np.int64] | None = None,
        weight: float = 1.0,
        learnt: NDArray[np.int64] | None = None,
        taught: TaughtRows | None = None,
    ) -> tuple[Tensor, State]:
        """Set the gradient of a window in the network's parameters.

        inputs, targets: int64 (B, T), a target of -100 does not count. counts, usual: of a Window, if rows end.
        weight: of the window among others.
        learnt: the number of targets of each row that count (B,); None if all of counts do.
        taught: the teachers' distributions, if rows do not end. Returns the mean nats per target that counts, times
        the weight, and the state after, both without a graph.
        """
        learnt = counts if learnt is None else learnt
        usual = counts if usual is None else usual
        shares = row_parts(len(inputs), self.threads) if usual is None else id_parts(usual, self.threads)
        replicas = self._replicas[: len(shares)]
        for replica in replicas:
            replica.zero_grad(set_to_none=True)
        for replica in replicas[1:]:  # the weights may have been replaced, as by their average
            for own, shared in zip(replica.parameters(), self.network.parameters(), strict=True):
                own.data = shared.data
        if counts is not None and learnt is not None and self._rows_may_end(inputs.device, masks):
            read = [
                partial(
                    self._read_ended,
                    replica,
                    inputs[share],
                    targets[share],
                    _of(state, share),
                    masks.rows(share),
                    counts[share],
                    _share(learnt, share) * weight,
                )
                for replica, share in zip(replicas, shares, strict=True)
            ]
            return self._together(read, replicas)
        blocks = [slice(0, len(inputs))] if usual is None else like_length(usual)
        read = [
            partial(
                self._read_blocks,
                replica,
                inputs,
                targets,
                state,
                masks,
                (counts, learnt),
                within(blocks, share),
                weight,
                taught,
            )
            for replica, share in zip(replicas, shares, strict=True)
        ]
        return self._together(read, replicas)

    def _together(
        self, read: Sequence[Callable[[], tuple[Tensor, State]]], replicas: Sequence[Network]
    ) -> tuple[Tensor, State]:
        """The loss and state of all threads; their gradients are added up in the first's network."""
        losses, states = zip(*(side_by_side(read) if len(read) > 1 else [read[0]()]), strict=True)
        gradients = [[_gradient(weight) for weight in replica.parameters()] for replica in replicas]
        for others in gradients[1:]:
            torch._foreach_add_(gradients[0], others)
        return sum(losses[1:], losses[0]), _joined(states)

    def _rows_may_end(self, device: torch.device, masks: Masks) -> bool:
        plain = self.network.attention is None and masks.locked
        return self.precision == "bf16" and plain and rows_may_end(self.network.config, device)

    def _read_ended(
        self,
        network: Network,
        inputs: Tensor,
        targets: Tensor,
        state: State | None,
        masks: Masks,
        counts: NDArray[np.int64],
        weight: float,
    ) -> tuple[Tensor, State]:
        """Forward and backward over the rows of a share, each to its end. weight: of their loss."""
        there = np.arange(int(counts[0]))[:, None] < counts  # (T, B)
        places, rows = map(torch.from_numpy, np.nonzero(there))
        ids, following = _filled(inputs[rows, places], 0), _filled(targets[rows, places], PADDING)
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, cache_enabled=False):
            logits, after = read_ended_rows(network, ids, state, masks, _filled(rows, 0), there.sum(1).tolist())
        loss = mean_nats(logits, following, weight)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), detach(after)

    def _read_blocks(
        self,
        network: Network,
        inputs: Tensor,
        targets: Tensor,
        state: State | None,
        masks: Masks,
        of_rows: tuple[NDArray[np.int64] | None, NDArray[np.int64] | None],
        blocks: Sequence[slice],
        weight: float,
        taught: TaughtRows | None,
    ) -> tuple[Tensor, State]:
        """Forward and backward over some rows, block after block. of_rows: counts, learnt. weight: of the window."""
        counts, learnt = of_rows
        losses, states = [], []
        for rows in blocks:
            width = inputs.shape[1] if counts is None else int(counts[rows.start])
            whole = rows == slice(0, len(inputs))
            some = len(inputs[rows]) / len(inputs) if learnt is None else _share(learnt, rows)
            loss, after = self._read(
                network,
                inputs[rows, :width],
                targets[rows, :width],
                _of(state, rows),
                masks if whole else masks.rows(rows),
                some * weight,
                None if taught is None else taught.rows(rows),
            )
            losses.append(loss)
            states.append(after)
        return sum(losses[1:], losses[0]), _joined(states)

    def _read(
        self,
        network: Network,
        inputs: Tensor,
        targets: Tensor,
        state: State | None,
        masks: Masks,
        share: float,
        taught: TaughtRows | None,
    ) -> tuple[Tensor, State]:
        """Forward and backward over some rows. share: their share of the batch's ids."""
        bf16 = self.precision == "bf16"
        # All threads would share a cache of casts, and each weight is cast only once a step.
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=bf16, cache_enabled=False):
            loss, state = window_loss(network, inputs, targets, state, masks, share, taught)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), detach(state)


def _share(learnt: NDArray[np.int64], rows: slice) -> float:
    """The share of some rows in the targets of a window that count."""
    return float(learnt[rows].sum() / max(1, learnt.sum()))


def _filled(part: Tensor, fill: int) -> Tensor:
    """Some numbers (N,), padded with `fill` to one of few lengths, so that kernels for the shapes exist already."""
    return F.pad(part, (0, -len(part) % OF_A_SHAPE), value=fill)


def _of(state: State | None, rows: slice) -> State | None:
    return None if state is None else [one[rows] for one in state]


def _joined(states: Sequence[State]) -> State:
    """The states of some rows and of the next ones as one."""
    return [torch.cat(rows) if len(rows) > 1 else rows[0] for rows in zip(*states, strict=True)]


def _gradient(weight: Tensor) -> Tensor:
    assert weight.grad is not None
    return weight.grad
