"""A container of the engine: started, watched from outside through /proc, entered, and sent signals."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from engine import TIGHT, Engine, Image, limits

START_SECONDS = 20


class Container:
    """A program of an image in a container on the machine's network; it can be started again after it ended."""

    def __init__(
        self,
        engine: Engine,
        image: Image,
        *arguments: str,
        variables: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        self.engine = engine
        given = [f"--env={name}={value}" for name, value in (variables or {}).items()]
        self.name = engine("create", "--network=host", *TIGHT, *limits(), *given, *flags, image.name, *arguments)
        self.pid = 0

    def start(self) -> "Container":
        """Start it; its process 1 has this number on the host, or 0 where it ended at once."""
        self.engine("start", self.name, timeout=START_SECONDS)
        self.pid = int(self.engine("inspect", "--format={{.State.Pid}}", self.name))
        return self

    def status(self) -> dict[str, str]:
        """What the kernel says about process 1."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def processor_seconds(self) -> float:
        """Processor time process 1 has used; how long that takes depends on what else the machine does."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def catches(self, number: signal.Signals) -> bool:
        """Whether process 1 has a handler for a signal by now; without one it would get none."""
        return bool(int(self.status()["SigCgt"], 16) >> (number - 1) & 1)

    def signal(self, number: signal.Signals) -> None:
        """Send process 1 a signal, as `podman kill` does."""
        self.engine("kill", f"--signal={number.name}", self.name)

    def inside(self, *command: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside process 1, as its user, with `podman exec`."""
        given = [f"--env={name}={value}" for name, value in variables.items()]
        return self.engine.attempt("exec", *given, self.name, *command, timeout=60)

    def log(self) -> str:
        """All it has written so far, of every start."""
        done = self.engine.attempt("logs", self.name)
        return done.stdout + done.stderr

    def wait(self, seconds: float) -> int:
        """The status it ends with, or -1 where it still runs after that number of seconds."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            running, status = self.engine(
                "inspect", "--format={{.State.Running}} {{.State.ExitCode}}", self.name
            ).split()
            if running == "false":
                return int(status)
            time.sleep(0.01)
        return -1

    def __enter__(self) -> "Container":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.engine("rm", "--force", "--time=0", self.name)
