"""States over HTTP: each dialect returns them and goes on from them, and takes no others than its own."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.app import create_application
from service.errors import SettingsError
from service.settings import Settings
from tests.service.serving import Running, serving
from tests.service.sse_client import stream, texts

SECRET = "a secret that nobody guesses"
FIELDS: dict[str, Any] = {"seed": 7, "temperature": 1.2, "repetition_penalty": 1.2, "stop": ["lazy"], "logprobs": 2}


@pytest.fixture(scope="module")
def one(checkpoint_folder: Path) -> Iterator[Running]:
    with serving(Settings(checkpoint=checkpoint_folder, state_secret=SECRET)) as running:
        yield running


@pytest.fixture(scope="module")
def other(checkpoint_folder: Path) -> Iterator[Running]:
    """Another process's worth of server, which signs with a newer secret and still believes the older one."""
    with serving(Settings(checkpoint=checkpoint_folder, state_secret=f"a newer secret of tests, {SECRET}")) as running:
        yield running


def entries(choices: list[Any]) -> list[Any]:
    names = ("tokens", "token_logprobs", "top_logprobs")
    return [[one for choice in choices for one in choice["logprobs"][name]] for name in names]


@pytest.mark.parametrize("at", [0, 1, 9, 39])
def test_a_completion_goes_on_elsewhere(at: int, one: Running, other: Running) -> None:
    whole = one.complete("the é", max_tokens=40, return_state=True, **FIELDS)["choices"][0]
    first = one.complete("the é", max_tokens=at, return_state=True, **FIELDS)["choices"][0]
    fields = {**FIELDS, "state": first["state"]}
    del fields["seed"]
    rest = other.complete("", max_tokens=40 - at, return_state=True, **fields)["choices"][0]
    assert first["text"] + rest["text"] == whole["text"]
    assert entries([first, rest]) == entries([whole])
    assert rest["finish_reason"] == whole["finish_reason"]
    assert rest["logprobs"]["text_offset"] == [
        offset - len(first["text"]) for offset in whole["logprobs"]["text_offset"][at:]
    ]

    parts = stream(other.client, prompt="", max_tokens=40 - at, return_state=True, **fields)
    assert texts(parts) == [rest["text"]]
    assert [part["choices"][0].get("state") for part in parts[:-1]] == [None] * (len(parts) - 1)
    again = other.complete("x", max_tokens=5, seed=1, state=parts[-1]["choices"][0]["state"])
    assert (
        again["choices"][0]["text"]
        == one.complete("the é" + whole["text"] + "x", max_tokens=5, seed=1)["choices"][0]["text"]
    )


@pytest.mark.parametrize("at", [1, 8, 29])
def test_tgi_goes_on(at: int, one: Running, other: Running) -> None:
    parameters = {"seed": 3, "do_sample": True, "details": True, "return_state": True, "stop": ["qu月"]}

    def asked(running: Running, inputs: str, **fields: Any) -> Any:
        answer = running.client.post("/generate", json={"inputs": inputs, "parameters": {**parameters, **fields}})
        assert answer.status_code == 200, answer.text
        return answer.json()

    whole = asked(one, "the", max_new_tokens=30)
    first = asked(one, "the", max_new_tokens=at)
    rest = asked(other, "", max_new_tokens=30 - at, state=first["state"])
    assert first["generated_text"] + rest["generated_text"] == whole["generated_text"]
    assert first["details"]["tokens"] + rest["details"]["tokens"] == whole["details"]["tokens"]

    fields = {**parameters, "max_new_tokens": 30 - at, "state": first["state"]}
    with one.client.stream("POST", "/generate_stream", json={"inputs": "", "parameters": fields}) as answer:
        last = [line for line in answer.iter_lines() if line.startswith("data:")][-1]
    assert '"state":"' in last


def test_a_line_is_scored_in_the_light_of_all_before(one: Running, other: Running) -> None:
    lines = ["the quick\n", "brown é 明\n", "fox\n"]
    states, scores = [], []
    state = None
    for line in lines:
        body = {"texts": line, "return_state": True, **({"state": state} if state else {})}
        answer = other.client.post("/v1/score", json=body).json()
        state = answer["results"][0]["state"]
        states.append(state)
        scores.append(answer["results"][0]["bits"])
    for at in range(1, 3):
        wanted = one.client.post("/v1/score", json={"texts": lines[at], "context": "\n" + "".join(lines[:at])}).json()
        assert scores[at] == pytest.approx(wanted["results"][0]["bits"], abs=0)
    both = one.client.post("/v1/score", json={"texts": ["a", "b"], "state": states[0], "context": "x"})
    assert both.status_code == 400
    written = other.complete("", max_tokens=9, state=state, seed=4)["choices"][0]["text"]
    assert written == one.complete("\n" + "".join(lines), max_tokens=9, seed=4)["choices"][0]["text"]


def refusal(running: Running, state: str, **headers: str) -> tuple[int, str]:
    body = {"prompt": "", "max_tokens": 1, "state": state}
    answer = running.client.post("/v1/completions", json=body, headers=headers)
    return answer.status_code, answer.json()["error"]["message"] if answer.is_error else ""


def state_of(running: Running, **headers: str) -> str:
    body = {"prompt": "a", "max_tokens": 1, "return_state": True}
    answer = running.client.post("/v1/completions", json=body, headers=headers)
    state: str = answer.json()["choices"][0]["state"]
    return state


def test_other_states_are_refused_in_a_sentence(one: Running, other: Running, server: Running) -> None:
    state = state_of(one)
    assert refusal(one, state) == (200, "")
    raw = bytearray(base64.urlsafe_b64decode(state + "=="))
    raw[60] ^= 1
    forged = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    for wrong in (
        forged,
        state[:-1],
        state[:100],
        state + "A",
        "x",
        "é",
        "A" * 100_000,
        state_of(other),
        state_of(server),
    ):
        status, message = refusal(one, wrong)
        assert (status, message[:24]) == (400, "The state is not one of ")
    assert refusal(one, "")[0] == 400
    status, message = refusal(one, state, Authorization="Bearer somebody")
    assert (status, "made for another API key" in message) == (403, True)


def test_a_state_is_of_its_cache_salt(one: Running) -> None:
    """The sentence names the salt, as the key may well be the right one."""
    body = {"prompt": "a", "max_tokens": 1, "return_state": True, "cache_salt": "mine"}
    state = one.client.post("/v1/completions", json=body).json()["choices"][0]["state"]
    answers = [
        one.client.post("/v1/completions", json={"prompt": "", "max_tokens": 1, "state": state, **salt})
        for salt in ({"cache_salt": "mine"}, {"cache_salt": "other"}, {})
    ]
    assert [answer.status_code for answer in answers] == [200, 403, 403]
    assert all("another cache_salt" in answer.json()["error"]["message"] for answer in answers[1:])


@pytest.mark.parametrize("content", ["", "\n \r\n\n"])
def test_a_file_of_secrets_without_any_is_refused_at_the_start(
    content: str, checkpoint_folder: Path, tmp_path: Path
) -> None:
    """Else every replica would sign with a random secret of its own, and take no other's states."""
    (tmp_path / "secrets").write_text(content)
    settings = Settings(checkpoint=checkpoint_folder, state_secret=SECRET, state_secret_file=tmp_path / "secrets")
    with pytest.raises(SettingsError, match=r"secrets holds no secret of states; make one with: openssl rand"):
        create_application(settings)
    (tmp_path / "secrets").write_text(f"\n{SECRET}\n")
    create_application(settings)


def test_a_state_of_another_model_is_refused_naming_what_is_served(one: Running, tmp_path: Path) -> None:
    from model.checkpoint import save
    from tests.model.small import small_checkpoint

    save(small_checkpoint(seed=1), tmp_path / "changed")
    with serving(Settings(checkpoint=tmp_path / "changed", state_secret=SECRET)) as changed:
        status, message = refusal(changed, state_of(one))
    assert status == 409
    assert "this server has 'changed'" in message


def test_a_state_expires(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, state_seconds=1)) as running:
        state = state_of(running)
        status = 200
        while status == 200:
            status, message = refusal(running, state)
        assert (status, "has expired" in message) == (400, True)


def test_the_bundled_models_states_are_small() -> None:
    with serving(Settings()) as running:
        body = {"prompt": "To be", "max_tokens": 500, "return_state": True, "frequency_penalty": 0.1}
        state = httpx.post(running.url + "/v1/completions", json=body, timeout=60).json()["choices"][0]["state"]
    assert 10_900 < len(state) < 12_000
