"""A part of torchrun's store that belongs to the current processes, not to those before a restart.

The store survives when torchrun restarts its processes, and PyTorch 2.13 would read the addresses of the dead ones in
it.
"""

import json
import secrets
import time

from torch._C._distributed_c10d import PrefixStore, Store

from training.distributed.ranks import Ranks

OFTEN = 0.05  # seconds between two reads of the store
HELLO, WORLD, SEEN = "unroll/hello", "unroll/world", "unroll/seen"


def meet(store: Store, ranks: Ranks, seconds: float) -> Store:
    """A part of the store that is still empty, the same for all processes.

    Each process writes a new random word; the first lists the words it has seen, until all have found theirs in the
    list. So everything read belongs to this meeting, whatever was in the store before. Raises TimeoutError after
    `seconds`.
    """
    own, deadline = secrets.token_hex(16), time.monotonic() + seconds
    store.set(f"{HELLO}/{ranks.number}", own)
    while time.monotonic() < deadline:
        if ranks.first:
            words = [own, *(_read(store, f"{HELLO}/{number}") for number in range(1, ranks.count))]
            store.set(WORLD, json.dumps(words))
            if all(_read(store, f"{SEEN}/{number}") == own for number in range(1, ranks.count)):
                return PrefixStore(f"unroll/{own}", store)
        else:
            words = json.loads(_read(store, WORLD) or "[]")
            if len(words) == ranks.count and words[ranks.number] == own:
                store.set(f"{SEEN}/{ranks.number}", words[0])
                return PrefixStore(f"unroll/{words[0]}", store)
        time.sleep(OFTEN)
    raise TimeoutError(f"not all of {ranks.count} came within {seconds:g} seconds")


def _read(store: Store, key: str) -> str:
    """A word of the store; "" if it has none."""
    return store.get(key).decode() if store.check([key]) else ""
