"""A corpus is prepared once for each content: whole or not at all, the same ids as in memory, in bounded memory."""

import fcntl
import gzip
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from model.errors import CorpusError
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import Ids, count_characters
from training.data.corpus import Corpus
from training.data.named_corpus import open_corpus
from training.data.prepared_corpus import FACTS, IDS, Prepared, count_ids, prepare, release, spelt
from training.data.sources import FileSource, Source, TextSource
from training.data.split import split

ROOT = Path(__file__).parents[3]
TEXT = "Ein Text über Wörter,\r\n詩 und 😀 – und selten ¿ɸÀ.\n" * 400
STATUS = Path("/proc/self/status")

linux = pytest.mark.skipif(not STATUS.exists(), reason="needs Linux's account of a process's memory")


def corpus_of(text: str, name: str = "text") -> Corpus:
    return Corpus([TextSource(name, text)])


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def resident(kind: str) -> float:
    """Megabytes of our memory of that kind."""
    return int(STATUS.read_text().split(f"{kind}:")[1].split()[0]) / 1000


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(words, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


@pytest.mark.parametrize("min_count", [1, 401])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "gb18030"])
def test_prepared_ids_and_facts_are_those_of_the_text(tmp_path: Path, encoding: str, min_count: int) -> None:
    corpus = Corpus([FileSource(write(tmp_path / "a.txt", TEXT.encode(encoding)))], encoding)
    made = prepare(corpus, tmp_path / "kept", min_count=min_count)
    facts, counts = corpus.survey()
    text = TEXT.replace("\r\n", "\n")
    assert made.facts == facts
    assert made.tokenizer.characters == counts.frequent(min_count)
    assert made.ids.dtype == np.uint16
    assert made.ids.tolist() == made.tokenizer.encode(text).tolist()
    assert made.tokenizer.decode(made.ids.tolist()) == text
    found = prepare(corpus, tmp_path / "kept", min_count=min_count)
    assert (made.reused, found.reused) == (False, True)
    assert (found.facts, found.path) == (facts, made.path)
    assert found.tokenizer.characters == made.tokenizer.characters
    assert np.array_equal(found.ids, made.ids)
    assert not found.ids.flags.writeable


def test_a_folder_an_archive_and_latin_1_are_prepared_like_their_text(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    write(folder / "a.txt", "première".encode("latin-1"))
    write(folder / "b.gz", gzip.compress("deuxième\r\n".encode("latin-1") * 900))
    write(folder / "c", b"\x85 fin")
    made = prepare(open_corpus([str(folder)], "latin-1"), tmp_path / "kept")
    text = "première\n" + "deuxième\n" * 900 + "\x85 fin"
    assert made.tokenizer.decode(made.ids.tolist()) == text
    assert made.facts.characters == len(text) == len(made.ids)


def test_more_than_sixty_five_thousand_different_characters_have_their_ids(tmp_path: Path) -> None:
    text = "".join(map(chr, [*range(0x100, 0xD800), *range(0x10000, 0x14000)]))
    made = prepare(corpus_of(text), tmp_path)
    assert made.ids.dtype == np.uint32
    assert made.ids.tolist() == list(range(256, 256 + len(text)))


def test_an_empty_corpus_has_no_ids(tmp_path: Path) -> None:
    for reused in (False, True):
        prepared = prepare(corpus_of(""), tmp_path)
        assert (len(prepared.ids), prepared.facts.characters, prepared.reused) == (0, 0, reused)
    with pytest.raises(CorpusError, match="has 0 characters"):
        split(prepared.ids)


class CountedSource(TextSource):
    """Counts how often it is read."""

    opened = 0

    def open(self) -> IO[bytes]:
        self.opened += 1
        return super().open()


def test_the_second_time_nothing_is_written_and_the_text_is_read_once(tmp_path: Path) -> None:
    source = CountedSource("text", TEXT)
    made = prepare(Corpus([source]), tmp_path)
    assert source.opened == 3
    before = {path: path.stat() for path in [made.path, *made.path.iterdir()]}
    assert prepare(Corpus([source]), tmp_path).reused
    assert source.opened == 4
    after = {path: path.stat() for path in [made.path, *made.path.iterdir()]}
    assert [(s.st_ino, s.st_mtime_ns) for s in after.values()] == [(s.st_ino, s.st_mtime_ns) for s in before.values()]
    assert list(tmp_path.iterdir()) == [made.path]


def test_the_same_content_under_another_name_or_packed_is_found_and_named_as_it_is_now(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.txt", TEXT.encode())
    packed = write(tmp_path / "b.gz", gzip.compress(TEXT.encode()))
    made = prepare(Corpus([FileSource(plain)]), tmp_path / "kept")
    found = prepare(Corpus([FileSource(packed)], "UTF8"), tmp_path / "kept")
    assert found.reused
    assert (found.facts.names, found.facts.encoding) == ((str(packed),), "UTF8")
    assert found.path == made.path


def test_what_would_give_other_ids_is_not_found(tmp_path: Path) -> None:
    prepare(corpus_of("ab\n" * 100), tmp_path)
    halves = [TextSource("a", "ab"), TextSource("b", "\n" + "ab\n" * 99)]  # the same bytes, and a line break between
    others: list[tuple[Corpus, int, Tokenizer | None]] = [
        (corpus_of("ab\n" * 99 + "aB\n"), 1, None),
        (corpus_of("ab\n" * 100), 101, None),
        (corpus_of("ab\n" * 100), 1, Tokenizer("b")),
        (corpus_of("ab\n" * 100), 1, Tokenizer("c")),
        (Corpus([TextSource("text", "ab\n" * 100)], "latin-1"), 1, None),
        (Corpus(halves), 1, None),
    ]
    for corpus, min_count, extending in others:
        prepared = prepare(corpus, tmp_path, min_count=min_count, extending=extending)
        assert not prepared.reused
        assert prepared.tokenizer.decode(prepared.ids.tolist()) == "".join(corpus.blocks())
    assert len(list(tmp_path.iterdir())) == 1 + len(others)


def test_an_extended_vocabulary_keeps_its_ids_and_adds_the_frequent_characters_sorted(tmp_path: Path) -> None:
    old = Tokenizer("\n zcab")
    text = "abc zéàéà b\n" * 10 + "ß"
    made = prepare(corpus_of(text), tmp_path, min_count=2, extending=old)
    assert made.tokenizer.characters == "\n zcab" + "àé"
    assert np.array_equal(made.tokenizer.encode("abc \nz"), old.encode("abc \nz"))
    assert made.ids.tolist() == made.tokenizer.encode(text).tolist()
    assert made.ids[-2:].tolist() == list("ß".encode())


def damage_facts(path: Path) -> None:
    written = json.loads((path / FACTS).read_text())
    written["values"]["vocabulary"] = written["values"]["vocabulary"][::-1]
    (path / FACTS).write_text(json.dumps(written))


DAMAGES: dict[str, Callable[[Path], object]] = {
    "truncated ids": lambda path: os.truncate(path / IDS, (path / IDS).stat().st_size - 2),
    "half an id too many": lambda path: os.truncate(path / IDS, (path / IDS).stat().st_size + 1),
    "no ids": lambda path: (path / IDS).unlink(),
    "no facts": lambda path: (path / FACTS).unlink(),
    "facts cut off": lambda path: os.truncate(path / FACTS, 100),
    "facts that are not text": lambda path: (path / FACTS).write_bytes(b"\xff\0"),
    "other JSON": lambda path: (path / FACTS).write_text("[1]"),
    "another vocabulary": damage_facts,
    "nothing at all": shutil.rmtree,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_made_again(tmp_path: Path, damage: str) -> None:
    made = prepare(corpus_of(TEXT), tmp_path)
    ids, characters = made.ids.tolist(), made.tokenizer.characters
    DAMAGES[damage](made.path)
    again = prepare(corpus_of(TEXT), tmp_path)
    assert not again.reused
    assert (again.ids.tolist(), again.tokenizer.characters) == (ids, characters)
    assert prepare(corpus_of(TEXT), tmp_path).reused
    assert list(tmp_path.iterdir()) == [made.path]


FULL = """
import resource, sys
from pathlib import Path
from model.errors import CorpusError
from training.data.corpus import Corpus
from training.data.sources import TextSource
from training.data.prepared_corpus import prepare
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    prepare(Corpus([TextSource("text", "".join(map(chr, range(0x4E00, 0x9E00))))]), Path(sys.argv[1]))
except CorpusError as error:
    print(error)
"""


@pytest.mark.parametrize("room", [0, 20_000, 60_000])  # bytes: none, for some of the ids, for all ids but not the facts
def test_a_full_disk_leaves_nothing_behind_and_says_what_to_do(tmp_path: Path, room: int) -> None:
    said, _ = run_python(FULL, tmp_path, room).communicate()
    assert "about 1 MB, cannot be kept in" in said
    assert "make room there, or choose another --out" in said
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"cannot be kept in .*file/below \(Not a directory\)"):
        prepare(corpus_of(TEXT), write(tmp_path / "file", b"") / "below")


class GrowingSource(Source):
    """A file somebody appends to; after so many readings it has grown."""

    def __init__(self, path: Path, readings: int) -> None:
        super().__init__("log")
        self.path, self.readings = path, readings

    def open(self) -> IO[bytes]:
        if self.readings == 0:
            self.path.write_bytes(self.path.read_bytes() + b"one more\n")
        self.readings -= 1
        return self.path.open("rb")


@pytest.mark.parametrize("readings", [1, 2])
def test_a_corpus_that_changes_while_it_is_read_is_not_kept(tmp_path: Path, readings: int) -> None:
    source = GrowingSource(write(tmp_path / "log", b"a line\n" * 1000), readings)
    with pytest.raises(CorpusError, match="changed while it was read; train on a copy"):
        prepare(Corpus([source]), tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []
    assert not prepare(Corpus([source]), tmp_path / "kept").reused


def test_what_a_killed_process_left_is_removed_and_what_another_is_writing_is_not(tmp_path: Path) -> None:
    left, held, young = (tmp_path / f".new-{name}" for name in ("left", "held", "young"))
    for path in (left, held, young):
        path.mkdir()
        write(path / IDS, b"half of it")
        os.utime(path, (time.time() - 3600,) * 2 if path is not young else None)
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    made = prepare(corpus_of(TEXT), tmp_path)
    os.close(descriptor)
    assert set(tmp_path.iterdir()) == {held, young, made.path}


class Meanwhile(TextSource):
    """Does something when the ids are about to be written, at the third reading."""

    def __init__(self, text: str, act: Callable[[], object]) -> None:
        super().__init__("text", text)
        self.acts: list[Callable[[], object]] = [lambda: None, lambda: None, act]

    def open(self) -> IO[bytes]:
        self.acts.pop(0)()
        return super().open()


def test_what_another_process_put_in_place_meanwhile_is_taken_and_not_replaced(tmp_path: Path) -> None:
    inodes: list[int] = []

    def prepare_the_same() -> None:
        other = prepare(corpus_of(TEXT), tmp_path)
        assert not other.reused
        inodes.append((other.path / IDS).stat().st_ino)

    made = prepare(Corpus([Meanwhile(TEXT, prepare_the_same)]), tmp_path)
    assert inodes == [(made.path / IDS).stat().st_ino]
    assert made.tokenizer.decode(made.ids.tolist()) == TEXT.replace("\r\n", "\n")
    assert list(tmp_path.iterdir()) == [made.path]


def test_another_process_keeps_its_hands_off_what_is_being_written_however_long_it_takes(tmp_path: Path) -> None:
    def sleep_and_let_another_prepare() -> None:
        (written,) = tmp_path.glob(".new-*")
        os.utime(written, (time.time() - 3600,) * 2)
        prepare(corpus_of("another text"), tmp_path)

    made = prepare(Corpus([Meanwhile(TEXT, sleep_and_let_another_prepare)]), tmp_path)
    assert made.tokenizer.decode(made.ids.tolist()) == TEXT.replace("\r\n", "\n")


TOGETHER = """
import hashlib, sys
from pathlib import Path
from training.data.corpus import Corpus
from training.data.sources import TextSource
from training.data.prepared_corpus import prepare
corpus = Corpus([TextSource("text", "a line of text\\n" * 100_000)])
print("ready", flush=True)
sys.stdin.readline()
prepared = prepare(corpus, Path(sys.argv[1]))
print(len(prepared.ids), hashlib.sha256(prepared.ids.tobytes()).hexdigest(), prepared.path)
"""


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_preparing_the_same_corpus_at_once_all_succeed(tmp_path: Path, damaged: bool) -> None:
    made = prepare(corpus_of("a line of text\n" * 100_000), tmp_path)
    if damaged:
        os.truncate(made.path / IDS, 100)
    else:
        shutil.rmtree(made.path)
    processes = [run_python(TOGETHER, tmp_path) for _ in range(3)]
    for process in processes:
        assert process.stdout
        assert process.stdout.readline() == "ready\n"
    said = {process.communicate("go\n")[0] for process in processes}
    again: Prepared = prepare(corpus_of("a line of text\n" * 100_000), tmp_path)
    assert again.reused
    assert len(said) == 1
    assert said.pop().split()[::2] == ["1500000", str(made.path)]
    assert list(tmp_path.iterdir()) == [made.path]


def test_ids_are_counted_and_the_characters_they_spell(tmp_path: Path) -> None:
    prepared = prepare(corpus_of(TEXT * 60), tmp_path, min_count=30_000)
    assert len(prepared.ids) > 1 << 20
    for ids in (prepared.ids, prepared.ids[7:], np.array(prepared.ids[:99])):
        counts = count_ids(ids, prepared.tokenizer.size)
        assert counts.tolist() == np.bincount(ids, minlength=prepared.tokenizer.size).tolist()
        assert spelt(counts) == count_characters(ids)


@linux
def test_releasing_any_part_gives_the_memory_of_the_whole_map_back_and_changes_no_id(tmp_path: Path) -> None:
    prepared = prepare(corpus_of("a line of text\n" * 1_000_000), tmp_path)  # a map of 30 MB
    part: Ids = split(prepared.ids).validation[10:].reshape(2, -1)
    before, total = resident("RssFile"), int(prepared.ids.sum(dtype=np.int64))
    assert resident("RssFile") > before + 25
    release(part)
    assert resident("RssFile") < before + 3
    assert int(prepared.ids.sum(dtype=np.int64)) == total
    plain = np.arange(9)
    release(plain)
    assert plain.tolist() == list(range(9))


MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
from training.data.corpus import Corpus
from training.data.sources import FileSource
from training.data.prepared_corpus import count_ids, prepare, release, spelt
from training.data.split import split
prepared = prepare(Corpus([FileSource(Path(sys.argv[1]))]), Path(sys.argv[2]))
train = split(prepared.ids).train
assert spelt(count_ids(train, prepared.tokenizer.size)) == len(train)
width = len(train) // 32
for number, at in enumerate(range(0, width, 1 << 12), 1):
    train.take(np.arange(32)[:, None] * width + np.arange(at, at + (1 << 12)), mode="wrap").astype(np.int64)
    if number % 8 == 0:
        release(train)
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


@linux
def test_the_memory_of_preparing_and_reading_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    peaks = []
    for megabytes in (6, 60, 60):  # made, made, and found
        text = write(tmp_path / f"{megabytes}.txt", "A line, and anöther.\n".encode() * (megabytes * 45_000))
        said, _ = run_python(MEMORY, text, tmp_path / "kept").communicate()
        peaks.append(int(said) / 1000)
    assert max(peaks) - min(peaks) < 6, peaks  # MB; the larger text's ids have 120
