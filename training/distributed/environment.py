"""Joins the other processes of a run, by the environment variables that torchrun sets."""

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from model.errors import TrainingError
from training.distributed.meeting import meet
from training.distributed.ranks import ALONE, Ranks

PATIENCE = timedelta(minutes=30)  # until a silent process counts as lost; one that has ended is detected at once
RANK, COUNT, HOST, PORT = "RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"
LOCAL, HERE = "LOCAL_RANK", "LOCAL_WORLD_SIZE"


def is_started_by_torchrun(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether this process is one of several, by the environment."""
    return environment.get(COUNT, "1") != "1"


@contextmanager
def joined(environment: Mapping[str, str] = os.environ) -> Iterator[Ranks]:
    """The processes of the run while they are joined; only this one if the environment names no others.

    Raises TrainingError if the environment is incomplete, or the others are not found.
    """
    if not is_started_by_torchrun(environment):
        yield ALONE
        return
    ranks = ranks_of(environment)
    try:
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        found, _, _ = next(rendezvous("env://", ranks.number, ranks.count, timeout=PATIENCE))
        store = meet(found, ranks, PATIENCE.total_seconds())
        dist.init_process_group(backend, store=store, timeout=PATIENCE, rank=ranks.number, world_size=ranks.count)
    except (RuntimeError, ValueError, OSError) as error:
        raise TrainingError(
            f"Rank {ranks.number} of {ranks.count} cannot reach the others at {environment[HOST]}:{environment[PORT]} "
            f"({str(error).partition(chr(10))[0]}); check that rank 0 runs there, and that no firewall blocks it."
        ) from error
    yield ranks
    dist.destroy_process_group()  # not after an error: it would wait for processes that are gone


def ranks_of(environment: Mapping[str, str]) -> Ranks:
    """The rank of this process. Raises TrainingError if the environment has none, or an invalid one."""
    if missing := [name for name in (RANK, COUNT, HOST, PORT) if not environment.get(name)]:
        raise TrainingError(
            f"{COUNT} says that this is one of {environment.get(COUNT)} processes, but {' and '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} not set; start them with `torchrun`, which sets all, or on one "
            "machine with `unroll train --processes N`."
        )
    names = {RANK: "", COUNT: "", LOCAL: environment[RANK], HERE: "1"}
    try:
        values = {name: int(environment.get(name) or default) for name, default in names.items()}
    except ValueError as error:
        raise TrainingError(f"{', '.join(names)} must be integers ({error}); start with `torchrun`.") from error
    if not 0 <= values[RANK] < values[COUNT]:
        raise TrainingError(
            f"{RANK} is {values[RANK]}, but {COUNT} is {values[COUNT]}: ranks are 0 to {values[COUNT] - 1}."
        )
    # The parent process stays the same when torchrun restarts this one.
    job = f"{environment.get('TORCHELASTIC_RUN_ID', '')} {socket.gethostname()} {os.getppid()}"
    restarts = environment.get("TORCHELASTIC_RESTART_COUNT", "")
    return Ranks(
        number=values[RANK],
        count=values[COUNT],
        local=values[LOCAL],
        here=values[HERE],
        job=job,
        restarts=int(restarts) if restarts.isdecimal() else 0,
    )
