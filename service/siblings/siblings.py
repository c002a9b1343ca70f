"""Everything that the processes behind one port share; made once, before they are forked."""

import secrets
import time

from service.siblings.board import Board
from service.siblings.snapshots import Snapshots
from service.siblings.sums import SharedSums

CALLERS = 65_536  # whose requests are counted at the same time
HOLDERS = 16_384  # of memory
NETWORKS = 16_384  # with open connections, or four for each connection there may be


class Siblings:
    """The shared objects of the processes.

    memory: bytes that are charged to requests, of each holder. requests: open requests of each caller; their stamp is
    the time at which those so far will be earned. connections, management: open connections of each network, of
    either kind of port.
    board: the state of each process. snapshots: the counts of each process. secret: signs states, if no setting has a
    key for that.
    own: the number of this process, from 0.
    """

    def __init__(self, processes: int, most_connections: int) -> None:
        self.processes = processes
        self.own = 0
        self.memory = SharedSums(HOLDERS, processes, time.monotonic)
        self.requests = SharedSums(CALLERS, processes, time.monotonic)
        self.connections = SharedSums(max(NETWORKS, 4 * most_connections), processes, time.monotonic)
        self.management = SharedSums(NETWORKS, processes, time.monotonic)
        self.board = Board(processes)
        self.snapshots = Snapshots(processes)
        self.secret = secrets.token_bytes(32)

    @property
    def alive(self) -> int:
        """The number of processes that serve now, including this one."""
        return 1 + len(self.board.others(time.monotonic()))

    @property
    def crowded(self) -> bool:
        """Whether this process has more than its share of the open connections."""
        return self.connections.mine * self.alive > self.connections.whole

    def serves(self, process: int) -> bool:
        """Whether a process has reported that it serves."""
        return self.board.of(process).beat > 0

    def become(self, process: int) -> None:
        """Become the process with this number."""
        self.own = process
        self.board.own = self.snapshots.own = process
        for one in self._sums:
            one.own = process

    def forget(self, process: int) -> None:
        """A process has died: free everything that it held."""
        self.board.forget(process)
        for one in self._sums:
            one.forget(process)

    @property
    def _sums(self) -> tuple[SharedSums, ...]:
        return self.memory, self.requests, self.connections, self.management
