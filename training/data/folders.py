"""The text files below a folder, sorted; runs, environments, caches and other formats are skipped and counted."""

import os
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from model.checkpoint import CONFIG, TOKENIZER, WEIGHTS
from model.errors import CorpusError
from training.data.file_formats import archiver, foreign
from training.data.left_out import LeftOut
from training.data.sources import FileSource, Source

# What a run writes into its folder. Only these are passed over in one, so that a run inside its own corpus reads the
# same before it begins and when it goes on.
OF_A_RUN = {"best", "last", "resume", "tensorboard", "metrics.jsonl", "curves.svg", "report.html"}
RECORD = Path("resume") / "run.json"

MADE_BY_TOOLS = {"node_modules": "node_modules", "__pycache__": "cache"}  # folders by their names
CACHE_TAG = b"Signature: 8a477f597d28d172789f06886806bc55"  # bford.info/cachedir: begins CACHEDIR.TAG of any cache


def text_files(folder: Path, encoding: str, left_out: LeftOut) -> list[FileSource]:
    """The files below a folder that may be text, sorted as their paths are; the rest is counted in `left_out`.

    Passed over: what is hidden, binary or unreadable, archives, folders that are links, checkpoints, what a run left,
    virtual environments, caches, repositories of git, node_modules.
    Raises CorpusError where the folder is a checkpoint or cannot be listed.
    """
    if is_checkpoint(folder):
        raise CorpusError(f"{folder} is a checkpoint, not a text; name the text to train on.")
    files = []
    for path in _files(folder, left_out):
        source = FileSource(path)
        if (kind := why_not(source, encoding)) is None:
            files.append(source)
        else:
            left_out.add(kind, source.name)
    return files


def _files(folder: Path, left_out: LeftOut) -> Iterator[Path]:
    """Files below a folder that are not passed over for where they lie."""
    waiting = list(reversed(_entries(folder)))
    while waiting:  # not by recursion: folders may be nested deeper than Python's stack
        path = waiting.pop()
        try:
            if (kind := _passed_over(path)) is not None:
                left_out.add(kind, str(path))
            elif path.is_dir():
                waiting += reversed(_entries(path))
            else:
                yield path
        except OSError:
            left_out.add("unreadable folder" if os.path.isdir(path) else "unreadable", str(path))


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted as the paths of everything below it are."""
    return sorted(folder.iterdir())


def _passed_over(path: Path) -> str | None:
    """The kind of an entry that is not looked into; None for a folder or a file that is. Raises OSError."""
    if path.name.startswith("."):
        return "hidden"
    if path.name in OF_A_RUN and is_run(path.parent):
        return "part of a run"
    try:
        mode = path.stat().st_mode
    except OSError:
        if path.is_symlink():
            return "broken link"
        raise
    if not S_ISDIR(mode):
        return None if S_ISREG(mode) else "special"
    return "linked folder" if path.is_symlink() else _made_by_tools(path)


def _made_by_tools(folder: Path) -> str | None:
    """What kind of folder this is that no person wrote; None where it may hold a person's text."""
    if is_checkpoint(folder):
        return "checkpoint"
    if (folder / "pyvenv.cfg").is_file() or (folder / "conda-meta").is_dir():
        return "virtual environment"
    if (folder / "HEAD").is_file() and (folder / "objects").is_dir() and (folder / "refs").is_dir():
        return "git repository"
    tag = folder / "CACHEDIR.TAG"
    if tag.is_file() and tag.read_bytes()[: len(CACHE_TAG)] == CACHE_TAG:
        return "cache"
    return MADE_BY_TOOLS.get(folder.name)


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like a checkpoint of Unroll. Raises OSError where it cannot be searched."""
    return all((folder / name).is_file() for name in (CONFIG, WEIGHTS, TOKENIZER))


def is_run(folder: Path) -> bool:
    """Whether a folder holds a training run, resumable or finished. Raises OSError where it cannot be searched."""
    return (folder / RECORD).is_file() or any(is_checkpoint(folder / name) for name in ("best", "last"))


def why_not(source: Source, encoding: str) -> str | None:
    """The kind by which a file is passed over for what it holds; None where it may be text."""
    try:
        head = source.head()
    except CorpusError:
        return "unreadable"
    if archiver(head):
        return "archive"
    found = foreign(head, encoding)
    return None if found is None else found.kind
