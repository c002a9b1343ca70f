"""The words of errors: ours, with a remedy, and where a body stops to be JSON or a path leads somewhere else."""

import json
import re
from typing import Any

import pytest

from service.api.problems import ELSEWHERE
from tests.service.error_cases import BODIES, COMPLETIONS, FIELDS, JSON, Case, check
from tests.service.serving import Running

# Of pydantic, FastAPI, Starlette and Python's JSON parser
THEIRS = re.compile(
    r"(?i)input should|should be a valid|valid dictionary|after validation|value error|unable to parse|"
    r"field required|less than or equal|greater than|at least \d+ item|at most \d+ item|json decode|"
    r"^The body.*(expecting |delimiter)|error parsing|not found$|method not allowed|should have"
)


@pytest.mark.parametrize("case", [*FIELDS, *BODIES], ids=str)
def test_no_error_has_the_words_of_a_library(case: Case, server: Running) -> None:
    response = server.client.request(case.method, case.path, content=case.content, headers=case.headers)
    message = check(response, case.status)["message"]
    assert not THEIRS.search(message), message
    assert not re.search(r"\b1 characters|\.\.$", message), message


@pytest.mark.parametrize(
    ("field", "text", "sentence"),
    [
        ("max_tokens", "1.5", "max_tokens: send an integer."),
        ("max_tokens", '"5"', "max_tokens: send an integer."),
        ("max_tokens", "100001", "max_tokens: send 100,000 or less."),
        ("temperature", "NaN", "temperature: NaN is not a number; send a number."),
        ("temperature", "-0.5", "temperature: send 0 or more."),
        ("temperature", "Infinity", "temperature: send 100 or less."),
        ("top_p", "0", "top_p: send a number above 0."),
        ("stream", '"yes"', "stream: send true or false."),
        ("model", "5", "model: send a string."),
        ("stop", '["a", ""]', "stop.1: send at least 1 character."),
        ("stop", json.dumps(["a"] * 17), "stop: send at most 16."),
        ("stop", "5", "stop: send a list."),
        ("logit_bias", "[]", "logit_bias: send an object."),
        ("stream_options", "5", "stream_options: send an object."),
    ],
)
def test_a_wrong_value_is_told_what_to_send(field: str, text: str, sentence: str, server: Running) -> None:
    content = f'{{"prompt": "a", "stream": true, "{field}": {text}}}'
    assert check(server.client.post(COMPLETIONS, content=content, headers=JSON), 400)["message"] == sentence


@pytest.mark.parametrize(
    ("body", "line", "column", "why"),
    [
        ('{"prompt": "a",}', 1, 16, "a name in double quotes is missing"),
        ("{'prompt': 1}", 1, 2, "a name in double quotes is missing"),
        ('{\n  "prompt": "a"\n  "n": 1}', 3, 3, "a comma or the closing bracket is missing"),
        ('{"prompt" "a"}', 1, 11, "a colon is missing"),
        ('{"prompt": }', 1, 12, "a value is missing"),
        ('{"prompt": "a', 1, 12, "a string has no closing quote"),
        ('{"prompt": "a\nb"}', 1, 14, "a string contains a control character"),
        ('{"prompt": "\\x"}', 1, 13, "a backslash precedes a character that it cannot escape"),
        ('{"prompt": "\\u12"}', 1, 14, "four hexadecimal digits are missing"),
        ('{"prompt": "a"}\n{}', 2, 1, "there is more text after the end of the value"),
        ("prompt=a", 1, 1, "a value is missing"),
    ],
)
def test_a_body_that_is_no_json_is_told_where(body: str, line: int, column: int, why: str, server: Running) -> None:
    for path in (COMPLETIONS, "/v1/score", "/generate"):
        told = server.client.post(path, content=body, headers=JSON).json()["error"]
        message = told if isinstance(told, str) else told["message"]
        assert message.startswith(f"The body is not JSON at line {line}, column {column}: {why}")


@pytest.mark.parametrize("body", ["", "  \n "])
def test_an_empty_body_is_called_empty(body: str, server: Running) -> None:
    message = check(server.client.post(COMPLETIONS, content=body, headers=JSON), 400)["message"]
    assert message == "The body is empty; send a JSON object."


@pytest.mark.parametrize("path", [*ELSEWHERE, "/v1/completions/", "/completions", "/v1/tokenize", "/v1/health/live"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_path_of_another_server_leads_on(path: str, method: str, server: Running) -> None:
    response = server.client.request(method, path, json={"messages": []} if method == "POST" else None)
    if response.status_code == 405 or response.is_success:  # it has become a route
        return
    message = check(response, 404)["message"]
    named = re.findall(r"/[a-z0-9_/]+", message)
    assert named
    routes = {*server.client.get("/openapi.json").json()["paths"], "/v1"}
    assert set(named) <= routes, message


@pytest.mark.parametrize(
    ("path", "part"),
    [
        ("/v1/messages", "send messages to /v1/chat/completions, or a prompt to /v1/completions."),
        ("/v1/completions/", "does not end with a slash: /v1/completions."),
        ("/completions", "This route is /v1/completions; the base URL of clients ends with /v1."),
        ("/v1/v1/completions", "This route is /v1/completions."),
        ("/v1/engines/davinci/completions", "Send the text to /v1/completions."),
        ("/v1/tokenize", "This route is /tokenize."),
        ("/none", "There is nothing here; the routes are listed at /docs."),
    ],
)
def test_where_to_go(path: str, part: str, server: Running) -> None:
    assert check(server.client.post(path, json={}), 404)["message"].endswith(part)


def test_a_wrong_method_is_told_the_right_one(server: Running) -> None:
    message = check(server.client.get(COMPLETIONS), 405)["message"]
    assert message == "This route accepts POST, not GET; the routes are listed at /docs."


def test_the_address_alone_tells_a_program_what_this_is(server: Running) -> None:
    page = server.client.get("/").json()
    assert (page["name"], page["model"]) == ("unroll", "small")
    for name in ("documentation", "openapi", "health"):
        assert server.client.get(page[name]).status_code == 200
    assert server.client.head("/").status_code == 200
    assert server.client.options("/").headers["allow"] == "GET, HEAD, OPTIONS, POST"


def test_a_model_says_how_long_its_texts_may_be(server: Running) -> None:
    (card,) = server.client.get("/v1/models").json()["data"]
    assert card["max_model_len"] == 20_000 + 100_000 == server.client.get("/info").json()["max_total_tokens"]
    assert server.client.get("/v1/models/small").json() == card


@pytest.fixture(scope="module")
def document(server: Running) -> Any:
    return server.client.get("/openapi.json").json()


def test_every_route_stands_under_one_tag_that_is_explained(document: Any) -> None:
    explained = [tag["name"] for tag in document["tags"]]
    assert all(tag["description"] for tag in document["tags"])
    found = {
        (path, method): operation["tags"]
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
    }
    assert {len(tags) for tags in found.values()} == {1}
    assert {tag for tags in found.values() for tag in tags} == set(explained)
    assert found["/version", "get"] == found["/health", "get"] == ["operation"]
    assert found["/tokenize", "post"] == ["tokens"]


def test_the_documentation_is_short_until_it_is_opened(server: Running) -> None:
    page = server.client.get("/docs").text
    assert re.search(r'"defaultModelsExpandDepth": 0\b', page)
    assert re.search(r'tr\.response:not\(\[data-code\^="2"\]\)', page)
    assert page.count("</head>") == 1
    bundle = server.client.get("/static-offline-docs/swagger-ui-bundle.js").text
    for name in ("data-code", "response-col_status", "model-example"):  # which the style goes by
        assert name in bundle
