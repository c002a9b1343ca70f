"""What names on a command line stand for: everything that is text is read, and all that is not is counted or named."""

import bz2
import gzip
import io
import lzma
import os
import random
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from model.checkpoint import save
from model.errors import CorpusError
from tests.model.small import small_checkpoint
from tests.unprivileged import unprivileged
from training.data import archives, sources
from training.data.named_corpus import open_corpus
from training.data.prepared_corpus import prepare
from training.data.sources import PipeSource

PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
NOISE = random.Random(1).randbytes(4_000).replace(b"\0", b"\1")


def text_of(*names: Path | str, encoding: str = "utf-8") -> str:
    return "".join(open_corpus([str(name) for name in names], encoding).blocks())


def refusal(path: Path, encoding: str = "utf-8") -> str:
    with pytest.raises(CorpusError) as caught:
        text_of(path, encoding=encoding)
    return str(caught.value)


def files(folder: Path, contents: dict[str, bytes | str]) -> Path:
    """A folder with files, by their paths in it."""
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def tree(folder: Path) -> Path:
    """Texts whose order by path differs from that by name, with things between them that are no text."""
    return files(
        folder, {
        "a.txt": "first\n", "a/b.txt": "zeroth\n", "b/a.md": "third é\n", "b/c/d.txt": "fourth", "b.txt": "second\n",
        "picture.png": PNG, "node_modules/x.js": "code", "inner.gz": gzip.compress(b"packed\n"),
    })  # fmt: skip


WHOLE = "zeroth\nfirst\nthird é\nfourth\nsecond\npacked\n"


def zipped(folder: Path, out: Path) -> None:
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, path.relative_to(folder))


def tarred(mode: str) -> Callable[[Path, Path], None]:
    def write(folder: Path, out: Path) -> None:
        with tarfile.open(out, mode) as archive:  # type: ignore[call-overload]
            archive.add(folder, ".")

    return write


@pytest.mark.parametrize("pack", [zipped, *(tarred(f"w:{how}") for how in ("", "gz", "bz2", "xz"))])
@pytest.mark.parametrize("name", ["corpus", "corpus.txt", "corpus.tar.gz"])
def test_an_archive_reads_as_the_folder_it_was_made_of(
    tmp_path: Path, pack: Callable[[Path, Path], None], name: str
) -> None:
    folder = tree(tmp_path / "tree")
    pack(folder, tmp_path / name)
    assert text_of(folder) == WHOLE
    corpus = open_corpus([str(tmp_path / name)])
    assert ["".join(corpus.blocks()) for _ in range(2)] == [WHOLE] * 2
    assert corpus.names[0] == f"{tmp_path / name}/a/b.txt"
    assert corpus.left_out.counts == {"binary": 1, "node_modules": 1}
    assert corpus.content_sum() == open_corpus([str(folder)]).content_sum()


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, lambda raw: gzip.compress(bz2.compress(raw))]
)
@pytest.mark.parametrize("name", ["a.txt", "a.gz", "a.bz2", "a"])
def test_packed_text_is_known_by_its_content_under_any_name(
    tmp_path: Path, pack: Callable[[bytes], bytes], name: str
) -> None:
    path = tmp_path
    (path / name).write_bytes(pack("déjà\r\nvu".encode() * 20_000))
    assert text_of(path / name) == "déjà\nvu" * 20_000
    assert text_of(tmp_path) == "déjà\nvu" * 20_000
    assert "".join(open_corpus([str(path / name)]).blocks()) == "déjà\nvu" * 20_000


def test_a_text_named_like_an_archive_is_read_as_it_is(tmp_path: Path) -> None:
    for name in ("a.gz", "a.zip", "a.tar", "a.xz"):
        (tmp_path / name).write_text("BZh is how it begins, PK too")
        assert text_of(tmp_path / name) == "BZh is how it begins, PK too"


def test_an_archive_comes_through_a_pipe(tmp_path: Path) -> None:
    zipped(tree(tmp_path / "tree"), tmp_path / "a.zip")
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=((tmp_path / "a.zip").read_bytes(),))
    writer.start()
    assert text_of(tmp_path / "pipe") == WHOLE
    writer.join()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (PNG, "is a PNG picture, not utf-8 text"),
        (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + NOISE, "is a PDF document, not utf-8 text; extract its text, for instance"),
        (b"(\xb5/\xfd" + NOISE, "is packed by zstd, not utf-8 text; unpack it: zstd -dc FILE | unroll train -"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "is a 7-Zip archive"),
        (b"text\0more text", r"is binary data \(its byte 4 is NUL\), not utf-8 text; .* tr -d '\\0'"),
        (NOISE, "is binary data, not utf-8 text; name files that hold text"),
        ("text without a mark".encode("utf-16-le"), "is UTF-16-LE text without its mark.* try --encoding utf-16-le"),
        ("Text ohne Zeichen".encode("utf-16-be"), "is UTF-16-BE text without its mark.* try --encoding utf-16-be"),
        ("text".encode("utf-16"), "is UTF-16 text, not utf-8 text; try --encoding utf-16"),
        (b"SQLite format 3\0", "is an SQLite database"),
        ("é".encode("latin-1") * 9, r"is not utf-8 text at byte 0 .*: name its encoding with --encoding \(latin-1"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_refused_by_what_it_is(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    (tmp_path / "a.gz").write_bytes(gzip.compress(content))
    for name in ("a.txt", "a.gz"):
        message = refusal(tmp_path / name)
        assert re.search(words, message), message
        assert ("latin-1" in message) == ("latin-1" in words)


def test_advice_on_an_encoding_is_right(tmp_path: Path) -> None:
    for encoding in ("utf-16-le", "utf-16-be", "utf-16"):
        path = files(tmp_path, {"a.txt": "Zwölf Boxkämpfer jagen Viktor".encode(encoding)}) / "a.txt"
        assert f"try --encoding {encoding}" in refusal(path)
        assert text_of(path, encoding=encoding) == "Zwölf Boxkämpfer jagen Viktor"


def test_binary_data_beyond_the_beginning_is_not_advised_to_be_read_as_latin_1(tmp_path: Path) -> None:
    path = files(tmp_path, {"a.txt": b"text\n" * 10_000 + NOISE * 3_000}) / "a.txt"
    assert "at byte 50," in refusal(path)
    assert "looks like binary data; leave it out" in refusal(path)


def test_documents_in_zip_are_refused_as_documents(tmp_path: Path) -> None:
    for member, what in (("[Content_Types].xml", "an Office document"), ("mimetype", "an OpenDocument or EPUB file")):
        with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
            archive.writestr(member, "text")
            archive.writestr("word/document.xml", "<w>text</w>")
        assert f"is {what}, not text; save or convert it as plain text" in refusal(tmp_path / "a.docx")


def test_archives_that_hold_no_text_or_cannot_be_read_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("picture.png", PNG)
        archive.writestr("inner.zip", b"PK\x03\x04" + NOISE)
    assert "a.zip holds no text (0 files, 2 passed over: 1 archive, 1 binary)" in refusal(tmp_path / "a.zip")
    (tmp_path / "cut.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:60])
    assert "cut.zip cannot be read as a zip archive" in refusal(tmp_path / "cut.zip")
    tarred("w:gz")(tree(tmp_path / "tree"), tmp_path / "a.tgz")
    (tmp_path / "cut.tgz").write_bytes((tmp_path / "a.tgz").read_bytes()[:-9])
    assert "cut.tgz cannot be read to its end" in refusal(tmp_path / "cut.tgz")


def test_links_and_later_versions_in_an_archive(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, content in (("a.txt", b"old"), ("b.txt", b"other"), ("a.txt", b"new\n")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    corpus = open_corpus([str(tmp_path / "a.tar")])
    assert "".join(corpus.blocks()) == "new\nother"
    assert corpus.left_out.counts == {"special": 1}


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "UNASKED", 1 << 20)
    monkeypatch.setattr(archives, "MOST_MEMBERS", 9)
    bomb = b" " * (1 << 23)
    (tmp_path / "a.gz").write_bytes(gzip.compress(bomb))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", bomb)
    with tarfile.open(tmp_path / "a.tgz", "w:gz") as tar:
        entry = tarfile.TarInfo("a.txt")
        entry.size = len(bomb)
        tar.addfile(entry, io.BytesIO(bomb))
    for name in ("a.gz", "a.zip", "a.tgz"):
        assert "unpacks to more than 200 times its size" in refusal(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "many.zip", "w") as archive:
        for number in range(10):
            archive.writestr(f"{number}.txt", "text")
    assert "holds more than 9 files; unpack it" in refusal(tmp_path / "many.zip")


def test_a_folder_passes_over_what_no_person_wrote_and_counts_it(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree")
    files(folder, {
        "env/pyvenv.cfg": "home", "env/lib/code.py": "code", "x/__pycache__/a.py": "code",
        "built/CACHEDIR.TAG": "Signature: 8a477f597d28d172789f06886806bc55\n", "built/out.txt": "made",
        "repo/HEAD": "ref", "repo/refs/a": "", "repo/objects/b": "",
        "old/x.txt": "fifth\n", "a.zip": b"PK\x03\x04" + NOISE, "wide.txt": "text".encode("utf-16"),
    })  # fmt: skip
    save(small_checkpoint(), folder / "old" / "model")
    (folder / "old" / "link").symlink_to(folder / "b")
    (folder / "old" / "gone").symlink_to(folder / "nothing")
    os.mkfifo(folder / "pipe")
    corpus = open_corpus([str(folder)])
    assert "".join(corpus.blocks()) == WHOLE.replace("packed\n", "packed\nfifth\n")
    assert corpus.left_out.sentence(len(corpus.sources)) == (
        "7 files, 12 passed over: 2 caches, 1 archive, 1 binary, 1 broken link, 1 checkpoint, 1 git repository, "
        "1 in UTF-16, 1 linked folder, 1 node_modules, 1 special, 1 virtual environment"
    )
    assert corpus.left_out.surprises() == [
        f"linked folder: {folder}/old/link",
        f"broken link: {folder}/old/gone",
        f"in UTF-16: {folder}/wide.txt",
        f"archive: {folder}/a.zip",
    ]


def test_what_may_not_be_read_is_passed_over_in_a_folder_and_counted(tmp_path: Path) -> None:
    folder = files(tmp_path / "tree", {"a.txt": "read\n", "closed/b": "text", "c.txt": "text", "shut/d.txt": "text"})
    folder.chmod(0o755)
    (folder / "c.txt").chmod(0)
    (folder / "closed").chmod(0)
    (folder / "shut").chmod(0o444)  # its names can be read, and nothing of what they name
    with unprivileged(folder):
        corpus = open_corpus(["."])
        assert "".join(corpus.blocks()) == "read\n"
        assert corpus.left_out.sentence(1) == "1 file, 3 passed over: 2 unreadable folders, 1 unreadable"
        assert corpus.left_out.surprises() == ["unreadable: c.txt", "unreadable folders: closed, shut"]
        for name, words in (
            ("c.txt", "c.txt cannot be read: Permission denied"),
            ("closed/b", "Permission denied"),
        ):
            assert words in refusal(Path(name))
    for name in ("closed", "shut"):
        (folder / name).chmod(0o755)


def test_a_checkpoint_is_no_corpus(tmp_path: Path) -> None:
    save(small_checkpoint(), tmp_path / "best")
    assert "is a checkpoint, not a text" in refusal(tmp_path / "best")


def test_a_run_in_its_own_corpus_reads_the_same_before_and_after(tmp_path: Path) -> None:
    folder = tree(tmp_path / "tree")
    for run in (folder / "runs" / "x", folder):
        files(run, {"resume/run.json": "{}", "metrics.jsonl": "{}", "report.html": "<p>", "curves.svg": "<svg/>"})
        save(small_checkpoint(), run / "best")
        files(run, {"notes.txt": "note\n"})
        assert text_of(folder).replace("note\n", "") == WHOLE
    (folder / "resume" / "run.json").unlink()
    assert text_of(folder).replace("note\n", "") == WHOLE


def test_names_that_are_not_unicode_are_read(tmp_path: Path) -> None:
    for name in (b"only\xff.txt", b"new\nline.txt", b"a" * 255):
        (tmp_path / os.fsdecode(name)).write_bytes(name[:1])
    assert text_of(tmp_path) == "a\nn\no"
    assert [text_of(tmp_path / os.fsdecode(name)) for name in (b"only\xff.txt", b"new\nline.txt")] == ["o", "n"]


def test_files_in_another_encoding_fail_are_skipped_or_replaced_by_file(tmp_path: Path) -> None:
    folder = files(tmp_path / "tree", {"a.txt": "é\n", "b.txt": b"b\xe9", "c.txt": "c\n", "d.txt": b"dd\xff\xfee"})
    with pytest.raises(CorpusError, match=r"b\.txt is not utf-8 text at byte 1 .* --on-decode-error"):
        text_of(folder)
    skipping, replacing = (open_corpus([str(folder)], on_decode_error=how) for how in ("skip", "replace"))
    assert "".join(skipping.blocks()) == "é\nc\n"
    assert "".join(replacing.blocks()) == "é\nb\ufffd\nc\ndd\ufffd\ufffde"
    wrong = {str(folder / "b.txt"): 1, str(folder / "d.txt"): 2}
    assert skipping.undecodable == replacing.undecodable == wrong
    assert skipping.left_out.sentence(2) == "2 files, 2 passed over: 2 not utf-8"
    assert prepare(replacing, tmp_path / "kept").facts.characters == 12
    assert prepare(skipping, tmp_path / "kept").facts.characters == 4
    with pytest.raises(CorpusError, match="No file of the corpus is utf-8 text"):
        open_corpus([str(folder / "b.txt")], on_decode_error="skip")


def test_the_same_bytes_are_prepared_anew_where_they_are_replaced(tmp_path: Path) -> None:
    path = str(files(tmp_path, {"a.txt": b"a\xffb"}) / "a.txt")
    assert prepare(open_corpus([path], on_decode_error="replace"), tmp_path / "kept").facts.characters == 3
    with pytest.raises(CorpusError, match="not utf-8 text at byte 1"):
        prepare(open_corpus([path]), tmp_path / "kept")


def test_a_pipe_that_is_packed_can_be_read_twice() -> None:
    source = PipeSource("pipe", io.BytesIO(gzip.compress(b"text")))
    assert [source.open().read(), source.open().read()] == [b"text", b"text"]
