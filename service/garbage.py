"""Python's garbage collector looks at all that lives when that is little, not in the middle of a crowd."""

import gc
from collections.abc import Callable

NEVER = 1 << 30  # passes over what is young until CPython would look at everything by itself
YOUNG = 5_000  # objects made and not freed until what is young is looked at: by default 700, which are a few requests
MIDDLE = 2  # such looks until those that were left over are looked at again, in some milliseconds
PASSES = 10  # after which as much has come as it would wait for by default
FEW = 32  # requests at once, with which a look at everything takes a few milliseconds
MOST_PASSES = 350  # after which everything is looked at, however many requests there are: it bounds what waits


class Garbage:
    """Says when the garbage collector looks at everything, which stops the process meanwhile.

    It takes 0.1 ms for each request that is open, so 0.2 s for all that a server holds; CPython does it as soon as what
    lives has grown by a quarter, which is in the middle of a crowd. An answered request leaves nothing to collect, so
    the rest can wait until few requests are open. What is young is looked at more rarely, too, as that took a twentieth
    of the time of short requests.

    requests: how many are open.
    """

    def __init__(self, requests: Callable[[], int]) -> None:
        self._requests = requests

    def start(self) -> None:
        """Keep what is loaded, which need not be looked at again, and wait with what comes."""
        gc.freeze()
        gc.set_threshold(YOUNG, MIDDLE, NEVER)

    def beat(self) -> None:
        """Collect, if it is time; for each beat of the event loop."""
        passes = gc.get_count()[2]
        if passes >= PASSES and (self._requests() <= FEW or passes >= MOST_PASSES):
            gc.collect()
