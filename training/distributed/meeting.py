"""A place in the store of torchrun that belongs to the processes that are there now, not to those before them.

torchrun's store outlives the processes that it starts anew, and PyTorch 2.13 would read in it where those
that died listened.
"""

import json
import secrets
import time

from torch._C._distributed_c10d import PrefixStore, Store

from training.distributed.ranks import Ranks

OFTEN = 0.05  # seconds between two looks into the store
HELLO, WORLD, SEEN = "unroll/hello", "unroll/world", "unroll/seen"


def meet(store: Store, ranks: Ranks, seconds: float) -> Store:
    """Part of a store in which nothing is yet, the same in all processes.

    Each writes a word nobody had before; the first writes down whom it has seen, until all have found their word there.
    So what is read is of this meeting, whatever was in the store. Raises TimeoutError after so many seconds.
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
    raise TimeoutError(f"not all of {ranks.count} have come within {seconds:g} seconds")


def _read(store: Store, key: str) -> str:
    """A word of the store; "" where it has none."""
    return store.get(key).decode() if store.check([key]) else ""
