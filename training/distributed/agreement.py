"""Checks that all processes of a run train the same network on the same text."""

import os
import socket
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from model.errors import TrainingError
from training.distributed.ranks import Ranks

REMEDIES = {
    "Unroll": "install the same version for all",
    "PyTorch": "install the same version for all",
    "corpus": "give all the same files, in the same order",
    "vocabulary": "give all the same --from, --min-count and items",
    "split": "give all the same --split",
}
"""What must be the same, and the remedy if it is not, in the order in which it is checked."""


class Disagreement(TrainingError):
    """The processes of a run differ; all of them raise it, so that one can report it."""


def agree(ranks: Ranks, corpus: str, vocabulary: str, split: str) -> None:
    """Raise Disagreement, in every process, if one has another version, text, vocabulary or split than rank 0.

    Each argument is a text that identifies the thing, such as a digest.
    """
    if ranks.count == 1:
        return
    own: Mapping[str, Any] = {
        "Unroll": version("unroll"),
        "PyTorch": torch.__version__,
        "corpus": corpus,
        "vocabulary": vocabulary,
        "split": split,
        "place": f"{socket.gethostname()}, process {os.getpid()}",
    }
    cards = ranks.of_each(own)
    for what, remedy in REMEDIES.items():
        for number, card in enumerate(cards):
            if card[what] != cards[0][what]:
                raise Disagreement(
                    f"Rank {number} ({card['place']}) has another {what} than rank 0 ({card[what][:12]} against "
                    f"{cards[0][what][:12]}); {remedy}."
                )
