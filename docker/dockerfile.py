"""Reads a Dockerfile and a .dockerignore: the stages with their instructions, and which files a build would be sent."""

import fnmatch
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

# Those this project uses; another one is an error here, so that nothing is passed over in silence.
INSTRUCTIONS = {"FROM", "ARG", "ENV", "RUN", "COPY", "WORKDIR", "USER", "LABEL", "EXPOSE", "HEALTHCHECK"}
INSTRUCTIONS |= {"STOPSIGNAL", "ENTRYPOINT", "CMD"}
NEVER = {".git", ".venv"}  # not even walked through: no pattern of ours lets them in, and they are large
VARIABLE = re.compile(r"\$(?:\{(\w+)(:[-+][^}]*)?\}|(\w+))")


@dataclass(frozen=True)
class Instruction:
    """One instruction: its name, its flags such as `--from=base`, and the rest of its text."""

    name: str
    flags: dict[str, str]
    text: str

    @property
    def words(self) -> list[str]:
        """Its arguments, in the JSON form a list, in the other one the words between spaces."""
        return list(json.loads(self.text)) if self.text.startswith("[") else self.text.split()


@dataclass
class Stage:
    """One stage: its name, what it stands on, and its instructions after FROM."""

    name: str
    base: str
    instructions: list[Instruction] = field(default_factory=list)

    def all(self, name: str) -> list[Instruction]:
        """Its own instructions of one name."""
        return [one for one in self.instructions if one.name == name]


def read(text: str) -> tuple[dict[str, str], list[Stage]]:
    """Arguments before the first stage with their defaults, and the stages in order.

    Raises ValueError on an instruction this reader does not know.
    """
    given: dict[str, str] = {}
    stages: list[Stage] = []
    for one in _instructions(text):
        if one.name == "FROM":
            base, *rest = substitute(one.text, given).split()
            stages.append(Stage(rest[1] if rest else str(len(stages)), base))
        elif stages:
            stages[-1].instructions.append(one)
        else:
            name, _, value = one.text.partition("=")
            given[name] = value
    return given, stages


def lineage(stages: list[Stage], name: str) -> list[Stage]:
    """A stage and those of the file it stands on, from the ground up."""
    named = {stage.name: stage for stage in stages}
    found = [named[name]]
    while found[0].base in named:
        found.insert(0, named[found[0].base])
    return found


def needed(stages: list[Stage], name: str) -> list[Stage]:
    """The stages that building one takes, in the order of the file: those it stands on, and those it copies from."""
    named = {stage.name: stage for stage in stages}
    open_, found = [name], set()
    while open_:
        stage = named[open_.pop()]
        found.add(stage.name)
        sources = [stage.base, *(one.flags["from"] for one in stage.all("COPY") if "from" in one.flags)]
        open_ += [source for source in sources if source in named and source not in found]
    return [stage for stage in stages if stage.name in found]


def substitute(text: str, values: dict[str, str]) -> str:
    """The text with `$NAME` and `${NAME}` replaced; what is not set is empty, as in a build."""

    def value(match: re.Match[str]) -> str:
        if match[2]:
            raise ValueError(f"{match[0]} is a form of variable this reader does not know")
        return values.get(match[1] or match[3], "")

    return VARIABLE.sub(value, text)


def assignments(text: str) -> dict[str, str]:
    """The NAME=value pairs of ENV and LABEL, their quotes taken off."""
    pairs = re.findall(r'([\w.]+)=("(?:[^"\\]|\\.)*"|\S*)', text)
    return {name: value[1:-1] if value.startswith('"') else value for name, value in pairs}


def _instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\s*\n\s*", "", "\n".join(lines))
    found = []
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.strip().partition(" ")
        if name not in INSTRUCTIONS:
            raise ValueError(f"{name} is an instruction this reader does not know")
        flags, rest = {}, rest.strip()
        while match := re.match(r"--([a-z-]+)=(\S+)\s+", rest):
            flags[match[1]] = match[2]
            rest = rest[match.end() :]
        found.append(Instruction(name, flags, rest))
    return found


def context(root: Path, ignored: str) -> list[Path]:
    """The files below a folder that a build is sent, relative to it.

    ignored: the text of .dockerignore, of whose patterns the last that matches decides.
    """
    patterns = [line.strip() for line in ignored.splitlines() if line.strip() and not line.startswith("#")]
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - NEVER)
        paths = [(Path(folder) / name).relative_to(root) for name in sorted(names)]
        found += [path for path in paths if sent(path.as_posix(), patterns)]
    return found


def sent(path: str, patterns: list[str]) -> bool:
    """Whether the patterns let a file into the context; a pattern that matches a folder matches all in it."""
    parts = path.split("/")
    paths = ["/".join(parts[: count + 1]) for count in range(len(parts))]
    inside = True
    for pattern in patterns:
        shown = pattern.startswith("!")
        if any(_matches(one, pattern.lstrip("!").strip("/")) for one in paths):
            inside = shown
    return inside


def _matches(path: str, pattern: str) -> bool:
    """A `*` stays inside one name; `**/` stands for any folders, none among them."""
    if pattern.startswith("**/"):
        return fnmatch.fnmatchcase(path.rpartition("/")[2], pattern[3:])
    return path.count("/") == pattern.count("/") and fnmatch.fnmatchcase(path, pattern)
