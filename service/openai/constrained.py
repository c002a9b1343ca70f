"""The fields of OpenAI's dialect that say what a text must match, with those of the servers that extend it."""

from typing import Annotated, Any

from pydantic import Field, StrictBool, WithJsonSchema

from service.api.constraint_fields import FIELDS
from service.api.schemas import Nullable

MOST_LISTED = 10_000  # ids, words or choices

SCHEMA = {"anyOf": [{"type": "object"}, {"const": True}]}
TEXT = {"type": "string"}
PATTERN = {**TEXT, "minLength": 1}
SCHEMA_OR_TEXT = {"anyOf": [SCHEMA, PATTERN]}
LIST = {"type": "array", "items": {**TEXT, "minLength": 1}, "maxItems": MOST_LISTED}
TEXTS = {**LIST, "minItems": 1}
FORMAT = {
    "anyOf": [
        {"type": "object", "properties": {"type": {"enum": ["text", "json_object"]}}, "required": ["type"]},
        {
            "type": "object",
            "properties": {
                "type": {"const": "json_schema"},
                "json_schema": {"type": "object", "properties": {"schema": SCHEMA}, "required": ["schema"]},
            },
            "required": ["type", "json_schema"],
        },
    ]
}
KINDS: dict[str, dict[str, Any]] = {
    "regex": PATTERN,
    "choice": TEXTS,
    "json": SCHEMA_OR_TEXT,
    "json_object": {"const": True},
    "grammar": PATTERN,
}
STRUCTURED = {
    "anyOf": [
        {
            "type": "object",
            "properties": {**{name: {"type": "null"} for name in KINDS}, kind: schema},
            "required": [kind],
            "additionalProperties": False,
        }
        for kind, schema in KINDS.items()
    ]
}
"""One of the kinds; others may be null."""
MATCHED = "The whole text matches it. Only one field may say what a text must match."


class Constrained(Nullable):
    """What each text must match, in the words of several servers."""

    response_format: Annotated[dict[str, Any], WithJsonSchema(FORMAT)] | None = Field(
        default=None,
        description="text: any text. json_object: a JSON object. json_schema: compact JSON that is valid by the schema "
        f"in `json_schema`. {MATCHED}",
    )
    structured_outputs: Annotated[dict[str, Any], WithJsonSchema(STRUCTURED)] | None = Field(
        default=None, description=f"One of regex, choice, json (a schema), json_object and grammar. {MATCHED}"
    )
    guided_regex: Annotated[str, WithJsonSchema(PATTERN)] | None = Field(
        default=None, description=f"A regular expression. {MATCHED}"
    )
    guided_choice: Annotated[list[Any], WithJsonSchema(TEXTS)] | None = Field(
        default=None, max_length=MOST_LISTED, description="Texts: the answer is one of them."
    )
    guided_json: Annotated[dict[str, Any] | StrictBool | str, WithJsonSchema(SCHEMA_OR_TEXT)] | None = Field(
        default=None, description=f"A JSON schema, or the text of one. {MATCHED}"
    )
    guided_grammar: Annotated[str, WithJsonSchema(PATTERN)] | None = Field(
        default=None, description=f"A grammar in Lark or GBNF. {MATCHED}"
    )
    json_schema: Annotated[dict[str, Any] | StrictBool, WithJsonSchema(SCHEMA)] | None = Field(
        default=None, description=f"A JSON schema, as llama.cpp's server takes it. {MATCHED}"
    )
    grammar: str | None = Field(
        default=None, description="The same as `guided_grammar`, as llama.cpp's server has it; an empty one is none."
    )
    allowed_token_ids: (
        Annotated[list[int], WithJsonSchema({"type": "array", "items": {"type": "integer"}, "minItems": 1})] | None
    ) = Field(default=None, max_length=MOST_LISTED, description="Only these ids are drawn.")
    bad_words: Annotated[list[Any], WithJsonSchema(LIST)] | None = Field(
        default=None, max_length=MOST_LISTED, description="Words that the text does not have, not as parts either."
    )

    @property
    def asked(self) -> dict[str, Any]:
        """Each of these fields with its value, None where it is absent."""
        return {name: getattr(self, name) for name in FIELDS}
