"""The requests and answers of /v1/inspect, of the search for units, and of influence."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field

from model.cells.spec import Cell
from model.embedding import Part
from model.text.features import FEATURES, Feature
from service.analysis.score_schemas import MOST_ALTERNATIVES, Alternative, CharacterScore
from service.api.schemas import Name, Nullable, Text, Usage, null_is_absent

MOST_NUMBERS = 400_000  # of an inspection: three for each character, and one for each alternative and unit of it
MOST_UNITS = 16
MOST_FOUND = 20  # units reported of each feature
MOST_COMPARED = 1_000_000  # probabilities of one reading that influence compares
LONGEST_WINDOW = 2_000
LARGEST_NETWORK = 1 << 20  # of a number that names a layer or unit, before the network is known
FELT = 0.01  # bits of divergence from which on a character counts as felt


class Unit(Nullable):
    """One number of the state."""

    layer: int = Field(ge=0, le=LARGEST_NETWORK, description="Its layer; the lowest is 0.")
    part: Part = Field(
        default="hidden",
        description="Of which part: the hidden state, between -1 and 1, or the cell state, which only an LSTM has.",
    )
    unit: int = Field(ge=0, le=LARGEST_NETWORK, description="Which of the layer's units, from 0.")


class OneText(Nullable):
    """A text, and what is read before it. Fields this server does not know are accepted and named in a header."""

    model_config = ConfigDict(extra="allow")

    text: Text = Field(description="The text. Any Unicode.")
    context: Text | None = Field(
        default=None,
        description="Read before the text and not part of the answer. Absent or empty: a line break, as for /v1/score.",
    )
    model: Name | None = Field(
        default=None,
        description="The model's name, as /v1/models lists it, or NAME@DIGEST for that version. Absent: the default.",
    )


def _inspect_example(schema: dict[str, Any]) -> None:
    null_is_absent(schema)
    schema["examples"] = [
        {"text": "To be, or not to be", "top_logprobs": 2, "units": [{"layer": 0, "part": "hidden", "unit": 1}]}
    ]


def _search_example(schema: dict[str, Any]) -> None:
    null_is_absent(schema)
    schema["examples"] = [{"text": "To be,\nor not to be", "features": ["line_position", "spaces"], "most": 2}]


def _influence_example(schema: dict[str, Any]) -> None:
    null_is_absent(schema)
    schema["examples"] = [{"text": "To be, or not to be", "position": 1, "replacement": "a", "window": 10}]


class InspectRequest(OneText):
    """A text, and what to report of each of its characters."""

    model_config = ConfigDict(json_schema_extra=_inspect_example)

    top_logprobs: int = Field(
        default=5,
        ge=0,
        le=MOST_ALTERNATIVES,
        description="Report for every character this many of the likeliest ones there.",
    )
    units: Annotated[list[Unit], FailFast()] = Field(
        default_factory=list,
        max_length=MOST_UNITS,
        description="Also report these numbers of the state after every character. A text may have as many characters "
        f"as make {MOST_NUMBERS:,} numbers: three for each, and one for each alternative and unit.",
    )


class SearchRequest(OneText):
    """A text of any length, and the features of it whose units are searched for."""

    model_config = ConfigDict(json_schema_extra=_search_example)

    features: Annotated[list[Feature], FailFast()] = Field(
        default=list(FEATURES), min_length=1, max_length=len(FEATURES), description="Which features. Absent: all."
    )
    most: int = Field(default=3, ge=1, le=MOST_FOUND, description="Units to report of each feature.")


class InfluenceRequest(OneText):
    """A text, and the one character of it that is changed."""

    model_config = ConfigDict(json_schema_extra=_influence_example)

    position: int = Field(ge=0, le=2**53, description="Which character, in Unicode characters from 0.")
    replacement: Text | None = Field(
        default=None, max_length=1, description="The character in its place. Absent or empty: it is erased."
    )
    window: int = Field(
        default=200,
        ge=1,
        le=LONGEST_WINDOW,
        description="How many characters after it are compared, fewer at the end of the text. Multiplied by the size "
        f"of the vocabulary it is at most {MOST_COMPARED:,}.",
    )


class Network(BaseModel):
    """The shape of the network, which says what units there are."""

    cell: Cell = Field(description="The kind of its cells.")
    layers: int = Field(ge=1, description="How many layers.")
    width: int = Field(ge=1, description="Units of each layer.")
    parts: list[Part] = Field(description="The parts of each layer's state.")


class InspectedCharacter(CharacterScore):
    """How surprising one character was, as /v1/score says, and the state after it was read."""

    units: list[float] | None = Field(
        default=None, description="The units' numbers after the character, in the order asked for; null without any."
    )


class UnitRange(BaseModel):
    """A unit, and between what its numbers lie in this text; null for an empty text."""

    layer: int = Field(ge=0, description="Its layer.")
    part: Part = Field(description="Its part.")
    unit: int = Field(ge=0, description="Which of the layer's units.")
    least: float | None = Field(description="Its least number.")
    greatest: float | None = Field(description="Its greatest number.")


class Following(BaseModel):
    """What the model expects after the text."""

    entropy_bits: float = Field(description="The surprise that it expects there.")
    alternatives: list[Alternative] | None = Field(description="The likeliest characters; null if none are asked for.")


class Inspection(BaseModel):
    """The answer about each character of a text."""

    object: Literal["inspection"] = "inspection"
    model: str = Field(description="The model that read the text.")
    network: Network
    characters: int = Field(ge=0, description="Unicode characters of the text.")
    tokens: int = Field(ge=0, description="Tokens: a character each, or a byte of one that the vocabulary lacks.")
    bits: float = Field(description="-log2 of the text's probability after the context.")
    bits_per_character: float | None = Field(description="The bits divided by the characters; null for an empty text.")
    unseen_characters: int = Field(ge=0, description="Characters that never occurred in training.")
    units: list[UnitRange] = Field(description="The units that were asked for.")
    next: Following
    details: list[InspectedCharacter] = Field(description="One for each character.")
    usage: Usage


class FoundUnit(BaseModel):
    """A unit that responds to a feature."""

    layer: int = Field(ge=0, description="Its layer.")
    part: Part = Field(description="Its part.")
    unit: int = Field(ge=0, description="Which of the layer's units.")
    correlation: float = Field(
        ge=-1, le=1, description="Pearson's, between the feature at each character and the unit after reading it."
    )


class FoundFeature(BaseModel):
    """A feature of the text, and the units that respond to it most."""

    feature: Feature = Field(description="Its name.")
    description: str = Field(description="What it is at a character.")
    mean: float | None = Field(description="Its mean over the text; null for an empty text.")
    units: list[FoundUnit] = Field(description="Strongest first; none if the feature never changes in this text.")


class UnitSearch(BaseModel):
    """The answer to a search for units."""

    object: Literal["unit_search"] = "unit_search"
    model: str = Field(description="The model that read the text.")
    network: Network
    characters: int = Field(ge=0, description="Unicode characters of the text.")
    features: list[FoundFeature] = Field(description="In the order asked for.")
    usage: Usage


class InfluencedCharacter(BaseModel):
    """What the change does to one later character."""

    character: str = Field(description="The character.")
    bits: float = Field(description="Its surprise in the text as it stands.")
    changed_bits: float = Field(description="Its surprise after the change.")
    difference: float = Field(description="The second less the first.")
    divergence_bits: float = Field(
        ge=0, description="Of the prediction there from that after the change (Kullback and Leibler, 1951)."
    )


class Influence(BaseModel):
    """The answer about the influence of one character."""

    object: Literal["influence"] = "influence"
    model: str = Field(description="The model that read the text.")
    position: int = Field(ge=0, description="Which character was changed.")
    character: str = Field(description="That character.")
    replacement: str | None = Field(description="What stood in its place; null if it was erased.")
    total_difference: float = Field(description="Bits by which the change makes the window more surprising.")
    felt: int | None = Field(
        description=f"How far after the change the last divergence of {FELT} bits or more is, in characters; null if "
        "there is none in the window."
    )
    details: list[InfluencedCharacter] = Field(description="One for each character of the window.")
    usage: Usage
