"""A trained model on disk: written whole, checked before it is believed."""

from model.checkpoint.checkpoint import BUNDLED, CARD, CONFIG, TOKENIZER, WEIGHTS, Checkpoint
from model.checkpoint.loading import check, load, named_checkpoint
from model.checkpoint.saving import save

__all__ = [
    "BUNDLED",
    "CARD",
    "CONFIG",
    "TOKENIZER",
    "WEIGHTS",
    "Checkpoint",
    "check",
    "load",
    "named_checkpoint",
    "save",
]
