"""The model a server serves, loaded once: its name, its vocabulary, and a decoder that steps it."""

from dataclasses import dataclass

from model.checkpoint import BUNDLED, CONFIG, Checkpoint, load
from model.decoder import Decoder
from model.rows import AnyDecoder
from model.tokenizer import Tokenizer
from service.errors import SettingsError
from service.settings import Settings


@dataclass(frozen=True, kw_only=True)
class ServedModel:
    """What requests are answered with.

    name: what it is asked for by; created: when its files were written, seconds since 1970.
    parameters: how many numbers the network learnt.
    """

    name: str
    created: int
    parameters: int
    tokenizer: Tokenizer
    decoder: AnyDecoder

    @classmethod
    def load(cls, settings: Settings, decoder: type[Decoder] = Decoder) -> "ServedModel":
        """Read the checkpoint the settings name. Raises CheckpointError on one that cannot be served."""
        folder = settings.checkpoint or BUNDLED
        checkpoint = load(folder)
        return cls(
            name=settings.model_name,
            created=int((folder / CONFIG).stat().st_mtime),
            parameters=checkpoint.config.parameters(),
            tokenizer=checkpoint.tokenizer,
            decoder=_on_gpu(checkpoint) if settings.device == "cuda" else decoder(checkpoint, settings.arithmetic),
        )


def _on_gpu(checkpoint: Checkpoint) -> AnyDecoder:
    """A decoder on the GPU. Raises SettingsError where PyTorch or the GPU is missing."""
    try:
        from model.cuda_step import CudaDecoder
    except ImportError as error:
        raise SettingsError("A GPU is used through PyTorch, which is missing; pip install 'unroll[train]'.") from error
    return CudaDecoder(checkpoint)
