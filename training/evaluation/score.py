"""The result of one evaluation protocol: bits and nats per character."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SCORED = ("ids_scored", "ids_in_part")  # what the JSON calls the two of `scored`


@dataclass(frozen=True)
class Score:
    """How well a text was predicted.

    nats: the sum of -ln p over all scored ids. characters: how many characters those ids spell.
    protocol: what was measured, in words.
    items: how many were read, where the text is a list of items.
    standard_error: of the nats per character, where places were drawn at random; None where everything was read.
    scored: how many ids of the part were scored and how many it has, where only its beginning was.
    """

    nats: float
    characters: int
    protocol: str
    standard_error: float | None = None
    items: int | None = None
    scored: tuple[int, int] | None = None

    def __add__(self, other: "Score") -> "Score":
        """Both texts' score, each read by itself."""
        characters = self.characters + other.characters
        both = self.protocol if self.protocol == other.protocol else f"{self.protocol}; {other.protocol}"
        errors = [s.standard_error * s.characters for s in (self, other) if s.standard_error is not None]
        error = math.hypot(*errors) / characters if errors else None
        items = None if self.items is None or other.items is None else self.items + other.items
        return Score(self.nats + other.nats, characters, both, error, items)

    @property
    def nats_per_character(self) -> float:
        """Cross-entropy in nats."""
        return self.nats / self.characters

    @property
    def bits_per_character(self) -> float:
        """Cross-entropy in bits: nats / ln 2."""
        return self.nats_per_character / math.log(2)

    @property
    def bits_per_item(self) -> float | None:
        """Bits of a whole item, its end included; None where the text is no list."""
        return None if not self.items else self.nats / self.items / math.log(2)

    @property
    def stretch(self) -> str:
        """Which ids of the part were scored, to follow a figure; empty where all were."""
        return " over the first {:,} of {:,} ids".format(*self.scored) if self.scored else ""

    def to_json(self) -> dict[str, Any]:
        """The score as JSON values, rounded to what repeats on another machine."""
        values: dict[str, Any] = {
            "bits_per_character": round(self.bits_per_character, 4),
            "nats_per_character": round(self.nats_per_character, 4),
            "characters": self.characters,
            "protocol": self.protocol,
        }
        if self.standard_error is not None:
            values["standard_error_nats"] = round(self.standard_error, 4)
        if self.items and self.bits_per_item is not None:
            values |= {"items": self.items, "bits_per_item": round(self.bits_per_item, 3)}
        if self.scored:
            values |= dict(zip(SCORED, self.scored, strict=True))
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Score":
        """What `to_json` wrote, as exact as the bits it rounded."""
        characters: int = values["characters"]
        scored = (values[SCORED[0]], values[SCORED[1]]) if SCORED[0] in values else None
        nats = values["bits_per_character"] * math.log(2) * characters
        return cls(nats, characters, values["protocol"], values.get("standard_error_nats"), values.get("items"), scored)
