"""What the verbs of training share: options of verbs that read a text, and what must be installed."""

from dataclasses import MISSING, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.command_line.options import option, options_of
from model.errors import ParameterError, UnrollError
from training.data.left_out import OnDecodeError
from training.data.split_scheme import IN_WORDS
from training.items.separator import Label
from training.planning.train_options import TrainOptions

if TYPE_CHECKING:
    from model.text.frame import TextFrame
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
    label: Label | None = option(
        None, "Where the items of a list have their labels from, as in training.", shown="none"
    )

    def open(self, frame: "TextFrame") -> "Corpus":
        """The text. frame: of the checkpoint's texts. Raises ParameterError on labels that those have not."""
        from training.data.named_corpus import open_corpus

        if self.label is not None and not frame.labels:
            raise ParameterError("label", "The checkpoint's texts have no labels; leave out --label.")
        by_file = self.label == "file-name"
        return open_corpus(self.corpus, self.encoding, self.on_decode_error, frame.separator, by_file)


def require(*packages: str) -> None:
    """Raise UnrollError where what training needs is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise UnrollError(
            f"Training needs {' and '.join(missing)}, which serving does not; install it with `make train` in Unroll's "
            "folder, or with pip as the extra `train`; in a container, use the image of the Dockerfile's "
            "target `train`."
        )
