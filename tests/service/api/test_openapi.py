"""The API's description is complete: fields, limits, defaults, answers; and its pages need no internet."""

import json
import re
from typing import Any

import pytest

from model.sampling.parameters import RANGES
from service.api.schemas import LARGEST_MAX_TOKENS
from service.openai.schemas import CompletionRequest
from tests.service.error_cases import BODIES, FIELDS, ROUTES
from tests.service.serving import Running
from tests.service.sse_client import events


@pytest.fixture(scope="module")
def document(server: Running) -> Any:
    return server.client.get("/openapi.json").json()


def test_every_route_is_there(document: Any) -> None:
    assert {"/v1/completions", "/v1/models", "/v1/models/{model}", "/health"} <= set(document["paths"])
    for path in document["paths"].values():
        for operation in path.values():
            assert operation["summary"]
            assert operation["description"]
            assert all(parameter["description"] for parameter in operation.get("parameters", ()))


def test_what_is_referred_to_is_there(document: Any) -> None:
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert {"Completion", "ErrorBody", "StreamEvent", "Progress"} <= names
    assert names <= set(document["components"]["schemas"])


def test_limits_of_whole_numbers_are_exact_and_those_of_ids_the_models_own(document: Any, server: Running) -> None:
    schemas = document["components"]["schemas"]
    seed = schemas["CompletionRequest"]["properties"]["seed"]["anyOf"][0]
    assert (seed["minimum"], seed["maximum"]) == (-(2**63), 2**64 - 1)
    most = schemas["DetokenizeRequest"]["properties"]["tokens"]["items"]["maximum"]
    assert server.client.post("/detokenize", json={"tokens": [most]}).status_code == 200
    assert server.client.post("/detokenize", json={"tokens": [most + 1]}).status_code == 400


def test_every_field_has_a_description(document: Any) -> None:
    for name, schema in document["components"]["schemas"].items():
        assert schema["description"], name
        for field, about in schema["properties"].items():
            told = about.get("description") or about.get("$ref") or about.get("const") or about.get("items")
            assert told, (name, field)


def test_every_optional_field_has_its_default_and_may_be_null(document: Any) -> None:
    fields = document["components"]["schemas"]["CompletionRequest"]["properties"]
    for name, about in fields.items():
        if name != "prompt":
            assert about.get("default") == CompletionRequest.model_validate({"prompt": "a"}).model_dump()[name]
            assert {"type": "null"} in about["anyOf"]


def test_limits_are_those_of_the_sampler(document: Any) -> None:
    fields = document["components"]["schemas"]["CompletionRequest"]["properties"]
    for name, (least, most) in RANGES.items():
        about = fields[name]["anyOf"][0]
        assert about.get("minimum", about.get("exclusiveMinimum")) == (-1 if name == "top_k" else least)  # -1: off
        assert about["maximum"] == most
    assert fields["max_tokens"]["anyOf"][0] == {"type": "integer", "minimum": 0, "maximum": LARGEST_MAX_TOKENS}
    assert fields["n"]["anyOf"][0] == {"type": "integer", "minimum": 1, "maximum": 16}
    assert fields["stop"]["anyOf"][1]["maxItems"] == 16


def test_every_error_is_documented(document: Any) -> None:
    answers = document["paths"]["/v1/completions"]["post"]["responses"]
    errors = {str(case.status) for case in [*FIELDS, *BODIES, *ROUTES] if case.status != 405} | {
        "403",
        "409",
        "429",
        "500",
        "503",
        "504",
    }
    assert set(answers) == {"200", "204", "default"} | errors
    for name, path in document["paths"].items():
        for operation in path.values() if name.startswith("/v1/") else ():
            assert "422" not in operation["responses"]
            streamed = "text/event-stream" in operation["responses"]["200"]["content"]
            assert ("204" in operation["responses"]) is streamed
            assert ("Last-Event-ID" in {one["name"] for one in operation.get("parameters", ())}) is streamed
            for status, answer in operation["responses"].items():
                if status == "204":
                    continue
                schema = answer["content"]["application/json"]["schema"]
                if status != "200" and (status, operation["tags"]) != ("503", ["operation"]):
                    assert schema == {"$ref": "#/components/schemas/ErrorBody"}
    assert "Retry-After" in answers["429"]["headers"]


def test_the_stream_is_documented(document: Any) -> None:
    content = document["paths"]["/v1/completions"]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {"$ref": "#/components/schemas/Completion"}
    assert events(content["text/event-stream"]["example"].encode())[-1] == "[DONE]"


def test_the_example_works(document: Any, server: Running) -> None:
    examples = document["components"]["schemas"]["CompletionRequest"]["examples"]
    for example in examples:
        CompletionRequest.model_validate(example)
        response = server.client.post("/v1/completions", json=example)
        assert response.status_code == 200


def test_the_pages_need_no_internet(server: Running) -> None:
    page = server.client.get("/docs").text
    assert "//" not in re.sub(r"//.*$|<!--.*?-->", "", page, flags=re.MULTILINE)
    assets = re.findall(r"(?:src|href)=[\"'](.*?)[\"']", page)
    assert len(assets) >= 3
    for asset in assets:
        assert asset.startswith("/")
        response = server.client.get(asset)
        assert response.status_code == 200
        assert response.content
