"""What goes over the wire for embeddings: the request with its limits, and its answer."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from model.embedding import Part, Pooling
from service.api.schemas import LARGEST_ID, Name, Nullable, null_is_absent, whole_characters

MOST_INPUTS = 2_048
LAYERS = 16  # that a network may have
LARGEST_WIDTH = LAYERS * 8_192

TEXT = {"type": "string"}
IDS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": LARGEST_ID}, "minItems": 1}
INPUTS = {
    "anyOf": [
        TEXT,
        {"type": "array", "items": TEXT, "minItems": 1, "maxItems": MOST_INPUTS},
        IDS,
        {"type": "array", "items": IDS, "minItems": 1, "maxItems": MOST_INPUTS},
    ]
}
LAYER = {"anyOf": [{"type": "integer", "minimum": -LAYERS, "maximum": LAYERS - 1}, {"const": "all"}]}


def inputs_of(inputs: Any) -> list[str | list[int]]:
    """The texts of a request, sent in any of four ways."""
    if isinstance(inputs, str):
        return [whole_characters(inputs)]
    kinds = set(map(type, inputs)) if isinstance(inputs, list) else set()
    if kinds == {int}:
        return [inputs]
    if kinds == {str} or (kinds == {list} and all(set(map(type, one)) == {int} for one in inputs)):
        if len(inputs) <= MOST_INPUTS:
            return [whole_characters(one) if isinstance(one, str) else one for one in inputs]
        message = "there are {count} texts; send at most {most} in one request"
        raise PydanticCustomError("too_many_inputs", message, {"count": len(inputs), "most": MOST_INPUTS})
    raise PydanticCustomError("input", "send a text, a list of texts, a list of ids, or a list of lists of ids")


def layer_of(layer: Any) -> int | None:
    """The number of a layer; None for all."""
    if layer == "all":
        return None
    if type(layer) is not int or not -LAYERS <= layer < LAYERS:
        raise PydanticCustomError("layer", "send a number, from 0 up or from -1, the last, down, or all")
    return layer


def embedding_schema(schema: dict[str, Any]) -> None:
    """Add to the schema that optional fields may be null, and some examples."""
    null_is_absent(schema)
    schema["examples"] = [
        {"input": "To be, or not to be"},
        {"input": ["To be", "Not to be"], "pooling": "mean", "layer": "all", "encoding_format": "base64"},
    ]


class EmbeddingRequest(Nullable):
    """Texts, and what of the network's state they become. Unknown fields are accepted and named in a header."""

    model_config = ConfigDict(extra="allow", json_schema_extra=embedding_schema)

    input: Annotated[list[str | list[int]], PlainValidator(inputs_of), WithJsonSchema(INPUTS)] = Field(
        description=f"A text, or up to {MOST_INPUTS:,} of them; or one or up to {MOST_INPUTS:,} as lists of ids, as "
        "/tokenize gives them."
    )
    model: Name | None = Field(
        default=None,
        description="The model's name, as /v1/models lists it, or NAME@DIGEST for that version. Absent: the default.",
    )
    encoding_format: Literal["float", "base64"] = Field(
        default="float", description="Numbers, or the bytes of 32-bit floats, the lowest first, in base64."
    )
    dimensions: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST_WIDTH,
        description="Return the first so many numbers, of length 1 again where vectors are. Absent: all.",
    )
    pooling: Pooling = Field(
        default="last", description="The state after the text, or the mean of the states after each of its characters."
    )
    layer: Annotated[int | None, PlainValidator(layer_of), WithJsonSchema(LAYER)] = Field(
        default=-1, description="Of which layer, from 0 up or from -1, the last, down; all joins those of all layers."
    )
    part: Part = Field(default="hidden", description="The hidden state, or the cell state, which only an LSTM has.")
    normalised: bool = Field(default=True, description="Divide each vector by its length, which is 1 then.")
    user: Name | None = Field(default=None, description="The user that it is for. Accepted and not used.")


class Embedding(BaseModel):
    """The vector of one text."""

    object: Literal["embedding"] = "embedding"
    index: int = Field(ge=0, description="Which text.")
    embedding: list[float] | str = Field(description="The numbers, or their bytes in base64.")


class EmbeddingUsage(BaseModel):
    """Tokens read; each is a character, or a byte of a character that the vocabulary lacks."""

    prompt_tokens: int = Field(ge=0, description="Tokens of the texts.")
    total_tokens: int = Field(ge=0, description="The same.")


class Embeddings(BaseModel):
    """The vectors of the texts, in their order."""

    object: Literal["list"] = "list"
    data: list[Embedding] = Field(description="The vectors.")
    model: str = Field(description="The model that read them.")
    usage: EmbeddingUsage
