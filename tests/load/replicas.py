"""Four servers behind nginx under load: new checkpoints, restarts, fewer servers, kills; keys, states and limits.

LOAD_SERVER_KILLS: how many servers are killed, 20 if not set.
"""

import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from model.checkpoint import save
from tests.benchmarks.figures import Figure
from tests.load.models import versions
from tests.load.persistent import Body, Crowd, Text
from tests.load.process import Running, unroll_serve
from tests.load.replica_laws import as_with_one
from tests.load.replica_set import KEY, ReplicaSet, ask, at_server, replica_set

KILLS = int(os.environ.get("LOAD_SERVER_KILLS", "20"))
CLIENTS, RENAMES = 12, 5
# Long and short, streamed and whole, most of them with a seed.
BODIES: list[Body] = [
    {"model": "one", "prompt": f"Scene {at}.\n", "max_tokens": (4_000, 300, 1_500)[at % 3]}
    | ({} if at % 4 == 0 else {"seed": at})
    | ({} if at % 5 == 0 else {"stream": True, "stream_interval": at % 3 * 10})
    for at in range(40)
]
PATIENCE = 60.0


class Truth:
    """What one server alone writes for the same bodies; it has both versions, each under its number."""

    def __init__(self, server: Running, names: list[str]) -> None:
        self._server, self._known = server, dict[str, str]()
        self._names = {self._ask(name, {"prompt": "", "max_tokens": 1})["system_fingerprint"]: name for name in names}

    def _ask(self, name: str, body: Body) -> Any:
        status, said, _ = ask(self._server.port, "/v1/completions", {**body, "model": name, "stream": False}, KEY)
        if status != 200:
            raise RuntimeError(f"the server alone answered {status}: {said}")
        return said

    def digest(self, name: str) -> str:
        """The digest of a version."""
        return str(ask(self._server.port, f"/v1/models/{name}", None, KEY)[1]["digest"])

    def text(self, name: str, body: Body) -> str:
        """What is written for a body that has a seed."""
        known = json.dumps([name, {**body, "model": name, "stream": False, "stream_interval": 0}])
        if known not in self._known:
            self._known[known] = self._ask(name, body)["choices"][0]["text"]
        return self._known[known]

    def agrees(self, text: Text) -> bool:
        """Whether a text is that of its version and seed, to the byte."""
        if len(text.versions) != 1 or text.seed is None:
            return False
        return self.text(self._names[next(iter(text.versions))], {**text.body, "seed": text.seed}) == text.text


def under_load(name: str, servers: ReplicaSet, truth: Truth, do: Callable[[], None]) -> tuple[list[Figure], int, int]:
    """Do something to the servers while clients ask, and judge every text.

    Also returns how often streams went on elsewhere, and all that clients had to do.
    """
    with Crowd(servers.balancer.port, KEY, BODIES, CLIENTS) as crowd:
        time.sleep(1)
        do()
        time.sleep(1)
    failed = [text for text in crowd.texts if not text.whole]
    for text in failed[:3]:
        Console(stderr=True).print(f"{name}: failed: {text.said} {dict(text.mended)}", markup=False)
    changed = sum(not truth.agrees(text) for text in crowd.texts if text.whole)
    mended = crowd.mended()
    gone_on, all_mended = mended["streams gone on with by Last-Event-ID"], sum(mended.values())
    figures = [
        Figure(f"{name}: texts", len(crowd.texts), "texts", 1),
        Figure(f"{name}: failed for good", len(failed), "texts", 0, "most"),
        Figure(f"{name}: with other bytes", changed, "texts", 0, "most"),
        *(Figure(f"{name}: {how}", count, "times") for how, count in sorted(mended.items())),
    ]
    return figures, gone_on, all_mended


class Folders:
    """The folder of models that the servers share, and the versions that are put into it."""

    def __init__(self, work: Path) -> None:
        self.shelf, self.shared = work / "shelf", work / "shared"
        for at, checkpoint in enumerate(versions(2)):
            save(checkpoint, self.shelf / str(at))
        self.shared.mkdir()
        shutil.copytree(self.shelf / "0", self.shared / "one")

    def other(self, work: Path) -> Path:
        """Another folder, which has the second version."""
        shutil.copytree(self.shelf / "1", work / "other" / "one")
        return work / "other"

    def put(self, version: str) -> None:
        """Let a version take the place of what is served."""
        shutil.copytree(self.shelf / version, self.shared / ".next")
        (self.shared / "one").rename(self.shared / ".aside")
        (self.shared / ".next").rename(self.shared / "one")
        shutil.rmtree(self.shared / ".aside")


def renames(servers: ReplicaSet, folders: Folders, truth: Truth) -> None:
    """New checkpoints in the folder of all servers, one after another; the last is the first version."""
    for at in range(RENAMES):
        version = str((at + 1) % 2)
        folders.put(version)
        deadline = time.monotonic() + PATIENCE
        while {at_server(one, "/v1/models/one")[1]["digest"] for one in servers.replicas} != {truth.digest(version)}:
            time.sleep(0.02)
            if time.monotonic() > deadline:
                raise TimeoutError("a new version was not served by all")


def restarts(servers: ReplicaSet, flags: list[str]) -> None:
    """Each server in turn is stopped, and started with other flags. Nobody tells the balancer."""
    for replica in servers.replicas:
        replica.end(signal.SIGTERM)
        replica.flags = flags
        replica.start()
        replica.wait()
        time.sleep(2)  # nginx looks for it again


def fewer(servers: ReplicaSet) -> None:
    """Half of the servers go, after the balancer was told, and come back."""
    half = len(servers.replicas) // 2
    servers.balancer.among([replica.place for replica in servers.replicas[:half]])
    for replica in servers.replicas[half:]:
        replica.end(signal.SIGTERM)
    time.sleep(1)
    for replica in servers.replicas[half:]:
        replica.start()
    for replica in servers.replicas[half:]:
        replica.wait()
    servers.balancer.among([replica.place for replica in servers.replicas])


def kills(servers: ReplicaSet) -> None:
    """Servers are killed at any moment, one after another, and started again."""
    for _ in range(KILLS):
        time.sleep(random.uniform(0, 1))
        replica = random.choice(servers.replicas)
        replica.end(signal.SIGKILL)
        replica.start()
        replica.wait()


def measure() -> list[Figure]:
    """All that is done to the servers, then what has to be as with one."""
    with tempfile.TemporaryDirectory() as made:
        work, figures = Path(made), list[Figure]()
        folders, keys = Folders(work), work / "keys"
        keys.write_text(f"{KEY}\n")
        flags = ["--models", str(folders.shared), "--api-keys-file", str(keys)]
        later = ["--models", str(folders.other(work)), "--api-keys-file", str(keys)]
        alone = unroll_serve("--models", str(folders.shelf), key=KEY, core=None)
        with alone as server, replica_set(flags) as servers:
            truth = Truth(server, ["0", "1"])
            found, _, mended = under_load(
                f"{RENAMES} new checkpoints by rename", servers, truth, lambda: renames(servers, folders, truth)
            )
            figures += [*found, Figure("new checkpoints: all that clients had to do", mended, "times", 0, "most")]
            found, *_ = under_load(
                "restarts in turn with another version", servers, truth, lambda: restarts(servers, later)
            )
            figures += found
            found, _, mended = under_load("half of the servers go and come", servers, truth, lambda: fewer(servers))
            figures += [*found, Figure("fewer servers: all that clients had to do", mended, "times", 0, "most")]
            name = f"{KILLS} kills"
            found, gone_on, _ = under_load(name, servers, truth, lambda: kills(servers))
            figures += [*found, Figure("kills: streams that went on elsewhere", gone_on, "times", 1)]
            return figures + as_with_one(servers, lambda body: truth.text("1", body), keys)
