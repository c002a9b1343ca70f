"""Every way a request of text-generation-inference can fail, in that dialect's shape, and what its routes promise."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.settings import Settings
from service.tgi.schemas import ErrorType, Parameters, TgiError
from tests.service.error_cases import BODIES, HUGE, JSON, LARGEST_BODY, MARK, Case
from tests.service.fragile import FragileDecoder
from tests.service.serving import ENDLESS, Running, SlowDecoder, eventually, serving
from tests.service.tgi_client import generate, joined, stream_events

ROUTES = ("/", "/generate", "/generate_stream")
SLOW = {"inputs": "a", "parameters": {"max_new_tokens": ENDLESS}}


def check(response: httpx.Response, status: int, kind: str) -> str:
    """The sentence of an error, once its status, shape, kind and size are right."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert len(response.content) <= LARGEST_BODY
    assert set(response.json()) == {"error", "error_type"}
    error = TgiError.model_validate(response.json())
    assert error.error_type == kind
    assert re.search(r"[.)]$", error.error), error.error
    assert "Traceback" not in error.error
    assert MARK * 5 not in error.error
    return error.error


NO_NUMBER = ["true", '"1"', "[]", "{}", HUGE, f"-{HUGE}", "NaN", "Infinity", "1e400"]
NO_BOOL = ["1", '"true"', "[]"]
WRONG: dict[str, list[str]] = {
    "best_of": [*NO_NUMBER, "0", "-1", "17", "1.5"],
    "decoder_input_details": NO_BOOL,
    "details": NO_BOOL,
    "do_sample": NO_BOOL,
    "frequency_penalty": [*NO_NUMBER, "-2.1", "2.1"],
    "grammar": [
        *(
            '"a"',
            "[]",
            '{"type": "xml", "value": 1}',
            '{"type": "regex"}',
            '{"type": "regex", "value": 1}',
            '{"value": 1}',
        ),
        *('{"type": "regex", "value": "("}', '{"type": "json", "value": {"type": 1}}'),
        '{"type": "json_schema", "value": {"name": "a"}}',
    ],
    "label": ["1", "true", "[]", "{}", '"F"', json.dumps(MARK * 65), '"\\ud800"'],
    "max_new_tokens": [*NO_NUMBER, "0", "-1", "1.5", "100001"],
    "repetition_penalty": [*NO_NUMBER, "0", "-1", "11"],
    "return_full_text": NO_BOOL,
    "return_state": NO_BOOL,
    "state": ["1", "true", "[]", '""'],
    "seed": [*NO_NUMBER, "-2", "1.5", str(2**64)],
    "stop": [
        "1",
        '"a"',
        "{}",
        '[""]',
        "[1]",
        "[null]",
        '["\\ud800"]',
        json.dumps(["a"] * 17),
        json.dumps([MARK * 100]),
    ],
    "temperature": [*NO_NUMBER, "0", "-1", "101"],
    "top_k": [*NO_NUMBER, "-2", "1.5"],
    "top_n_tokens": [*NO_NUMBER, "-1", "21", "1.5"],
    "top_p": [*NO_NUMBER, "0", "-0.1", "1.01"],
    "truncate": [*NO_NUMBER, "0", "-1", "1.5"],
    "typical_p": [*NO_NUMBER, "0", "-0.1", "1.5"],
    "watermark": ["true", "1", '"false"'],
    "adapter_id": ['"a"', "1", "{}"],
}
INPUTS = ["1", "true", "null", "[]", '["a"]', '"\\ud800"', '"\\udc00\\ud800"', json.dumps("a" * 20_001)]


def case(path: str, name: str, content: str) -> Case:
    """A request with a wrong field."""
    return Case(f"{path} {name} {content[:40]}", 422, name, path=path, content=content)


CASES = [
    *(
        case("/generate", f"parameters.{name}", f'{{"inputs": "a", "parameters": {{"{name}": {text}}}}}')
        for name, texts in WRONG.items()
        for text in texts
    ),
    *(case("/generate", "inputs", f'{{"inputs": {text}}}') for text in INPUTS[:-1]),
    case("/generate", "prompt has 20,001 characters", f'{{"inputs": {INPUTS[-1]}}}'),
    *(case(path, "inputs", "{}") for path in ROUTES),
    *(case(path, "parameters", f'{{"inputs": "a", "parameters": {text}}}') for path in ROUTES for text in ("1", "[]")),
    *(case("/", "stream", f'{{"inputs": "a", "stream": {text}}}') for text in NO_BOOL),
    *(
        case(path, name, json.dumps({"inputs": "a", "stream": True, "parameters": {name: value}}))
        for path in ("/", "/generate_stream")
        for name, value in (("best_of", 2), ("decoder_input_details", True))
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_wrong_field_is_named(case: Case, server: Running) -> None:
    sentence = check(server.client.post(case.path, content=case.content, headers=JSON), 422, "validation")
    assert str(case.param) in sentence


OTHERS = [
    *(
        replace(case, name=f"{path} {case.name}", path=path, status=422 if case.status == 400 else case.status)
        for path in ROUTES
        for case in BODIES
    ),
    *(Case(f"GET {path}", 405, None, "GET", path) for path in ROUTES if path != "/"),
    Case("POST /info", 405, None, "POST", "/info"),
]


@pytest.mark.parametrize("case", OTHERS, ids=str)
def test_a_body_that_cannot_be_read_is_told_in_this_dialect(case: Case, server: Running) -> None:
    response = server.client.request(case.method, case.path, content=case.content, headers=case.headers)
    check(response, case.status, "validation")


def test_every_parameter_is_tried() -> None:
    assert set(WRONG) == set(Parameters.model_fields)


@pytest.mark.parametrize("path", ROUTES)
def test_a_model_that_fails_is_a_424(path: str, checkpoint_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(Settings(checkpoint=checkpoint_folder), FragileDecoder) as running:
        response = running.client.post(path, json={"inputs": "月", "stream": True})
        assert "try again" in check(response, 424, "generation").lower()
        assert "secret words about the machine" in caplog.text


def test_a_model_that_fails_later_is_the_last_event(checkpoint_folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = Settings(checkpoint=checkpoint_folder, max_rows=3, threads=1, stream_interval=0)
    with serving(settings, FragileDecoder) as running:
        with running.client.stream("POST", "/generate_stream", json=SLOW) as response:
            body = response.iter_raw()
            received = next(body)
            check(running.client.post("/generate", json={"inputs": "b月"}), 424, "generation")
            received += b"".join(body)
        *events, error = stream_events(received)
        assert TgiError.model_validate(error).error_type == "generation"
        assert "secret" not in error["error"]
        assert all(event["generated_text"] is None for event in events)
        written = joined([event["token"] for event in events])
        assert generate(running, "a", max_new_tokens=len(written))["generated_text"] == written
    assert "secret words about the machine" in caplog.text


def test_a_full_queue_is_a_429_and_a_server_that_stops_a_503(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, max_rows=1, max_waiting=0), SlowDecoder) as running:
        with running.client.stream("POST", "/generate_stream", json=SLOW) as response:
            pieces = response.iter_raw()
            assert next(pieces)
            for path in ROUTES:
                refused = running.client.post(path, json={"inputs": "a", "stream": True})
                check(refused, 429, "overloaded")
                assert refused.headers["retry-after"] == "1"
        assert eventually(lambda: running.engine.running == 0)
        many = running.client.post("/generate", json={"inputs": "a", "parameters": {"best_of": 2}})
        assert "ask for fewer" in check(many, 422, "validation")
        running.engine.drain()
        for path in ROUTES:
            refused = running.client.post(path, json={"inputs": "a"})
            check(refused, 503, "healthcheck")
            assert refused.headers["retry-after"] == "5"


def test_a_text_that_takes_too_long_is_incomplete(checkpoint_folder: Path) -> None:
    with serving(Settings(checkpoint=checkpoint_folder, deadline_seconds=0.2), SlowDecoder) as running:
        sentence = check(running.client.post("/generate", json=SLOW), 500, "incomplete_generation")
        assert "ask for fewer characters" in sentence
        *events, error = stream_events(running.client.post("/generate_stream", json=SLOW).content)
        assert error == {"error": sentence, "error_type": "incomplete_generation"}
        assert events


def test_a_reader_that_leaves_frees_its_place(slow_server: Running) -> None:
    with httpx.Client(base_url=slow_server.url, timeout=0.3) as other, pytest.raises(httpx.ReadTimeout):
        other.post("/generate", json=SLOW)
    with slow_server.client.stream("POST", "/generate_stream", json=SLOW) as response:
        pieces = response.iter_raw()
        assert next(pieces)
    assert eventually(lambda: slow_server.engine.running + slow_server.engine.waiting == 0)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 20) | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
ANY_PARAMETERS = st.fixed_dictionaries({}, optional=dict.fromkeys(Parameters.model_fields, ANYTHING)) | ANYTHING
ANY_REQUEST = st.fixed_dictionaries({}, optional={"inputs": ANYTHING, "parameters": ANY_PARAMETERS, "stream": ANYTHING})


@given(ANY_REQUEST | ANYTHING, st.sampled_from(ROUTES))
def test_p10_no_json_makes_the_server_fail(server: Running, request: Any, path: str) -> None:
    response = server.client.post(path, content=json.dumps(request), headers=JSON)
    if response.status_code != 200:
        check(response, 422, "validation")


@pytest.fixture(scope="module")
def document(server: Running) -> Any:
    return server.client.get("/openapi.json").json()


@pytest.mark.parametrize("path", ROUTES)
def test_answers_are_documented(path: str, document: Any) -> None:
    operation = document["paths"][path]["post"]
    answers = operation["responses"]
    streamed = {"204"} if "text/event-stream" in answers["200"]["content"] else set()
    assert set(answers) - streamed == {
        "200",
        "403",
        "404",
        "409",
        "413",
        "415",
        "422",
        "424",
        "429",
        "500",
        "503",
        "default",
    }
    for status, answer in answers.items():
        if status not in ("200", "204"):
            assert answer["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/TgiError"}
    assert "Retry-After" in answers["429"]["headers"]
    kinds = {"/": ["application/json", "text/event-stream"], "/generate": ["application/json"]}
    assert sorted(answers["200"]["content"]) == kinds.get(path, ["text/event-stream"])
    schemas = document["components"]["schemas"]
    assert set(schemas["TgiError"]["properties"]["error_type"]["enum"]) == set(get_args(ErrorType))
    if path != "/generate":
        told = answers["200"]["content"]["text/event-stream"]["schema"]["properties"]["data"]["contentSchema"]
        assert [one["$ref"].rpartition("/")[2] for one in told["anyOf"]] == ["StreamEvent", "TgiError"]
        assert schemas["StreamEvent"]["required"] == ["index", "token"]


@pytest.mark.parametrize("path", ROUTES)
def test_examples_work(path: str, document: Any, server: Running) -> None:
    schema = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    (example,) = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["examples"]
    assert server.client.post(path, json=example).status_code == 200
    if path != "/generate":
        content = document["paths"][path]["post"]["responses"]["200"]["content"]["text/event-stream"]
        events = stream_events(content["example"].encode())
        assert joined([event["token"] for event in events]) == events[-1]["generated_text"]


def test_every_parameter_is_described_with_its_limits(document: Any) -> None:
    fields = document["components"]["schemas"]["Parameters"]["properties"]
    for name, about in fields.items():
        assert about["description"], name
        assert {"type": "null"} in about["anyOf"], name
        kinds = {kind["type"] for kind in about["anyOf"] if "type" in kind}
        if kinds & {"integer", "number"}:
            limits = about["anyOf"][0]
            assert "maximum" in limits, name
            assert {"minimum", "exclusiveMinimum"} & set(limits), name
    assert fields["stop"]["anyOf"][0]["maxItems"] == 16
