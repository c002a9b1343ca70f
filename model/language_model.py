"""A checkpoint from Python: it continues prompts and scores lines, with the bytes and figures that a server gives."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bulk.drawing import ItemRequest
from model.bulk.generate import drawn_items
from model.bulk.score import LineScorer
from model.checkpoint import Checkpoint, named_checkpoint
from model.checkpoint import load as load_checkpoint
from model.decoding.decoder import Decoder
from model.decoding.step_weights import Quantization
from model.errors import ParameterError
from model.generate import generate
from model.held_out_surprise import HeldOutSurprise
from model.sampling.parameters import SamplingParameters

BLOCK = 1000  # lines that one thread scores at a time
MAX_TOKENS = 500
SEED_BITS = 53  # of a seed nobody chose: JSON carries it whole


class Scores(NamedTuple):
    """How much some lines surprise, an array (lines,) of float64 for each figure.

    characters: how many each line has. bits: of the whole line. bits_per_character: NaN of an empty line.
    percentile: of held-out passages of about this length that surprise less, NaN where it is not known.
    """

    characters: NDArray[np.int64]
    bits: NDArray[np.float64]
    bits_per_character: NDArray[np.float64]
    percentile: NDArray[np.float64]

    def frame(self) -> Any:
        """The same as a pandas DataFrame, a row for each line. Raises ImportError where pandas is not installed."""
        import pandas

        return pandas.DataFrame(self._asdict())


class LanguageModel:
    """A trained model. All cores are used; one object may be used from one thread at a time.

    checkpoint: what it was loaded from. threads: None for one a processor.
    """

    def __init__(self, checkpoint: Checkpoint, quantization: Quantization = "int8", threads: int | None = None) -> None:
        self.checkpoint = checkpoint
        self.threads = threads
        self._decoder = Decoder(checkpoint, quantization)
        self._held_out = HeldOutSurprise.of(checkpoint.training)

    def generate(
        self,
        prompt: str = "",
        n: int = 1,
        *,
        max_tokens: int = MAX_TOKENS,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        **sampling: Any,
    ) -> list[str]:
        """`n` continuations of a prompt, without it; text j is choice j of a request to a server with the same seed.

        max_tokens: characters of a text at most. seed: None for another each time. stop: ends a text, not shown.
        sampling: temperature and the others of `SamplingParameters`.
        Raises ParameterError on a parameter outside its range, TokenizerError on a prompt that is not Unicode.
        """
        request = ItemRequest(
            prompt=prompt, parameters=_parameters(seed, sampling), max_tokens=max_tokens, stop=_strings(stop)
        )
        with drawn_items(self._decoder, self.checkpoint.tokenizer, request, end=n, threads=self.threads) as items:
            return [item.text for item in items]

    def stream(
        self,
        prompt: str = "",
        *,
        max_tokens: int = MAX_TOKENS,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        **sampling: Any,
    ) -> Iterator[str]:
        """One continuation in pieces, as its characters are drawn; joined they are the first text of `generate`."""
        pieces = generate(
            self._decoder,
            self.checkpoint.tokenizer,
            prompt,
            max_tokens=max_tokens,
            parameters=_parameters(seed, sampling),
            stop=_strings(stop),
        )
        return (piece.text for piece in pieces if piece.text)

    def score(self, lines: Iterable[str], context: str = "") -> Scores:
        """How much each line surprises, by itself, as /v1/score says.

        context: what every line follows; without one, a line begins as a text does.
        Raises TokenizerError on a line that is not Unicode.
        """
        if isinstance(lines, str):
            raise ParameterError(
                "lines", "These are the lines of one text; give a list of texts, or text.splitlines()."
            )
        every = list(lines)
        with LineScorer(
            self._decoder, self.checkpoint.tokenizer, self._held_out, context=context, threads=self.threads
        ) as scorer:
            blocks = (every[at : at + BLOCK] for at in range(0, len(every), BLOCK))
            scores = [score for score in scorer.score(blocks) if score is not None]
        return Scores(
            np.array([score.characters for score in scores], np.int64),
            np.array([score.bits for score in scores], np.float64),
            np.array([score.bits_per_character for score in scores], np.float64),  # None becomes NaN
            np.array([score.percentile for score in scores], np.float64),
        )


def load(
    path: str | Path | None = None, *, quantization: Quantization = "int8", threads: int | None = None
) -> LanguageModel:
    """The model in a checkpoint folder or in a run's; without a path, the bundled one.

    Raises CheckpointError where it cannot be used.
    """
    folder = named_checkpoint(None if path is None else Path(path))
    return LanguageModel(load_checkpoint(folder), quantization, threads)


def _parameters(seed: int | None, sampling: dict[str, Any]) -> SamplingParameters:
    seed = secrets.randbits(SEED_BITS) if seed is None else seed
    try:
        return SamplingParameters(seed=seed, **sampling)
    except TypeError as error:
        known = ", ".join(sorted(SamplingParameters.__slots__))
        raise ParameterError("sampling", f"{error}; there are: {known}.") from None


def _strings(stop: str | Sequence[str]) -> Sequence[str]:
    return [stop] if isinstance(stop, str) else stop
