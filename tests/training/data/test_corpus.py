"""A corpus reads the same from files, folders, archives and pipes, and says exactly where it is not text."""

import gzip
import hashlib
import io
import os
import threading
from pathlib import Path

import pytest

from model.errors import CorpusError
from model.text.tokenizer import Tokenizer
from training.data.corpus import Corpus
from training.data.named_corpus import open_corpus
from training.data.sources import FileSource, PipeSource, reference_prose


def read(path: Path, encoding: str = "utf-8") -> str:
    return "".join(Corpus([FileSource(path)], encoding).blocks())


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "encoding", "text"),
    [
        (b"plain\n", "utf-8", "plain\n"),
        ("\ufeffmarked\n".encode(), "utf-8", "marked\n"),
        ("caf\u00e9\r\nth\u00e9\rfin".encode(), "utf-8", "caf\u00e9\nth\u00e9\nfin"),
        ("caf\u00e9".encode("latin-1"), "latin-1", "caf\u00e9"),
        ("caf\u00e9 \u8a69 \U0001f600".encode("utf-16"), "utf-16", "caf\u00e9 \u8a69 \U0001f600"),
        ("\u8a69".encode("gb18030"), "gb18030", "\u8a69"),
        ("a\u2028b\x85c\x0cd".encode(), "utf-8", "a\u2028b\x85c\x0cd"),
        (b"", "utf-8", ""),
    ],
)
def test_text_is_decoded_without_marks_and_with_one_kind_of_line_end(
    tmp_path: Path, content: bytes, encoding: str, text: str
) -> None:
    assert read(write(tmp_path / "a.txt", content), encoding) == text
    assert read(write(tmp_path / "a.txt.gz", gzip.compress(content)), encoding) == text


def test_a_character_or_line_end_cut_by_a_block_border_is_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.data.corpus.BLOCK", 1)
    content = "\ufeff詩\r\n😀é\r".encode()
    assert read(write(tmp_path / "a.txt", content)) == "詩\n😀é\n"


@pytest.mark.parametrize("place", [0, 3, 1_048_575, 1_048_576, 1_500_000])
def test_a_byte_that_is_no_text_is_named_by_file_and_offset(tmp_path: Path, place: int) -> None:
    content = bytearray("é".encode() * 1_000_000)
    content[place : place + 1] = b"\xff"
    with pytest.raises(CorpusError) as caught:
        read(write(tmp_path / "bad.txt", bytes(content)))
    # A stray byte inside é is found where é began, one byte before.
    assert f"bad.txt is not utf-8 text at byte {place - place % 2:,} " in str(caught.value)
    assert "--encoding" in str(caught.value)


def test_a_character_cut_off_by_the_end_is_named_where_it_begins(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="at byte 3 "):
        read(write(tmp_path / "cut.txt", b"abc" + "詩".encode()[:2]))


def test_utf_16_read_as_utf_8_is_recognised(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="try --encoding utf-16"):
        read(write(tmp_path / "a.txt", "text".encode("utf-16")))


def test_an_unknown_encoding_and_one_that_is_not_of_text_are_refused() -> None:
    for encoding in ("klingon", "hex", "rot13", "undefined"):
        with pytest.raises(CorpusError, match="not a text encoding"):
            Corpus([], encoding)
        with pytest.raises(CorpusError, match="not a text encoding"):
            open_corpus(["."], encoding)


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    packed = gzip.compress(b"text " * 1000)
    for content in (packed[:-9], packed[:20] + b"\0\0" + packed[22:]):
        with pytest.raises(CorpusError, match=r"a\.gz cannot be read to its end"):
            read(write(tmp_path / "a.gz", content))


def test_a_folder_gives_every_text_below_it_sorted(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / ".git").mkdir()
    write(tmp_path / "b.txt", b"second\n")
    write(tmp_path / "a.md", b"first\n")
    write(tmp_path / "sub" / "c.gz", gzip.compress(b"third"))
    write(tmp_path / ".git" / "hidden", b"hidden")
    write(tmp_path / "picture.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    corpus = open_corpus([str(tmp_path)])
    assert "".join(corpus.blocks()) == "first\nsecond\nthird"


def test_several_sources_are_kept_apart_by_a_line_break(tmp_path: Path) -> None:
    names = [str(write(tmp_path / name, name.encode() + end)) for name, end in (("a", b""), ("b", b"\n"), ("c", b""))]
    assert "".join(open_corpus(names).blocks()) == "a\nb\nc"


def test_empty_sources_leave_no_trace(tmp_path: Path) -> None:
    contents = (b"", b"abc", b"", b"", b"z", b"")
    names = [str(write(tmp_path / str(number), content)) for number, content in enumerate(contents)]
    assert "".join(open_corpus(names).blocks()) == "abc\nz"


def test_a_named_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=("é\n".encode() * 9,))
    writer.start()
    corpus = open_corpus([str(tmp_path / "pipe")])
    writer.join()
    assert [corpus.survey()[0].characters for _ in range(2)] == [18, 18]


def test_a_pipe_can_be_read_twice() -> None:
    corpus = Corpus([PipeSource("pipe", io.BytesIO("première\r\n".encode()))])
    assert ["".join(corpus.blocks()) for _ in range(2)] == ["première\n"] * 2


def test_missing_names_and_folders_without_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="There is no file or folder"):
        open_corpus([str(tmp_path / "nothing")])
    with pytest.raises(CorpusError, match="cannot be read: File name too long"):
        open_corpus(["a" * 5000])
    with pytest.raises(CorpusError, match="holds no text file"):
        open_corpus([str(tmp_path)])


def test_the_survey_counts_characters_and_sums_the_text_whatever_its_encoding(tmp_path: Path) -> None:
    text = "déjà vu\n" * 100
    same = [
        Corpus([FileSource(write(tmp_path / encoding, text.encode(encoding)))], encoding).survey()
        for encoding in ("utf-8", "latin-1", "utf-16")
    ]
    for facts, counts in same:
        assert facts.characters == 800
        assert facts.sha256 == hashlib.sha256(text.encode()).hexdigest()
        assert counts.frequent(1) == "".join(sorted(set(text)))
        assert counts.frequent(150) == ""
        assert counts.frequent(100) == "".join(sorted(set(text)))


def test_ids_of_a_corpus_are_those_of_its_text(tmp_path: Path) -> None:
    text = "Ein Text über Wörter, 詩 und 😀.\n" * 50
    tokenizer = Tokenizer.learn([text], min_count=60)
    ids = Corpus([FileSource(write(tmp_path / "a", text.encode()))]).encode(tokenizer)
    assert ids.tolist() == tokenizer.encode(text).tolist()
    assert tokenizer.decode(ids.tolist()) == text


def test_the_reference_prose_is_english_and_always_there() -> None:
    text = "".join(Corpus([reference_prose()]).blocks())
    assert len(text) > 300_000
    assert " the " in text
    assert open_corpus([]).names[0] == "pydoc_data.topics"
