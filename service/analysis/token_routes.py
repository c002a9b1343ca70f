"""Routes that turn text into ids and back, and their bodies, in the shapes of vLLM and of text-generation-inference."""

from collections.abc import Iterator
from enum import Enum
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, FailFast, Field
from starlette.responses import Response

from model.errors import ParameterError
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES, Ids, begins_character
from service.api.openapi import errors
from service.api.pieces import json_answer, json_text, separated
from service.api.promises import check_promises
from service.api.request_fields import asked_model, ignored_fields
from service.api.schemas import LARGEST_ID, LARGEST_MAX_TOKENS, Name, Nullable, Text, null_is_absent
from service.api.sse import ENCODE
from service.engine.engine import Engine
from service.inference.cost import DECODED_BYTES, WIDEST
from service.inference.served_model import PerModel
from service.inference.texts import INSTANT
from service.models.model_registry import ModelRegistry
from service.request_context import request_context
from service.settings import Settings

BLOCK = 4_096  # characters or ids written as JSON at a time, in about a millisecond
ID_BYTES = 6  # of memory an encoded id
READ = {"state", "messages", "documents", "truncate_prompt_tokens"}
"""Fields of other routes and servers that would change the ids; of others it is enough to say that they are unknown."""

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


class TokenRoutes:
    """Answers /tokenize, /detokenize, /tokenizer_info and /version."""

    def __init__(self, registry: ModelRegistry, engine: Engine, settings: Settings) -> None:
        self.registry, self.engine = registry, engine
        self.most_characters = settings.max_prompt_characters
        self.most_ids = settings.max_prompt_characters + LARGEST_MAX_TOKENS
        self.spelled = PerModel(lambda model: spelled(model.tokenizer))

    async def tokenize(self, body: TokenizeRequest, request: Request) -> Response:
        """Encode a text as ids. The ids decode to the same text: nothing is added, cut off or normalised.

        Fields that are not known are named in the header X-Unroll-Ignored-Fields.
        """
        model = await asked_model(self.registry, body.model, request)
        headers = _headers(body)
        if (body.prompt is None) == (body.inputs is None):
            raise ParameterError("prompt", "Send one text: as `prompt`, or as `inputs` for the position of each id.")
        name, text = ("prompt", body.prompt) if body.prompt is not None else ("inputs", body.inputs or "")
        if len(text) > self.most_characters:
            message = f"The text has {len(text):,} characters; send at most {self.most_characters:,} at a time."
            raise ParameterError(name, message)
        strings = self.spelled(model) if body.return_token_strs else None
        tokenizer = model.tokenizer
        parts = self._ids(tokenizer, text, strings) if name == "prompt" else _positions(tokenizer, text)
        if name == "prompt" and (lease := request_context(request.scope).lease) is not None:
            lease.grow(len(text) * ID_BYTES * (1 if text.isascii() else WIDEST))
        return await json_answer(parts, len(text) <= INSTANT, self.engine, request, headers)

    async def detokenize(self, body: DetokenizeRequest, request: Request) -> Response:
        """Decode ids to text. Several bytes may make one character; bytes that are not UTF-8 become U+FFFD.

        Fields that are not known are named in the header X-Unroll-Ignored-Fields.
        """
        model = await asked_model(self.registry, body.model, request)
        headers = _headers(body)
        ids = body.tokens
        size = model.tokenizer.size
        if ids and (token := max(ids)) >= size:
            message = (
                f"Id {token} at place {ids.index(token):,} is not in the vocabulary; send ids from 0 to {size - 1:,}."
            )
            raise ParameterError("tokens", message)
        if (lease := request_context(request.scope).lease) is not None:
            lease.grow(len(ids) * DECODED_BYTES)
        return await json_answer(_text(model.tokenizer, ids), len(ids) <= INSTANT, self.engine, request, headers)

    async def info(
        self, request: Request, model: Annotated[str | None, Query(description="The model's name.")] = None
    ) -> TokenizerInfo:
        """Describe the tokenizer, in the shape that lm-eval reads."""
        tokenizer = (await asked_model(self.registry, model, request)).tokenizer
        between = tokenizer.piece(tokenizer.start_id)
        return TokenizerInfo(
            tokenizer_class="PreTrainedTokenizerFast",
            vocab_size=tokenizer.size,
            model_max_length=self.most_ids,
            eos_token=between,
            bos_token=between,
        )

    async def version(self) -> Version:
        """Tell the version of Unroll."""
        return Version(version=version("unroll"))

    def _ids(self, tokenizer: Tokenizer, text: str, strings: list[str] | None) -> Iterator[str]:
        """The answer to `prompt`, as JSON. strings: each id's own, where they are wanted."""
        ids = tokenizer.encode(text)
        yield f'{{"count":{len(ids)},"max_model_len":{self.most_ids},"tokens":['
        yield from separated(ENCODE(block)[1:-1] for block in _blocks(ids))
        yield '],"token_strs":'
        if strings is not None:
            yield "["
            yield from separated(",".join(map(strings.__getitem__, block)) for block in _blocks(ids))
            yield "]}"
        else:
            yield "null}"


def _headers(body: TokenizeRequest | DetokenizeRequest) -> dict[str, str]:
    """The header that names unknown fields. Raises ParameterError for one that says what else is to be read."""
    unknown = body.model_extra or {}
    check_promises({name: unknown[name] for name in READ & unknown.keys()})
    return ignored_fields(unknown)


def _positions(tokenizer: Tokenizer, text: str) -> Iterator[str]:
    """The answer to `inputs`, as JSON."""
    yield "["
    yield from separated(
        f'{{"id":{token},"text":{ENCODE(text[start:stop])},"start":{start},"stop":{stop}}}'
        for token, start, stop in positions(tokenizer, text)
    )
    yield "]"


def _text(tokenizer: Tokenizer, ids: list[int]) -> Iterator[str]:
    """The answer to /detokenize, as JSON."""
    yield '{"prompt":'
    yield from json_text(tokenizer.decode(ids))
    yield "}"


def spelled(tokenizer: Tokenizer) -> list[str]:
    """Each id's string as JSON."""
    return [ENCODE(tokenizer.piece(token)) for token in range(tokenizer.size)]


def _blocks(ids: Ids) -> Iterator[list[int]]:
    return (ids[start : start + BLOCK].tolist() for start in range(0, len(ids), BLOCK))


def positions(tokenizer: Tokenizer, text: str) -> Iterator[tuple[int, int, int]]:
    """Each id of a text with the number of complete characters before it, and after it."""
    for before in range(0, len(text), BLOCK):
        ids = tokenizer.encode(text[before : before + BLOCK])
        whole = ends_character(ids)
        stops = before + np.cumsum(whole)
        yield from zip(ids.tolist(), (stops - whole).tolist(), stops.tolist(), strict=True)


def ends_character(ids: Ids) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Whether (1 or 0) each id of a whole text is the last one of its character."""
    following = np.append(ids[1:], 0)
    return ((ids >= BYTES) | begins_character(following)).astype(np.int64)


def router(registry: ModelRegistry, engine: Engine, settings: Settings) -> APIRouter:
    """The routes of the tokenizer, and the version."""
    answers = TokenRoutes(registry, engine, settings)
    routes = APIRouter()
    tags: list[str | Enum] = ["tokens"]
    faults = errors(400, 404, 409, 413, 415, 503, 504)
    routes.add_api_route(
        "/tokenize",
        answers.tokenize,
        methods=["POST"],
        tags=tags,
        summary="Encode a text as ids",
        response_model=Tokens | list[PlacedToken],
        responses={200: {"description": "The ids of `prompt`, or the ids of `inputs` with their positions."}, **faults},
    )
    routes.add_api_route(
        "/detokenize",
        answers.detokenize,
        methods=["POST"],
        tags=tags,
        summary="Decode ids to text",
        response_model=Detokenized,
        responses={200: {"description": "The text."}, **faults},
    )
    routes.add_api_route(
        "/tokenizer_info",
        answers.info,
        methods=["GET"],
        tags=tags,
        summary="Describe the tokenizer",
        responses=errors(404, 409, 503, 504),
    )
    routes.add_api_route(
        "/version",
        answers.version,
        methods=["GET"],
        tags=["operation"],
        summary="Tell the version",
        responses=errors(),
    )
    return routes
