"""What goes over the wire at /v1/score: texts in, how likely they are out."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, field_validator

from service.api.schemas import Name, Nullable, Text, Usage, null_is_absent

MOST_TEXTS = 512
MOST_ALTERNATIVES = 20
MOST_DETAILS = 200_000  # numbers per character (two, and one for each alternative) of all texts together

EXAMPLE = {"texts": ["To be, or not to be", "To bee or knot to bee"], "context": "HAMLET:\n"}
TEXTS = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_TEXTS}]
}


def with_example(schema: dict[str, Any]) -> None:
    """Say that every optional field may be null, and show a request to begin with."""
    null_is_absent(schema)
    schema["examples"] = [EXAMPLE]


class ScoreRequest(Nullable):
    """Texts, and what to report about them. Fields this server does not know are accepted and named in a header."""

    model_config = ConfigDict(extra="allow", json_schema_extra=with_example)

    texts: Annotated[list[Text], WithJsonSchema(TEXTS)] = Field(
        min_length=1,
        max_length=MOST_TEXTS,
        description=f"One text, or up to {MOST_TEXTS}, each as long as the request's body may be: a whole book is a "
        "text. Any Unicode. A text is scored as the beginning of something; where its end matters, too, as among "
        "sentences of different lengths, let every text end with a line break.",
    )
    context: Text | None = Field(
        default=None,
        description="Read before each of the texts and not scored. Absent or empty: a line break, as if a new line had "
        "just begun, so that the first character counts like any other.",
    )
    details: bool = Field(
        default=False,
        description="Also tell of every character how surprising it was. For texts of some thousands of characters: at "
        f"most {MOST_DETAILS // 2:,} of all texts together, fewer with `top_logprobs`.",
    )
    top_logprobs: int = Field(
        default=0,
        ge=0,
        le=MOST_ALTERNATIVES,
        description="Tell with every character so many of the likeliest in its place; this asks for `details`, too.",
    )
    stream: bool = Field(
        default=False,
        description="Send server-sent events: how far the reading is, the result when it is done, and [DONE].",
    )
    model: Name | None = Field(
        default=None, description="The model's name, as /v1/models lists it. Absent: the model that is served."
    )
    user: Name | None = Field(default=None, description="Whom the answer is for. Accepted and not used.")

    @field_validator("texts", mode="before")
    @classmethod
    def list_of_texts(cls, texts: Any) -> Any:
        """A single text as a list of one."""
        return [texts] if isinstance(texts, str) else texts


class Alternative(BaseModel):
    """What might have stood in a character's place."""

    character: str = Field(description="A character, or a byte of one the vocabulary lacks, as <0xE4>.")
    probability: float = Field(ge=0, le=1, description="What the model gave it.")


class CharacterScore(BaseModel):
    """How surprising one character was. Of one that is read as several bytes, the first is meant but for `bits`."""

    character: str = Field(description="The character.")
    bits: float = Field(description="-log2 of its probability, all its bytes together.")
    rank: int = Field(ge=1, description="Its place among all there might have been; 1 is the likeliest.")
    entropy_bits: float = Field(description="The mean surprise the model expected here.")
    alternatives: list[Alternative] | None = Field(
        default=None, description="The likeliest, likeliest first; null unless `top_logprobs` asks for some."
    )


class Anomaly(BaseModel):
    """Where a text stands among passages of about its length that the model was not trained on."""

    percentile: float = Field(ge=0, le=100, description="Per cent of those passages that surprise less.")
    reference_median_bits_per_character: float = Field(ge=0, description="Of the passage in the middle.")


class TextScore(BaseModel):
    """How likely one text is. What is per something is null for an empty text."""

    index: int = Field(ge=0, description="Which of `texts`.")
    characters: int = Field(ge=0, description="Unicode characters, every one of which is scored.")
    tokens: int = Field(ge=0, description="The same, counting each byte of a character the vocabulary lacks.")
    bits: float = Field(description="-log2 of the text's probability after the context.")
    bits_per_character: float | None = Field(description="The bits divided by the characters.")
    nats_per_character: float | None = Field(description="The same by the natural logarithm: cross-entropy.")
    bits_per_byte: float | None = Field(description="The bits divided by the bytes of the text in UTF-8.")
    unseen_characters: int = Field(ge=0, description="Characters that never occurred in training.")
    anomaly: Anomaly | None = Field(description="Null for an empty text, and where the checkpoint has no passages.")
    details: list[CharacterScore] | None = Field(default=None, description="One for each character, if asked for.")


class Ranking(BaseModel):
    """The indices of the texts from the likeliest to the least likely; of equally likely ones the first comes first."""

    total: list[int] = Field(description="By the probability of the whole text: choose among versions of one sentence.")
    per_character: list[int] = Field(description="By bits per character: compare texts of different lengths.")


class Scores(BaseModel):
    """The answer to a request for scores, and the last event but [DONE] of a stream."""

    object: Literal["score"] = "score"
    model: str = Field(description="The model that read the texts.")
    results: list[TextScore] = Field(description="One for each text, in order.")
    ranking: Ranking
    anomaly_note: str = Field(description="Which passages `anomaly` speaks of, or why there are none.")
    usage: Usage


class Progress(BaseModel):
    """An event of a stream while texts are read."""

    object: Literal["score.progress"] = "score.progress"
    tokens: int = Field(ge=0, description="Tokens read so far, of all texts together, contexts included.")
    total_tokens: int = Field(ge=0, description="Tokens there are to read.")
