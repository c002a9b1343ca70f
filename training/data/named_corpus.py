"""The corpus for the names on a command line: files, folders, archives and pipes."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from model.errors import CorpusError
from training.data.archives import archive_members
from training.data.corpus import Corpus, check_encoding, first_undecodable
from training.data.file_formats import archiver, foreign
from training.data.folders import text_files
from training.data.left_out import LeftOut, OnDecodeError
from training.data.sources import DAMAGED, FileSource, PipeSource, Source, Unpacked, kept, reference_prose


def open_corpus(
    names: Sequence[str],
    encoding: str = "utf-8",
    on_decode_error: OnDecodeError = "fail",
    ending: str = "",
    labelled: bool = False,
) -> Corpus:
    """The corpus of some names: files, folders (every text file below, sorted), archives, "-" for standard input.

    What gzip, bzip2 and xz packed is unpacked, and of zip and tar archives every text is read; all are known by their
    content. What a folder or an archive holds beside text is passed over and counted. No names: the reference prose.
    on_decode_error: unless it is "fail", every file is decoded once more, to know those that are not of the encoding.
    ending, labelled: of lists, see Corpus.
    Raises CorpusError for a name that is not there, cannot be read, or is not text.
    """
    check_encoding(encoding)
    left_out = LeftOut()
    sources: list[Source] = []
    for name in names:
        try:
            sources += _sources_at(name, encoding, left_out)
        except OSError as error:
            raise CorpusError(f"{name} cannot be read: {error.strerror or error}.") from error
    sources = sources or [reference_prose()]
    if on_decode_error == "fail":
        return Corpus(sources, encoding, left_out=left_out, ending=ending, labelled=labelled)
    undecodable = {
        number: at for number, source in enumerate(sources) if (at := first_undecodable(source, encoding)) is not None
    }
    wrong = {sources[number].name: at for number, at in undecodable.items()}
    if on_decode_error == "skip":
        for name in wrong:
            left_out.add(f"not {encoding}", name)
        sources = [source for number, source in enumerate(sources) if number not in undecodable]
        if not sources:
            raise CorpusError(f"No file of the corpus is {encoding} text; name its encoding with --encoding.")
    replacing = on_decode_error == "replace" and bool(wrong)
    return Corpus(
        sources,
        encoding,
        left_out=left_out,
        undecodable=wrong,
        replacing=replacing,
        ending=ending,
        labelled=labelled,
    )


def _sources_at(name: str, encoding: str, left_out: LeftOut) -> Sequence[Source]:
    path = Path(name)
    if name == "-":
        return _texts_of(PipeSource("standard input", sys.stdin.buffer), encoding, left_out)
    if path.is_dir():
        before = len(left_out)
        if not (found := text_files(path, encoding, left_out)):
            held = f" ({left_out.sentence(0)})" if len(left_out) > before else ""
            raise CorpusError(f"The folder {name} holds no text file{held}; name a folder or file that does.")
        return found
    if path.is_file():
        return _texts_of(FileSource(path), encoding, left_out)
    if path.exists():  # a named pipe, or a shell's <(command)
        with path.open("rb") as pipe:
            return _texts_of(PipeSource(name, pipe), encoding, left_out)
    raise CorpusError(f"There is no file or folder {name}; check the path.")


def _texts_of(source: FileSource | PipeSource, encoding: str, left_out: LeftOut) -> Sequence[Source]:
    """A file or pipe that was named itself, or the texts in it. Raises CorpusError where it is something else."""
    head = source.head()
    if (kind := archiver(head)) is None:
        if (found := foreign(head, encoding)) is not None:
            raise CorpusError(f"{source.name} is {found.what}, not {encoding} text; {found.remedy}.")
        return [source]
    with source.open() as stream:
        # An archive is read here and there, so one that is packed as a whole is unpacked first.
        try:
            file = kept(stream) if isinstance(stream, Unpacked) else os.fdopen(os.dup(stream.fileno()), "rb")
        except DAMAGED as error:
            raise CorpusError(f"{source.name} cannot be read to its end: {error}.") from error
    sources = archive_members(source.name, file, kind, encoding, left_out)
    if not sources:
        raise CorpusError(f"The archive {source.name} holds no text ({left_out.sentence(0)}); name one that does.")
    return sources
