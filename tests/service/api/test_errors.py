"""Every way a request can fail has one shape: OpenAI's, with the right status, small, and without what was sent."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.exceptions import RequestValidationError
from hypothesis import given
from hypothesis import strategies as st

from service.openai.schemas import CompletionRequest
from tests.service.error_cases import BODIES, COMPLETIONS, FIELDS, JSON, MARK, ROUTES, WRONG, Case, check
from tests.service.serving import Running


@pytest.mark.parametrize("case", [*FIELDS, *BODIES, *ROUTES], ids=str)
def test_p11_an_error_has_one_shape_and_is_short(case: Case, server: Running) -> None:
    response = server.client.request(case.method, case.path, content=case.content, headers=case.headers)
    error = check(response, case.status)
    assert error["param"] == case.param
    assert error["type"] == "invalid_request_error"
    assert MARK * 5 not in response.text
    if case.status == 405:
        assert response.headers["allow"]


@pytest.mark.parametrize(
    ("path", "fields", "message"),
    [
        ("/v1/completions", {"guided_json": 5}, "guided_json: send an object, or true or false, or a string."),
        ("/v1/completions", {"early_stopping": 5}, "early_stopping: send true or false, or 'never'."),
        ("/v1/completions", {"logit_bias": {"a": 5}}, "logit_bias.a: the keys are ids as strings, such as 256; "),
        ("/v1/completions", {"response_format": {"type": True}}, "response_format.type is true or false; choose text"),
        ("/v1/completions", {"response_format": {"type": {}}}, "response_format.type is an object; choose text, "),
        ("/v1/completions", {"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage: "),
        ("/v1/score", {"texts": ["a", 1]}, "texts.1: send a string."),
        ("/generate", {"inputs": "a", "parameters": {"stop": ["a", 1]}}, None),
    ],
    ids=str,
)
def test_an_error_names_what_was_sent_and_no_type_of_ours(
    path: str, fields: dict[str, Any], message: str | None, server: Running
) -> None:
    """Where a field has several kinds, its place is named once, with what to send of any of them."""
    answer = server.client.post(path, json={"prompt": "a", **fields}).json()["error"]
    said = answer if isinstance(answer, str) else answer["message"]
    assert said.startswith(message or "parameters.stop.1: send a string.")


def test_of_many_mistakes_only_the_first_are_looked_at(server: Running) -> None:
    """Each would be an error of pydantic's: 200,000 took 2.8 seconds and 750 MB."""
    built: list[int] = []
    plain = RequestValidationError.__init__

    def counted(error: RequestValidationError, errors: Any, **named: Any) -> None:
        built.append(len(errors))
        plain(error, errors, **named)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RequestValidationError, "__init__", counted)
        for path, fields in (
            ("/v1/completions", {"prompt": "a", "logit_bias": {f"x{key}": 1 for key in range(5_000)}}),
            ("/v1/completions", {"prompt": "a", "logit_bias": {str(key): "1" for key in range(1_000)}}),
            ("/v1/completions", {"prompt": "a", "stop": [1] * 20_000}),
            ("/generate", {"inputs": "a", "parameters": {"stop": [1] * 20_000}}),
            ("/detokenize", {"tokens": ["a"] * 20_000}),
            ("/v1/score", {"texts": [1] * 20_000}),
        ):
            assert server.client.post(path, json=fields).status_code in (400, 422)
    assert len(built) == 6
    assert max(built) <= 20


def test_nothing_is_left_running_by_errors(server: Running) -> None:
    assert server.client.get("/health").json()["running"] == 0
    assert len(server.complete("a")["choices"]) == 1


def test_every_field_is_tried() -> None:
    assert set(WRONG) == set(CompletionRequest.model_fields)


@pytest.mark.parametrize("characters", [20_000, 20_001])
def test_a_prompt_has_a_longest_length(characters: int, server: Running) -> None:
    fields = {"prompt": "é" * characters, "max_tokens": 0}
    response = server.client.post(COMPLETIONS, json=fields)
    if characters == 20_000:
        assert response.status_code == 200
    else:
        assert check(response, 400)["param"] == "prompt"


@pytest.mark.parametrize("size", [100_000, 100_001])
def test_a_body_has_a_largest_size_also_in_chunks(size: int, server: Running) -> None:
    body = b'{"prompt": "a", "max_tokens": 1, "x": "'
    body += b"x" * (size - len(body) - 2) + b'"}'
    assert len(body) == size

    def chunks() -> Iterator[bytes]:
        for start in range(0, size, 999):
            yield body[start : start + 999]

    for content in (body, chunks()):
        response = server.client.post(COMPLETIONS, content=content, headers=JSON)
        if size == 100_000:
            assert response.status_code == 200
        else:
            assert check(response, 413)["code"] == "body_too_large"


def test_text_may_have_any_character_json_can_say(server: Running) -> None:
    content = '{"prompt": "\\u0000\\ud83d\\ude00\\uffff\\u2028", "max_tokens": 3, "echo": true, "stop": ["\\u0000"]}'
    response = server.client.post(COMPLETIONS, content=content, headers=JSON)
    assert response.status_code == 200
    assert response.json()["choices"][0]["text"].startswith("\x00😀\uffff\u2028")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "application/x+json"])
def test_json_may_be_announced_in_several_ways(content_type: str, server: Running) -> None:
    response = server.client.post(COMPLETIONS, content='{"prompt": "a"}', headers={"content-type": content_type})
    assert response.status_code == 200


def test_json_may_begin_with_a_mark_of_its_encoding(server: Running) -> None:
    """As PowerShell sends what it read from a file; RFC 8259, section 8.1, lets a server skip it."""
    for path, body in ((COMPLETIONS, b'{"prompt": "a"}'), ("/generate", b'{"inputs": "a"}')):
        assert server.client.post(path, content=b"\xef\xbb\xbf" + body, headers=JSON).status_code == 200


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 20) | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
REQUESTS = st.fixed_dictionaries({}, optional=dict.fromkeys(CompletionRequest.model_fields, ANYTHING)) | ANYTHING


@given(REQUESTS)
def test_p10_no_json_makes_the_server_fail(server: Running, request: Any) -> None:
    response = server.client.post(COMPLETIONS, content=json.dumps(request), headers=JSON)
    if response.status_code != 200:
        check(response, 404 if response.status_code == 404 else 400)
