"""How much one caller may ask for: so many requests a minute, and so many at once."""

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable

# Callers that are remembered. One that is forgotten has its full allowance again; as all keys fit many times over, this
# bounds only how many addresses are counted where there are no keys.
MOST_CALLERS = 65_536


class FairUse:
    """Counts what each caller asks for.

    per_minute: requests a caller may make in a minute, at once or spread, and as many again in each minute after;
        0 = any number. at_once: requests of one caller that are open; 0 = any number.
    clock: seconds that never go back.

    The rate is the generic cell rate algorithm (ITU-T I.371): one number a caller, the time at which what was asked for
    so far would have been earned.
    """

    def __init__(self, per_minute: float, at_once: int, clock: Callable[[], float]) -> None:
        self._period = 60 / per_minute if per_minute else 0.0  # seconds that earn a request
        self._credit = max(60.0, self._period)  # seconds of it that may be used in advance
        self._at_once = at_once
        self._clock = clock
        self._earned: OrderedDict[Hashable, float] = OrderedDict()
        self._open: dict[Hashable, int] = {}

    def wait(self, caller: Hashable) -> int:
        """Count a request; 0 when it may be made, else the whole seconds after which one may."""
        if not self._period:
            return 0
        now = self._clock()
        earned = max(now, self._earned.get(caller, now)) + self._period
        late = earned - now - self._credit
        if late > 1e-9:  # a rounding is no request
            return math.ceil(late)
        self._earned[caller] = earned
        self._earned.move_to_end(caller)
        if len(self._earned) > MOST_CALLERS:
            self._earned.popitem(last=False)
        return 0

    def enter(self, caller: Hashable) -> bool:
        """Count a request as open, unless the caller has as many as it may; what entered has to leave."""
        count = self._open.get(caller, 0)
        if self._at_once and count >= self._at_once:
            return False
        self._open[caller] = count + 1
        return True

    def leave(self, caller: Hashable) -> None:
        """A request is answered."""
        self._open[caller] -= 1
        if not self._open[caller]:
            del self._open[caller]
