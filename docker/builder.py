"""Builds stages of the Dockerfile without an engine, each in a folder of its own where its commands run."""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dockerfile import Instruction, Stage, assignments, context, needed, read, substitute

# What stands for the official Python image: Debian of the same release with its own Python under the same names.
PACKAGES = "ca-certificates,netbase,tzdata,python3,python3-venv,python3-pip,python-is-python3"
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
OF_THE_HOST = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt")  # an engine gives its own to a build, too


@dataclass
class Image:
    """A stage that is built: its root, and what an engine would keep beside it."""

    root: Path
    key: str
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )
    arguments: dict[str, str] = field(default_factory=dict)
    folder: str = "/"
    user: str = "0:0"
    entrypoint: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    health: list[str] = field(default_factory=list)


def quoted(*words: object) -> str:
    """The words as one command of a shell."""
    return shlex.join(map(str, words))


def mounts(root: Path, binds: Sequence[str]) -> list[str]:
    """Commands that give a root /proc, a /dev with the harmless devices, and folders or files of the host."""
    lines = [
        quoted("mount", "-t", "proc", "proc", root / "proc"),
        quoted("mount", "-t", "tmpfs", "tmpfs", root / "dev"),
    ]
    for name in DEVICES:
        lines.append(quoted("touch", root / "dev" / name))
        lines.append(quoted("mount", "--bind", f"/dev/{name}", root / "dev" / name))
    lines.append(quoted("ln", "-s", "/proc/self/fd", root / "dev/fd"))
    for bind in binds:
        source, _, target = bind.partition(":")
        lines.append(quoted("mount", "--bind", source, f"{root}{target or source}"))
    return lines


class Builder:
    """Builds stages below a folder; one whose instructions and files are as they were is taken as it lies there."""

    def __init__(
        self, project: Path, work: Path, *, suite: str, mirror: str, arguments: dict[str, str], binds: list[str]
    ) -> None:
        self.project, self.work, self.suite, self.mirror = project, work, suite, mirror
        self.arguments = arguments
        self.binds = [*binds, *(path for path in OF_THE_HOST if Path(path).exists())]
        self.defaults, self.stages = read((project / "Dockerfile").read_text("utf-8"))
        self.files = context(project, (project / ".dockerignore").read_text("utf-8"))
        self.images: dict[str, Image] = {}

    def build(self, target: str) -> Image:
        """The image of a stage, and before it all it takes."""
        for stage in needed(self.stages, target):
            if stage.name not in self.images:
                self.images[stage.name] = self._stage(stage)
        return self.images[target]

    def _ground(self) -> Image:
        """What FROM names, made of Debian's packages."""
        image = Image(self.work / f"debian-{self.suite}", self.suite)
        if not (image.root / "usr/bin/python3").exists():
            say(f"FROM a registry: instead, {self.suite} from Debian's packages with Debian's Python")
            shutil.rmtree(image.root, ignore_errors=True)
            mirror = [self.mirror] if self.mirror else []
            check(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", self.suite, str(image.root), *mirror])
        return image

    def _stage(self, stage: Stage) -> Image:
        below = self.images.get(stage.base) or self._ground()
        key = hashlib.sha256(f"{below.key}{[self._key(one) for one in stage.instructions]}".encode()).hexdigest()[:16]
        image = Image(
            self.work / f"{self.suite}-{stage.name}",
            key,
            dict(below.environment),
            dict(below.arguments),
            below.folder, below.user, below.entrypoint, below.command, dict(below.labels), below.health,
        )  # fmt: skip
        mark = image.root.with_suffix(".key")
        kept = mark.exists() and mark.read_text() == key
        say(f"\nstage {stage.name}" + (": as it was" if kept else ""))
        if not kept:
            shutil.rmtree(image.root, ignore_errors=True)
            mark.unlink(missing_ok=True)
            check(["cp", "--archive", str(below.root), str(image.root)])
        for one in stage.instructions:
            self._apply(one, image, kept)
        mark.write_text(key)
        return image

    def _key(self, one: Instruction) -> str:
        """All that an instruction's result hangs on."""
        if one.name != "COPY":
            return f"{one}{self.arguments}" if one.name in {"ARG", "RUN"} else str(one)
        if source := one.flags.get("from"):
            return f"{one}{self.images[source].key}"
        contents = [(str(path), (self.project / path).read_bytes()) for path in self._copied(one)]
        return f"{one}{hashlib.sha256(repr(contents).encode()).hexdigest()}"

    def _copied(self, one: Instruction) -> list[Path]:
        """The files of the context that a COPY takes; an error where a source is not in it, as in a build."""
        found = []
        for source in one.words[:-1]:
            below = [path for path in self.files if path == Path(source) or Path(source) in path.parents]
            if not below:
                raise SystemExit(f"COPY {source}: the context has no such file; see .dockerignore.")
            found += below
        return found

    def _apply(self, one: Instruction, image: Image, kept: bool) -> None:
        known = {**image.environment, **image.arguments}
        match one.name:
            case "ARG":
                name, _, default = one.text.partition("=")
                if name in self.arguments or default:
                    image.arguments[name] = self.arguments.get(name, default)
            case "ENV":
                image.environment.update(assignments(substitute(one.text, known)))
            case "LABEL":
                image.labels.update(assignments(substitute(one.text, known)))
            case "WORKDIR":
                image.folder = one.text
                (image.root / one.text.lstrip("/")).mkdir(parents=True, exist_ok=True)
            case "USER":
                image.user = one.text
            case "ENTRYPOINT":
                image.entrypoint, image.command = one.words, []
            case "CMD":
                image.command = one.words
            case "HEALTHCHECK":
                image.health = json.loads(one.text.removeprefix("CMD")) if one.text != "NONE" else []
            case "COPY" if not kept:
                self._copy(one, image)
            case "RUN" if not kept:
                self._run(one, image)

    def _copy(self, one: Instruction, image: Image) -> None:
        say(f"  COPY {one.text}")
        *sources, target = one.words
        to = Path(os.path.normpath(f"{image.root}/{target if target[0] == '/' else f'{image.folder}/{target}'}"))
        if stage := one.flags.get("from"):
            to.mkdir(parents=True, exist_ok=True)
            for source in sources:
                check(["cp", "--archive", f"{self.images[stage].root}{source}/.", str(to)])
            return
        for path in self._copied(one):
            taken = next(Path(name) for name in sources if path == Path(name) or Path(name) in path.parents)
            inner = path.relative_to(taken) if path != taken else Path(path.name)
            (to / inner).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(self.project / path, to / inner)

    def _run(self, one: Instruction, image: Image) -> None:
        say(f"  RUN {one.text}")
        environment = {**forwarded(), **image.arguments, **image.environment}
        made = prepare(image.root, self.binds)
        inner = [
            "env",
            "--ignore-environment",
            f"--chdir={image.folder}",
            *pairs(environment),
            "/bin/sh",
            "-c",
            one.text,
        ]
        script = ["set -e", *mounts(image.root, self.binds)]
        script.append("exec " + quoted("chroot", f"--userspec={image.user}", image.root, *inner))
        check(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(script)])
        for folder in made:
            folder.rmdir()


def prepare(root: Path, binds: Sequence[str]) -> list[Path]:
    """Make the places that something will be mounted on; the folders that were made for it, the innermost first."""
    made = []
    for bind in binds:
        source, _, target = bind.partition(":")
        place = Path(f"{root}{target or source}")
        if Path(source).is_dir():
            missing = [one for one in (place, *place.parents) if not one.exists()]
            place.mkdir(parents=True, exist_ok=True)
            made += missing
        elif not place.exists():
            place.touch()
    return made


def forwarded() -> dict[str, str]:
    """How pip finds packages on this machine, where it is told so in variables; an engine has build arguments."""
    return {name: value for name, value in os.environ.items() if name.startswith("PIP_")}


def pairs(environment: dict[str, str]) -> list[str]:
    """As arguments of `env`."""
    return [f"{name}={value}" for name, value in environment.items()]


def check(command: list[str]) -> None:
    """Run a command, its output on ours; the proof ends where one fails."""
    if status := subprocess.run(command, check=False).returncode:
        raise SystemExit(f"It ended with {status}: {quoted(*command)[-2000:]}")


def say(line: str) -> None:
    """A line of what happens."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
