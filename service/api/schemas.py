"""Parts of the schemas of every dialect: limits, types of fields, usage and errors."""

from collections.abc import Callable
from functools import cache
from itertools import islice
from typing import Annotated, Any

from annotated_types import MaxLen
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from model.sampling.parameters import RANGES, SamplingParameters
from model.text.stop_strings import LARGEST_STOP
from model.text.utf8_ids import BYTES

LARGEST_MAX_TOKENS = 100_000
LARGEST_ID = BYTES + 0x110000  # of any vocabulary of characters; the served OpenAPI document has the model's largest
LARGEST_N = 16
MOST_STOPS = 16
LONGEST_NAME = 1024
LONGEST_INTERVAL = 10_000  # milliseconds between two events of a stream
MOST_PROMPTS = 128
LONGEST_STATE = 8_000_000  # characters of a state; each model has a limit of its own
LEAST_LOGPROB = -9999.0  # in answers: JSON has no -Infinity

PLAIN = SamplingParameters()  # the defaults of requests are the sampler's
NULL = {"type": "null"}
A_STOP = {"type": "string", "minLength": 1, "maxLength": LARGEST_STOP}


def whole_characters(text: str) -> str:
    """The text; an error if it has half of a surrogate pair, which is not Unicode and cannot be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        message = "text has half of a surrogate pair at character {at}; send whole Unicode characters"
        raise PydanticCustomError("surrogate", message, {"at": error.start}) from None
    return text


Text = Annotated[str, AfterValidator(whole_characters)]
Name = Annotated[str, Field(max_length=LONGEST_NAME), AfterValidator(whole_characters)]
Stop = Annotated[str, Field(min_length=1, max_length=LARGEST_STOP), AfterValidator(whole_characters)]

StateToken = Annotated[str, Field(min_length=1, max_length=LONGEST_STATE)]
STATE = "A state that an earlier answer returned: "
RETURNED_STATE = (
    "Send this as `state` in a later request with the same API key and model to continue from here, until it expires. "
    "Null unless `return_state` is true."
)


def as_whole(value: Any, depth: int = 2) -> Any:
    """5.0 as 5, because both are integers in JSON Schema; also in lists and in lists of lists."""
    if type(value) is float and value.is_integer():
        return int(value)
    if depth and type(value) is list and not {float, list}.isdisjoint(map(type, value)):
        return [as_whole(one, depth - 1) for one in value]
    return value


def off_is(off: Any, meant: Any) -> Callable[[Any], Any]:
    """A check that replaces the value that switches something off in other servers by the one that does so here."""
    return lambda value: meant if value == off else value


def sampling(name: str, description: str, above: float | None = None) -> Any:
    """A field of SamplingParameters with its default and range; with `above` the range excludes its lower bound."""
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


class Nullable(BaseModel):
    """A request object in which an explicit null means the same as leaving the field out."""

    model_config = ConfigDict(strict=True, extra="ignore", json_schema_extra=null_is_absent)

    @model_validator(mode="before")
    @classmethod
    def drop_nulls(cls, fields: Any) -> Any:
        """The fields that are not null; a float without a fraction becomes an integer."""
        if type(fields) is not dict:
            return fields
        most = _most_of(cls)
        for name in most.keys() & fields.keys():
            fields = {**fields, name: cut(fields[name], most[name] + 1)}
        return {name: as_whole(value) for name, value in fields.items() if value is not None}


def cut(value: Any, most: int) -> Any:
    """At most `most` members of a list or object, which are enough to refuse it: pydantic would build an error for
    each of 200,000 wrong members, which takes seconds."""
    if type(value) in (list, dict) and len(value) > most:
        return value[:most] if type(value) is list else dict(islice(value.items(), most))
    return value


@cache
def _most_of(model: type[BaseModel]) -> dict[str, int]:
    """The most members of each field that has a limit of them."""
    return {
        name: limit.max_length
        for name, field in model.model_fields.items()
        for limit in field.metadata
        if isinstance(limit, MaxLen)
    }


class PromptTokensDetails(BaseModel):
    """Details of the prompts' tokens."""

    cached_tokens: int = Field(ge=0, description="Tokens not read again, as an earlier prompt began with them.")
    unseen_characters: int = Field(ge=0, description="Characters of the prompts that never occurred in training.")


class Usage(BaseModel):
    """Tokens read and written; each is a character, or a byte of a character that is not in the vocabulary."""

    prompt_tokens: int = Field(ge=0, description="Tokens of the prompts, each counted once for all its texts.")
    completion_tokens: int = Field(
        ge=0, description="Tokens drawn for all texts, including those of stop strings and of `best_of`."
    )
    total_tokens: int = Field(ge=0, description="The sum of both.")
    prompt_tokens_details: PromptTokensDetails


class ErrorDetail(BaseModel):
    """What went wrong, for people and for programs."""

    message: str = Field(description="A sentence that names the remedy.")
    type: str = Field(description="The kind of error, as OpenAI's clients know it.")
    param: str | None = Field(default=None, description="The field of the request that is wrong.")
    code: str | None = Field(default=None, description="The exact reason, as one word.")


class ErrorBody(BaseModel):
    """The body of every answer that is an error."""

    error: ErrorDetail
