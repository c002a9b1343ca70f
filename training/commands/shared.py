"""What the verbs of training share: options of verbs that read a text, and what must be installed."""

from dataclasses import MISSING, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.errors import UnrollError
from model.options import option, options_of
from training.data.left_out import OnDecodeError
from training.data.split_scheme import IN_WORDS
from training.planning.train_options import TrainOptions

if TYPE_CHECKING:
    from training.data.corpus import Corpus


def _as_in_training(name: str) -> Any:
    """A field that is an option of `unroll train`, by the name it has there."""
    [one] = (one for one in options_of(TrainOptions) if one.name == name)
    return field(default=one.default, metadata=one.metadata)


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """A checkpoint, a text, and how that is read: what the verbs take that look at both."""

    checkpoint: Path = option(MISSING, "Checkpoint folder.", argument=True)
    corpus: tuple[str, ...] = option(
        MISSING, "Files, folders, archives, or - for standard input.", metavar="CORPUS...", argument=True
    )
    split: str = option("whole", "whole, or the parts as in training: " + IN_WORDS)
    encoding: str = _as_in_training("encoding")
    on_decode_error: OnDecodeError = _as_in_training("on_decode_error")

    def open(self, ending: str) -> "Corpus":
        """The text. ending: what each of its texts ends with, or is given."""
        from training.data.named_corpus import open_corpus

        return open_corpus(self.corpus, self.encoding, self.on_decode_error, ending)


def require(*packages: str) -> None:
    """Raise UnrollError where what training needs is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise UnrollError(
            f"Training needs {' and '.join(missing)}, which serving does not; install it with `make train` in Unroll's "
            "folder, or with pip as the extra `train`; in a container, use the image of the Dockerfile's "
            "target `train`."
        )
