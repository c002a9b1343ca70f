"""A trained model on disk: written as a whole, checked before it is used."""

from model.checkpoint.checkpoint import BUNDLED, CARD, CONFIG, TOKENIZER, WEIGHTS, Checkpoint
from model.checkpoint.digests import Digests
from model.checkpoint.loading import StoredCheckpoint, check, load, named_checkpoint, read
from model.checkpoint.saving import save

__all__ = [
    "BUNDLED",
    "CARD",
    "CONFIG",
    "TOKENIZER",
    "WEIGHTS",
    "Checkpoint",
    "Digests",
    "StoredCheckpoint",
    "check",
    "load",
    "named_checkpoint",
    "read",
    "save",
]
