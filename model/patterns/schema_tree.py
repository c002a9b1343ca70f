"""A JSON schema of ordinary size as a tree of compact JSON, as far as what it describes is regular."""

import json
import math
import re
from collections.abc import Callable, Hashable, Mapping
from typing import Any

from model.patterns.json_parts import FORMATS, NUMBER, integer_range
from model.patterns.number_range import number_range
from model.patterns.pattern_tree import EMPTY, Alphabet, Chars, Choice, Nested, NotRegular, Repeat, Sequence, Tree
from model.patterns.positions import bits
from model.patterns.regex_tree import regex_tree
from model.patterns.schema_parts import bounds_of, count_of, joined, type_of

ESCAPES = '"\\bfnrt'
"""What may stand behind a backslash: every character but control characters can be written, each in one way."""

ANCHORED = re.compile(r"(?<!\\)(\\\\)*\$\Z")  # a dollar sign at the end that is no letter
ANY_TYPE = ["string", "number", "boolean", "null", "array", "object"]
DEEPEST = 32  # tables within tables, all references followed
DEEPEST_NAME = 60  # characters of a name that others must not have
CONSTANTS = ("true", "false", "null")
MOST_FIRST = 100  # items of a list that have a schema each
LARGEST_WHOLE = 10**30  # of a bound of whole numbers
MOST_PARTS = 20_000  # of a tree: references that are followed again and again multiply

BOUNDS = {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}
BY_TYPE = {
    "string": {"minLength", "maxLength", "pattern", "format"},
    "integer": BOUNDS,
    "number": BOUNDS,
    "boolean": set[str](),
    "null": set[str](),
    "array": {"items", "prefixItems", "additionalItems", "minItems", "maxItems"},
    "object": {"properties", "required", "additionalProperties"},
}
"""What a tree says of each type."""

NUMBERS = BOUNDS | {"multipleOf"}
MEANT = {
    "string": BY_TYPE["string"],
    "integer": NUMBERS,
    "number": NUMBERS,
    "boolean": set[str](),
    "null": set[str](),
    "array": BY_TYPE["array"] | {"unevaluatedItems", "uniqueItems", "contains", "minContains", "maxContains"},
    "object": BY_TYPE["object"]
    | {"patternProperties", "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties"}
    | {"dependentRequired", "dependentSchemas", "dependencies"},
}
"""What JSON Schema says of each type; it concerns no value of another."""

OF_ANY = {"type", "enum", "const", "$ref", "$dynamicRef", "$recursiveRef"} | {
    *("allOf", "anyOf", "oneOf", "not", "if", "then", "else")
}
KEYWORDS = OF_ANY.union(*MEANT.values())
"""What says something about values at all; names besides these are notes, as a title is."""

ESCAPED = {'"': '"', "\\": "\\", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t"}
"""How characters of a string that cannot stand for themselves are written, behind a backslash."""


def schema_tree(schema: Any, alphabet: Alphabet) -> tuple[Tree, list[Tree]]:
    """The tree of a schema's texts, the properties of an object in its order. Raises NotRegular where there is none.

    Behind it, what stands after the bracket of each object and list that may stand inside itself.
    """
    builder = _TreeBuilder(schema, alphabet)
    return builder.tree(schema, 0), builder.parts


class _TreeBuilder:
    """Turns one schema's parts into trees."""

    def __init__(self, root: Any, alphabet: Alphabet) -> None:
        self._root = root
        self._alphabet = alphabet
        self._size = 0
        self.parts: list[Tree] = []
        self._numbers: dict[Hashable, int] = {}  # of parts, by what they are
        self._open: set[Hashable] = set()  # what is being read
        self._joined: dict[int, dict[str, Any]] = {}
        self._typed: dict[tuple[int, str], dict[str, Any]] = {}
        self._known = alphabet.where(
            lambda character: character not in '"\\' and ord(character) >= 32 and character != "\x7f"
        )
        escaped = alphabet.where(lambda character: character in ESCAPES, '"')
        self._escaped = Sequence((alphabet.literal("\\"), escaped))
        self._character: Tree = Choice((self._known, self._escaped))

    def tree(self, schema: Any, depth: int) -> Tree:
        """One schema's."""
        self._size += 1
        if depth > DEEPEST or self._size > MOST_PARTS:
            raise NotRegular("it nests too deep, or in itself")
        if schema is True:
            return self._anything()
        if not isinstance(schema, dict):
            raise NotRegular("a part of it allows nothing")
        keywords = schema.keys() & KEYWORDS
        if not keywords:
            return self._anything()
        for keyword, read in (("$ref", self._reference), ("const", self._constant), ("enum", self._enumeration)):
            if keyword in keywords:
                self._only(keywords, {keyword, "type"} if keyword != "$ref" else {keyword})
                return read(schema, depth)
        if "allOf" in keywords:
            return self.tree(self._all_of(schema), depth + 1)
        for keyword in ("anyOf", "oneOf"):  # llguidance refuses a oneOf whose parts do not exclude each other
            if keyword in keywords:
                self._only(keywords, {keyword})
                return Choice(tuple(self.tree(part, depth + 1) for part in schema[keyword]))
        kinds = schema.get("type", ANY_TYPE)
        if isinstance(kinds, list):
            return Choice(tuple(self.tree(self._of_type(schema, kind), depth + 1) for kind in kinds))
        if kinds not in BY_TYPE:
            raise NotRegular("it has no type that there is")
        self._only(keywords & (OF_ANY | MEANT[kinds]), {"type", *BY_TYPE[kinds]})
        return self._of_kind(kinds)(schema, depth)

    def _of_kind(self, kind: str) -> Callable[[Mapping[str, Any], int], Tree]:
        return {
            "string": self._string,
            "integer": self._integer,
            "number": self._number,
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
        return self.tree(self._referred(schema["$ref"]), depth + 1)

    def _referred(self, pointer: Any) -> Any:
        """What a reference leads to."""
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            raise NotRegular("it refers to another document")
        found = self._root
        for name in pointer.split("/")[1:]:
            name = name.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or name not in found:
                raise NotRegular("it refers to what is not there")
            found = found[name]
        return found

    def _all_of(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """The schema that says what some do together, where no two of them say the same thing; always the same."""
        if id(schema) not in self._joined:
            self._joined[id(schema)] = joined(self._parts_of(schema, 0))
        return self._joined[id(schema)]

    def _parts_of(self, schema: Any, depth: int) -> list[Mapping[str, Any]]:
        """A schema and those it joins, references followed."""
        if depth > DEEPEST or not isinstance(schema, dict):
            raise NotRegular("it joins what is no schema, or itself")
        if schema.keys() & KEYWORDS == {"$ref"}:
            return self._parts_of(self._referred(schema["$ref"]), depth + 1)
        parts = schema.get("allOf", [])
        if not isinstance(parts, list):
            raise NotRegular("its allOf is no list")
        alone = {name: value for name, value in schema.items() if name in KEYWORDS - {"allOf"}}
        return [alone, *(one for part in parts for one in self._parts_of(part, depth + 1))]

    def _constant(self, schema: Mapping[str, Any], _depth: int) -> Tree:
        return self._values(schema, [schema["const"]])

    def _enumeration(self, schema: Mapping[str, Any], _depth: int) -> Tree:
        if not isinstance(schema["enum"], list):
            raise NotRegular("its enum is no list")
        return self._values(schema, schema["enum"])

    def _values(self, schema: Mapping[str, Any], values: list[Any]) -> Tree:
        """Those of some values that are of the schema's types."""
        kinds = schema.get("type", ANY_TYPE)
        some = set(kinds) if isinstance(kinds, list) else {kinds}
        some |= {"integer"} if "number" in some else set()
        known = [value for value in values if type_of(value) in some]
        if not known:
            raise NotRegular("none of its values is of its type")
        return self._alphabet.texts(map(_written, known))

    def _string(self, schema: Mapping[str, Any], _depth: int) -> Tree:
        quote = self._alphabet.literal('"')
        if "pattern" in schema or "format" in schema:
            if {"minLength", "maxLength"} & schema.keys() or {"pattern", "format"} <= schema.keys():
                raise NotRegular("it says two things of one string")
            inner = self._formatted(schema)
        else:
            inner = Repeat(self._character, count_of(schema, "minLength") or 0, count_of(schema, "maxLength"))
        return Sequence((quote, inner, quote))

    def _formatted(self, schema: Mapping[str, Any]) -> Tree:
        if "format" in schema:
            if schema["format"] not in FORMATS:
                raise NotRegular("it says a format without a short pattern")
            return regex_tree(FORMATS[schema["format"]], self._alphabet)
        pattern = schema["pattern"]
        if not isinstance(pattern, str):
            raise NotRegular("its pattern is no text")
        known = self._alphabet.characters[: self._alphabet.known]
        inner = Alphabet([*known, *(one for one in ESCAPED if one not in known)])
        found = self._quoted(regex_tree(pattern, inner, ascii_only=True), inner)
        anything = Repeat(self._character)
        before = () if pattern.startswith("^") else (anything,)
        after = () if ANCHORED.search(pattern) else (anything,)
        return Sequence((*before, found, *after))

    def _quoted(self, tree: Tree, inner: Alphabet) -> Tree:
        """A pattern of a string's characters, of an alphabet of its own, as JSON writes it."""
        match tree:
            case Chars(mask):
                plain, escaped = 0, []
                for at in bits(mask):
                    character = inner.characters[at]
                    if character in ESCAPED:
                        escaped.append(self._alphabet.text(f"\\{ESCAPED[character]}"))
                    elif at >= self._alphabet.known or self._known.mask >> at & 1:
                        plain |= self._alphabet.literal(character).mask
                return Choice((Chars(plain), *escaped)) if escaped else Chars(plain)
            case Sequence(parts):
                return Sequence(tuple(self._quoted(part, inner) for part in parts))
            case Choice(parts):
                return Choice(tuple(self._quoted(part, inner) for part in parts))
            case Repeat(part, least, most):
                return Repeat(self._quoted(part, inner), least, most)
            case Nested():
                raise NotRegular("no pattern of a string stands in itself")

    def _integer(self, schema: Mapping[str, Any], _depth: int) -> Tree:
        low, high = bounds_of(schema)
        least = None if low is None else math.floor(low.value) + 1 if low.open else math.ceil(low.value)
        most = None if high is None else math.ceil(high.value) - 1 if high.open else math.floor(high.value)
        if not all(bound is None or abs(bound) < LARGEST_WHOLE for bound in (least, most)):
            raise NotRegular("its bounds are too large")
        return regex_tree(integer_range(least, most), self._alphabet)

    def _number(self, schema: Mapping[str, Any], _depth: int) -> Tree:
        low, high = bounds_of(schema)
        pattern = NUMBER if low is None and high is None else number_range(low, high)
        return regex_tree(pattern, self._alphabet)

    def _anything(self) -> Tree:
        """Any value: objects and lists stand in themselves."""
        anything = (self._string({}, 0), regex_tree(NUMBER, self._alphabet), self._alphabet.texts(CONSTANTS))
        return Choice((*anything, self._object({}, 0), self._array({"items": True}, 0)))

    def _bracketed(self, key: Hashable, brackets: str, read: Callable[[], Tree]) -> Tree:
        """What `read` gives, in brackets; a part of its own where it stands inside itself.

        key: what it is, the same wherever it stands.
        """
        begin, end = map(self._alphabet.literal, brackets)
        if key in self._open:
            self._numbers.setdefault(key, len(self._numbers))
        if key in self._numbers:
            return Nested(begin.mask, self._numbers[key])
        self._open.add(key)
        inner = Sequence((read(), end))
        self._open.remove(key)
        if key not in self._numbers:
            return Sequence((begin, inner))
        number = self._numbers[key]
        self.parts += [EMPTY] * (len(self._numbers) - len(self.parts))
        self.parts[number] = inner
        return Nested(begin.mask, number)

    def _array(self, schema: Mapping[str, Any], depth: int) -> Tree:
        least, most = count_of(schema, "minItems") or 0, count_of(schema, "maxItems")
        first, items = schema.get("prefixItems", []), schema.get("items", True)
        if isinstance(items, list):  # as it was before draft 2020-12
            first, items = items, schema.get("additionalItems", True)
        if not isinstance(first, list) or len(first) > MOST_FIRST:
            raise NotRegular("its first items are no list, or many")
        if most == 0:
            return self._alphabet.text("[]")
        key = "list" if items is True and not first and not least and most is None else id(schema)
        return self._bracketed(key, "[]", lambda: self._items(first, items, least, most, depth))

    def _items(self, first: list[Any], items: Any, least: int, most: int | None, depth: int) -> Tree:
        """The first items of a list, each of its own schema, and then others."""
        comma = self._alphabet.literal(",")
        heads = [self.tree(one, depth + 1) for one in first[:most]]
        most = len(heads) if items is False else most
        if most is not None and most < least:
            raise NotRegular("it has fewer items than it must")
        follow: Tree = EMPTY
        if most is None or most > len(heads):
            item = self.tree(items, depth + 1)
            before = max(1, len(heads))
            more = Sequence((comma, item))
            follow = Repeat(more, max(0, least - before), None if most is None else most - before)
            if not heads:
                every = Sequence((item, follow))
                return every if least else Choice((every, EMPTY))
        for at in range(len(heads) - 1, -1, -1):
            one: Tree = heads[at] if at == 0 else Sequence((comma, heads[at]))
            follow = Sequence((one, follow))
            follow = follow if at < least else Choice((follow, EMPTY))
        return follow

    def _object(self, schema: Mapping[str, Any], depth: int) -> Tree:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        others = schema.get("additionalProperties", True)
        if not isinstance(properties, dict) or not isinstance(required, list) or set(required) - properties.keys():
            raise NotRegular("an object requires what it does not describe")

        def read() -> Tree:
            return self._members(properties, required, others, depth)

        return self._bracketed("object" if not properties and others is True else id(schema), "{}", read)

    def _members(self, properties: dict[str, Any], required: list[Any], others: Any, depth: int) -> Tree:
        """The properties of an object that it lists, in their order, and then any number of others."""
        comma = self._alphabet.literal(",")
        # what may follow where a property stands before, and where none does
        later: Tree = EMPTY
        first: Tree = EMPTY
        if others is not False:
            one = Sequence((self._other_name(list(properties)), self.tree(others, depth + 1)))
            later = Repeat(Sequence((comma, one)))
            first = Choice((Sequence((one, later)), EMPTY))
        for name, inner in reversed(properties.items()):
            key = self._alphabet.text(f"{_written(name)}:")
            one = Sequence((key, self.tree(inner, depth + 1)))
            after = Sequence((comma, one))
            if name in required:
                first, later = Sequence((one, later)), Sequence((after, later))
            else:
                first, later = Choice((Sequence((one, later)), first)), Sequence((Repeat(after, 0, 1), later))
        return first

    def _other_name(self, names: list[str]) -> Tree:
        """Any name but some, with its quotes and colon."""
        written = sorted(_written(name)[1:-1] for name in names)
        if any("\\" in name for name in written):
            raise NotRegular("a name that others must not have is written with escapes")
        quote, colon = map(self._alphabet.literal, '":')
        return Sequence((quote, self._not(written, 0, quote), colon))

    def _not(self, names: list[str], at: int, quote: Tree) -> Tree:
        """The rest of a text, with its quote, that begins as some names do up to a place, and is none of them."""
        by_first = {
            character: [name for name in names if name[at : at + 1] == character]
            for character in sorted({name[at] for name in names if name[at:]})
        }
        if at > DEEPEST_NAME:
            raise NotRegular("names that others must not have are long")
        mask = sum(self._alphabet.literal(character).mask for character in by_first)
        different = Choice((Chars(self._known.mask & ~mask), self._escaped))
        parts: list[Tree] = [Sequence((different, Repeat(self._character), quote))]
        parts += [
            Sequence((self._alphabet.literal(character), self._not(some, at + 1, quote)))
            for character, some in by_first.items()
        ]
        if all(name[at:] for name in names):
            parts.append(quote)
        return Choice(tuple(parts))

    def _of_type(self, schema: Mapping[str, Any], kind: Any) -> dict[str, Any]:
        """A schema of several types as that of one of them, always the same: what concerns the others is left out."""
        if kind not in BY_TYPE:
            raise NotRegular("it has an unknown type")
        others = set[str]().union(*MEANT.values()) - MEANT[kind]
        typed = {name: value for name, value in schema.items() if name not in others} | {"type": kind}
        return self._typed.setdefault((id(schema), kind), typed)


def _written(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
