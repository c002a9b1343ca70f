"""Lines as an SSH server's log has them, made from a seed, and lines among them that do not belong there."""

import random
from collections.abc import Callable

USERS = ("alice", "bob", "carol", "deploy", "backup", "git", "jenkins", "www-data")
HOSTS = ("web1", "web2", "db1", "gate")
STRANGERS = ("admin", "oracle", "test", "guest", "ftp", "user", "pi", "nagios")


class Log:
    """Lines of a log, one after the other in time. An address, a port or a user is one of those there may be."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._second = 0

    def line(self) -> str:
        """The next line as it should be."""
        kinds: list[tuple[Callable[[], str], int]] = [
            (self._accepted, 30),
            (self._opened, 20),
            (self._closed, 20),
            (self._failed, 15),
            (self._invalid, 8),
            (self._disconnected, 15),
        ]
        [kind] = self.chance.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])
        return self._stamp() + kind()

    def anomaly(self) -> tuple[str, str]:
        """Its kind, and a line that does not belong there."""
        kinds: dict[str, Callable[[], str]] = {
            "another program": self._other_program,
            "a field of another kind": self._wrong_field,
            "fields in another order": self._disordered,
            "a cut line": self._cut,
            "a damaged character": self._damaged,
            "a user who runs a command": self._injected,
        }
        kind = self.chance.choice(sorted(kinds))
        return kind, kinds[kind]()

    def _stamp(self, program: str = "sshd") -> str:
        self._second += self.chance.randint(1, 40)
        minutes, seconds = divmod(self._second, 60)
        hours, minutes = divmod(minutes, 60)
        host, process = self.chance.choice(HOSTS), self.chance.randint(900, 32000)
        day = 1 + hours // 24 % 30
        return f"Nov {day:2d} {hours % 24:02d}:{minutes:02d}:{seconds:02d} {host} {program}[{process}]: "

    def _address(self) -> str:
        return f"10.0.{self.chance.randint(0, 9)}.{self.chance.randint(2, 250)}"

    def _from(self) -> str:
        return f"from {self._address()} port {self.chance.randint(32768, 60999)}"

    def _accepted(self) -> str:
        digest = "".join(self.chance.choices("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/", k=12))
        user = self.chance.choice(USERS)
        return f"Accepted publickey for {user} {self._from()} ssh2: ED25519 SHA256:{digest}"

    def _opened(self) -> str:
        user = self.chance.choice(USERS)
        return f"pam_unix(sshd:session): session opened for user {user} by (uid=0)"

    def _closed(self) -> str:
        return f"pam_unix(sshd:session): session closed for user {self.chance.choice(USERS)}"

    def _failed(self) -> str:
        return f"Failed password for invalid user {self.chance.choice(STRANGERS)} {self._from()} ssh2"

    def _invalid(self) -> str:
        return f"Invalid user {self.chance.choice(STRANGERS)} {self._from()}"

    def _disconnected(self) -> str:
        return f"Disconnected from user {self.chance.choice(USERS)} {self._from().removeprefix('from ')}"

    def _other_program(self) -> str:
        messages = ("segfault at 0 ip 00007f3a error 4 in libc", "Out of memory: killed process", "eth0: link is down")
        return self._stamp("kernel") + self.chance.choice(messages)

    def _wrong_field(self) -> str:
        wrong = self.chance.choice(("10.0.3.999", "::ffff:203.0.113.7", "unknown", "0x0a000311"))
        return self._stamp() + self._accepted().replace("from 10.0.", f"from {wrong} ", 1)

    def _disordered(self) -> str:
        user, port = self.chance.choice(USERS), self.chance.randint(32768, 60999)
        return f"{self._stamp()}Accepted for {user} publickey port {port} from {self._address()}"

    def _cut(self) -> str:
        line = self.line()
        return line[: self.chance.randint(len(line) // 2, len(line) - 8)]

    def _damaged(self) -> str:
        line = self.line()
        at = self.chance.randint(25, len(line) - 1)
        return line[:at] + self.chance.choice("#$%&@~^|") + line[at + 1 :]

    def _injected(self) -> str:
        command = self.chance.choice(("$(id)", "';ls;'", "../../etc", "`whoami`"))
        return self._stamp() + f"Invalid user {command} {self._from()}"
