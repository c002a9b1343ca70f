"""Routes that turn text into ids and back, in the shapes of vLLM and of text-generation-inference."""

import asyncio
from collections.abc import Iterator
from importlib.metadata import version

import numpy as np
from fastapi import APIRouter
from starlette.responses import Response

from model.errors import ParameterError
from model.text.tokenizer import Tokenizer
from model.text.utf8_ids import BYTES, Ids, begins_character
from service.analysis.token_schemas import (
    Detokenized,
    DetokenizeRequest,
    PlacedToken,
    TokenizeRequest,
    TokenizerInfo,
    Tokens,
    Version,
)
from service.api.openapi import errors
from service.api.request_fields import check_model
from service.api.schemas import LARGEST_MAX_TOKENS
from service.api.sse import ENCODE
from service.inference.served_model import ServedModel
from service.inference.texts import INSTANT
from service.settings import Settings

BLOCK = 16_384  # characters or ids written as JSON at a time, so that other threads get their turn


class TokenRoutes:
    """Answers /tokenize, /detokenize, /tokenizer_info and /version."""

    def __init__(self, model: ServedModel, settings: Settings) -> None:
        self.model = model
        self.most_characters = settings.max_prompt_characters
        self.most_ids = settings.max_prompt_characters + LARGEST_MAX_TOKENS
        self.spelled = [ENCODE(model.tokenizer.piece(token)) for token in range(model.tokenizer.size)]

    async def tokenize(self, body: TokenizeRequest) -> Response:
        """Encode a text as ids. The ids decode to the same text: nothing is added, cut off or normalised."""
        check_model(body.model, self.model)
        if (body.prompt is None) == (body.inputs is None):
            raise ParameterError("prompt", "Send one text: as `prompt`, or as `inputs` for the position of each id.")
        name, text = ("prompt", body.prompt) if body.prompt is not None else ("inputs", body.inputs or "")
        if len(text) > self.most_characters:
            message = f"The text has {len(text):,} characters; send at most {self.most_characters:,} at a time."
            raise ParameterError(name, message)
        arguments = (text, body.return_token_strs) if name == "prompt" else (text,)
        answer = self._ids if name == "prompt" else self._positions
        content = answer(*arguments) if len(text) <= INSTANT else await asyncio.to_thread(answer, *arguments)
        return Response(content, media_type="application/json")

    async def detokenize(self, body: DetokenizeRequest) -> Response:
        """Decode ids to text. Several bytes may make one character; bytes that are not UTF-8 become U+FFFD."""
        check_model(body.model, self.model)
        ids = body.tokens
        content = self._text(ids) if len(ids) <= INSTANT else await asyncio.to_thread(self._text, ids)
        return Response(content, media_type="application/json")

    async def info(self) -> TokenizerInfo:
        """Describe the tokenizer, in the shape that lm-eval reads."""
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
        """Tell the version of Unroll."""
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

    def _positions(self, text: str) -> str:
        """The answer to `inputs`, as JSON."""
        tokens = (
            f'{{"id":{token},"text":{ENCODE(text[start:stop])},"start":{start},"stop":{stop}}}'
            for token, start, stop in positions(self.model.tokenizer, text)
        )
        return f"[{','.join(tokens)}]"

    def _text(self, ids: list[int]) -> str:
        """The answer to /detokenize, as JSON."""
        size = self.model.tokenizer.size
        for at, token in enumerate(ids):
            if token >= size:
                message = f"Id {token} at place {at:,} is not in the vocabulary; send ids from 0 to {size - 1:,}."
                raise ParameterError("tokens", message)
        return ENCODE({"prompt": self.model.tokenizer.decode(ids)})


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


def router(model: ServedModel, settings: Settings) -> APIRouter:
    """The routes of the tokenizer, and the version."""
    answers = TokenRoutes(model, settings)
    routes = APIRouter(tags=["tokens"])
    faults = errors(400, 404, 413, 415)
    routes.add_api_route(
        "/tokenize",
        answers.tokenize,
        methods=["POST"],
        summary="Encode a text as ids",
        response_model=Tokens | list[PlacedToken],
        responses={200: {"description": "The ids of `prompt`, or the ids of `inputs` with their positions."}, **faults},
    )
    routes.add_api_route(
        "/detokenize",
        answers.detokenize,
        methods=["POST"],
        summary="Decode ids to text",
        response_model=Detokenized,
        responses={200: {"description": "The text."}, **faults},
    )
    routes.add_api_route(
        "/tokenizer_info", answers.info, methods=["GET"], summary="Describe the tokenizer", responses=errors()
    )
    routes.add_api_route("/version", answers.version, methods=["GET"], summary="Tell the version", responses=errors())
    return routes
