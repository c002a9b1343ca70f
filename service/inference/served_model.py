"""A model that is served, in memory: its name, its version, its vocabulary and its decoder."""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from model.checkpoint import CONFIG, TOKENIZER, Checkpoint, Digests, StoredCheckpoint, named_checkpoint, read
from model.decoding.decoder import Decoder
from model.decoding.kernel_library import processors
from model.decoding.rows import AnyDecoder
from model.errors import CheckpointError
from model.held_out_surprise import HeldOutSurprise
from model.memory import LoadingBytes, LoadLimit
from model.online_memory.weights import MemoryWeights
from model.text.prompt import Prompt
from model.text.tokenizer import Tokenizer
from service.engine.counters import ModelCounts
from service.engine.sequence import EngineModel
from service.errors import SettingsError
from service.inference.constraints import ConstraintCache, Constraints
from service.settings import Settings

logger = logging.getLogger(__name__)

SPELLED_BYTES = 64  # of each id as JSON, which answers of /tokenize are made of
MOST_BITS = 100.0  # per character of a text, at which no model of ours is that bad
GUIDED_BYTES = 400  # of each id as llguidance has it, which follows constraints without a table


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a version of a model without having it in memory.

    created: when its files were written, seconds since 1970. parameters: how many the network has. vocabulary: ids.
    digests: of the model, its weights and its tokenizer. loading_bytes: the most memory that loading it takes;
    beside_bytes: what it takes then beside its weights. held_out_bits: bits per character of held-out parts by name, as
    the checkpoint says.
    """

    created: int
    parameters: int
    vocabulary: int
    digests: Digests
    loading_bytes: int
    beside_bytes: int
    held_out_bits: tuple[tuple[str, float], ...] = ()

    @property
    def digest(self) -> str:
        """What names the version."""
        return self.digests.model

    @classmethod
    def read(cls, folder: Path, settings: Settings) -> "tuple[ModelFacts, StoredCheckpoint]":
        """Of the checkpoint in a folder, which is read and checked whole, and the checkpoint.

        Raises CheckpointError on one that cannot be served.
        """
        limit = load_limit(settings)
        stored = read(folder, limit)
        config, tokenizer = stored.checkpoint.config, stored.checkpoint.tokenizer
        with suppress(OSError):
            takes = LoadingBytes.of(
                *(config, stored.dtype, len(stored.checkpoint.seen()), (folder / TOKENIZER).stat().st_size, limit)
            )
            facts = cls(
                created=int((folder / CONFIG).stat().st_mtime),
                parameters=config.parameters(),
                vocabulary=tokenizer.size,
                digests=stored.digests,
                loading_bytes=takes.peak,
                beside_bytes=takes.vocabulary + takes.rows,
                held_out_bits=tuple(_held_out_bits(stored.checkpoint.training)),
            )
            return facts, stored
        raise CheckpointError(f"{folder} was taken away while it was read; load the checkpoint again.")


def _held_out_bits(training: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """The figures of a checkpoint's `training` table that can be believed: it is a file from anywhere."""
    figures = training.get("figures")
    for part in ("validation", "test"):
        score = figures.get(part) if isinstance(figures, Mapping) else None
        bits = score.get("bits_per_character") if isinstance(score, Mapping) else None
        if isinstance(bits, float) and 0 <= bits < MOST_BITS:
            yield part, bits


@dataclass(frozen=True, kw_only=True, eq=False)
class ServedModel:
    """A version of a model in memory, which answers requests.

    name: by which requests ask for it. facts: what is known of the version.
    engine_model: what the engine needs of it.
    fingerprint: of all that the text of a seed depends on; the same fingerprint means the same text.
    held_out: how surprising text it was not trained on is to it; None if the checkpoint does not say.
    memory: the weights of its online memory; None if the checkpoint has none.
    constraints: compiles what texts must match.
    """

    name: str
    facts: ModelFacts
    fingerprint: str
    tokenizer: Tokenizer
    engine_model: EngineModel
    held_out: HeldOutSurprise | None = None
    memory: MemoryWeights | None = None
    constraints: Constraints

    @property
    def decoder(self) -> AnyDecoder:
        """What its texts are drawn with."""
        return self.engine_model.decoder

    @property
    def nbytes(self) -> int:
        """Memory that it takes; of one on a GPU, as much as loading it did."""
        weights = getattr(self.decoder, "nbytes", self.facts.loading_bytes)
        return int(weights) + self.facts.beside_bytes

    def knows(self, text: str) -> bool:
        """Whether every character of a text occurred in training."""
        return not Prompt(self.tokenizer, self.decoder.ids, text).unseen

    @classmethod
    def load(
        cls,
        settings: Settings,
        decoder: type[Decoder] = Decoder,
        *,
        name: str | None = None,
        folder: Path | None = None,
        counts: ModelCounts | None = None,
        constraints: ConstraintCache | None = None,
    ) -> "ServedModel":
        """Read the checkpoint in a folder; without one, that of the settings.

        counts: where its texts are counted. constraints: where compiled ones are kept.
        Raises CheckpointError on one that cannot be served.
        """
        facts, stored = ModelFacts.read(folder or named_checkpoint(settings.checkpoint), settings)
        if stored.note:
            logger.warning("%s", stored.note)
        checkpoint = stored.checkpoint
        served = _on_gpu(checkpoint) if settings.device == "cuda" else decoder(checkpoint, settings.arithmetic)
        owner = bytes.fromhex(facts.digest)
        return cls(
            name=name or settings.model_name,
            facts=facts,
            fingerprint=_fingerprint(facts.digest, served.where),
            tokenizer=checkpoint.tokenizer,
            engine_model=EngineModel(served, checkpoint.tokenizer, owner, counts),
            held_out=HeldOutSurprise.of(checkpoint.training),
            memory=MemoryWeights.of(checkpoint.training),
            constraints=Constraints(checkpoint.tokenizer, served.ids, settings, owner, constraints),
        )


Made = TypeVar("Made")


class PerModel(Generic[Made]):
    """What is made of each model once, when it is first needed, and goes with the model."""

    def __init__(self, make: Callable[[ServedModel], Made]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[ServedModel, Made] = WeakKeyDictionary()

    def __call__(self, model: ServedModel) -> Made:
        """What was made of the model; it must not refer to it."""
        made = self._made.get(model)
        if made is None:
            made = self._made[model] = self._make(model)
        return made


def load_limit(settings: Settings) -> LoadLimit:
    """What loading the model of some settings may take, with the slots of their threads."""
    return LoadLimit(
        most_bytes=settings.max_model_bytes,
        arithmetic=settings.arithmetic,
        compiled=bool(processors()),
        rows=settings.max_rows,
        threads=settings.workers,
        of_an_id=SPELLED_BYTES + GUIDED_BYTES,
    )


def _fingerprint(model: str, where: str) -> str:
    """Of a model's digest and the arithmetic: int8 is the same everywhere, fp32 on one processor."""
    arithmetic = where.partition(" ")[0] if where.startswith("int8") else where
    return "fp_" + hashlib.sha256(f"{model} {arithmetic}".encode()).hexdigest()[:16]


def _on_gpu(checkpoint: Checkpoint) -> AnyDecoder:
    """A decoder on the GPU. Raises SettingsError if PyTorch or the GPU is missing."""
    try:
        from model.decoding.cuda_decoder import CudaDecoder
    except ImportError as error:
        raise SettingsError("A GPU is used through PyTorch, which is missing; pip install 'unroll[train]'.") from error
    return CudaDecoder(checkpoint)
