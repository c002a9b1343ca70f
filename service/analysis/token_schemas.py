"""Requests and answers of the routes that turn text into ids and back."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, FailFast, Field

from model.text.utf8_ids import BYTES
from service.api.schemas import LARGEST_ID, Name, Nullable, Text, null_is_absent

PROMPT_OR_INPUTS = [
    {"required": ["prompt"], "properties": {"prompt": {"type": "string"}, "inputs": {"type": "null"}}},
    {"required": ["inputs"], "properties": {"inputs": {"type": "string"}, "prompt": {"type": "null"}}},
]


def one_text(schema: dict[str, Any]) -> None:
    """Add to the schema that exactly one of the two texts is sent, and an example."""
    null_is_absent(schema)
    schema["oneOf"] = PROMPT_OR_INPUTS
    schema["examples"] = [{"prompt": "To be", "return_token_strs": True}]


def some_ids(schema: dict[str, Any]) -> None:
    """Add an example whose ids every vocabulary has: bytes."""
    null_is_absent(schema)
    schema["examples"] = [{"tokens": [104, 105]}]


class TokenizeRequest(Nullable):
    """A text to encode. Send either `prompt`, as to vLLM, or `inputs`, as to text-generation-inference."""

    model_config = ConfigDict(extra="allow", json_schema_extra=one_text)

    prompt: Text | None = Field(
        default=None, description="The text; the answer has its ids. As long as a prompt to be continued may be."
    )
    inputs: Text | None = Field(
        default=None, description="The text; the answer is a list with the position of each id in it."
    )
    model: Name | None = Field(default=None, description="The model's name, or NAME@DIGEST. Absent: the default.")
    add_special_tokens: bool = Field(default=False, description="Makes no difference: there are no special tokens.")
    return_token_strs: bool = Field(default=False, description="Answer `prompt` also with how each id is written.")


class Tokens(BaseModel):
    """The ids of a text."""

    count: int = Field(ge=0, description="How many there are.")
    max_model_len: int = Field(ge=1, description="The most ids of a prompt and its continuation together.")
    tokens: list[int] = Field(description="One for each character, or one for each UTF-8 byte of an unknown one.")
    token_strs: list[str] | None = Field(default=None, description="Each id on its own: a character, or <0xE4>.")


class PlacedToken(BaseModel):
    """One id of a text and its position there."""

    id: int = Field(ge=0, description="The id.")
    text: str = Field(description="Its character; empty for a byte that is not the last of its character.")
    start: int = Field(ge=0, description="Characters before it.")
    stop: int = Field(ge=0, description="Characters up to its end.")


class DetokenizeRequest(Nullable):
    """Ids to decode."""

    model_config = ConfigDict(extra="allow", json_schema_extra=some_ids)

    tokens: Annotated[list[Annotated[int, Field(ge=0, le=LARGEST_ID)]], FailFast()] = Field(
        description="Ids of the vocabulary, from 0 to `vocab_size` - 1 of /tokenizer_info."
    )
    model: Name | None = Field(default=None, description="The model's name, or NAME@DIGEST. Absent: the default.")


class Detokenized(BaseModel):
    """The text of some ids."""

    prompt: str = Field(description="The text; bytes that are not UTF-8 are U+FFFD.")


class TokenizerInfo(BaseModel):
    """What a client needs to know about the tokenizer; `tokenizer.json` in the checkpoint is the tokenizer itself."""

    tokenizer_class: str = Field(description="What Hugging Face's library calls such a tokenizer.")
    vocab_size: int = Field(ge=BYTES + 1, description="Ids: 256 bytes, and the characters after them.")
    model_max_length: int = Field(ge=1, description="The most ids of a prompt and its continuation together.")
    eos_token: str = Field(description="The separator of two texts: a line break, if the vocabulary has it.")
    bos_token: str = Field(description="What is read for an empty prompt: the same.")
    pad_token: None = Field(default=None, description="Always null: nothing is padded.")
    chat_template: None = Field(default=None, description="Always null: the model knows no conversations.")


class Version(BaseModel):
    """The version of Unroll."""

    version: str = Field(description="As pip names it.")
