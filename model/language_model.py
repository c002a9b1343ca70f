"""A checkpoint from Python: it continues prompts and scores lines, with the bytes and figures that a server gives."""

import difflib
import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from functools import cached_property, lru_cache
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.bulk.choices import ChoiceReader
from model.bulk.drawing import ItemRequest
from model.bulk.generate import drawn_items
from model.bulk.score import LineScorer
from model.checkpoint import Checkpoint, named_checkpoint
from model.checkpoint import read as read_checkpoint
from model.decoding.beams import BeamOptions, EarlyStopping
from model.decoding.decoder import Decoder
from model.decoding.step_weights import Quantization
from model.embedding import Embedder, EmbeddingOptions, Part, Pooling
from model.errors import ParameterError, UnrollError
from model.generate import generate, search
from model.held_out_surprise import HeldOutSurprise
from model.memory import DEFAULT_MOST_BYTES, FEWEST_BYTES, LoadLimit
from model.online_memory.weights import MemoryWeights
from model.sampling.parameters import SamplingParameters
from model.sampling.transitions import AnyConstraint

BLOCK = 1000  # lines that one thread scores at a time
MAX_TOKENS = 500
KEPT = 64  # compiled constraints of a model
MATCHING = ("regex", "choice", "json_schema", "json_object", "grammar", "allowed_token_ids", "bad_words")
"""Options that say what a text must match; see `model.constraints.fields`, which needs llguidance loaded."""
MOST_SHOWN = 60  # characters of a wrong value that an error shows
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
        """The same as a pandas DataFrame, a row for each line. Raises UnrollError where pandas is not installed."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise UnrollError(
                "A table needs pandas, which is not installed; install it with `pip install pandas`, or use the arrays."
            ) from error

        return pandas.DataFrame(self._asdict())


class LanguageModel:
    """A trained model. All cores are used; one object may be used from one thread at a time.

    checkpoint: what it was loaded from. threads: None for one a processor.
    name: what `repr` calls it. digest: of its weights, tokenizer and configuration.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        quantization: Quantization = "int8",
        threads: int | None = None,
        *,
        name: str = "",
        digest: str | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.threads = None if threads is None else _whole("threads", threads, 1)
        self.name, self.digest = name, digest
        self._decoder = Decoder(checkpoint, quantization)
        self._compiled = lru_cache(KEPT)(self._compile)
        self._held_out = HeldOutSurprise.of(checkpoint.training)

    def __repr__(self) -> str:
        """The model's name, size and version, in a line."""
        digest = "" if self.digest is None else f", digest {self.digest[:16]}"
        parameters = self.checkpoint.config.parameters()
        return f"<LanguageModel {self.name}, {parameters:,} parameters{digest}>"

    def generate(
        self,
        prompt: str = "",
        n: int = 1,
        *,
        max_tokens: int = MAX_TOKENS,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        label: str | None = None,
        memory: bool = False,
        **options: Any,
    ) -> list[str]:
        """`n` continuations of a prompt, without it; text j is choice j of a request to a server with the same seed.

        max_tokens: characters of a text at most. seed: None for another each time. stop: ends a text, not shown.
        label: of a model of items that have labels: of which the items are.
        memory: draw with the online memory, which makes likelier what prompt and text had before; a server has it not.
        options: temperature and the others of `SamplingParameters`; and what each text must match, one of `regex`,
            `choice` (a list of texts), `json_schema` (a dictionary, or its text), `json_object` (True), `grammar`,
            `allowed_token_ids` and `bad_words`.
        Raises ParameterError on a parameter outside its range, TokenizerError on a prompt that is not Unicode.
        """
        if memory:
            drawn = {**options, "seed": secrets.randbits(SEED_BITS) if seed is None else seed, "memory": True}
            asked: dict[str, Any] = {"max_tokens": max_tokens, "stop": stop, "label": label, **drawn}
            return ["".join(self._pieces(prompt, at, **asked)) for at in range(_whole("n", n, 1))]
        constraint, sampling = self._matching(options)
        request = ItemRequest(
            prompt=self._labelled(prompt, label),
            parameters=_parameters(seed, sampling),
            max_tokens=_whole("max_tokens", max_tokens, 0),
            stop=_strings(stop),
            constraint=constraint,
        )
        end = _whole("n", n, 1)
        with drawn_items(self._decoder, self.checkpoint.tokenizer, request, end=end, threads=self.threads) as items:
            return [item.text for item in items]

    def beam_search(
        self,
        prompt: str = "",
        beams: int = 4,
        n: int = 1,
        *,
        max_tokens: int = MAX_TOKENS,
        stop: str | Sequence[str] = (),
        length_penalty: float = 1.0,
        early_stopping: EarlyStopping = False,
        label: str | None = None,
    ) -> list[str]:
        """The `n` likeliest continuations that a search with so many beams finds, the likeliest first; see BeamOptions.

        They are those of a server's answer with `use_beam_search`. Raises as `generate` does.
        """
        width = _whole("beams", beams, 1)
        options = BeamOptions(width=width, length_penalty=length_penalty, early_stopping=early_stopping)
        found = search(
            self._decoder,
            self.checkpoint.tokenizer,
            self._labelled(prompt, label),
            options,
            n=_whole("n", n, 1),
            max_tokens=_whole("max_tokens", max_tokens, 1),
            stop=_strings(stop),
        )
        return [text.text for text in found]

    def stream(
        self,
        prompt: str = "",
        *,
        max_tokens: int = MAX_TOKENS,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        label: str | None = None,
        memory: bool = False,
        **options: Any,
    ) -> Iterator[str]:
        """One continuation in pieces, as its characters are drawn; joined they are the first text of `generate`."""
        asked: dict[str, Any] = {"max_tokens": max_tokens, "seed": seed, "stop": stop, "label": label}
        return self._pieces(prompt, 0, memory=memory, **asked, **options)

    def _pieces(
        self,
        prompt: str,
        number: int,
        /,
        *,
        max_tokens: int,
        seed: int | None,
        stop: str | Sequence[str],
        label: str | None,
        memory: bool,
        **options: Any,
    ) -> Iterator[str]:
        constraint, sampling = self._matching(options)
        weights = None
        if memory:
            weights = MemoryWeights.required(self.checkpoint.training, self.checkpoint.tokenizer.frame.items)
        pieces = generate(
            self._decoder,
            self.checkpoint.tokenizer,
            self._labelled(prompt, label),
            max_tokens=_whole("max_tokens", max_tokens, 0),
            parameters=_parameters(seed, sampling),
            stop=_strings(stop),
            choice=number,
            constraint=constraint,
            memory=weights,
        )
        return (piece.text for piece in pieces if piece.text)

    def _matching(self, options: dict[str, Any]) -> tuple[AnyConstraint | None, dict[str, Any]]:
        """What texts must match, ready to be followed, and the options that say nothing of it."""
        asked = {name: value for name, value in options.items() if name in MATCHING}
        sampling = {name: value for name, value in options.items() if name not in MATCHING}
        if not asked:
            return None, sampling
        from model.constraints.fields import constraint_of

        constraint = constraint_of(asked)
        return None if constraint is None else self._compiled(constraint), sampling

    def _compile(self, constraint: Any) -> AnyConstraint:
        from model.constraints.compiling import compiled

        return compiled(constraint, self._vocabulary)

    @cached_property
    def _vocabulary(self) -> Any:
        from model.constraints.vocabulary import Vocabulary

        return Vocabulary(self.checkpoint.tokenizer, self._decoder.ids)

    def _labelled(self, prompt: Any, label: Any) -> str:
        before = self.checkpoint.tokenizer.frame.labelled(None if label is None else _text("label", label))
        return before + _text("prompt", prompt)

    def embed(
        self,
        texts: str | Sequence[str],
        *,
        pooling: Pooling = "last",
        layer: int | None = -1,
        part: Part = "hidden",
        normalised: bool = True,
    ) -> NDArray[np.float32]:
        """A text as a vector (D,), or texts as one each (n, D): the state after it, or the mean; see EmbeddingOptions.

        Raises ParameterError on what the network lacks, TokenizerError on text that is not Unicode.
        """
        options = EmbeddingOptions(pooling=pooling, layer=layer, part=part, normalised=normalised)
        embedder = Embedder(self._decoder, self.checkpoint.tokenizer, options)
        if isinstance(texts, str):
            vector: NDArray[np.float32] = embedder.embed([texts])[0]
            return vector
        return embedder.embed([_text("text", text) for text in texts])

    def choice_logprobs(
        self, choices: Sequence[str], contexts: str | Iterable[str] = "", *, label: str | None = None
    ) -> NDArray[np.float64]:
        """ln p that a text goes on with each choice (choices,); of several contexts, a row each (contexts, choices).

        Common beginnings of choices are read once, and a context that goes on from the one before is read from there:
        the days of a series can be forecast one after the other. Probabilities are not made to add up to 1: a text
        may go on otherwise, and a choice that begins another holds it.
        label: of a model of items that have labels: of which the items are.
        Raises ParameterError on what are no texts, TokenizerError on text that is not Unicode.
        """
        texts = _strings(choices, "choices")
        reader = ChoiceReader(self._decoder, self.checkpoint.tokenizer, texts)
        if isinstance(contexts, str):
            return reader.log_probabilities(self._labelled(contexts, label))
        rows = [reader.log_probabilities(self._labelled(context, label)) for context in _strings(contexts, "contexts")]
        return np.array(rows).reshape(-1, len(texts))

    def score(self, lines: Iterable[str], context: str = "") -> Scores:
        """How much each line surprises, by itself, as /v1/score says.

        context: what every line follows; without one, a line begins as a text does.
        Raises ParameterError on what is no text, TokenizerError on a line that is not Unicode.
        """
        if isinstance(lines, str):
            raise ParameterError(
                "lines", "These are the lines of one text; give a list of texts, or text.splitlines()."
            )
        if not isinstance(lines, Iterable):
            raise ParameterError("lines", f"lines is {_short(lines)}; give a list of texts.")
        every = list(lines)
        for number, line in enumerate(every):
            if not isinstance(line, str):
                raise ParameterError("lines", f"lines[{number}] is {_short(line)}; give a list of texts.")
        _text("context", context)
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
    path: str | Path | None = None,
    *,
    quantization: Quantization = "int8",
    threads: int | None = None,
    max_model_bytes: int = DEFAULT_MOST_BYTES,
) -> LanguageModel:
    """The model in a checkpoint folder or in a run's; without a path, the bundled one.

    max_model_bytes: memory that loading may take at most, counted before anything is made.
    Raises CheckpointError where it cannot be used, ParameterError on what is no path, and on a parameter out of range.
    """
    if not isinstance(path, str | os.PathLike | None):
        raise ParameterError("path", f"path is {_short(path)}; give a checkpoint folder's path, or none.")
    limit = LoadLimit(
        most_bytes=_whole("max_model_bytes", max_model_bytes, FEWEST_BYTES),
        arithmetic="fp32" if quantization == "fp32" else "int8",
    )
    stored = read_checkpoint(named_checkpoint(None if path is None else Path(path)), limit)
    name = "bundled" if path is None else str(path)
    return LanguageModel(stored.checkpoint, quantization, threads, name=name, digest=stored.digests.model)


def _parameters(seed: Any, sampling: dict[str, Any]) -> SamplingParameters:
    known = sorted({one.name for one in fields(SamplingParameters)} - {"seed"} | set(MATCHING))
    for name in sampling:
        if name not in known:
            [nearest] = difflib.get_close_matches(name, known, n=1) or [""]
            remedy = f"did you mean {nearest}?" if nearest else f"there are: {', '.join(known)}."
            raise ParameterError(name, f"There is no parameter {name}; {remedy}")
    if seed is None:
        seed = secrets.randbits(SEED_BITS)
    elif isinstance(seed, Integral):
        seed = int(seed)  # numpy's whole numbers overflow
    return SamplingParameters(seed=seed, **sampling)


def _strings(texts: Any, name: str = "stop") -> Sequence[str]:
    if isinstance(texts, str):
        return [texts]
    strings: list[Any] = list(texts) if isinstance(texts, Iterable) else [None]
    if not all(isinstance(one, str) for one in strings):
        raise ParameterError(name, f"{name} is {_short(texts)}; give a text, or a list of texts.")
    return strings


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ParameterError(name, f"{name} is {_short(value)}; give one text.")
    return value


def _whole(name: str, value: Any, least: int) -> int:
    if not isinstance(value, Integral) or value < least:
        raise ParameterError(name, f"{name} is {_short(value)}; choose a whole number from {least} up.")
    return int(value)


def _short(value: Any) -> str:
    """What a caller gave, as Python shows it, no longer than a sentence bears."""
    shown = repr(value)
    return shown if len(shown) <= MOST_SHOWN else f"{shown[:MOST_SHOWN]}…"
