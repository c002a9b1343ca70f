"""The files of others that the recipe reads: where they come from, who allows what, and how they get here."""

import hashlib
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from examples.running import RecipeError

MIRROR = "https://raw.githubusercontent.com"
TIMEOUT = 30  # seconds without a byte
LARGEST = 1 << 24  # bytes of a file


class MissingData(RecipeError):
    """A file is not here and cannot be fetched; the message says what to put where."""


@dataclass(frozen=True)
class Repository:
    """A public repository at the commit that the figures are from. terms: the licence of its files."""

    name: str
    commit: str
    terms: str


DEEPLOG = Repository("wuyifan18/DeepLog", "f3ba44dd4008a7d4606a1d3b324d4eb7c73ff5f9", "MIT")
LOGDEEP = Repository("d0ng1ee/logdeep", "ec18b29f95f089380568aee552843272e7e79164", "MIT")
LOGHUB = Repository(
    "logpai/loghub", "dd61d0952749ee7963bde24220d1be5ede023033", "free for research and academic work, with citation"
)


@dataclass(frozen=True)
class Source:
    """One file of a repository, by its path there and its SHA-256."""

    repository: Repository
    path: str
    sha256: str


HDFS_TRAIN = Source(DEEPLOG, "data/hdfs_train", "55cb65a39728b0d21ab95d0bb44a586e79e27993d7a799e2f42e8a5d7fb20d49")
HDFS_ABNORMAL = Source(
    DEEPLOG, "data/hdfs_test_abnormal", "a1e6c2706bd4df4b068f4b5a06dc1425bfd8d90e68905998d51825dedc563dd0"
)
HDFS_TEST = Source(
    LOGDEEP, "data/hdfs/robust_log_train.csv", "4dd82c281cd21c1c35239e1c103ad9a843d8cdefe25eeb1c3aac9d1b29301ace"
)
HDFS_VALIDATE = Source(
    LOGDEEP, "data/hdfs/robust_log_valid.csv", "824e257be7822f39a11e1dd7d9e6efa3944d8e46b38ee2e990e8db280ee23dc2"
)
LOGHUB_SHA256 = {
    "BGL": "2a819ea540909db682005c9cf948387a40729b5c2e9f19d430e29ce704825496",
    "Thunderbird": "903bbfa61c34d4803e4adcb0d726ff2eeb9a2e11971243269a2035fa6c3bbeb0",
    "OpenSSH": "1e4912727fa88245113d41b16a0cd25ceadba7f931e1c406542885b91254264f",
    "Linux": "b3e20bc1afe732ab1bf3ed1de4bf9c809e4194e02f7dea911d918e5342e8e173",
}


def loghub(name: str) -> Source:
    """LogHub's sample of 2,000 lines of a log."""
    return Source(LOGHUB, f"{name}/{name}_2k.log", LOGHUB_SHA256[name])


class Library:
    """A folder that holds the files as FOLDER/OWNER/REPOSITORY/PATH, as clones would; what lacks is fetched.

    notes: sentences about files that differ from those the figures are from.
    """

    def __init__(self, folder: Path, mirror: str = MIRROR) -> None:
        self.folder, self._mirror = folder, mirror
        self.notes: list[str] = []

    def lines(self, source: Source) -> list[str]:
        """The lines of a file without their ends. Raises MissingData."""
        file = self.folder / source.repository.name / source.path
        if not file.is_file():
            self._fetch(source, file)
        data = file.read_bytes()
        if hashlib.sha256(data).hexdigest() != source.sha256:
            self._note(f"{file} is not the file that the README's figures are from; these will differ.")
        text = data.decode("utf-8", errors="replace").removesuffix("\n")
        return [line.removesuffix("\r") for line in text.split("\n")]

    def _fetch(self, source: Source, file: Path) -> None:
        repository = source.repository
        url = f"{self._mirror}/{repository.name}/{repository.commit}/{source.path}"
        try:
            with urllib.request.urlopen(url, timeout=TIMEOUT) as answer:
                data = answer.read(LARGEST + 1)
        except (OSError, urllib.error.URLError) as error:
            raise MissingData(
                f"{source.path} of the repository {repository.name} is not at {file}, and {url} cannot be read "
                f"({error}). Put the file there from a machine that reaches it, or clone the repository at commit "
                f"{repository.commit[:12]} to {self.folder / repository.name}."
            ) from error
        if len(data) > LARGEST or hashlib.sha256(data).hexdigest() != source.sha256:
            raise MissingData(f"{url} is not the file that was expected; put the right one at {file}.")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)
