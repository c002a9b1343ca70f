"""A Ray cluster of nodes on this machine, which a test may kill."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

STORE = 100 << 20  # bytes of each node's object store
# A dead node is missed in two seconds, not in fifteen.
IMPATIENT = {"health_check_period_ms": 500, "health_check_failure_threshold": 3, "health_check_timeout_ms": 1_000}


class Nodes:
    """A running cluster. address: HOST:PORT of its head. others: the nodes beside it."""

    def __init__(self, cluster: Any, cores: int) -> None:
        self._cluster, self._cores = cluster, cores
        self.address: str = cluster.address
        self.others: list[Any] = []

    def add(self) -> None:
        """Start one more node."""
        self.others.append(self._cluster.add_node(num_cpus=self._cores, object_store_memory=STORE))

    def kill(self) -> None:
        """End all processes of the node that was added last, at once."""
        self._cluster.remove_node(self.others.pop(), allow_graceful=False)


@contextmanager
def nodes(count: int, cores: int = 1) -> Iterator[Nodes]:
    """A cluster of so many nodes, the head among them, for a `with` block. cores: that each says it has."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    head = {"num_cpus": cores, "object_store_memory": STORE, "include_dashboard": False, "_system_config": IMPATIENT}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        made = Nodes(cluster, cores)
        for _ in range(count - 1):
            made.add()
        yield made
    finally:
        cluster.shutdown()
