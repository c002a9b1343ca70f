"""Podman as the proof uses it: a store of images of its own, builds, and containers with nothing they may write."""

import hashlib
import json
import os
import resource
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

BUILD_LABELS = {"VERSION": "1.2.3", "REVISION": "0123abc", "CREATED": "2001-02-03T04:05:06Z"}
# What docker/README.md recommends, and no /tmp either, which Podman adds to a root that is only read.
TIGHT = ("--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL", "--security-opt=no-new-privileges")

MOST = 4096  # open files, and processes


@dataclass(frozen=True)
class Image:
    """An image in the engine's store."""

    name: str
    facts: dict[str, Any]  # what `podman image inspect` says

    @cached_property
    def config(self) -> dict[str, Any]:
        """The image's own configuration: user, environment, entrypoint, command, labels, ports, signal to stop."""
        return dict(self.facts["Config"])

    @property
    def health(self) -> dict[str, Any]:
        """Its health check; empty where it has none."""
        return dict(self.facts.get("Healthcheck") or {})

    @property
    def megabytes(self) -> float:
        """The size of all its layers, in units of 10⁶ bytes."""
        return float(self.facts["Size"]) / 1e6


class Engine:
    """Podman with its store below a folder and its sockets in /run, apart from those of the machine."""

    def __init__(self, work: Path, runtime: str, driver: str, *, keep: bool) -> None:
        self.work, self.keep = work.resolve(), keep
        self.store = self.work / "store"
        # A short path, as sockets need it, and the same for the same folder, as a store that is kept needs it.
        self.state = Path("/run", f"unroll-{hashlib.sha256(bytes(self.work)).hexdigest()[:12]}")
        self.command = ["podman", f"--root={self.store}", f"--runroot={self.state}", f"--storage-driver={driver}"]
        self.command += ["--cgroup-manager=cgroupfs", "--events-backend=file"]
        self.command += ["--log-level=fatal"]  # without systemd it logs an error for each timer of a health check
        self.command += [f"--runtime={shutil.which(runtime) or runtime}"] if runtime else []
        temporary = self.work / "tmp"
        temporary.mkdir(exist_ok=True)
        self.environment = {**os.environ, "TMPDIR": str(temporary)}

    def __call__(self, *words: object, timeout: float | None = None) -> str:
        """Run one command of Podman and give its output; the proof ends where it fails. Raises TimeoutExpired."""
        return self.attempt(*words, timeout=timeout, check=True).stdout.strip()

    def attempt(
        self, *words: object, timeout: float | None = None, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run one command of Podman, and give its status."""
        command = [*self.command, *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, env=self.environment
        )
        if check and done.returncode:
            raise SystemExit(f"{shlex.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
        return done

    def has(self, name: str) -> bool:
        """Whether an image of this name is in the store."""
        return self.attempt("image", "exists", name).returncode == 0

    def build(self, project: Path, target: str, arguments: dict[str, str], flags: Sequence[str]) -> Image:
        """Build a target of the project's Dockerfile, its output on ours."""
        name = f"localhost/unroll:{target}"
        words = ["build", f"--target={target}", f"--tag={name}", "--network=host", "--pull=never"]
        words += ["--format=docker"]  # the other format has no health check
        words += [f"--build-arg={one}={value}" for one, value in arguments.items()]
        check([*self.command, *words, *flags, str(project)], self.environment)
        return Image(name, json.loads(self("image", "inspect", name))[0])

    def mounted(self, image: Image) -> Path:
        """The root of an image, to be looked at."""
        return Path(self("image", "mount", image.name))

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, *_: object) -> None:
        self.attempt("rm", "--all", "--force", "--time=0")
        self.attempt("image", "umount", "--all")
        # Podman mounts the first two on themselves; debootstrap, when it is interrupted, leaves the others mounted.
        for place in ("store/overlay", "store/vfs", "debian/proc", "debian/sys"):
            subprocess.run(["umount", str(self.work / place)], capture_output=True, check=False)
        shutil.rmtree(self.state, ignore_errors=True)
        if not self.keep:
            shutil.rmtree(self.work)


def check(command: Sequence[str], environment: dict[str, str] | None = None) -> None:
    """Run a command, its output on ours; the proof ends where one fails."""
    if status := subprocess.run(command, check=False, env=environment).returncode:
        raise SystemExit(f"It ended with {status}: {shlex.join(command)}")


def limits() -> list[str]:
    """Limits a container gets in place of Podman's own, which are above what some machines allow."""
    most = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
    hard = {name: resource.getrlimit(one)[1] for name, one in most.items()}
    found = {name: MOST if one == resource.RLIM_INFINITY else min(MOST, one) for name, one in hard.items()}
    return [f"--ulimit={name}={value}:{value}" for name, value in found.items()]
