"""What goes over the wire in the dialect of OpenAI's completions: the request with its limits, and its answers."""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from model.text.frame import LARGEST_LABEL
from model.text.text_stream import FinishReason
from service.api.schemas import (
    LARGEST_ID,
    LARGEST_MAX_TOKENS,
    LARGEST_N,
    MOST_PROMPTS,
    RETURNED_STATE,
    Usage,
    null_is_absent,
    whole_characters,
)
from service.openai.searched import Searched

DEFAULT_MAX_TOKENS = 16
MOST_LOGPROBS = 100

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


def completion_schema(schema: dict[str, Any]) -> None:
    """Add to the schema that optional fields may be null, which fields go together, and some examples."""
    null_is_absent(schema)
    schema["examples"] = EXAMPLES
    schema["if"] = {"properties": {"stream_options": {"type": "object"}}, "required": ["stream_options"]}
    schema["then"] = {"properties": {"stream": {"const": True}}, "required": ["stream"]}


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
    max_tokens: int = Field(
        default=DEFAULT_MAX_TOKENS,
        ge=0,
        le=LARGEST_MAX_TOKENS,
        description="Most characters to write. 0 writes none, and `echo` with `logprobs` scores the prompt.",
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
    suffix: Annotated[str, AfterValidator(no_suffix), WithJsonSchema({"const": ""})] = Field(
        default="", description="Not supported: has to be empty."
    )

    @property
    def ignored(self) -> list[str]:
        """The names of the fields that this server does not know, or that change nothing of this request."""
        return [*super().ignored, *self.idle]


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
