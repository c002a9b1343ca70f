"""The route of chats: each is translated into a completion, and the completion's answer into a chat's."""

from fastapi import APIRouter, Request
from starlette.responses import Response

from model.errors import ParameterError
from model.text.chat_format import PLAIN_CHAT, ChatFormat
from service.api.openapi import errors, event_schema
from service.api.promises import check_promises
from service.api.request_fields import asked_model
from service.chat.answer import ChatAnswer
from service.chat.schemas import ChatCompletion, ChatRequest
from service.errors import SettingsError
from service.inference.cost import WIDEST, check_length
from service.models.model_registry import ModelRegistry
from service.openai.completions import Completions
from service.openai.schemas import CompletionRequest
from service.request_context import request_context
from service.settings import Settings

STREAM_EXAMPLE = """\
data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"shakespeare","seed":1,"choices":\
[{"index":0,"delta":{"role":"assistant","content":"No"},"logprobs":null,"finish_reason":null,"stop_reason":null}],\
"usage":null}
id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.2

data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"shakespeare","seed":1,"choices":\
[{"index":0,"delta":{"content":"ne."},"logprobs":null,"finish_reason":"stop","stop_reason":"\\n\\n"}],"usage":null}
id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.5e

data: [DONE]
id: AAAAAAAAAAE93Xz4mVq0PZJ8sRk.done

"""
STREAM = {
    "schema": event_schema(
        "The data of each event is a ChatCompletionChunk as JSON, whose choices have what is new; of the last, [DONE]. "
        "An error in the middle is an event whose data is an ErrorBody.",
        "ChatCompletionChunk",
        "ErrorBody",
    ),
    "example": STREAM_EXAMPLE,
}


UNKNOWN_END = (
    "This model's chat format ends an answer by something else than what it writes behind one, so a state does not say "
    "how much of that was read; send all messages, or make the assistant's suffix a stop string."
)


class Chats:
    """Answers POST /v1/chat/completions.

    Raises SettingsError where the settings name a chat format that cannot be read.
    """

    def __init__(self, registry: ModelRegistry, settings: Settings, completions: Completions) -> None:
        self.registry, self.settings, self.completions = registry, settings, completions
        self.format: ChatFormat | None = None
        """Of all models, in place of their own."""
        if settings.chat_format is not None:
            try:
                self.format = ChatFormat.read(settings.chat_format)
            except ParameterError as error:
                raise SettingsError(str(error)) from error

    async def create(self, body: ChatRequest, request: Request) -> Response:
        """Answer a chat: its messages become one prompt, as the chat format says, which the model continues.

        The answer ends where the format's stop strings say that a turn does. The same model, seed and parameters give
        the same answer, and the same text as /v1/completions for that prompt. Fields that are not known are named in
        the header X-Unroll-Ignored-Fields.
        """
        model = await asked_model(self.registry, body.model, request, body.state)
        check_promises(body.model_extra)
        completion = self._completion(body, self.format or model.tokenizer.frame.chat or PLAIN_CHAT, request)
        try:
            return await self.completions.answer(completion, model, request, body.ignored, ChatAnswer)
        except ParameterError as error:
            if error.parameter != "prompt":
                raise
            raise ParameterError("messages", str(error)) from error

    def _completion(self, body: ChatRequest, chat: ChatFormat, request: Request) -> CompletionRequest:
        """The same as a completion, once its length is known to be allowed, and is charged."""
        if body.state is not None and chat.roles["assistant"].suffix not in chat.stop:
            raise ParameterError("state", UNKNOWN_END)
        characters = chat.length(body.messages)
        try:
            check_length(characters, self.settings)
        except ParameterError as error:
            raise ParameterError("messages", str(error)) from error
        if (lease := request_context(request.scope).lease) is not None:
            lease.grow(characters * WIDEST)
        return body.completion(chat)


def router(registry: ModelRegistry, settings: Settings, completions: Completions) -> APIRouter:
    """The route of chats; without any where the settings switch them off."""
    routes = APIRouter()
    if settings.chat:
        routes.add_api_route(
            "/v1/chat/completions",
            Chats(registry, settings, completions).create,
            methods=["POST"],
            tags=["text"],
            summary="Answer a chat",
            response_model=ChatCompletion,
            responses={
                200: {
                    "description": "The answers, or a stream of their pieces.",
                    "content": {"text/event-stream": STREAM},
                },
                **errors(400, 403, 404, 409, 413, 415, 429, 500, 503, 504),
            },
        )
    return routes
