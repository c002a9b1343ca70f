"""A corpus as ids in a memory map, made once for each content and found again by it, in memory that does not grow."""

import codecs
import contextlib
import fcntl
import hashlib
import json
import mmap
import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from model.errors import CorpusError
from model.files import synchronise, synchronise_folder
from model.text.tokenizer import CharacterCounts, Tokenizer
from model.text.utf8_ids import Ids, begins_character
from training.data.corpus import ContentSum, Corpus, CorpusFacts
from training.data.rare_characters import EACH, PLANNED, RareCharacters, rare_characters

FORMAT = 1  # part of every key: raised whenever the same text would give other ids or other facts
IDS, FACTS = "ids", "facts.json"

# Ids written at once. The kernel keeps a file in its cache in pieces as large as they were written, and maps a whole
# piece when one id of it is read: written by the megabyte, 32 sequences would hold 32 MB from their first step on.
WRITTEN = 1 << 16

COUNTED = 1 << 20  # ids counted before their pages are given back: 2 MB of the map, 8 MB as numpy widens them

ABANDONED = 10  # seconds after which a temporary folder that nobody holds is a killed process's; taking hold takes less


@dataclass(frozen=True)
class Prepared:
    """A corpus ready to train on.

    facts: what a reading found, under the names of this run. tokenizer: its vocabulary.
    ids: of the whole text (n,), read-only, in the tokenizer's type: two bytes each below 65,536 different ids. They
        are a view of the map; its pages count as this process's memory from when they are read until `release`.
    reused: whether they were found rather than made. path: the folder they are in, which may be removed at any time
        that no run uses it. rare: what became of rare characters.
    """

    facts: CorpusFacts
    tokenizer: Tokenizer
    ids: Ids
    reused: bool
    path: Path
    rare: RareCharacters = EACH


def prepare(corpus: Corpus, folder: Path, *, min_count: int | None = 1, extending: Tokenizer | None = None) -> Prepared:
    """The ids of a corpus, from `folder` if its content was prepared there before, else made and left there.

    The sources are read once to know their content, and when it is new twice more: for the vocabulary and for the
    ids. What is in `folder` is whole: written elsewhere, synchronised, renamed. Several processes may prepare at once.

    min_count: characters rarer than this are spelt in bytes; None is planned, as rare_characters.py says.
    extending: a vocabulary whose characters keep their ids, seen or not; those of the corpus follow, sorted.
    Raises CorpusError where the corpus is no text, changes while it is read, or does not fit on the disk; nothing of
    it is then left there.
    """
    content = corpus.content_sum()
    path = folder / _key(content, corpus, min_count, extending)
    path = path.with_name(os.readlink(path)) if path.is_symlink() else path
    if (found := _find(path, corpus)) is not None:
        return found
    facts, counts = corpus.survey()
    rare = rare_characters(counts, min_count, "" if extending is None else extending.characters)
    chosen = folder / _key(content, corpus, rare.min_count, extending)
    if (found := _find(chosen, corpus)) is not None:
        _name_also(path, chosen)
        return replace(found, rare=rare)
    tokenizer = Tokenizer(_vocabulary(counts, rare.min_count, extending))
    try:
        with _temporary_folder(folder) as temporary:
            _write(temporary, corpus, content, facts, tokenizer, rare)
            made = _put_in_place(temporary, chosen, corpus)
            _name_also(path, chosen)
    except OSError as error:
        size = max(1, facts.characters * tokenizer.dtype.itemsize / 1e6)
        raise CorpusError(
            f"The prepared corpus, about {size:,.0f} MB, cannot be kept in {folder} ({error.strerror or error}); "
            "make room there, or choose another --out."
        ) from error
    return replace(made, reused=False)


def _name_also(path: Path, chosen: Path) -> None:
    """Let what was planned be found by the plan's name too, and not surveyed again; where the disk knows links."""
    with contextlib.suppress(OSError):
        if path != chosen:
            path.symlink_to(chosen.name)


def _key(content: str, corpus: Corpus, min_count: int | None, extending: Tokenizer | None) -> str:
    """One name for everything the ids depend on."""
    vocabulary = "" if extending is None else extending.characters
    parts = [FORMAT, sys.byteorder, content, codecs.lookup(corpus.encoding).name, min_count or PLANNED, vocabulary]
    parts += ["replacing"] if corpus.replacing else []
    parts += ["ending", corpus.ending] if corpus.ending else []
    parts += ["labelled", *corpus.labels] if corpus.labels else []
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _vocabulary(counts: CharacterCounts, min_count: int, extending: Tokenizer | None) -> str:
    frequent = counts.frequent(min_count)
    if extending is None:
        return frequent or "\n"
    known = set(extending.characters)
    return extending.characters + "".join(character for character in frequent if character not in known)


def _find(path: Path, corpus: Corpus) -> Prepared | None:
    """What is prepared at a path; None where there is nothing, or something that is not whole and is to be replaced."""
    try:
        written = json.loads((path / FACTS).read_text("utf-8"))
        values = written["values"]
        if written["sum"] != _sum(values):
            return None
        tokenizer = Tokenizer(values["vocabulary"])
        if (path / IDS).stat().st_size != values["ids"] * tokenizer.dtype.itemsize:
            return None
        ids = _map(path / IDS, tokenizer.dtype)
        rare = RareCharacters(**values["rare"]) if "rare" in values else EACH
        facts = CorpusFacts(**{**values["facts"], "names": corpus.names, "encoding": corpus.encoding})
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    return Prepared(facts, tokenizer, ids, reused=True, path=path, rare=rare)


def _sum(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _map(path: Path, dtype: np.dtype[Any]) -> Ids:
    if path.stat().st_size == 0:  # nothing cannot be mapped
        return np.zeros(0, dtype)
    return np.asarray(np.memmap(path, dtype, mode="r"))


def _write(
    folder: Path, corpus: Corpus, content: str, facts: CorpusFacts, tokenizer: Tokenizer, rare: RareCharacters
) -> None:
    """Ids and facts, on the disk when this returns. Raises CorpusError where the sources are not what they were."""
    with (folder / IDS).open("wb") as file:
        count = _write_ids(file, corpus, content, tokenizer)
        synchronise(file)
    values = {"facts": asdict(facts), "ids": count, "vocabulary": tokenizer.characters, "rare": asdict(rare)}
    with (folder / FACTS).open("w", encoding="utf-8") as facts_file:
        json.dump({"values": values, "sum": _sum(values)}, facts_file)
        synchronise(facts_file)
    synchronise_folder(folder)


def _write_ids(file: IO[bytes], corpus: Corpus, content: str, tokenizer: Tokenizer) -> int:
    """How many there were."""
    read, count = ContentSum(), 0
    for text in corpus.blocks(read):
        for start in range(0, len(text), WRITTEN):
            ids = tokenizer.encode(text[start : start + WRITTEN])
            file.write(ids.data)
            count += len(ids)
    if read.hexdigest() != content:
        raise CorpusError("The corpus changed while it was read; train on a copy that nothing writes to.")
    return count


@contextlib.contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """A folder to write in, held while it is; removed unless it was renamed. What killed processes left goes, too."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".new-*"):
        _remove_if_abandoned(left)
    path = folder / f".new-{secrets.token_hex(8)}"
    path.mkdir()
    try:
        with _held(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _remove_if_abandoned(path: Path) -> None:
    """Remove a temporary folder whose lock nobody holds, which the end of a process gives back however it ends."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:  # gone, or somebody else's
        return
    try:
        if time.time() - os.fstat(descriptor).st_mtime > ABANDONED:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path, ignore_errors=True)
    except OSError:  # held, or on a disk without locks
        return
    finally:
        os.close(descriptor)


def _put_in_place(temporary: Path, path: Path, corpus: Corpus) -> Prepared:
    """Rename what was written to its path, or take what another process put there meanwhile; both are the same."""
    with _held(path.parent):
        if (found := _find(path, corpus)) is None:
            shutil.rmtree(path, ignore_errors=True)  # damaged, or not there
            os.rename(temporary, path)
            synchronise_folder(path.parent)
            found = _find(path, corpus)
    if found is None:
        raise OSError("what was written cannot be read back")
    return found


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep other processes waiting that want to hold the same folder, where the disk knows locks."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def release(ids: Ids) -> None:
    """Give the pages of a map back that were read through any part of it, so that they are no longer our memory.

    They stay in the system's cache while it has room: what is read again costs a page fault and no reading from disk.
    Ids that are in no map are left alone. Takes microseconds, and some more for every megabyte that was read.
    """
    base: Any = ids
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, mmap.mmap):
        base.madvise(mmap.MADV_DONTNEED)


def count_ids(ids: Ids, vocabulary: int) -> NDArray[np.int64]:
    """How often each id occurs, (V,); in blocks, as numpy widens each id to eight bytes to count it."""
    counts = np.zeros(vocabulary, np.int64)
    for start in range(0, len(ids), COUNTED):
        counts += np.bincount(ids[start : start + COUNTED], minlength=vocabulary)
        release(ids)
    return counts


def spelt(counts: NDArray[np.int64]) -> int:
    """How many characters ids that occur so often (V,) spell."""
    return int(counts[begins_character(np.arange(len(counts)))].sum())
