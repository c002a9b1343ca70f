"""Text to ids and back over HTTP, in the shapes of vLLM and of text-generation-inference, and what the tokenizer is."""

import asyncio
from collections.abc import Iterator
from importlib.metadata import version
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from model.errors import ParameterError
from model.tokenizer import BYTES, Ids, Tokenizer
from service.answering import check_model
from service.routes import errors
from service.schemas import LARGEST_ID, LARGEST_MAX_TOKENS, Name, Nullable, Text, null_is_absent
from service.served_model import ServedModel
from service.settings import Settings
from service.sse import ENCODE
from service.texts import INSTANT

BLOCK = 16_384  # characters or ids made JSON at a time, so that no thread keeps the others waiting for long

PROMPT_OR_INPUTS = [
    {"required": ["prompt"], "properties": {"prompt": {"type": "string"}, "inputs": {"type": "null"}}},
    {"required": ["inputs"], "properties": {"inputs": {"type": "string"}, "prompt": {"type": "null"}}},
]


def one_text(schema: dict[str, Any]) -> None:
    """Say in the schema that exactly one of the two texts is sent, and show a request."""
    null_is_absent(schema)
    schema["oneOf"] = PROMPT_OR_INPUTS
    schema["examples"] = [{"prompt": "To be", "return_token_strs": True}]


def some_ids(schema: dict[str, Any]) -> None:
    """Show a request whose ids every vocabulary has: bytes."""
    null_is_absent(schema)
    schema["examples"] = [{"tokens": [104, 105]}]


class TokenizeRequest(Nullable):
    """A text to be made ids. Send either `prompt`, as to vLLM, or `inputs`, as to text-generation-inference."""

    model_config = ConfigDict(json_schema_extra=one_text)

    prompt: Text | None = Field(
        default=None, description="The text; the answer has its ids. As long as a prompt to be continued may be."
    )
    inputs: Text | None = Field(
        default=None, description="The text; the answer is a list with the place of each id in it."
    )
    model: Name | None = Field(default=None, description="The model's name. Absent: the model that is served.")
    add_special_tokens: bool = Field(default=False, description="Makes no difference: there are no special tokens.")
    return_token_strs: bool = Field(default=False, description="Answer `prompt` also with how each id is written.")


class Tokens(BaseModel):
    """The ids of a text."""

    count: int = Field(ge=0, description="How many there are.")
    max_model_len: int = Field(ge=1, description="The most ids of a prompt and its continuation together.")
    tokens: list[int] = Field(description="One for each character, or one for each UTF-8 byte of an unknown one.")
    token_strs: list[str] | None = Field(default=None, description="Each id on its own: a character, or <0xE4>.")


class PlacedToken(BaseModel):
    """One id of a text and its place there."""

    id: int = Field(ge=0, description="The id.")
    text: str = Field(description="Its character; empty for a byte that is not the last of its character.")
    start: int = Field(ge=0, description="The characters before it.")
    stop: int = Field(ge=0, description="The characters up to and with it.")


class DetokenizeRequest(Nullable):
    """Ids to be made text."""

    model_config = ConfigDict(json_schema_extra=some_ids)

    tokens: list[Annotated[int, Field(ge=0, le=LARGEST_ID)]] = Field(
        description="Ids of the vocabulary, from 0 to `vocab_size` - 1 of /tokenizer_info."
    )
    model: Name | None = Field(default=None, description="The model's name. Absent: the model that is served.")


class Detokenized(BaseModel):
    """The text of some ids."""

    prompt: str = Field(description="The text; bytes that are not UTF-8 became U+FFFD.")


class TokenizerInfo(BaseModel):
    """What a client has to know of the tokenizer; `tokenizer.json` in the checkpoint is the tokenizer itself."""

    tokenizer_class: str = Field(description="What Hugging Face's library calls such a tokenizer.")
    vocab_size: int = Field(ge=BYTES + 1, description="Ids: 256 bytes, and the characters after them.")
    model_max_length: int = Field(ge=1, description="The most ids of a prompt and its continuation together.")
    eos_token: str = Field(description="What stands between two texts: a line break where the model knows it.")
    bos_token: str = Field(description="What an empty prompt is read as: the same.")
    pad_token: None = Field(default=None, description="Always null: nothing is padded.")
    chat_template: None = Field(default=None, description="Always null: the model knows no conversations.")


class Version(BaseModel):
    """Which Unroll this is."""

    version: str = Field(description="As pip names it.")


class TokenRoutes:
    """Answers /tokenize, /detokenize, /tokenizer_info and /version."""

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self.model = model
        self.most_characters = settings.max_prompt_characters
        self.most_ids = settings.max_prompt_characters + LARGEST_MAX_TOKENS
        self.spelled = [ENCODE(model.tokenizer.piece(token)) for token in range(model.tokenizer.size)]

    async def tokenize(self, body: TokenizeRequest) -> Response:
        """Make a text ids. All ids of a text spell it again: nothing is added, cut off or normalised."""
        check_model(body.model, self.model)
        if (body.prompt is None) == (body.inputs is None):
            raise ParameterError("prompt", "Send one text: as `prompt`, or as `inputs` for the place of each id.")
        name, text = ("prompt", body.prompt) if body.prompt is not None else ("inputs", body.inputs or "")
        if len(text) > self.most_characters:
            message = f"The text has {len(text):,} characters; send at most {self.most_characters:,} at a time."
            raise ParameterError(name, message)
        arguments = (text, body.return_token_strs) if name == "prompt" else (text,)
        answer = self._ids if name == "prompt" else self._places
        content = answer(*arguments) if len(text) <= INSTANT else await asyncio.to_thread(answer, *arguments)
        return Response(content, media_type="application/json")

    async def detokenize(self, body: DetokenizeRequest) -> Response:
        """Make ids text. Several bytes make one character; bytes that make none become U+FFFD."""
        check_model(body.model, self.model)
        ids = body.tokens
        content = self._text(ids) if len(ids) <= INSTANT else await asyncio.to_thread(self._text, ids)
        return Response(content, media_type="application/json")

    async def info(self) -> TokenizerInfo:
        """Tell what the tokenizer is, as lm-eval asks for it."""
        tokenizer = self.model.tokenizer
        between = tokenizer.piece(tokenizer.start_id)
        return TokenizerInfo(
            tokenizer_class="PreTrainedTokenizerFast",
            vocab_size=tokenizer.size,
            model_max_length=self.most_ids,
            eos_token=between,
            bos_token=between,
        )

    async def version(self) -> Version:
        """Tell which Unroll this is."""
        return Version(version=version("unroll"))

    def _ids(self, text: str, strings: bool = False) -> str:
        """The answer to `prompt`, as JSON."""
        ids = self.model.tokenizer.encode(text)
        blocks = [ids[start : start + BLOCK].tolist() for start in range(0, len(ids), BLOCK)]
        numbers = ",".join(ENCODE(block)[1:-1] for block in blocks)
        spelled = ",".join(",".join(map(self.spelled.__getitem__, block)) for block in blocks)
        written = f"[{spelled}]" if strings else "null"
        head = f'{{"count":{len(ids)},"max_model_len":{self.most_ids},"tokens":'
        return f'{head}[{numbers}],"token_strs":{written}}}'

    def _places(self, text: str) -> str:
        """The answer to `inputs`, as JSON."""
        tokens = (
            f'{{"id":{token},"text":{ENCODE(text[start:stop])},"start":{start},"stop":{stop}}}'
            for token, start, stop in places(self.model.tokenizer, text)
        )
        return f"[{','.join(tokens)}]"

    def _text(self, ids: list[int]) -> str:
        """The answer to /detokenize, as JSON."""
        size = self.model.tokenizer.size
        for place, token in enumerate(ids):
            if token >= size:
                message = f"Id {token} at place {place:,} is not in the vocabulary; send ids from 0 to {size - 1:,}."
                raise ParameterError("tokens", message)
        return ENCODE({"prompt": self.model.tokenizer.decode(ids)})


def places(tokenizer: Tokenizer, text: str) -> Iterator[tuple[int, int, int]]:
    """Each id of a text with how many characters are whole before it, and after it."""
    for before in range(0, len(text), BLOCK):
        ids = tokenizer.encode(text[before : before + BLOCK])
        whole = ends_character(ids)
        stops = before + np.cumsum(whole)
        yield from zip(ids.tolist(), (stops - whole).tolist(), stops.tolist(), strict=True)


def ends_character(ids: Ids) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Whether (1 or 0) each id of a whole text is the last of its character: no further byte of it comes next."""
    following = np.append(ids[1:], 0)
    return 1 - ((ids < BYTES) & (following >= 0x80) & (following < 0xC0)).astype(np.int64)


def router(model: ServedModel, settings: Settings) -> APIRouter:
    """The routes of the tokenizer, and the version."""
    answers = TokenRoutes(model, settings)
    routes = APIRouter(tags=["tokens"])
    faults = errors(400, 404, 413, 415)
    routes.add_api_route(
        "/tokenize",
        answers.tokenize,
        methods=["POST"],
        summary="Make a text ids",
        response_model=Tokens | list[PlacedToken],
        responses={200: {"description": "The ids of `prompt`, or the ids of `inputs` with their places."}, **faults},
    )
    routes.add_api_route(
        "/detokenize",
        answers.detokenize,
        methods=["POST"],
        summary="Make ids text",
        response_model=Detokenized,
        responses={200: {"description": "The text."}, **faults},
    )
    routes.add_api_route(
        "/tokenizer_info", answers.info, methods=["GET"], summary="Describe the tokenizer", responses=errors()
    )
    routes.add_api_route("/version", answers.version, methods=["GET"], summary="Tell the version", responses=errors())
    return routes
