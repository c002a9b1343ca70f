"""The regular expressions of JSON's numbers and of formats of strings, as llguidance has them."""

INTEGER = "-?(0|[1-9][0-9]*)"
NUMBER = r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?"

_DATE = (
    "[0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-9]))"
)
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?([zZ]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_BYTE = "([0-9]|[1-9][0-9]|25[0-5]|(2[0-4]|1[0-9])[0-9])"

FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}[tT]{_TIME}",
    "uuid": "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}",
    "ipv4": rf"({_BYTE}\.){{3}}{_BYTE}",
}
"""The pattern of each format that has a short one."""


def integer_range(least: int | None, most: int | None) -> str:
    """The pattern of the whole numbers from `least` to `most`; None is without end. -0 counts as 0."""
    if least is not None and most is not None and least > most:
        return "[^\0-\U0010ffff]"  # no number is
    if least is None and most is None:
        return INTEGER
    if least is None:
        assert most is not None
        below = "-[1-9][0-9]*"
        return f"{below}|{integer_range(0, most)}" if most >= 0 else f"-({integer_range(-most, None)})"
    if most is None:
        if least < 0:
            return f"{integer_range(least, -1)}|{integer_range(0, None)}"
        digits = len(str(least))
        return f"{_alike(least, 10**digits - 1)}|[1-9][0-9]{{{digits},}}"
    if least < 0:
        if most < 0:
            return f"-({integer_range(-most, -least)})"
        return f"-({integer_range(0, -least)})|{integer_range(0, most)}"
    parts = []
    while len(str(least)) < len(str(most)):
        end = 10 ** len(str(least)) - 1
        parts.append(_alike(least, end))
        least = end + 1
    return "|".join([*parts, _alike(least, most)])


def _alike(least: int, most: int) -> str:
    """The pattern of a range of numbers of equally many digits."""
    low, high = str(least), str(most)
    if len(low) == 1:
        return f"[{low}-{high}]"
    first, last = least // 10, most // 10
    if first == last:
        return f"{first}[{low[-1]}-{high[-1]}]"
    parts = []
    if low[-1] != "0":
        parts.append(f"{first}[{low[-1]}-9]")
        first += 1
    if high[-1] != "9":
        parts.append(f"{last}[0-{high[-1]}]")
        last -= 1
    if first <= last:
        parts.append(f"({_alike(first, last)})[0-9]")
    return "|".join(parts)
