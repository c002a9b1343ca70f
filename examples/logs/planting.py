"""Lines that do not belong in a log, made from lines that do: six kinds, as a fault or an intruder leaves them."""

import random
import re

SYMBOLS = "#$%&@~^|"
COMMANDS = ("$(id)", "';ls;'", "../../etc/passwd", "`whoami`", "' OR 1=1 --", "<script>")
KINDS = ("another program", "a field of another kind", "fields in another order", "a cut line", "a command")
DAMAGED = "a damaged character"


def plant(line: str, foreign: str, chance: random.Random) -> tuple[str, str]:
    """The kind, and the line as it is then; a line that a kind does not fit is damaged.

    foreign: a line of another log.
    """
    kind = chance.choice((*KINDS, DAMAGED))
    words = line.split(" ")
    first = max(1, len(words) // 3)  # the head of a line, its time and place, stays
    planted = line
    if kind == "another program":
        others = foreign.split(" ")
        planted = " ".join([*words[: first + 1], *others[max(1, len(others) // 3) + 1 :]])
    elif kind == "a field of another kind":
        planted = _another_field(line, chance)
    elif kind == "fields in another order" and len(words) > first + 3:
        one, other = chance.sample(range(first, len(words)), 2)
        words[one], words[other] = words[other], words[one]
        planted = " ".join(words)
    elif kind == "a cut line" and len(line) >= 8:
        planted = line[: chance.randint(len(line) // 2, len(line) - 4)]
    elif kind == "a command":
        words[chance.randrange(min(first, len(words) - 1), len(words))] = chance.choice(COMMANDS)
        planted = " ".join(words)
    if planted != line:
        return kind, planted
    at = chance.randrange(len(line) // 4, len(line))
    return DAMAGED, line[:at] + chance.choice(SYMBOLS) + line[at + 1 :]


def _another_field(line: str, chance: random.Random) -> str:
    """The line with a number of it replaced by what no number there is."""
    numbers = [found for found in re.finditer(r"\d+", line) if found.start() > len(line) // 4]
    if not numbers:
        return line
    number = chance.choice(numbers)
    odd = ("-1", f"0x{chance.randrange(1 << 28):x}", "NaN", str(chance.randrange(10**11, 10**12)), "unknown")
    return line[: number.start()] + chance.choice(odd) + line[number.end() :]
