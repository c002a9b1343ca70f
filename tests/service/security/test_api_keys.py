"""What stands in a file of keys, and in the settings: keys, digests, labels, and errors that name the line."""

import hashlib
import os
import signal
import stat
import statistics
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.errors import SettingsError
from service.security.api_keys import ApiKeys
from service.settings import Settings
from tests.service.serving import eventually, serving_process

KEY, OTHER, UNKNOWN = "k" * 32, "o" * 32, "u" * 32
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def test_comparing_takes_as_long_however_much_of_a_key_is_right() -> None:
    """The comparison is of digests, so what is near a key is not near its digest; here with every key looked at."""
    keys = ApiKeys(Settings(api_keys=",".join(f"{number:032}" for number in range(200))))

    def seconds(text: str) -> float:
        times = []
        for _ in range(400):
            started = time.perf_counter()
            keys.holder(text)
            times.append(time.perf_counter() - started)
        return statistics.median(times)

    first, last, none = seconds(f"{0:032}"), seconds(f"{199:032}"), seconds("x" * 32)
    assert max(first, last, none) < 2 * min(first, last, none)


def test_keys_stand_in_files_plain_or_hashed_with_labels(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    path.write_text(f"# ours\n\n{KEY}\n  batch  sha256:{digest.upper()}\n")
    keys = ApiKeys(Settings(api_keys=UNKNOWN, api_keys_file=path))
    first, second, third = (keys.holder(key) for key in (KEY, OTHER, UNKNOWN))
    assert second is not None
    assert second.label == "batch"
    assert first is not None
    assert third is not None
    assert len({first.label, second.label, third.label}) == 3
    assert keys.holder("x" * 32) is None
    assert KEY not in repr(vars(keys))


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_keys_stand_in_files_as_any_editor_writes_them(tmp_path: Path, end: str) -> None:
    path = tmp_path / "keys"
    lines = [KEY, f"team  SHA256:{hashlib.sha256(OTHER.encode()).hexdigest()}", "# the end", ""]
    path.write_bytes(b"\xef\xbb\xbf" + end.join(lines).encode())
    keys = ApiKeys(Settings(api_keys_file=path))
    other = keys.holder(OTHER)
    assert keys.holder(KEY) is not None
    assert ApiKeys(Settings(api_keys="shaken-not-stirred,md5isnodigestofthis,sha256isnoneeither")).needed
    assert other is not None
    assert other.label == "team"
    assert [keys.holder(line) for line in ("\ufeff" + KEY, KEY + "\r", lines[1], lines[1].split()[1])] == [None] * 4


def test_only_a_regular_file_holds_keys_and_a_pipe_keeps_nobody_waiting(
    checkpoint_folder: Path, tmp_path: Path
) -> None:
    pipe, path = tmp_path / "pipe", tmp_path / "keys"
    os.mkfifo(pipe)
    for place in (pipe, Path("/dev/zero")):
        with pytest.raises(SettingsError, match="is no regular file; name a file of keys"):
            ApiKeys(Settings(api_keys_file=place))
    path.symlink_to(tmp_path / "real")  # as Kubernetes mounts a secret
    (tmp_path / "real").write_text(KEY)
    with serving_process(str(checkpoint_folder), "--port", "0", UNROLL_API_KEYS_FILE=str(path)) as (process, url):
        path.unlink()
        path.symlink_to(pipe)
        process.send_signal(signal.SIGHUP)
        for _ in range(20):
            assert httpx.get(f"{url}/v1/models", headers=bearer(KEY), timeout=5).status_code == 200
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert "The keys stay as they were." in errors
    assert "is no regular file" in errors


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"api_keys": "short"},
        r"^--api-keys or UNROLL_API_KEYS: a key is shorter than 16 characters; make one with `openssl rand -hex 32`",
    ),
    ({"api_keys": " , "}, "^--api-keys or UNROLL_API_KEYS holds no key; make one"),
    ({"file": b""}, "holds no key; make one"),
    ({"file": b"# nothing\n"}, "holds no key"),
    ({"file": b"\n" + KEY.encode() + b"\nshort\n"}, "line 3: a key is shorter"),
    ({"file": b"my label " + KEY.encode()}, "line 1: a label is"),
    ({"file": b"\xff\xfe" * 40}, "it is not UTF-8"),
    ({"file": b"#" * (1 << 20) + b"##"}, "larger than 1,048,576 bytes"),
    ({"file": None}, "No such file"),
    (
        {"file": KEY.encode() + b"\nSHA256:" + DIGEST[:63].encode()},
        "keys, line 2: this looks like a digest and is none",
    ),
    ({"file": b"sha256:" + DIGEST[:63].encode()}, "looks like a digest and is none; write sha256: and the 64"),
    ({"file": b"sha256:" + DIGEST.encode() + b"0"}, "looks like a digest"),
    ({"file": b"sha256:" + DIGEST.encode()[:-1] + b"g"}, "looks like a digest"),
    ({"file": b"sha256=" + DIGEST.encode()}, "looks like a digest"),
    ({"file": b"sha-256:" + DIGEST.encode()}, "looks like a digest"),
    ({"file": b"Sha512:" + DIGEST.encode() * 2}, "looks like a digest"),
    ({"file": b"{SHA256}" + DIGEST.encode()}, "looks like a digest"),
    ({"file": b"$2b$12$" + b"a" * 53}, "looks like a digest"),
    ({"file": b"sha256 " + DIGEST.encode()}, "looks like a digest"),
    ({"file": b"sha256: " + DIGEST.encode()}, "line 1: a label is"),
    ({"file": DIGEST.encode() + b"  the-file-of-a-key.txt"}, "looks like a digest"),
    ({"file": KEY.encode() + b" #this-is-a-comment"}, "begins with no #"),
    ({"file": KEY.encode() + "\u200b".encode()}, "line 1: a key is of ASCII letters"),
    ({"file": (KEY + "\n").encode("utf-16-le")}, "a key is of ASCII letters"),
    *(
        (
            {"file": KEY.encode() + between.encode() + OTHER.encode()},
            "keys, line 1: a line break that is no newline; write",
        )
        for between in "\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"
    ),
    *(
        (
            {"file": KEY.encode() + b"\n" + KEY.encode() + between.encode() + OTHER.encode()},
            "keys, line 2: a label is up",
        )
        for between in ("\t", " ", "   ")
    ),
    *(
        ({"file": KEY.encode() + between + OTHER.encode()}, "line 1: a key has none of .*; write one key a line")
        for between in (b",", b";", b":", b"|", b"=")
    ),
    *(
        ({"file": KEY.encode() + between.encode() + OTHER.encode()}, "line 1: a key is of ASCII letters")
        for between in "\u00a0\u2003\u3000\x00"
    ),
    ({"file": b"lab:" + KEY.encode()}, "line 1: a key has none of"),
    ({"file": b'"' + KEY.encode() + b'"'}, "line 1: a key (is of ASCII|has none)"),
    ({"file": b"Bearer " + KEY.encode()}, "line 1: the name of a header or scheme .*; write the key alone"),
    ({"file": b"Authorization: Bearer " + KEY.encode()}, "line 1: a label is"),
    (
        {"file": f"one {KEY} models=a\n# later\nsha256:{DIGEST}".encode()},
        "keys, line 3: this key stands in .*keys, line 1, too, with other models; write it once",
    ),
    ({"api_keys": f"lab:{KEY}"}, "^--api-keys or UNROLL_API_KEYS: a key has none of"),
    ({"api_keys": "SHA256:" + DIGEST[:40]}, "^--api-keys or UNROLL_API_KEYS: this looks like a digest"),
]


@pytest.mark.parametrize(("given", "sentence"), BAD)
def test_what_is_no_key_is_refused_before_anything_is_served(
    tmp_path: Path, given: dict[str, Any], sentence: str
) -> None:
    path = tmp_path / "keys"
    if given.get("file") is not None:
        path.write_bytes(given["file"])
    settings = Settings(api_keys_file=path) if "file" in given else Settings(**given)
    with pytest.raises(SettingsError, match=sentence):
        ApiKeys(settings)


def test_keys_change_on_sighup_and_a_broken_file_changes_nothing(checkpoint_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text(KEY)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    with serving_process(str(checkpoint_folder), "--port", "0", UNROLL_API_KEYS_FILE=str(path)) as (process, url):

        def allowed(key: str) -> bool:
            return httpx.get(f"{url}/v1/models", headers=bearer(key)).status_code == 200

        assert (allowed(KEY), allowed(OTHER)) == (True, False)
        path.write_text(OTHER)
        assert allowed(KEY)
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: allowed(OTHER))
        assert not allowed(KEY)
        path.write_text("short")
        process.send_signal(signal.SIGHUP)
        time.sleep(0.3)
        assert allowed(OTHER)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    assert "The keys stay as they were." in errors
    assert KEY not in errors
    assert OTHER not in errors
