"""The requests and answers of /v1/score."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FailFast, Field, WithJsonSchema, field_validator

from service.api.schemas import (
    RETURNED_STATE,
    STATE,
    ErrorDetail,
    Name,
    Nullable,
    StateToken,
    Text,
    Usage,
    null_is_absent,
)

MOST_TEXTS = 512
MOST_ALTERNATIVES = 20
MOST_DETAILS = 200_000  # numbers reported for all texts together: two for each character, and one for each alternative

EXAMPLE = {"texts": ["To be, or not to be", "To bee or knot to bee"], "context": "HAMLET:\n"}
TEXTS = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MOST_TEXTS}]
}


def with_example(schema: dict[str, Any]) -> None:
    """Add to the schema that every optional field may be null, and an example."""
    null_is_absent(schema)
    schema["examples"] = [EXAMPLE]


class ScoreRequest(Nullable):
    """Texts, and what to report about them. Fields this server does not know are accepted and named in a header."""

    model_config = ConfigDict(extra="allow", json_schema_extra=with_example)

    texts: Annotated[list[Text], FailFast(), WithJsonSchema(TEXTS)] = Field(
        min_length=1,
        max_length=MOST_TEXTS,
        description=f"One text, or up to {MOST_TEXTS}, each as long as the body of a request may be, such as a "
        "book. Any Unicode. A text is scored as the beginning of a longer one; if its end matters too, as among "
        "sentences of different lengths, end every text with a line break.",
    )
    context: Text | None = Field(
        default=None,
        description="Read before each of the texts and not scored. Absent or empty: a line break, so that "
        "the first character is scored as the first of a line.",
    )
    state: StateToken | None = Field(
        default=None, description=f"{STATE}each of the texts is scored as what comes next, in place of `context`."
    )
    memory: bool = Field(
        default=False,
        description="Read each text with the online memory: what followed the last characters before, in its context "
        "and in itself, is expected again. A text's score still depends on the text and the context alone. After "
        "a state, and in a returned one, the memory is empty.",
    )
    return_state: bool = Field(default=False, description="Return the state after each text.")
    details: bool = Field(
        default=False,
        description="Also report how surprising every character was, for at most "
        f"{MOST_DETAILS // 2:,} characters of all texts together, fewer with `top_logprobs`.",
    )
    top_logprobs: int = Field(
        default=0,
        ge=0,
        le=MOST_ALTERNATIVES,
        description="Report for every character this many of the likeliest ones there; implies `details`.",
    )
    stream: bool = Field(
        default=False,
        description="Send server-sent events: how much has been read, the result when it is done, and [DONE].",
    )
    model: Name | None = Field(
        default=None,
        description="The model's name, as /v1/models lists it, or NAME@DIGEST for that version. Absent: the default.",
    )
    user: Name | None = Field(default=None, description="The user that the answer is for. Accepted and not used.")

    @field_validator("texts", mode="before")
    @classmethod
    def list_of_texts(cls, texts: Any) -> Any:
        """A single text as a list of one."""
        return [texts] if isinstance(texts, str) else texts


class ScoreLine(Nullable):
    """A line of a body of lines: a text to score. A line that is a JSON string is its `text`.

    Other fields are ignored, but for those that promise something, such as `state`: their line has an error.
    """

    model_config = ConfigDict(extra="allow")

    text: Text = Field(description="The text, as one of `texts`.")
    context: Text | None = Field(
        default=None, description="Read before the text and not scored; lines with the same one are read together."
    )
    memory: bool = Field(
        default=False, description="Read the text with the online memory, which holds its context and itself alone."
    )


class Alternative(BaseModel):
    """A character that could have been there instead."""

    character: str = Field(description="A character, or a byte of one the vocabulary lacks, as <0xE4>.")
    probability: float = Field(ge=0, le=1, description="Its probability in the model.")


class CharacterScore(BaseModel):
    """How surprising one character was. If it is read as several bytes, only `bits` counts those after the first."""

    character: str = Field(description="The character.")
    bits: float = Field(description="-log2 of its probability, of all its bytes together.")
    rank: int = Field(ge=1, description="Its rank among all tokens; 1 is the likeliest.")
    entropy_bits: float = Field(description="The surprise that the model expected here, on average.")
    alternatives: list[Alternative] | None = Field(
        default=None, description="The likeliest, likeliest first; null unless `top_logprobs` asks for some."
    )


class Anomaly(BaseModel):
    """Where a text stands among passages of about its length that the model was not trained on."""

    percentile: float = Field(ge=0, le=100, description="Per cent of those passages that surprise less.")
    reference_median_bits_per_character: float = Field(ge=0, description="Of the passage in the middle.")


class TextScore(BaseModel):
    """How likely one text is. Ratios are null for an empty text."""

    index: int = Field(ge=0, description="Which of `texts`.")
    characters: int = Field(ge=0, description="Unicode characters, all of which are scored.")
    tokens: int = Field(ge=0, description="Tokens: a character each, or a byte of one that the vocabulary lacks.")
    bits: float = Field(description="-log2 of the text's probability after the context.")
    bits_per_character: float | None = Field(description="The bits divided by the characters.")
    nats_per_character: float | None = Field(description="The same in nats: cross-entropy.")
    bits_per_byte: float | None = Field(description="The bits divided by the bytes of the text in UTF-8.")
    unseen_characters: int = Field(ge=0, description="Characters that never occurred in training.")
    anomaly: Anomaly | None = Field(description="Null for an empty text, and if the checkpoint has no passages.")
    details: list[CharacterScore] | None = Field(default=None, description="One for each character, if asked for.")
    state: str | None = Field(default=None, description=RETURNED_STATE)


class LineScore(BaseModel):
    """A line of an answer of lines: the score of a text without details, or what is wrong with its line.

    index: of the text among those that could be read, from 0.
    """

    line: int | None = Field(
        ge=1,
        description="Which line of the body it is about, from 1. Null: why there are no more; the rest was not read.",
    )
    error: ErrorDetail | None = Field(default=None, description="What is wrong; then there is no score.")
    index: int | None = Field(default=None, ge=0, description="Which text, from 0; blank and wrong lines have none.")
    characters: int | None = Field(default=None, ge=0, description="As in TextScore, and so are the other figures.")
    tokens: int | None = Field(default=None, ge=0, description="See TextScore.")
    bits: float | None = Field(default=None, description="See TextScore.")
    bits_per_character: float | None = Field(default=None, description="See TextScore.")
    nats_per_character: float | None = Field(default=None, description="See TextScore.")
    bits_per_byte: float | None = Field(default=None, description="See TextScore.")
    unseen_characters: int | None = Field(default=None, ge=0, description="See TextScore.")
    anomaly: Anomaly | None = Field(default=None, description="See TextScore.")


class Ranking(BaseModel):
    """The indices of the texts from the likeliest to the least likely; equally likely ones stay in order."""

    total: list[int] = Field(description="By the probability of the whole text: choose among versions of one sentence.")
    per_character: list[int] = Field(description="By bits per character: compare texts of different lengths.")


class Scores(BaseModel):
    """The answer to a request for scores; in a stream, the event before [DONE]."""

    object: Literal["score"] = "score"
    model: str = Field(description="The model that read the texts.")
    results: list[TextScore] = Field(description="One for each text, in order.")
    ranking: Ranking
    anomaly_note: str = Field(description="Which passages `anomaly` speaks of, or why there are none.")
    memory: bool = Field(
        default=False,
        description="Whether the texts were read with the online memory. A state that is returned does not carry it.",
    )
    usage: Usage


class Progress(BaseModel):
    """An event of a stream while texts are read."""

    object: Literal["score.progress"] = "score.progress"
    tokens: int = Field(ge=0, description="Tokens read so far, of all texts together, contexts included.")
    total_tokens: int = Field(ge=0, description="Tokens there are to read.")
