"""What goes over the wire in the dialect of OpenAI's completions: the request with its limits, and its answers."""

import re
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from model.sampling.parameters import LARGEST_BIAS, RANGES
from model.text.frame import LARGEST_LABEL
from model.text.stop_strings import LARGEST_STOP
from model.text.text_stream import FinishReason
from model.text.utf8_ids import BYTES
from service.api.schemas import (
    A_STOP,
    LARGEST_ID,
    LARGEST_MAX_TOKENS,
    LARGEST_N,
    LONGEST_INTERVAL,
    MOST_PROMPTS,
    MOST_STOPS,
    PLAIN,
    RETURNED_STATE,
    STATE,
    Name,
    Nullable,
    StateToken,
    Stop,
    Usage,
    null_is_absent,
    off_is,
    sampling,
    whole_characters,
)
from service.openai.searched import Searched

DEFAULT_MAX_TOKENS = 16
MOST_LOGPROBS = 100
MOST_BIASES = 1024
MOST_PROBLEMS = 3  # of its members that are looked at closely
ID = "(0|[1-9][0-9]{0,8})"
REQUEST_ID = "[A-Za-z0-9._-]{1,128}"

EXAMPLES = [
    {"prompt": "Once upon a time", "max_tokens": 200, "temperature": 0.8, "seed": 1, "stream": True},
    {"prompt": "Once upon a time", "max_tokens": 0, "echo": True, "logprobs": 1},
    {"prompt": ["To be", "Not to be"], "n": 2, "best_of": 4, "stop": ["\n", "."], "min_tokens": 5, "top_p": 0.9},
    {"prompt": "To be", "max_tokens": 40, "use_beam_search": True, "best_of": 4, "stop": "\n", "length_penalty": 0.8},
    {
        "prompt": "To be",
        "max_tokens": 30,
        "temperature": 0,
        "logit_bias": {"256": -100},
        "stream": True,
        "stream_options": {"include_usage": True},
    },
]

TEXT = {"type": "string"}
IDS = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": LARGEST_ID}}
PROMPTS = {
    "anyOf": [
        TEXT,
        {"type": "array", "items": TEXT, "minItems": 1, "maxItems": MOST_PROMPTS},
        {**IDS, "minItems": 1},
        {"type": "array", "items": IDS, "minItems": 1, "maxItems": MOST_PROMPTS},
    ]
}
STOPS = {"anyOf": [A_STOP, {"type": "array", "items": A_STOP, "maxItems": MOST_STOPS}]}

BIASES = {
    "type": "object",
    "propertyNames": {"pattern": f"^{ID}$"},
    "additionalProperties": {"type": "number", "minimum": -LARGEST_BIAS, "maximum": LARGEST_BIAS},
    "maxProperties": MOST_BIASES,
}


def prompts_of(prompt: Any) -> list[str | list[int]]:
    """The prompts of a request, sent in any of four ways."""
    if isinstance(prompt, str):
        return [whole_characters(prompt)]
    kinds = set(map(type, prompt)) if isinstance(prompt, list) else set()
    if kinds == {int}:
        return [prompt]
    if kinds == {str} or (kinds == {list} and all(set(map(type, one)) <= {int} for one in prompt)):
        if len(prompt) <= MOST_PROMPTS:
            return [whole_characters(one) if isinstance(one, str) else one for one in prompt]
        message = "there are {count} prompts; send at most {most} in one request"
        raise PydanticCustomError("too_many_prompts", message, {"count": len(prompt), "most": MOST_PROMPTS})
    raise PydanticCustomError("prompt", "send a text, a list of texts, a list of ids, or a list of lists of ids")


def no_suffix(suffix: str) -> str:
    """Only an empty suffix is accepted."""
    if suffix:
        message = "this model only continues text and fills no gaps; leave suffix out and send what comes before it"
        raise PydanticCustomError("suffix", message)
    return suffix


def wrong_first(biases: Any) -> Any:
    """The biases; of wrong ones the first few alone, since an error is built for each."""
    if type(biases) is not dict:
        return biases
    wrong = (one for one in biases.items() if not _is_bias(*one))
    return dict(islice(wrong, MOST_PROBLEMS)) or biases


def _is_bias(key: str, value: Any) -> bool:
    return bool(re.fullmatch(ID, key)) and type(value) in (int, float) and -LARGEST_BIAS <= value <= LARGEST_BIAS


def matching(pattern: str, remedy: str) -> AfterValidator:
    """A check that a text matches a pattern as a whole; its error names the `remedy`."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise PydanticCustomError("pattern", "{remedy}", {"remedy": remedy})
        return text

    return AfterValidator(check)


def completion_schema(schema: dict[str, Any]) -> None:
    """Add to the schema that optional fields may be null, which fields go together, and some examples."""
    null_is_absent(schema)
    schema["examples"] = EXAMPLES
    schema["if"] = {"properties": {"stream_options": {"type": "object"}}, "required": ["stream_options"]}
    schema["then"] = {"properties": {"stream": {"const": True}}, "required": ["stream"]}


Bias = Annotated[float, Field(ge=-LARGEST_BIAS, le=LARGEST_BIAS)]
Id = Annotated[str, matching(ID, "the keys are ids as strings, such as 256; /tokenize tells those of a text")]
RequestId = Annotated[
    str,
    matching(REQUEST_ID, "use 1 to 128 letters, digits, dots, lines - and _"),
    WithJsonSchema({"type": "string", "pattern": f"^{REQUEST_ID}$"}),
]


class StreamOptions(Nullable):
    """What a stream carries besides the text."""

    model_config = ConfigDict(extra="allow")

    include_usage: bool = Field(default=False, description="Send a last event without choices that has the usage.")
    continuous_usage_stats: bool = Field(
        default=False, description="Send in every event the usage so far, of all its texts together."
    )


class CompletionRequest(Searched):
    """Prompts and how to continue them. Fields this server does not know are accepted and named in a header."""

    model_config = ConfigDict(extra="allow", json_schema_extra=completion_schema)

    prompt: Annotated[list[str | list[int]], PlainValidator(prompts_of), WithJsonSchema(PROMPTS)] = Field(
        description=f"The text to continue; or up to {MOST_PROMPTS} of them; or one or up to {MOST_PROMPTS} as lists "
        "of ids, as /tokenize gives them. Any Unicode: characters unseen in training are read as bytes. An empty "
        "prompt begins a new line. Its length is limited, to 1,000,000 characters by default.",
    )
    label: Annotated[str, Field(max_length=LARGEST_LABEL), AfterValidator(whole_characters)] | None = Field(
        default=None,
        description="Of a model of items that have labels: the label of the items to write. It stands before each "
        "prompt, with a | after it, and counts as its part. Absent: none.",
    )
    model: Name | None = Field(
        default=None,
        description="The model's name, as /v1/models lists it, or NAME@DIGEST for that version. Absent: the default.",
    )
    max_tokens: int = Field(
        default=DEFAULT_MAX_TOKENS,
        ge=0,
        le=LARGEST_MAX_TOKENS,
        description="Most characters to write. 0 writes none, and `echo` with `logprobs` scores the prompt.",
    )
    min_tokens: int = Field(
        default=0, ge=0, le=LARGEST_MAX_TOKENS, description="Characters to write before `stop` is looked at."
    )
    temperature: float = sampling(
        "temperature", "Divides the logits: below 1 likelier, above 1 rarer characters. 0 always takes the likeliest."
    )
    top_p: float = sampling(
        "top_p", "Draw among the fewest likeliest characters that have this share of the probability. 1 = all.", above=0
    )
    top_k: Annotated[int, AfterValidator(off_is(-1, 0))] = Field(
        default=PLAIN.top_k,
        ge=-1,
        le=int(RANGES["top_k"][1]),
        description="Draw among this many of the likeliest characters. 0 or -1 = all.",
    )
    min_p: float = sampling("min_p", "Leave out characters less likely than this share of the likeliest. 0 = none.")
    typical_p: float = sampling(
        "typical_p",
        "Draw among the fewest characters that have this share of the probability, first those about as surprising as "
        "is to be expected; after the other filters. 1 = all.",
        above=0,
    )
    presence_penalty: float = sampling(
        "presence_penalty", "Subtracted from the logit of every character that the text has already. 0 = none."
    )
    frequency_penalty: float = sampling(
        "frequency_penalty",
        "Subtracted from the logit of a character once for each time it occurs in the text. 0 = none.",
    )
    repetition_penalty: float = sampling(
        "repetition_penalty", "Divides the logit, where positive, of every character of prompt and text. 1 = none."
    )
    logit_bias: Annotated[dict[Id, Bias], BeforeValidator(wrong_first), WithJsonSchema(BIASES)] = Field(
        default={},
        max_length=MOST_BIASES,
        description=f"Added to the logits of ids, by id; -{LARGEST_BIAS} nearly bans an id, {LARGEST_BIAS} nearly "
        "bans all others.",
    )
    seed: Annotated[int | None, AfterValidator(off_is(-1, None))] = Field(
        default=None,
        ge=-(2**63),
        le=2**64 - 1,
        description="The same seed and parameters give the same text, always. Absent or -1: drawn at random, and "
        "returned.",
    )
    stop: Annotated[list[Stop], WithJsonSchema(STOPS)] = Field(
        default=[],
        max_length=MOST_STOPS,
        description=f"Ends a text as soon as it has one of these strings, which is then left out: one string, or up to "
        f"{MOST_STOPS}, of 1 to {LARGEST_STOP:,} characters each.",
    )
    stop_token_ids: list[Annotated[int, Field(ge=BYTES, le=LARGEST_ID)]] = Field(
        default=[],
        max_length=MOST_STOPS,
        description=f"Ends a text with one of these ids, as `stop` does with its character; up to {MOST_STOPS}, and no "
        "bytes. `stop_reason` is the id then.",
    )
    include_stop_str_in_output: bool = Field(default=False, description="Leave the stop string in, as the text's end.")
    ignore_eos: bool = Field(
        default=False,
        description="Of a model of items: go on after an item's end, which then stands in the text. Nothing else ends "
        "a text by itself, so that other models write all `max_tokens` with or without it.",
    )
    n: int = Field(
        default=1, ge=1, le=LARGEST_N, description="How many texts to write for each prompt, differing in their draws."
    )
    best_of: int | None = Field(
        default=None,
        ge=1,
        le=LARGEST_N,
        description="Write this many texts of each prompt; return the `n` whose characters are likeliest on average, "
        "likeliest first. At least `n`; more than `n` only without `stream`. Absent: `n`. With `use_beam_search`: the "
        "number of beams.",
    )
    echo: bool = Field(default=False, description="Begin each text and its `logprobs` with those of its prompt.")
    logprobs: int | None = Field(
        default=None,
        ge=0,
        le=MOST_LOGPROBS,
        description="Report how likely each character was, and this many likeliest ones there, before temperature "
        "and penalties. Absent: nothing.",
    )
    stream: bool = Field(default=False, description="Send the text as server-sent events while it is written.")
    stream_options: StreamOptions | None = Field(default=None, description="Only with `stream`, otherwise refused.")
    stream_interval: float | None = Field(
        default=None,
        ge=0,
        le=LONGEST_INTERVAL,
        description="Milliseconds between two events of a text in a stream; the first comes at once. 0 = every "
        "character is an event of its own. Absent: as the server is set.",
    )
    user: Name | None = Field(default=None, description="The user that the text is for. Accepted and not used.")
    cache_salt: Annotated[Name, Field(min_length=1)] | None = Field(
        default=None,
        description="Only requests with the same value, and the same key, share what is kept of prompts; then neither "
        "`cached_tokens` nor the time of an answer tells others what was asked. Absent: all requests of a key do.",
    )
    request_id: RequestId | None = Field(
        default=None,
        description="A name for the request: the answer's `id` is cmpl- and this, and X-Request-Id is this. Absent: "
        "the request's header X-Request-Id, or drawn at random.",
    )
    state: StateToken | None = Field(
        default=None,
        description=f"{STATE}the prompts are read after it, and after an empty prompt the text itself goes on, as if "
        "one request had written it all.",
    )
    return_state: bool = Field(
        default=False,
        description="Return the state after each text. What may begin a stop string at the text's end is then in the "
        "state, and comes with the next text.",
    )
    suffix: Annotated[str, AfterValidator(no_suffix), WithJsonSchema({"const": ""})] = Field(
        default="", description="Not supported: has to be empty."
    )

    @field_validator("stop", mode="before")
    @classmethod
    def list_of_stops(cls, stop: Any) -> Any:
        """A single stop string as a list of one."""
        return [stop] if isinstance(stop, str) else stop

    @field_validator("stream_options")
    @classmethod
    def only_in_a_stream(cls, options: StreamOptions | None, info: ValidationInfo) -> StreamOptions | None:
        """The options of a stream; an error if the request does not ask for one."""
        if options is not None and info.data.get("stream") is False:
            raise PydanticCustomError("no_stream", "they say how to stream; send stream as true, or leave them out")
        return options

    @property
    def ignored(self) -> list[str]:
        """The names of the fields that this server does not know, or that change nothing of this request."""
        options = self.stream_options.model_extra if self.stream_options else None
        return [*(self.model_extra or ()), *self.idle, *(f"stream_options.{name}" for name in options or ())]


class Logprobs(BaseModel):
    """How likely the tokens of a text were, in arrays with an entry for each: a character, or a byte of one.

    In a stream of the tokens since the event before. Tokens whose text is held back or left out, as a stop string's is,
    are among them, so the arrays may have more than the text.
    """

    tokens: list[str] = Field(description="The character, or as in bytes:\\xe9 the byte of one the vocabulary lacks.")
    token_logprobs: list[float | None] = Field(
        description="ln of the probability of each, at least -9999; null for the first token of the prompt. For tokens "
        "of the prompt it is among all tokens, for written tokens among those that occurred in training."
    )
    top_logprobs: list[dict[str, float] | None] = Field(
        description="For each token the likeliest ones there, as many as `logprobs` says, and the token itself."
    )
    text_offset: list[int] = Field(
        description="Where in the text each begins, in characters, an echoed prompt included."
    )


class Choice(BaseModel):
    """One text, or in a stream the next piece of it."""

    index: int = Field(ge=0, description="Which text: number i·n + j is the j-th of the i-th prompt.")
    text: str = Field(description="The text; in a stream, what it grew by.")
    logprobs: Logprobs | None = Field(default=None, description="Null unless asked for.")
    finish_reason: FinishReason | None = Field(
        description="stop: a stop string came, or the text is complete. length: `max_tokens` characters are written. "
        "null: the text goes on in the next events."
    )
    state: str | None = Field(default=None, description=RETURNED_STATE)
    stop_reason: str | int | None = Field(
        default=None, description="The stop string that ended the text, or the id of `stop_token_ids`."
    )


class Completion(BaseModel):
    """The answer to a completion request; in a stream, each event's data."""

    id: str = Field(description="The id of this answer, the same in all events of a stream.")
    object: Literal["text_completion"] = "text_completion"
    created: int = Field(description="When it was asked for, in seconds since 1970.")
    model: str = Field(description="The model that wrote the text.")
    system_fingerprint: str = Field(
        description="A hash of the model and its arithmetic: while it stays the same, so does the text of a seed."
    )
    seed: int = Field(description="The seed of the draws; send it to get the same text again.")
    choices: list[Choice] = Field(description="The texts in order; in a stream, one that grew, or none beside usage.")
    usage: Usage | None = Field(
        default=None, description="Null in a stream, except where `stream_options` asks for it."
    )
