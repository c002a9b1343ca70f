"""What ends an item of a list, and where its label is, as a user writes them."""

from typing import Literal

from model.errors import ParameterError

Label = Literal["prefix", "file-name"]
"""Where items have their labels from: they begin with them, or it is the name of the file they came from."""

OF_A_FILE = "\x1e"  # the record separator: ends an item that is a whole file


def separator_of(written: str) -> str:
    r"""A separator as it is written on a command line, where \n is a line break, \t a tabulator and \\ one \.

    Raises ParameterError where it is empty or too long.
    """
    return escaped_text(written, "item_separator")


def escaped_text(written: str, name: str) -> str:
    """A short text of items, written as a separator is. name: of the option. Raises as `separator_of` does."""
    from model.text.frame import LARGEST_SEPARATOR  # not for those who ask for help

    text = "\\".join(part.replace("\\n", "\n").replace("\\t", "\t") for part in written.split("\\\\"))
    if not 0 < len(text) <= LARGEST_SEPARATOR:
        raise ParameterError(
            name, f"--{name.replace('_', '-')} has {len(text):,} characters; choose 1 to {LARGEST_SEPARATOR:,}."
        )
    return text
