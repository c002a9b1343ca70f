"""Digests of a checkpoint: of its files, so that damage is seen, and of the model, by which a version is named.

The entry `digests` of config.json has the sha256 of the bytes of model.safetensors (`weights`) and tokenizer.json
(`tokenizer`), and that of everything else in config.json (`config`) as JSON in one spelling: names in order, no white
space, ASCII (`canonical`). They show damage, not forgery: a person who can write the folder can write its digests, too.
README.md is for people, who may edit it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.config import NetworkConfig
from model.text.frame import PLAIN, TextFrame

ENTRY = "digests"  # of config.json
NAMES = ("weights", "tokenizer", "config")


@dataclass(frozen=True)
class Digests:
    """The digests of a stored checkpoint, each a sha256 in hexadecimal.

    model: of the network, its weights, the tokenizer and the unseen ids: of all that its texts follow from. It is the
        same after a copy, another training record or another card, and when the model is saved again in the same
        precision.
    weights, tokenizer: of the bytes of these files.
    recorded: whether config.json had them, so that the files were held against them.
    """

    model: str
    weights: str
    tokenizer: str
    recorded: bool


def sha256(content: bytes) -> str:
    """The sha256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def canonical(value: Any) -> bytes:
    """A JSON value in the one spelling that is digested."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def sealed(config: Mapping[str, Any], weights: str, tokenizer: str) -> dict[str, Any]:
    """What config.json is to say, with its digests as the last entry, in place of those it had.

    weights, tokenizer: sha256 of the bytes of these files.
    """
    files = {"weights": weights, "tokenizer": tokenizer}
    rest = {name: value for name, value in config.items() if name != ENTRY}
    return {**rest, ENTRY: {**files, "config": sha256(canonical({**rest, ENTRY: files}))}}


def recorded(config: Mapping[str, Any]) -> Mapping[str, str] | None:
    """The digests that a config.json has; None in one of before checkpoints had them.

    Raises ValueError where they are none, or the rest of the configuration is not what it was when it was written.
    """
    if ENTRY not in config:
        return None
    digests = config[ENTRY]
    if not isinstance(digests, dict) or sorted(digests) != sorted(NAMES):
        raise ValueError(f"its {ENTRY} are not those of {', '.join(NAMES)}")
    if sealed(config, digests["weights"], digests["tokenizer"])[ENTRY] != digests:
        raise ValueError("it does not match the digest it carries")
    return digests


def of_model(
    config: NetworkConfig, unseen: list[list[int]], weights: str, tokenizer: str, frame: TextFrame = PLAIN
) -> str:
    """The digest of a model; see `Digests.model`.

    unseen: ids that are never generated, as ranges. frame: how its texts begin and end. Options of the network that are
    off are left out, so that a later version with more of them finds the same digest; so is a plain frame.
    """
    network = {name: value for name, value in config.to_json().items() if value}
    texts = {"texts": frame.to_json()} if frame != PLAIN else {}
    parts = {"network": network, "unseen_ids": unseen, "weights": weights, "tokenizer": tokenizer, **texts}
    return sha256(canonical(parts))
