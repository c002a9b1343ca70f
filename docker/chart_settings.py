"""Writes the settings of `unroll serve` into the chart's values.schema.json, so that a misspelt one is refused."""

import json
import sys
from dataclasses import Field
from pathlib import Path
from typing import Any, get_args, get_type_hints

sys.path.insert(0, str(Path(__file__).parents[1]))

from model.command_line.options import about, options_of
from service.settings import ENVIRONMENT, Settings, variable_of

SCHEMA = Path(__file__).parent / "kubernetes/values.schema.json"

# What the chart sets from other values, and secrets, which belong in files.
DERIVED = {
    "host", "port", "uds", "management_port", "grace_seconds", "models", "api_keys", "api_keys_file", "state_secret",
    "state_secret_file", "tls_certificate", "tls_key",
}  # fmt: skip


def properties() -> dict[str, Any]:
    """The settings that values may have, by the names of their variables in small letters."""
    fields = [one for one in options_of(Settings) if one.name not in DERIVED]
    return {variable_of(one.name).removeprefix(ENVIRONMENT).lower(): _property(one) for one in fields}


def _property(one: Field[Any]) -> dict[str, Any]:
    kinds = {bool: "boolean", int: "integer", float: "number"}
    hint = get_type_hints(Settings)[one.name]
    name = next((kinds[kind] for kind in (hint, *get_args(hint)) if kind in kinds), "string")
    said = about(one)
    found: dict[str, Any] = {"description": said.help, "type": name}
    if said.choices:
        found["enum"] = list(said.choices)
    if said.range is not None:
        found |= {"minimum": said.range.least, "maximum": said.range.most}
    return found


def main() -> None:
    """Write the schema anew."""
    schema = json.loads(SCHEMA.read_text("utf-8"))
    schema["properties"]["settings"]["properties"] = properties()
    SCHEMA.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
