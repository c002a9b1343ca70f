"""What goes over the wire, in OpenAI's shapes: the request's fields with their limits, and every response body."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema, field_validator, model_validator
from pydantic_core import PydanticCustomError

from model.generate import FinishReason
from model.sampling import RANGES, SamplingParameters
from model.text_stream import LARGEST_STOP

DEFAULT_MAX_TOKENS = 16
LARGEST_MAX_TOKENS = 100_000
LARGEST_N = 16
MOST_STOPS = 16
LONGEST_NAME = 1024
LONGEST_INTERVAL = 10_000  # milliseconds between two events of a stream

PLAIN = SamplingParameters()  # the sampler's defaults are the wire's
NULL = {"type": "null"}
EXAMPLE = {"prompt": "Once upon a time", "max_tokens": 200, "temperature": 0.8, "seed": 1, "stream": True}

ONE_PROMPT = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 1}]
}
A_STOP = {"type": "string", "minLength": 1, "maxLength": LARGEST_STOP}
STOPS = {"anyOf": [A_STOP, {"type": "array", "items": A_STOP, "maxItems": MOST_STOPS}]}


def whole_characters(text: str) -> str:
    """The text, unless it has half of a surrogate pair, which is no Unicode and could not be answered."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = "text has half of a surrogate pair at character {at}; send whole Unicode characters"
        raise PydanticCustomError("surrogate", message, {"at": error.start}) from None
    return text


Text = Annotated[str, AfterValidator(whole_characters)]
Name = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(whole_characters)]
Stop = Annotated[str, Field(min_length=1, max_length=LARGEST_STOP), AfterValidator(whole_characters)]


def sampling(name: str, description: str, above: float | None = None) -> Any:
    """A field of SamplingParameters with its default and range, the least value left out where it is `above`."""
    least, most = RANGES[name]
    least_rule: dict[str, Any] = {"ge": least} if above is None else {"gt": above}
    return Field(default=getattr(PLAIN, name), **least_rule, le=most, description=description)


def null_is_absent(schema: dict[str, Any]) -> None:
    """Say in the schema that every optional field may be null."""
    for name, field in schema["properties"].items():
        if name not in schema.get("required", ()):
            about = {key: field.pop(key) for key in ("title", "description", "default") if key in field}
            kinds = field.pop("anyOf", None) or [field]
            schema["properties"][name] = {"anyOf": [*(kind for kind in kinds if kind != NULL), NULL], **about}


def with_example(schema: dict[str, Any]) -> None:
    """The same, and show a request to begin with."""
    null_is_absent(schema)
    schema["examples"] = [EXAMPLE]


class Nullable(BaseModel):
    """A request object in which an explicit null means the same as leaving the field out."""

    model_config = ConfigDict(strict=True, extra="ignore", json_schema_extra=null_is_absent)

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, fields: Any) -> Any:
        """The fields that say something."""
        return {name: value for name, value in fields.items() if value is not None} if type(fields) is dict else fields


class StreamOptions(Nullable):
    """What a stream carries besides the text."""

    include_usage: bool = Field(default=False, description="Send a last event without choices that has the usage.")


class CompletionRequest(Nullable):
    """A prompt and how to continue it. Fields this server does not know are ignored."""

    model_config = ConfigDict(json_schema_extra=with_example)

    prompt: Annotated[Text, WithJsonSchema(ONE_PROMPT)] = Field(
        description="The text to continue, or a list of exactly one. Any Unicode: characters the training never showed "
        "are read as bytes. An empty prompt begins a new line. Its length is limited, to 1,000,000 characters unless "
        "the server is set otherwise.",
    )
    model: Name | None = Field(
        default=None, description="The model's name, as /v1/models lists it. Absent: the model that is served."
    )
    max_tokens: int = Field(
        default=DEFAULT_MAX_TOKENS, ge=0, le=LARGEST_MAX_TOKENS, description="How many characters to write at most."
    )
    temperature: float = sampling(
        "temperature", "Divides the logits: below 1 likelier, above 1 wilder characters. 0 takes the likeliest always."
    )
    top_p: float = sampling(
        "top_p", "Draw among the fewest characters that hold this share of the probability. 1 = all.", above=0
    )
    top_k: int = sampling("top_k", "Draw among this many of the likeliest characters. 0 = all.")
    min_p: float = sampling("min_p", "Leave out characters less likely than this share of the likeliest. 0 = none.")
    presence_penalty: float = sampling(
        "presence_penalty", "Taken from the logit of every character the text has already. 0 = none."
    )
    frequency_penalty: float = sampling(
        "frequency_penalty", "Taken from the logit of a character once for each time the text has it. 0 = none."
    )
    repetition_penalty: float = sampling(
        "repetition_penalty", "Divides the logit, where positive, of every character of prompt and text. 1 = none."
    )
    seed: int | None = Field(
        default=None,
        ge=-(2**63),
        le=2**64 - 1,
        description="The same seed and parameters give the same text, always. Absent: drawn at random, and returned.",
    )
    stop: Annotated[list[Stop], WithJsonSchema(STOPS)] = Field(
        default=[],
        max_length=MOST_STOPS,
        description=f"Ends a text as soon as it has one of these strings, which is then left out: one string, or up to "
        f"{MOST_STOPS}, of 1 to {LARGEST_STOP:,} characters each.",
    )
    n: int = Field(default=1, ge=1, le=LARGEST_N, description="How many texts to write, differing in their draws.")
    echo: bool = Field(default=False, description="Begin each text with the prompt.")
    stream: bool = Field(default=False, description="Send the text as server-sent events while it is written.")
    stream_options: StreamOptions = Field(default=StreamOptions(), description="Only looked at when `stream` is true.")
    stream_interval: float | None = Field(
        default=None,
        ge=0,
        le=LONGEST_INTERVAL,
        description="Milliseconds between two events of a text in a stream; the first comes at once. 0 = every "
        "character is an event of its own. Absent: as the server is set.",
    )
    user: Name | None = Field(default=None, description="Whom the text is for. Accepted and not used.")
    logprobs: None = Field(default=None, description="Not supported: refused rather than ignored.")
    logit_bias: dict[str, Any] = Field(default={}, max_length=0, description="Not supported: has to be empty.")
    suffix: Literal[""] = Field(default="", description="Not supported: has to be empty.")
    best_of: Literal[1] = Field(default=1, description="Not supported: has to be 1.")

    @field_validator("prompt", mode="before")
    @classmethod
    def one_prompt(cls, prompt: Any) -> Any:
        """The only prompt of a list of one."""
        if not isinstance(prompt, list):
            return prompt
        if len(prompt) == 1 and isinstance(prompt[0], str):
            return prompt[0]
        message = "a list of prompts has to hold exactly one text; send a request for each, and text instead of ids"
        raise PydanticCustomError("one_prompt", message)

    @field_validator("stop", mode="before")
    @classmethod
    def list_of_stops(cls, stop: Any) -> Any:
        """A single stop string as a list of one."""
        return [stop] if isinstance(stop, str) else stop


class Choice(BaseModel):
    """One text, or in a stream the next piece of it."""

    index: int = Field(ge=0, description="Which of the `n` texts.")
    text: str = Field(description="The text; in a stream, what it grew by.")
    logprobs: None = Field(default=None, description="Always null.")
    finish_reason: FinishReason | None = Field(
        description="stop: a stop string came. length: `max_tokens` characters are written. "
        "null: the text goes on in the next events."
    )
    stop_reason: str | None = Field(default=None, description="The stop string that ended the text.")


class PromptTokensDetails(BaseModel):
    """What the prompt was made of."""

    cached_tokens: int = Field(ge=0, description="Tokens whose reading was spared by an earlier, alike prompt.")
    unseen_characters: int = Field(ge=0, description="Characters of the prompt that never occurred in training.")


class Usage(BaseModel):
    """What was read and written, in tokens: a character each, or a byte of one the vocabulary lacks."""

    prompt_tokens: int = Field(ge=0, description="Tokens of the prompt, counted once for all `n` texts.")
    completion_tokens: int = Field(ge=0, description="Tokens drawn for all texts, a stop string's included.")
    total_tokens: int = Field(ge=0, description="Both together.")
    prompt_tokens_details: PromptTokensDetails


class Completion(BaseModel):
    """The answer to a completion request; in a stream, each event's data."""

    id: str = Field(description="A name of this answer, the same in all events of a stream.")
    object: Literal["text_completion"] = "text_completion"
    created: int = Field(description="When it was asked for, in seconds since 1970.")
    model: str = Field(description="The model that wrote the text.")
    seed: int = Field(description="The seed of the draws; send it to have the same text again.")
    choices: list[Choice] = Field(description="The texts in order; in a stream, one that grew, or none beside usage.")
    usage: Usage | None = Field(default=None, description="Null in a stream, except in its last event when asked for.")


class ModelCard(BaseModel):
    """A model that can be asked for."""

    id: str = Field(description="The name to ask for it by.")
    object: Literal["model"] = "model"
    created: int = Field(description="When its files were written, in seconds since 1970.")
    owned_by: str = Field(default="unroll", description="Always the same here.")


class ModelList(BaseModel):
    """The models of this server: one."""

    object: Literal["list"] = "list"
    data: list[ModelCard]


class PrefixCacheCounts(BaseModel):
    """How much the states kept after earlier prompts have helped since the server started."""

    queries: int = Field(ge=0, description="Prompts that were looked up.")
    hits: int = Field(ge=0, description="Those of which a beginning was found.")
    cached_tokens: int = Field(ge=0, description="Tokens that were not read again.")
    evictions: int = Field(ge=0, description="States given up to make room.")
    entries: int = Field(ge=0, description="States kept now.")
    bytes: int = Field(ge=0, description="The memory they take.")


class Health(BaseModel):
    """Whether the server can write text, and how busy it is."""

    status: Literal["ok", "draining", "failed"] = Field(description="Anything but ok comes with status 503.")
    model: str = Field(description="The name of the model that is served.")
    running: int = Field(ge=0, description="Texts being written, side by side.")
    waiting: int = Field(ge=0, description="Texts waiting for a place, or for their prompt to be read by another.")
    failures: int = Field(ge=0, description="Calls of the model that failed since the server started.")
    prefix_cache: PrefixCacheCounts


class ErrorDetail(BaseModel):
    """What went wrong, for people and for programs."""

    message: str = Field(description="A sentence that names the remedy.")
    type: str = Field(description="The kind of error, as OpenAI's clients know it.")
    param: str | None = Field(default=None, description="The field of the request it is about.")
    code: str | None = Field(default=None, description="The exact reason, in a word.")


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetail
