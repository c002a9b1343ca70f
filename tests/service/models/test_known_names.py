"""Names that no model has, in the file of keys and in the settings: an error or a line of the log, never silence."""

import logging
import re
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from model.checkpoint import save
from service.app import create_application
from service.errors import SettingsError
from service.settings import Settings
from tests.model.small import small_checkpoint
from tests.service.serving import eventually, serving, serving_process

KEY, OTHER, THIRD = "k" * 32, "o" * 32, "u" * 32


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_line_of_keys_that_names_no_model_is_told_at_the_start(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The server starts, as one file of keys may be for several servers, each with models of its own."""
    keys = tmp_path / "keys"
    lines = ("# ours", f"team {KEY} models=nope,one,t", f"all {OTHER}", f"gone {THIRD} models=onE,one@0123abcd,a\x1bb")
    keys.write_text("\n".join(lines))
    create_application(Settings(checkpoint=folders["one"], alias="t=one", api_keys_file=keys))
    assert told(caplog) == [
        f"{keys}, line 2: models= names what is not served: 'nope'; this server has 'one'.",
        f"{keys}, line 4: models= names what is not served: 'a\\x1bb', 'onE', 'one@0123abcd'; this server has 'one'. "
        "The key can use no model now.",
    ]


def test_very_many_such_lines_do_not_fill_the_log(
    folders: dict[str, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys, names = tmp_path / "keys", ",".join(f"{number:0300}" for number in range(10))
    keys.write_text("\n".join(f"{number:032} models={names}" for number in range(100)))
    create_application(Settings(checkpoint=folders["one"], api_keys_file=keys))
    *lines, last = told(caplog)
    assert len(lines) == 20
    assert "and 2 more; this server has 'one'" in lines[0]
    assert max(map(len, lines)) < 1200 + len(str(keys))
    assert last == "More lines of keys name models that are not there."


def test_a_signal_tells_what_the_new_file_names_and_nothing_of_a_model_that_came_with_it(tmp_path: Path) -> None:
    keys, models = tmp_path / "keys", tmp_path / "models"
    save(small_checkpoint(), models / "one")
    keys.write_text(f"{KEY} models=one,later\n")
    with serving_process("--models", str(models), "--port", "0", UNROLL_API_KEYS_FILE=str(keys)) as (process, url):

        def status(key: str, path: str = "") -> int:
            return httpx.get(f"{url}/v1/models{path}", headers={"X-API-Key": key}).status_code

        assert [status(KEY), status(KEY, "/later")] == [200, 404]
        keys.write_text(f"{KEY} models=later\n\n{OTHER} models=one,missing\n")
        save(small_checkpoint(seed=2), models / "later")
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: (status(OTHER), status(KEY, "/later")) == (200, 200), seconds=20)
        keys.write_text(f"short\n{OTHER} models=broken\n")
        process.send_signal(signal.SIGHUP)
        assert eventually(lambda: status(OTHER, "/one") == 200)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
    lines = re.findall(r"keys, line (\d): models= names what is not served: (.*)", errors)
    comes = f"and serves each checkpoint or run that comes into {models}."
    assert [line for line, _ in lines] == ["1", "3"]
    assert lines[0][1].startswith("'later'; this server has 'one', ")
    assert lines[1][1].startswith("'missing'; this server has 'one'")
    assert all(words.endswith(comes) for _, words in lines)
    assert KEY not in errors
    assert OTHER not in errors


SETTINGS: list[dict[str, Any]] = [{"default_model": "nope"}, {"pinned_models": "one, nope"}, {"alias": "gpt=nope"}]


@pytest.mark.parametrize("more", SETTINGS)
def test_a_setting_that_names_no_model_is_refused(more: dict[str, Any], folders: dict[str, Path]) -> None:
    flag = "--" + next(iter(more)).replace("_", "-")
    with pytest.raises(SettingsError, match=f"There is no model 'nope', which {flag} names; this server has 'one'."):
        create_application(Settings(checkpoint=folders["one"], **more))


@pytest.mark.parametrize("more", SETTINGS)
def test_where_a_folder_may_still_bring_it_the_log_tells(
    more: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    save(small_checkpoint(), tmp_path / "one")
    settings = Settings(models=tmp_path, **more)
    create_application(settings)
    (line,) = told(caplog)
    flag = "--" + next(iter(more)).replace("_", "-")
    assert line == (
        f"{flag} names 'nope', and there is no such model yet; this server has 'one', and serves each checkpoint or "
        f"run that comes into {tmp_path}."
    )
    caplog.clear()
    save(small_checkpoint(seed=2), tmp_path / "nope")
    create_application(settings)
    assert told(caplog) == []


def test_another_name_may_stand_for_another_name(folders: dict[str, Path]) -> None:
    with serving(Settings(checkpoint=folders["one"], alias="gpt=writer, writer=one")) as server:
        (card,) = server.client.get("/v1/models").json()["data"]
        assert card["aliases"] == ["gpt", "writer"]
        for name in ("gpt", "writer", "one"):
            assert server.complete("a", model=name, max_tokens=4)["model"] == "one"


@pytest.mark.parametrize("alias", ["a=b,b=a", "x=a,a=b,b=c,c=a"])
def test_names_that_stand_for_each_other_alone_are_refused(alias: str, folders: dict[str, Path]) -> None:
    with pytest.raises(SettingsError, match=r"--alias has '[ax]' stand for itself; give it the name of a model\."):
        create_application(Settings(checkpoint=folders["one"], alias=alias))


@pytest.mark.parametrize("more", [{"default_model": "t"}, {"default_model": "one", "pinned_models": "t"}])
def test_what_another_name_says_to_keep_in_memory_is_there_at_the_start(
    more: dict[str, Any], folders: dict[str, Path]
) -> None:
    settings = Settings(
        checkpoint=folders["one"], others=(str(folders["two"]),), alias="t=two", max_loaded_models=2, **more
    )
    cards = {entry.name: entry.served for entry in create_application(settings).registry}
    assert cards["two"] is not None
