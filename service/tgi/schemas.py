"""What goes over the wire in the dialect of text-generation-inference: its requests with their limits, its answers."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from model.sampling.parameters import RANGES
from model.text.frame import LARGEST_LABEL
from model.text.stop_strings import LARGEST_STOP
from service.api.schemas import (
    LARGEST_MAX_TOKENS,
    LARGEST_N,
    MOST_STOPS,
    RETURNED_STATE,
    STATE,
    Name,
    Nullable,
    StateToken,
    Stop,
    Text,
    null_is_absent,
    off_is,
    whole_characters,
)

DEFAULT_MAX_NEW_TOKENS = 100  # as text-generation-inference has it
MOST_TOP_TOKENS = 20
LONGEST_TRUNCATE = 100_000_000


def only(wanted: Any, why: str) -> AfterValidator:
    """Refuses every other value instead of ignoring it."""

    def check(given: Any) -> Any:
        if given != wanted:
            raise PydanticCustomError("unsupported", "{why}; leave it out", {"why": why})
        return given

    return AfterValidator(check)


UNSUPPORTED = "this server does not support it"
NOT_STREAMED = "a stream cannot have it"
Never = Annotated[bool, only(False, UNSUPPORTED), WithJsonSchema({"const": False})]
OneText = Annotated[int, only(1, NOT_STREAMED), WithJsonSchema({"const": 1})]
NoPrefill = Annotated[bool, only(False, NOT_STREAMED), WithJsonSchema({"const": False})]


def _grammar(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {"type": {"const": kind}, "value": value},
        "required": ["type", "value"],
    }


TEXT = {"type": "string", "minLength": 1}
SCHEMA = {"anyOf": [{"type": "object"}, {"const": True}, TEXT]}
GRAMMAR = {
    "anyOf": [
        _grammar("regex", TEXT),
        _grammar("json", SCHEMA),
        _grammar("json_schema", {"type": "object", "properties": {"schema": SCHEMA}, "required": ["schema"]}),
    ]
}


class Parameters(Nullable):
    """How to continue a text."""

    model_config = ConfigDict(extra="allow")

    best_of: int = Field(
        default=1,
        ge=1,
        le=LARGEST_N,
        description="Write this many texts and answer the one whose tokens are likeliest on average; not in a stream.",
    )
    decoder_input_details: bool = Field(
        default=False, description="Also report how likely each token of the inputs is; not in a stream."
    )
    details: bool = Field(default=False, description="Also report why the text ended, and each of its tokens.")
    do_sample: bool = Field(
        default=False,
        description="Draw each character. Otherwise take the likeliest, unless one of temperature, top_k, top_p and "
        "typical_p is given.",
    )
    frequency_penalty: float = Field(
        default=0.0,
        ge=-2,
        le=2,
        description="Subtracted from a character's logit for every time the text has it already. 0 = none.",
    )
    grammar: Annotated[dict[str, Any], WithJsonSchema(GRAMMAR)] | None = Field(
        default=None,
        description="What the text must match: a regular expression, or compact JSON that is valid by a schema.",
    )
    label: Annotated[str, Field(max_length=LARGEST_LABEL), AfterValidator(whole_characters)] | None = Field(
        default=None,
        description="Of a model of items that have labels: the label of the item to write. It stands before the "
        "inputs, with a | after it, and counts as their part. Absent: none.",
    )
    max_new_tokens: int = Field(
        default=DEFAULT_MAX_NEW_TOKENS, ge=1, le=LARGEST_MAX_TOKENS, description="Most tokens to write."
    )
    repetition_penalty: float = Field(
        default=1.0,
        ge=RANGES["repetition_penalty"][0],
        le=RANGES["repetition_penalty"][1],
        description="Makes characters of the inputs and of the text less likely. 1 = none.",
    )
    state: StateToken | None = Field(
        default=None,
        description=f"{STATE}the inputs are read after it, and after empty ones the text itself goes on, as if one "
        "request had written it all.",
    )
    return_state: bool = Field(default=False, description="Return the state after the text.")
    return_full_text: bool = Field(default=False, description="Begin `generated_text` with the inputs.")
    seed: Annotated[int | None, AfterValidator(off_is(-1, None))] = Field(
        default=None,
        ge=-1,
        le=2**64 - 1,
        description="The same seed and parameters give the same text, always. Absent or -1: drawn at random.",
    )
    stop: list[Stop] = Field(
        default=[],
        max_length=MOST_STOPS,
        description=f"Ends the text as soon as it has one of these strings, which stays in it: at most {MOST_STOPS}, "
        f"of 1 to {LARGEST_STOP:,} characters each.",
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        le=RANGES["temperature"][1],
        description="Divides the logits: below 1 likelier, above 1 rarer characters. Absent: 1.",
    )
    top_k: Annotated[int | None, AfterValidator(off_is(-1, 0))] = Field(
        default=None,
        ge=-1,
        le=int(RANGES["top_k"][1]),
        description="Draw among this many of the likeliest characters. Absent, 0 or -1: all.",
    )
    top_n_tokens: int = Field(
        default=0, ge=0, le=MOST_TOP_TOKENS, description="Report this many of the likeliest tokens at every position."
    )
    top_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Draw among the fewest likeliest characters that have this share of the probability. Absent: all.",
    )
    truncate: int | None = Field(
        default=None, ge=1, le=LONGEST_TRUNCATE, description="Read only this many tokens, the last ones of the inputs."
    )
    typical_p: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Draw among the fewest characters that have this share of the probability, first those about as "
        "surprising as is to be expected. Absent or 1: all.",
    )
    watermark: Never = Field(default=False, description="Not supported: has to be false.")
    adapter_id: None = Field(default=None, description="Not supported: refused rather than ignored.")


class StreamParameters(Parameters):
    """How to continue a text that is streamed: one text, without the tokens of the inputs."""

    best_of: OneText = Field(default=1, description="A stream has one text.")
    decoder_input_details: NoPrefill = Field(default=False, description="Not in a stream.")


EXAMPLE = {"inputs": "To be, or not to be", "parameters": {"max_new_tokens": 40, "do_sample": True, "seed": 1}}


def with_example(schema: dict[str, Any]) -> None:
    """Add to the schema that null means absent, and an example."""
    null_is_absent(schema)
    schema["examples"] = [EXAMPLE]


class GenerateRequest(Nullable):
    """A text and how to continue it. Fields this server does not know are named in a header."""

    model_config = ConfigDict(extra="allow", json_schema_extra=with_example)

    inputs: Text = Field(
        description="The text to continue. Any Unicode: characters unseen in training are read as bytes. Its "
        "length is limited, to 1,000,000 characters by default."
    )
    parameters: Parameters = Field(default=Parameters(), description="Absent: one text, the likeliest.")
    model: Name | None = Field(
        default=None,
        description="The model's name, as /v1/models lists it, or NAME@DIGEST for that version. Absent: the one in the "
        "path, as in /models/NAME, else the default.",
    )

    @property
    def ignored(self) -> list[str]:
        """Names of the fields this server does not know."""
        return [*(self.model_extra or ()), *(f"parameters.{name}" for name in self.parameters.model_extra or ())]


class GenerateStreamRequest(GenerateRequest):
    """A text and how to continue it in a stream. Fields this server does not know are named in a header."""

    parameters: StreamParameters = Field(default=StreamParameters(), description="Absent: the likeliest text.")


def stream_or_not(schema: dict[str, Any]) -> None:
    """The same, and which fields a stream cannot have."""
    with_example(schema)
    schema["if"] = {"properties": {"stream": {"const": True}}, "required": ["stream"]}
    streamed = {"anyOf": [{"$ref": "#/components/schemas/StreamParameters"}, {"type": "null"}]}
    schema["then"] = {"properties": {"parameters": streamed}}


class EitherRequest(GenerateRequest):
    """A text and how to continue it, in a stream or not. Fields this server does not know are named in a header."""

    model_config = ConfigDict(json_schema_extra=stream_or_not)

    stream: bool = Field(default=False, description="Send the text as server-sent events while it is written.")


FinishReason = Literal["length", "eos_token", "stop_sequence"]
REASONS = (
    "length: `max_new_tokens` were written. stop_sequence: it had one. eos_token: it is complete by its `grammar`."
)


class PrefillToken(BaseModel):
    """One token of the inputs."""

    id: int = Field(ge=0, description="Its id.")
    text: str = Field(description="What it adds to the text: nothing while its character is not complete.")
    logprob: float | None = Field(
        description="The logarithm of its probability; null for the first token, which has no text before it."
    )


class Token(BaseModel):
    """One token of the text."""

    id: int = Field(ge=0, description="Its id.")
    text: str = Field(description="What it adds to the text: nothing while its character is not complete.")
    logprob: float = Field(description="The logarithm of its probability, before temperature and penalties.")
    special: bool = Field(
        default=False,
        description="True of the last event of a text that is complete by its `grammar`: it has no token of its own.",
    )


class Sequence(BaseModel):
    """One of several texts, but not the best."""

    generated_text: str = Field(description="The text.")
    finish_reason: FinishReason = Field(description=REASONS)
    generated_tokens: int = Field(ge=0, description="Tokens of the text.")
    seed: int | None = Field(description="The seed of the draws; null if nothing was drawn.")
    prefill: list[PrefillToken] = Field(description="The tokens of the inputs, if asked for.")
    tokens: list[Token] = Field(description="The tokens of the text.")
    top_tokens: list[list[Token]] | None = Field(description="The likeliest tokens at each position, if asked for.")


class Details(BaseModel):
    """How a text was written."""

    finish_reason: FinishReason = Field(description=REASONS)
    generated_tokens: int = Field(ge=0, description="Tokens of the text.")
    seed: int | None = Field(description="The seed of the draws; null if nothing was drawn.")
    prefill: list[PrefillToken] = Field(description="The tokens of the inputs, if asked for.")
    tokens: list[Token] = Field(description="The tokens of the text.")
    top_tokens: list[list[Token]] | None = Field(description="The likeliest tokens at each position, if asked for.")
    best_of_sequences: list[Sequence] | None = Field(description="The other texts, if there are any.")


class Generated(BaseModel):
    """A text that continues another."""

    generated_text: str = Field(description="The text, with the stop string that ended it.")
    details: Details | None = Field(default=None, description="If asked for.")
    state: str | None = Field(default=None, description=RETURNED_STATE)


class StreamDetails(BaseModel):
    """How a streamed text was written."""

    finish_reason: FinishReason = Field(description=REASONS)
    generated_tokens: int = Field(ge=0, description="Tokens of the text.")
    input_length: int = Field(ge=0, description="Tokens of the inputs that were read.")
    seed: int | None = Field(description="The seed of the draws; null if nothing was drawn.")


class StreamEvent(BaseModel):
    """The data of one event: one token; for the last token also the whole text."""

    index: int = Field(ge=1, description="Which token of the text this is, from 1.")
    token: Token
    top_tokens: list[Token] | None = Field(default=None, description="The likeliest tokens there, if asked for.")
    generated_text: str | None = Field(default=None, description="The whole text, with its last token.")
    details: StreamDetails | None = Field(default=None, description="With the last token, if asked for.")
    state: str | None = Field(default=None, description=f"With the last token. {RETURNED_STATE}")


ErrorType = Literal["validation", "generation", "overloaded", "incomplete_generation", "healthcheck"]


class TgiError(BaseModel):
    """The body of every answer that is an error, in this dialect."""

    error: str = Field(description="A sentence that names the remedy.")
    error_type: ErrorType = Field(description="The kind of error, as clients of this dialect know it.")


class TgiInfo(BaseModel):
    """What is served, and what a request may ask for."""

    model_id: str = Field(description="The model's name.")
    model_sha: str = Field(description="A hash of the model's files and of the arithmetic, as `system_fingerprint` is.")
    model_dtype: str = Field(description="The number format the network computes in.")
    model_device_type: str = Field(description="Where it runs.")
    model_pipeline_tag: Literal["text-generation"] = "text-generation"
    max_concurrent_requests: int = Field(ge=1, description="Texts that may run or wait at a time.")
    max_best_of: int = Field(ge=1, description="Largest `best_of`.")
    max_stop_sequences: int = Field(ge=0, description="Most strings in `stop`.")
    max_input_tokens: int = Field(ge=1, description="Most characters of the inputs.")
    max_total_tokens: int = Field(ge=1, description="The sum of `max_input_tokens` and the largest `max_new_tokens`.")
    max_client_batch_size: int = Field(ge=1, description="Most prompts of one request to /v1/completions.")
    router: Literal["unroll"] = "unroll"
    version: str = Field(description="The version of Unroll.")
    sha: None = Field(default=None, description="Always null.")
    docker_label: None = Field(default=None, description="Always null.")
