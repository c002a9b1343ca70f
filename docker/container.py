"""Runs a built stage as an engine would: a root that is only read, process 1 of its own processes, no capability."""

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from builder import Image, mounts, pairs, prepare, quoted

RUN, HEALTH = "run", "health"
START_SECONDS = 20  # until the program's process has replaced the shell that prepares its root


class Container:
    """A program of an image, running; its output lies in a file."""

    def __init__(
        self,
        image: Image,
        arguments: Sequence[str] = (),
        *,
        log: Path,
        environment: dict[str, str] | None = None,
        binds: Sequence[str] = (),
        tmpfs: Sequence[str] = (),
    ) -> None:
        self.image = image
        self.environment = {**image.environment, **(environment or {})}
        prepare(image.root, binds)
        command = [*image.entrypoint, *(arguments or image.command)]
        script = ["set -e", quoted("mount", "--bind", image.root, image.root), *mounts(image.root, binds)]
        script += [quoted("mount", "-t", "tmpfs", "tmpfs", f"{image.root}{place}") for place in tmpfs]
        script.append(quoted("mount", "-o", "remount,bind,ro", image.root))
        script.append("exec " + quoted("chroot", image.root, *self._as_user(), *command))
        self.log = log
        self._output: IO[bytes] = log.open("wb")
        self._outer = subprocess.Popen(
            ["unshare", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "sh", "-c", "\n".join(script)],
            stdout=self._output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        self.pid = self._process_1(command[0])

    def _as_user(self) -> list[str]:
        user, group = self.image.user.split(":")
        rights = ("--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all")
        outer = ["env", "--ignore-environment", f"--chdir={self.image.folder}", *pairs(self.environment)]
        return [*outer, "setpriv", f"--reuid={user}", f"--regid={group}", *rights, "--"]

    def _process_1(self, program: str) -> int:
        """Its number on the host, once the program runs there."""
        deadline = time.monotonic() + START_SECONDS
        children = Path(f"/proc/{self._outer.pid}/task/{self._outer.pid}/children")
        while time.monotonic() < deadline and self._outer.poll() is None:
            for child in children.read_text().split():
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if any(word.endswith(b"/" + program.encode()) for word in words[:2]):
                    return int(child)
            time.sleep(0.001)
        self.wait(1)
        return 0

    def status(self) -> dict[str, str]:
        """What the kernel says about process 1."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    def processor_seconds(self) -> float:
        """Processor time process 1 has used; what a busy machine makes of it is another matter."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def catches(self, number: signal.Signals) -> bool:
        """Whether process 1 has a handler for a signal by now; without one it would get none."""
        return bool(int(self.status()["SigCgt"], 16) >> (number - 1) & 1)

    def signal(self, number: signal.Signals) -> None:
        """Send process 1 a signal from outside, as an engine does."""
        os.kill(self.pid, number)

    def inside(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command beside process 1, in its root and as its user, as `docker exec` does."""
        enter = ["nsenter", f"--target={self.pid}", "--mount", "--pid", "--root", "--wd"]
        kept, self.environment = self.environment, {**self.environment, **environment}
        words = [*enter, *self._as_user(), *command]
        self.environment = kept
        return subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)

    def wait(self, seconds: float) -> int:
        """The status it ends with. Raises subprocess.TimeoutExpired."""
        try:
            return self._outer.wait(seconds)
        finally:
            self._output.close() if self._outer.poll() is not None else None

    def kill(self) -> None:
        """End it at once."""
        self._outer.kill()
        self._outer.wait()
        self._output.close()

    def __enter__(self) -> "Container":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
