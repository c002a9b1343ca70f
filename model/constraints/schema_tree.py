"""A JSON schema of ordinary size as a tree of compact JSON, as far as what it describes is regular."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from model.constraints.json_parts import FORMATS, INTEGER, NUMBER, integer_range
from model.constraints.pattern_tree import EMPTY, Alphabet, Chars, Choice, NotRegular, Repeat, Sequence, Tree
from model.constraints.regex_tree import regex_tree

ESCAPES = '"\\bfnrt'
"""What may stand behind a backslash: every character but control characters can be written, each in one way."""

ANNOTATIONS = {"title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly", "$comment"}
AT_THE_TOP = {"$schema", "$id", "$defs", "definitions"}
DEEPEST = 32  # tables within tables, all references followed
MOST_PARTS = 20_000  # of a tree: references that are followed again and again multiply

BY_TYPE = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "integer": {"minimum", "maximum"},
    "number": set[str](),
    "boolean": set[str](),
    "null": set[str](),
    "array": {"items", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}


def schema_tree(schema: Any, alphabet: Alphabet) -> Tree:
    """The tree of a schema's texts, the properties of an object in its order. Raises NotRegular where there is none."""
    return _TreeBuilder(schema, alphabet).tree(schema, 0)


class _TreeBuilder:
    """Turns one schema's parts into trees."""

    def __init__(self, root: Any, alphabet: Alphabet) -> None:
        self._root = root
        self._alphabet = alphabet
        self._parts = 0
        known = alphabet.where(
            lambda character: character not in '"\\' and ord(character) >= 32 and character != "\x7f"
        )
        escaped = Sequence((alphabet.literal("\\"), alphabet.where(lambda character: character in ESCAPES, '"')))
        self._character: Tree = Choice((known, escaped))

    def tree(self, schema: Any, depth: int) -> Tree:
        """One schema's."""
        self._parts += 1
        if depth > DEEPEST or self._parts > MOST_PARTS:
            raise NotRegular("it nests too deep, or in itself")
        if not isinstance(schema, dict):
            raise NotRegular("it allows anything")
        keywords = schema.keys() - ANNOTATIONS - (AT_THE_TOP if depth == 0 else set())
        for keyword, read in (("$ref", self._reference), ("const", self._constant), ("enum", self._enumeration)):
            if keyword in keywords:
                self._only(keywords, {keyword, "type"} if keyword != "$ref" else {keyword})
                return read(schema, depth)
        if "anyOf" in keywords:
            self._only(keywords, {"anyOf"})
            return Choice(tuple(self.tree(part, depth + 1) for part in schema["anyOf"]))
        kinds = schema.get("type")
        if isinstance(kinds, list):
            return Choice(tuple(self.tree(_of_type(schema, kind), depth + 1) for kind in kinds))
        if kinds not in BY_TYPE:
            raise NotRegular("it has no type")
        self._only(keywords, {"type", *BY_TYPE[kinds]})
        return self._of_kind(kinds)(schema, depth)

    def _of_kind(self, kind: str) -> Callable[[Mapping[str, Any], int], Tree]:
        return {
            "string": self._string,
            "integer": self._integer,
            "number": lambda _schema, _depth: regex_tree(NUMBER, self._alphabet),
            "boolean": lambda _schema, _depth: self._alphabet.texts(["true", "false"]),
            "null": lambda _schema, _depth: self._alphabet.text("null"),
            "array": self._array,
            "object": self._object,
        }[kind]

    @staticmethod
    def _only(keywords: set[str], known: set[str]) -> None:
        if keywords - known:
            raise NotRegular(f"it says {min(keywords - known)}")

    def _reference(self, schema: Mapping[str, Any], depth: int) -> Tree:
        pointer = schema["$ref"]
        if not isinstance(pointer, str) or not pointer.startswith("#/"):
            raise NotRegular("it refers to another document, or to all of itself")
        found = self._root
        for name in pointer[2:].split("/"):
            name = name.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise NotRegular("it refers to what is not there")
            found = found[name]
        return self.tree(found, depth + 1)

    def _constant(self, schema: Mapping[str, Any], _depth: int) -> Tree:
        return self._alphabet.text(_written(schema["const"]))

    def _enumeration(self, schema: Mapping[str, Any], _depth: int) -> Tree:
        if not isinstance(schema["enum"], list):
            raise NotRegular("its enum is no list")
        if "type" in schema:
            raise NotRegular("it says both type and enum")
        return self._alphabet.texts(map(_written, schema["enum"]))

    def _string(self, schema: Mapping[str, Any], _depth: int) -> Tree:
        quote = self._alphabet.literal('"')
        if "pattern" in schema or "format" in schema:
            if {"minLength", "maxLength"} & schema.keys() or {"pattern", "format"} <= schema.keys():
                raise NotRegular("it says two things of one string")
            inner = self._formatted(schema)
        else:
            inner = Repeat(self._character, _whole(schema, "minLength") or 0, _whole(schema, "maxLength"))
        return Sequence((quote, inner, quote))

    def _formatted(self, schema: Mapping[str, Any]) -> Tree:
        if "format" in schema:
            if schema["format"] not in FORMATS:
                raise NotRegular("it says a format without a short pattern")
            return regex_tree(FORMATS[schema["format"]], self._alphabet)
        pattern = schema["pattern"]
        if not isinstance(pattern, str) or not pattern.startswith("^") or not pattern.endswith("$"):
            raise NotRegular("its pattern is open at an end")
        return self._quoted(regex_tree(pattern, self._alphabet, ascii_only=True))

    def _quoted(self, tree: Tree) -> Tree:
        """The same inside a JSON string; what would have to be escaped there is left to llguidance."""
        match tree:
            case Chars(mask):
                if any(mask >> self._alphabet.bits[at] & 1 for at in '"\\\n\t' if at in self._alphabet.bits):
                    raise NotRegular("its pattern takes characters that JSON escapes")
                return tree
            case Sequence(parts):
                return Sequence(tuple(map(self._quoted, parts)))
            case Choice(parts):
                return Choice(tuple(map(self._quoted, parts)))
            case Repeat(part, least, most):
                return Repeat(self._quoted(part), least, most)

    def _integer(self, schema: Mapping[str, Any], _depth: int) -> Tree:
        bounds = [schema.get("minimum"), schema.get("maximum")]
        if bounds == [None, None]:
            return regex_tree(INTEGER, self._alphabet)
        if not all(bound is None or (type(bound) is int and abs(bound) < 10**15) for bound in bounds):
            raise NotRegular("its bounds are no whole numbers")
        return regex_tree(integer_range(*bounds), self._alphabet)

    def _array(self, schema: Mapping[str, Any], depth: int) -> Tree:
        if "items" not in schema:
            raise NotRegular("its items may be anything")
        least, most = _whole(schema, "minItems") or 0, _whole(schema, "maxItems")
        begin, comma, end = map(self._alphabet.literal, "[,]")
        if most == 0:
            return Sequence((begin, end))
        item = self.tree(schema["items"], depth + 1)
        more = Repeat(Sequence((comma, item)), max(0, least - 1), None if most is None else most - 1)
        items: Tree = Sequence((item, more))
        return Sequence((begin, items if least else Choice((items, EMPTY)), end))

    def _object(self, schema: Mapping[str, Any], depth: int) -> Tree:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        if schema.get("additionalProperties", True) is not False:
            raise NotRegular("an object may have other properties")
        if not isinstance(properties, dict) or not isinstance(required, list) or set(required) - properties.keys():
            raise NotRegular("an object requires what it does not describe")
        comma = self._alphabet.literal(",")
        # what may follow where a property stands before, and where none does
        later: Tree = EMPTY
        first: Tree = EMPTY
        for name, inner in reversed(properties.items()):
            key = self._alphabet.text(f"{_written(name)}:")
            one = Sequence((key, self.tree(inner, depth + 1)))
            after = Sequence((comma, one))
            if name in required:
                first, later = Sequence((one, later)), Sequence((after, later))
            else:
                first, later = Choice((Sequence((one, later)), first)), Sequence((Repeat(after, 0, 1), later))
        return Sequence((self._alphabet.literal("{"), first, self._alphabet.literal("}")))


def _of_type(schema: Mapping[str, Any], kind: Any) -> dict[str, Any]:
    """A schema of several types as that of one of them: what concerns the others is left out."""
    if kind not in BY_TYPE:
        raise NotRegular("it has an unknown type")
    others = set[str]().union(*BY_TYPE.values()) - BY_TYPE[kind]
    return {name: value for name, value in schema.items() if name not in others} | {"type": kind}


def _whole(schema: Mapping[str, Any], name: str) -> int | None:
    """A count, or None. Raises NotRegular on anything else."""
    value = schema.get(name)
    if value is not None and (type(value) is not int or value < 0):
        raise NotRegular(f"its {name} is no count")
    return value


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
