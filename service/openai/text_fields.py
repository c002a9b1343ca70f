"""The fields of every request for texts in OpenAI's dialect: how they are drawn, where they end, how they are sent."""

import re
from itertools import islice
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
)
from pydantic_core import PydanticCustomError

from model.sampling.parameters import LARGEST_BIAS, RANGES
from model.text.stop_strings import LARGEST_STOP
from model.text.utf8_ids import BYTES
from service.api.schemas import (
    A_STOP,
    LARGEST_ID,
    LARGEST_MAX_TOKENS,
    LARGEST_N,
    LONGEST_INTERVAL,
    MOST_STOPS,
    PLAIN,
    STATE,
    Name,
    Nullable,
    StateToken,
    Stop,
    off_is,
    sampling,
)
from service.openai.constrained import Constrained

MOST_BIASES = 1024
MOST_PROBLEMS = 3  # of its members that are looked at closely
ID = "(0|[1-9][0-9]{0,8})"
REQUEST_ID = "[A-Za-z0-9._-]{1,128}"

STOPS = {"anyOf": [A_STOP, {"type": "array", "items": A_STOP, "maxItems": MOST_STOPS}]}
BIASES = {
    "type": "object",
    "propertyNames": {"pattern": f"^{ID}$"},
    "additionalProperties": {"type": "number", "minimum": -LARGEST_BIAS, "maximum": LARGEST_BIAS},
    "maxProperties": MOST_BIASES,
}


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


class TextFields(Constrained):
    """How texts are drawn, where they end, and how they are sent."""

    model_config = ConfigDict(extra="allow")

    model: Name | None = Field(
        default=None,
        description="The model's name, as /v1/models lists it, or NAME@DIGEST for that version. Absent: the default.",
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
        default_factory=dict,  # pydantic would copy another default, in five times the time; so of the lists below
        json_schema_extra={"default": {}},
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
        default_factory=list,
        json_schema_extra={"default": []},
        max_length=MOST_STOPS,
        description=f"Ends a text as soon as it has one of these strings, which is then left out: one string, or up to "
        f"{MOST_STOPS}, of 1 to {LARGEST_STOP:,} characters each.",
    )
    stop_token_ids: list[Annotated[int, Field(ge=BYTES, le=LARGEST_ID)]] = Field(
        default_factory=list,
        json_schema_extra={"default": []},
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
        """The names of the fields that this server does not know."""
        options = self.stream_options.model_extra if self.stream_options else None
        return [*(self.model_extra or ()), *(f"stream_options.{name}" for name in options or ())]
