"""A Ray cluster: found or started, and left again, with all that Ray prints on standard error."""

import importlib.util
import logging
import os
import re
import socket
import sys
from contextlib import ExitStack, redirect_stdout
from typing import Any

from model.errors import ParameterError, UnrollError

AUTO = "auto"
PLACE = re.compile(r"\[?(?P<host>[^/]+?)\]?:(?P<port>\d+)")
ANSWER_SECONDS = 5  # in which the head of a cluster takes a connection
MISSING = "--ray needs Ray, which is not installed; install it with `pip install 'unroll[ray]'`, on every node."


class Connection:
    """A cluster, for a `with` block.

    address: HOST:PORT of its head; "auto" is the one that RAY_ADDRESS names, the one that `ray start` began on this
    machine, or else one of this machine's cores alone, which ends with the block; "local" is always the last.
    Inside the block standard output is standard error: Ray prints there what becomes of nodes, among our lines.
    Raises ParameterError where Ray is not installed, and UnrollError where no cluster answers, before the block.
    """

    def __init__(self, address: str) -> None:
        if importlib.util.find_spec("ray") is None:
            raise ParameterError("ray", MISSING)
        self._address = os.environ.get("RAY_ADDRESS") if address == AUTO else address
        self._ours = ExitStack()
        if (place := PLACE.fullmatch(self._address or "")) is not None:  # where nobody is, Ray asks for minutes
            try:
                socket.create_connection((place["host"], int(place["port"])), ANSWER_SECONDS).close()
            except (OSError, OverflowError) as error:
                raise self._silent(error) from error

    def __enter__(self) -> "Connection":
        import ray
        import ray.data

        with ExitStack() as stack:
            stack.enter_context(redirect_stdout(sys.stderr))
            if not ray.is_initialized():
                self._connect(ray)
                stack.callback(ray.shutdown)
            logging.getLogger("ray.data").setLevel(logging.ERROR)
            context = ray.data.DataContext.get_current()
            context.execution_options.preserve_order = True
            context.enable_progress_bars = False
            context.target_max_block_size = None  # a block that goes out is one that comes back
            self._ours = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()

    @property
    def cores(self) -> int:
        """How many cores the cluster has now, at least one."""
        import ray

        return max(1, int(ray.cluster_resources().get("CPU", 1)))

    def _connect(self, ray: Any) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told about a cluster of ours
        os.environ.setdefault("RAY_COLOR_PREFIX", "0")
        local = {"include_dashboard": False} if self._address == "local" else {}
        try:
            ray.init(self._address, logging_level=logging.WARNING, log_to_driver=False, **local)
        except (OSError, RuntimeError, ValueError) as error:
            raise self._silent(error) from error

    def _silent(self, error: Exception) -> UnrollError:
        said = str(error).strip().partition("\n")[0]
        return UnrollError(
            f"No Ray cluster answers at {self._address or AUTO} ({said}); start one with `ray start --head`, and give "
            "the HOST:PORT it shows, or leave the address out."
        )
