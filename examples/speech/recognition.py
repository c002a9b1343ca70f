"""Sentences read aloud by flite's voices and heard by pocketsphinx: its words, and the n best in its lattice."""

import gzip
import hashlib
import json
import math
import os
import shutil
import subprocess
import tempfile
import wave
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from examples.running import RecipeError
from examples.speech.lattice import Hypothesis, n_best, read
from examples.speech.trigram import recogniser_s

RATE = 16_000  # samples a second, of the voices and of the acoustic model
VOICES = ("kal16", "rms", "slt")
WEIGHT, PENALTY = 9.5, math.log(0.65)  # of the language and of a word, as the recogniser searches its lattices


class Missing(RecipeError):
    """A program, a package or a file that the recipe needs is not here; the message says how to get it."""


class Utterance(NamedTuple):
    """A sentence and the voice that reads it."""

    text: str
    voice: str


class Heard(NamedTuple):
    """What the recogniser makes of an utterance: the words it answers, and the n best hypotheses of its lattice."""

    answer: str
    hypotheses: list[Hypothesis]


def models() -> Path:
    """The folder of the recogniser's models. Raises Missing where it or flite is not installed."""
    if shutil.which("flite") is None:
        raise Missing("The recipe needs the program flite; install it (on Debian with `apt-get install flite`).")
    try:
        from pocketsphinx import get_model_path
    except ModuleNotFoundError:
        raise Missing("The recipe needs pocketsphinx; install it with `pip install -e '.[examples]'`.") from None
    return Path(get_model_path("en-us"))


def own_trigram() -> Path:
    """The file of the recogniser's own language model."""
    return models() / "en-us.lm.bin"


@cache
def dictionary() -> frozenset[str]:
    """The words that the recogniser can hear."""
    lines = (models() / "cmudict-en-us.dict").read_text("utf-8").splitlines()
    return frozenset(line.split()[0].partition("(")[0] for line in lines)


def hear(
    utterances: Sequence[Utterance],
    trigram: Path,
    folder: Path,
    count: int,
    processes: int,
    told: Callable[[str], None] = lambda _: None,
) -> list[Heard]:
    """What is heard of each utterance; what the folder has from an earlier run is taken from there.

    trigram: the recogniser's language model. count: of hypotheses at most. told: is given a line now and then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    said_by = f"{hashlib.sha256(trigram.read_bytes()).hexdigest()}\n{count}"
    files = [folder / f"{_digest(one, said_by)}.json.gz" for one in utterances]
    jobs = [(one, file, count) for one, file in zip(utterances, files, strict=True) if not file.is_file()]
    for done, _ in enumerate(_in_processes(jobs, trigram, processes), 1):
        if done % 100 == 0 or done == len(jobs):
            told(f"{trigram.name}: {done} of {len(jobs)} utterances heard")
    return [_kept(file) for file in files]


def audio(utterance: Utterance) -> bytes:
    """A sentence read by a voice, as samples of 16 bits."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "read.wav"
        command = ["flite", "-voice", utterance.voice, "-t", utterance.text, "-o", str(file)]
        subprocess.run(command, check=True, capture_output=True)
        with wave.open(str(file)) as opened:
            if (opened.getframerate(), opened.getnchannels()) != (RATE, 1):
                raise Missing(f"flite's voice {utterance.voice} does not speak at 16 kHz here; choose another.")
            return bytes(opened.readframes(opened.getnframes()))


def _digest(utterance: Utterance, said_by: str) -> str:
    return hashlib.sha256("\n".join([*utterance, said_by]).encode()).hexdigest()[:24]


def _kept(file: Path) -> Heard:
    answer, hypotheses = json.loads(gzip.decompress(file.read_bytes()))
    return Heard(answer, [Hypothesis(tuple(words.split(" ")), *figures) for words, *figures in hypotheses])


def _in_processes(jobs: Sequence[tuple[Utterance, Path, int]], trigram: Path, processes: int) -> Iterator[None]:
    """Do the jobs; each is kept in its file as soon as it is done."""
    if jobs:
        with get_context("spawn").Pool(min(processes, len(jobs)), _begin, (str(trigram),)) as pool:
            yield from pool.imap_unordered(_hear, jobs)


_decoder: Any = None  # of this process
_trigram = Path()


def _begin(trigram: str) -> None:
    global _decoder, _trigram
    from pocketsphinx import Decoder

    _trigram = Path(trigram)
    _decoder = Decoder(samprate=RATE, lm=trigram, loglevel="FATAL")


@cache
def _language() -> Any:
    return recogniser_s(_trigram)


def _hear(job: tuple[Utterance, Path, int]) -> None:
    utterance, file, count = job
    _decoder.start_utt()
    _decoder.process_raw(audio(utterance), full_utt=True)
    _decoder.end_utt()
    answer, lattice = _decoder.hyp(), _decoder.get_lattice()
    found: list[Hypothesis] = []
    if lattice is not None:
        with tempfile.TemporaryDirectory() as folder:
            lattice.write_htk(f"{folder}/lattice")
            found = n_best(read(Path(folder, "lattice").read_text("utf-8")), _language(), WEIGHT, PENALTY, count)
    kept = ["" if answer is None else answer.hypstr, [(" ".join(one.words), *one[1:]) for one in found]]
    unfinished = file.with_suffix(f".{os.getpid()}")
    unfinished.write_bytes(gzip.compress(json.dumps(kept).encode(), 6))
    unfinished.replace(file)
