"""What /v1/models tells of each model, in the shape of OpenAI's and with more."""

from typing import Literal

from pydantic import BaseModel, Field


class FileDigests(BaseModel):
    """The sha256 of the files of a model."""

    weights: str = Field(description="Of model.safetensors.")
    tokenizer: str = Field(description="Of tokenizer.json.")
    recorded: bool = Field(
        description="Whether the checkpoint carries them, so that damage to a file is seen when it is loaded."
    )


class ModelCard(BaseModel):
    """A model that can be asked for."""

    id: str = Field(description="The name to ask for it by.")
    object: Literal["model"] = "model"
    created: int = Field(description="When its files were written, in seconds since 1970.")
    owned_by: str = Field(default="unroll", description="Always the same here.")
    max_model_len: int = Field(
        ge=1,
        description="The longest prompt and the largest `max_tokens` together. The model itself has no longest text.",
    )
    digest: str = Field(
        description="The model's version: the sha256 of its network, weights and tokenizer. The same digest, seed and "
        "parameters mean the same text."
    )
    digests: FileDigests = Field(description="Of the files it was read from.")
    parameters: int = Field(ge=0, description="How many numbers its network has.")
    bits_per_character: dict[str, float] = Field(
        description="Of held-out text by part, `validation` and `test`, as its training measured them; empty where the "
        "checkpoint does not say."
    )
    loaded: bool = Field(description="Whether it is in memory; if not, the first request for it loads it.")
    aliases: list[str] = Field(description="Other names to ask for it by.")
    default: bool = Field(description="Whether it is the model of requests that name none.")


class ModelList(BaseModel):
    """The models of this server."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
