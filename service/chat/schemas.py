"""What goes over the wire in a chat: the request with its limits, and its answers."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationInfo, WithJsonSchema, field_validator
from pydantic_core import PydanticCustomError

from model.text.chat_format import ChatFormat
from model.text.text_stream import FinishReason
from service.api.schemas import LARGEST_MAX_TOKENS, RETURNED_STATE, Usage, null_is_absent
from service.chat.messages import MESSAGES, MOST_MESSAGES, messages_of
from service.openai.schemas import MOST_LOGPROBS, CompletionRequest
from service.openai.text_fields import TextFields

DEFAULT_MAX_TOKENS = 1_024

QUESTION = {"role": "user", "content": "What news?"}
EXAMPLES = [
    {"messages": [QUESTION], "max_tokens": 100, "temperature": 0.8, "seed": 1},
    {
        "messages": [{"role": "system", "content": "A room in the castle."}, {**QUESTION, "name": "HAMLET"}],
        "stream": True,
        "stream_options": {"include_usage": True},
        "logprobs": True,
        "top_logprobs": 2,
        "max_completion_tokens": 50,
    },
]
OWN = {
    *("messages", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"),
    *("continue_final_message", "add_generation_prompt"),
}
"""Fields of a chat that no completion has, or has in another shape."""


def chat_schema(schema: dict[str, Any]) -> None:
    """Add to the schema that optional fields may be null, which fields go together, and some examples."""
    null_is_absent(schema)
    schema["examples"] = EXAMPLES
    for name, needed in (("stream_options", "stream"), ("top_logprobs", "logprobs")):
        kind = "object" if name == "stream_options" else "integer"
        schema.setdefault("allOf", []).append(
            {
                "if": {"properties": {name: {"type": kind}}, "required": [name]},
                "then": {"properties": {needed: {"const": True}}, "required": [needed]},
            }
        )


class ChatRequest(TextFields):
    """A chat, and how to answer it. Fields this server does not know are accepted and named in a header."""

    model_config = ConfigDict(extra="allow", json_schema_extra=chat_schema)

    messages: Annotated[list[Any], PlainValidator(messages_of), WithJsonSchema(MESSAGES)] = Field(
        description=f"What was said so far, up to {MOST_MESSAGES:,} messages of text, fewer with many fields: "
        "they become one prompt, in the format that the model, or the server, has for chats. `name` is who speaks, if "
        "the format shows it."
    )
    max_tokens: int | None = Field(
        default=None,
        ge=0,
        le=LARGEST_MAX_TOKENS,
        description=f"Most characters of an answer. Absent: {DEFAULT_MAX_TOKENS:,}.",
    )
    max_completion_tokens: int | None = Field(
        default=None, ge=0, le=LARGEST_MAX_TOKENS, description="The same, and it counts where both are there."
    )
    logprobs: bool = Field(default=False, description="Report how likely each character was.")
    top_logprobs: int | None = Field(
        default=None,
        ge=0,
        le=MOST_LOGPROBS,
        description="And this many likeliest ones there. Only with `logprobs`, otherwise refused.",
    )
    continue_final_message: bool = Field(
        default=False, description="The answer goes on with the last message, in the place of one that comes after it."
    )
    add_generation_prompt: bool = Field(
        default=True,
        description="The prompt ends with the beginning of the answer. False with `continue_final_message`.",
    )

    @field_validator("top_logprobs")
    @classmethod
    def only_with_logprobs(cls, top: int | None, info: ValidationInfo) -> int | None:
        """How many are reported; an error if none are asked for."""
        if top is not None and info.data.get("logprobs") is False:
            raise PydanticCustomError(
                "no_logprobs", "it says how many to report; send logprobs as true, or leave it out"
            )
        return top

    @field_validator("add_generation_prompt")
    @classmethod
    def begun_or_continued(cls, begun: bool, info: ValidationInfo) -> bool:
        """Whether the answer is a message of its own; an error if it continues none either."""
        if not begun and info.data.get("continue_final_message") is False:
            message = "an answer is a message of its own; send continue_final_message to continue the last one"
            raise PydanticCustomError("no_answer", message)
        return begun

    def completion(self, chat: ChatFormat) -> CompletionRequest:
        """The same as a request for a completion. Raises ParameterError on a role that the format lacks."""
        fields = {name: getattr(self, name) for name in TextFields.model_fields}
        length = self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens
        return CompletionRequest.model_construct(
            **{**fields, "stop": [*self.stop, *(one for one in chat.stop if one not in self.stop)]},
            prompt=[chat.write(self.messages, self.continue_final_message)],
            max_tokens=DEFAULT_MAX_TOKENS if length is None else length,
            logprobs=(self.top_logprobs or 0) if self.logprobs else None,
        )


class TopLogprob(BaseModel):
    """How likely one token was."""

    token: str = Field(description="The character, or as in bytes:\\xe9 the byte of one the vocabulary lacks.")
    logprob: float = Field(description="ln of its probability, at least -9999.")
    bytes: list[int] = Field(description="Its bytes in UTF-8.")


class TokenLogprob(TopLogprob):
    """How likely a token of the answer was, and the likeliest ones in its place."""

    top_logprobs: list[TopLogprob] = Field(description="The likeliest ones there, as many as `top_logprobs` says.")


class ChatLogprobs(BaseModel):
    """How likely the tokens of an answer were; in a stream of those since the event before.

    Tokens whose text is held back or left out, as a stop string's is, are among them.
    """

    content: list[TokenLogprob] = Field(description="An entry for each token.")
    refusal: None = Field(default=None, description="Always null here.")


class ChatMessage(BaseModel):
    """An answer."""

    role: Literal["assistant"] = "assistant"
    content: str = Field(description="The text.")
    refusal: None = Field(default=None, description="Always null here.")


class ChatDelta(BaseModel):
    """What an answer grew by."""

    role: Literal["assistant"] | None = Field(default=None, description="In the first event of an answer.")
    content: str | None = Field(default=None, description="What is new of the text.")


class ChatChoiceBase(BaseModel):
    """What a whole answer and a piece of one have in common."""

    index: int = Field(ge=0, description="Which of the `n` answers.")
    logprobs: ChatLogprobs | None = Field(default=None, description="Null unless asked for.")
    finish_reason: FinishReason | None = Field(
        description="stop: the turn has ended, a stop string came, or the text is complete. length: the most "
        "characters are written. null: the answer goes on in the next events."
    )
    state: str | None = Field(default=None, description=RETURNED_STATE)
    stop_reason: str | int | None = Field(
        default=None, description="The stop string that ended the answer, or the id of `stop_token_ids`."
    )


class ChatChoice(ChatChoiceBase):
    """One answer."""

    message: ChatMessage


class ChatChunkChoice(ChatChoiceBase):
    """The next piece of one answer."""

    delta: ChatDelta


class ChatHead(BaseModel):
    """What a whole answer and an event of a stream have in common."""

    id: str = Field(description="The id of this answer, the same in all events of a stream.")
    created: int = Field(description="When it was asked for, in seconds since 1970.")
    model: str = Field(description="The model that wrote it.")
    system_fingerprint: str = Field(
        description="A hash of the model and its arithmetic: while it stays the same, so does the answer to the same "
        "prompt and seed."
    )
    seed: int = Field(description="The seed of the draws; send it to get the same answer again.")


class ChatCompletion(ChatHead):
    """The answer to a chat."""

    object: Literal["chat.completion"] = "chat.completion"
    choices: list[ChatChoice] = Field(description="The answers in order.")
    usage: Usage


class ChatCompletionChunk(ChatHead):
    """An event of an answer that is streamed."""

    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    choices: list[ChatChunkChoice] = Field(description="The answer that grew, or none beside usage.")
    usage: Usage | None = Field(default=None, description="Null except where `stream_options` asks for it.")
