"""The model a server serves, loaded once: its name, its vocabulary and its decoder."""

import hashlib
import logging
from dataclasses import dataclass

from model.checkpoint import CONFIG, Checkpoint, Digests, named_checkpoint, read
from model.decoding.decoder import Decoder
from model.decoding.kernel_library import processors
from model.decoding.rows import AnyDecoder
from model.held_out_surprise import HeldOutSurprise
from model.memory import LoadLimit
from model.text.prompt import Prompt
from model.text.tokenizer import Tokenizer
from service.errors import SettingsError
from service.inference.constraints import Constraints
from service.settings import Settings

logger = logging.getLogger(__name__)

SPELLED_BYTES = 64  # of each id as JSON, which answers of /tokenize are made of
GUIDED_BYTES = 400  # of each id as llguidance has it, which follows constraints without a table


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """The model that answers requests.

    name: by which requests ask for it; created: when its files were written, seconds since 1970.
    parameters: how many the network has.
    digests: of the model, its weights and its tokenizer.
    fingerprint: of all that the text of a seed depends on; the same fingerprint means the same text.
    held_out: how surprising text it was not trained on is to it; None if the checkpoint does not say.
    constraints: compiles what texts must match.
    """

    name: str
    created: int
    parameters: int
    digests: Digests
    fingerprint: str
    tokenizer: Tokenizer
    decoder: AnyDecoder
    held_out: HeldOutSurprise | None = None
    constraints: Constraints

    def knows(self, text: str) -> bool:
        """Whether every character of a text occurred in training."""
        return not Prompt(self.tokenizer, self.decoder.ids, text).unseen

    @classmethod
    def load(cls, settings: Settings, decoder: type[Decoder] = Decoder) -> "ServedModel":
        """Read the checkpoint the settings name. Raises CheckpointError on one that cannot be served."""
        folder = named_checkpoint(settings.checkpoint)
        stored = read(folder, load_limit(settings))
        if stored.note:
            logger.warning("%s", stored.note)
        checkpoint = stored.checkpoint
        served = _on_gpu(checkpoint) if settings.device == "cuda" else decoder(checkpoint, settings.arithmetic)
        return cls(
            name=settings.model_name,
            created=int((folder / CONFIG).stat().st_mtime),
            parameters=checkpoint.config.parameters(),
            digests=stored.digests,
            fingerprint=_fingerprint(stored.digests.model, served.where),
            tokenizer=checkpoint.tokenizer,
            decoder=served,
            held_out=HeldOutSurprise.of(checkpoint.training),
            constraints=Constraints(checkpoint.tokenizer, served.ids, settings),
        )


def load_limit(settings: Settings) -> LoadLimit:
    """What loading the model of some settings may take, with the slots of their threads."""
    return LoadLimit(
        most_bytes=settings.max_model_bytes,
        arithmetic=settings.arithmetic,
        compiled=bool(processors()),
        rows=settings.max_rows,
        threads=min(settings.threads, settings.max_rows),
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
