"""Text that must match, through a real server: each dialect's words, the guarantee, and errors that name the field."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import huggingface_hub
import jsonschema
import openai
import pytest

from model.checkpoint import save
from service.settings import Settings
from tests.model.constraints.written import CHECKPOINT, constraint, write
from tests.service.serving import Running, serving
from tests.service.sse_client import stream

DATE = r"\d{4}-\d{2}-\d{2}"
PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "blue"]}, "maxItems": 2},
    },
    "required": ["name", "age", "tags"],
}
NESTED = 'root ::= "a" root? "b"'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A server of a small model that can write JSON."""
    folder = tmp_path_factory.mktemp("model") / "ascii"
    save(CHECKPOINT, folder)
    with serving(Settings(checkpoint=folder, max_rows=32)) as running:
        yield running


def is_person(text: str) -> bool:
    jsonschema.validate(json.loads(text), PERSON)
    return True


def is_nested(text: str) -> bool:
    half = len(text) // 2
    return text == "a" * half + "b" * half


def is_json(text: str) -> bool:
    json.loads(text)
    return True


FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON, "strict": True}}
ASKED: list[tuple[dict[str, Any], Any]] = [
    ({"response_format": FORMAT}, is_person),
    ({"response_format": {"type": "json_object", "schema": PERSON}}, is_person),
    ({"response_format": {"type": "json_object", "schema": None}}, lambda text: isinstance(json.loads(text), dict)),
    ({"response_format": {"type": "json_object"}, "seed": 2}, lambda text: isinstance(json.loads(text), dict)),
    ({"response_format": {"type": "text"}}, lambda text: len(text) == 80),
    ({"grammar": "", "bad_words": [], "guided_regex": None, "response_format": None}, lambda text: len(text) == 80),
    *(({name: {}}, is_json) for name in ("guided_json", "json_schema")),
    ({"structured_outputs": {"json": {}}}, is_json),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "any", "schema": {}}}}, is_json),
    ({"structured_outputs": {"regex": DATE}}, DATE),
    ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
    ({"structured_outputs": {"json": PERSON, "disable_any_whitespace": True}}, is_person),
    ({"structured_outputs": {"json": json.dumps(PERSON)}}, is_person),
    ({"structured_outputs": {"json_object": True}, "seed": 2}, lambda text: isinstance(json.loads(text), dict)),
    ({"structured_outputs": {"grammar": NESTED}}, is_nested),
    ({"guided_regex": DATE}, DATE),
    ({"guided_choice": ["yes", "no"]}, "yes|no"),
    ({"guided_json": PERSON}, is_person),
    ({"guided_grammar": 'start: "a" start? "b"'}, is_nested),
    ({"json_schema": PERSON}, is_person),
    ({"grammar": NESTED}, is_nested),
    ({"allowed_token_ids": CHECKPOINT.tokenizer.encode("abc").tolist()}, "[abc]{80}"),
    ({"bad_words": ["a", "e", "th"]}, "(?s:[^ae]{80})"),
]


def named(value: object) -> str:
    """A test's name, the same in every process: a function's address is not."""
    return str(getattr(value, "__name__", value))[:60]


@pytest.mark.parametrize(("fields", "wanted"), ASKED, ids=named)
def test_every_field_is_heard_and_a_stream_says_the_same(fields: dict[str, Any], wanted: Any, server: Running) -> None:
    asked = {"max_tokens": 80, "seed": 1, **fields}
    choice = server.complete(**asked)["choices"][0]
    text = choice["text"]
    assert re.fullmatch(wanted, text) if isinstance(wanted, str) else wanted(text)
    assert choice["stop_reason"] is None
    streamed = stream(server.client, prompt="a", **asked, stream_interval=0)
    assert "".join(event["choices"][0]["text"] for event in streamed) == text
    assert streamed[-1]["choices"][0]["finish_reason"] == choice["finish_reason"]


@pytest.mark.parametrize(
    ("kind", "value", "wanted"),
    [("regex", DATE, DATE), ("json", PERSON, is_person), ("json_schema", {"name": "p", "schema": PERSON}, is_person)],
    ids=named,
)
def test_text_generation_inference_s_grammar(kind: str, value: Any, wanted: Any, server: Running) -> None:
    parameters = {"grammar": {"type": kind, "value": value}, "max_new_tokens": 80, "seed": 1, "do_sample": True}
    body = {"inputs": "a", "parameters": {**parameters, "details": True}}
    found = server.client.post("/generate", json=body).json()
    text, details = found["generated_text"], found["details"]
    assert re.fullmatch(wanted, text) if isinstance(wanted, str) else wanted(text)
    assert (details["finish_reason"], details["generated_tokens"]) == ("eos_token", len(text))
    assert "".join(token["text"] for token in details["tokens"]) == text
    lines = server.client.post("/generate_stream", json=body).text.split("\n")
    events = [json.loads(line.removeprefix("data:")) for line in lines if line.startswith("data:")]
    assert "".join(event["token"]["text"] for event in events) == text == events[-1]["generated_text"]
    assert events[-1]["details"]["finish_reason"] == "eos_token"
    assert [event["index"] for event in events] == list(range(1, len(events) + 1))
    assert all(event["generated_text"] is None for event in events[:-1])


def test_a_streamed_text_may_be_complete_after_its_last_token_was_sent(server: Running) -> None:
    """Its end is known once a character that does not belong to it is drawn; a last event of its own says so."""
    parameters = {"grammar": {"type": "regex", "value": "[^e]+"}, "details": True, "do_sample": True}
    seen = set()
    for seed in range(12):
        body = {"inputs": "a", "parameters": {**parameters, "seed": seed}}
        with server.client.stream("POST", "/generate_stream", json=body) as response:
            events = [json.loads(line.removeprefix("data:")) for line in response.iter_lines() if line[:5] == "data:"]
        text = "".join(event["token"]["text"] for event in events)
        assert events[-1]["generated_text"] == text
        assert text == write(constraint("regex", "[^e]+"), max_tokens=100, seed=seed).text
        seen.add(events[-1]["token"]["special"])
        assert events[-1]["details"]["generated_tokens"] == len(text)
    assert False in seen


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"guided_regex": "a("}, "guided_regex", "is no regular expression at character 2: unclosed group"),
    ({"guided_regex": "\ud800"}, "guided_regex", "half of a surrogate pair"),
    ({"guided_regex": "a" * 9000}, "guided_regex", "has 9,000 characters; send at most 8,192"),
    ({"guided_regex": "Ω+"}, "guided_regex", "needs 'Ω'"),
    ({"guided_regex": "a", "guided_choice": ["b"]}, "guided_choice", "guided_choice and guided_regex both constrain"),
    ({"response_format": FORMAT, "grammar": NESTED}, "grammar", "grammar and response_format both constrain"),
    ({"guided_regex": DATE, "max_tokens": 9}, "max_tokens", "the shortest text that matches has 10"),
    ({"structured_outputs": {"choice": []}}, "structured_outputs", "structured_outputs.choice is not a list of texts"),
    ({"guided_choice": ["a", 5]}, "guided_choice", "is not a list of texts"),
    ({"allowed_token_ids": []}, "allowed_token_ids", "is not a list of ids; send at least one"),
    ({"guided_json": "{"}, "guided_json", "is no JSON at its end: a name in double quotes is missing"),
    ({"guided_json": {"type": "nothing"}}, "guided_json", "there is no type nothing"),
    ({"guided_json": {"a": [0] * 190_000, "b": "x" * 90_000}}, "guided_json", "far too large"),
    ({"guided_json": {"$ref": "https://127.0.0.1/schema"}}, "guided_json", "nothing is fetched"),
    ({"guided_grammar": 'start: "a" none'}, "guided_grammar", "line 1, column 8"),
    ({"response_format": {"type": "xml"}}, "response_format", "choose text, json_object or json_schema"),
    ({"response_format": {"kind": "text"}}, "response_format", "has no type"),
    ({"response_format": {"type": "json_schema"}}, "response_format", "has no schema"),
    ({"structured_outputs": {"backend": "auto"}}, "structured_outputs", "has 0 kinds; send one of regex"),
    ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs", "has 2 kinds"),
    ({"structured_outputs": {"structural_tag": "a"}}, "structured_outputs", "has 'structural_tag'"),
    ({"structured_outputs": {"regex": 5}}, "structured_outputs", "structured_outputs.regex is not a string"),
    ({"allowed_token_ids": [5]}, "allowed_token_ids", "has no id that this model draws"),
    ({"bad_words": [""]}, "bad_words", "is not a list of texts"),
    ({"guided_choice": []}, "guided_choice", "guided_choice is not a list of texts; send at least one"),
    ({"guided_regex": ""}, "guided_regex", "guided_regex is empty; send a pattern, or leave it out for free text"),
    ({"guided_grammar": ""}, "guided_grammar", "guided_grammar is empty; send a pattern, or leave it out"),
    ({"guided_json": ""}, "guided_json", "guided_json is no JSON at its end: a value is missing"),
    ({"structured_outputs": {}}, "structured_outputs", "has 0 kinds; send one of regex"),
    ({"structured_outputs": {"regex": ""}}, "structured_outputs", "structured_outputs.regex is empty"),
    ({"structured_outputs": {"grammar": ""}}, "structured_outputs", "structured_outputs.grammar is empty"),
    ({"structured_outputs": {"json": ""}}, "structured_outputs", "structured_outputs.json is no JSON at its end"),
    ({"response_format": {}}, "response_format", "response_format has no type"),
]


@pytest.mark.parametrize(("fields", "name", "sentence"), REFUSED, ids=named)
def test_what_cannot_be_asked_for_is_refused_naming_the_field(
    fields: dict[str, Any], name: str, sentence: str, server: Running
) -> None:
    body = json.dumps({"prompt": "a", "max_tokens": 80, **fields})
    response = server.client.post("/v1/completions", content=body, headers={"Content-Type": "application/json"})
    error = response.json()["error"]
    assert (response.status_code, error["param"]) == (400, name), error
    assert sentence in error["message"].replace("is no JSON schema that can be followed", "cannot be followed")


@pytest.mark.parametrize(
    ("grammar", "sentence"),
    [
        ({}, "parameters.grammar has no type"),
        ({"type": "regex", "value": ""}, "parameters.grammar.value is empty; send a pattern"),
        ({"type": "json", "value": ""}, "parameters.grammar.value is no JSON at its end: a value is missing"),
    ],
    ids=str,
)
def test_an_empty_grammar_of_text_generation_inference_is_refused(
    grammar: dict[str, Any], sentence: str, server: Running
) -> None:
    response = server.client.post("/generate", json={"inputs": "a", "parameters": {"grammar": grammar}})
    assert response.status_code == 422
    assert response.json()["error"].startswith(sentence)
    value: Any
    for value in ({"type": "json", "value": {}}, {"type": "json_schema", "value": {"schema": {}}}):
        body = {"inputs": "a", "parameters": {"grammar": value, "max_new_tokens": 40, "seed": 1, "do_sample": True}}
        assert is_json(server.client.post("/generate", json=body).json()["generated_text"])


def test_a_chat_hears_empty_fields_alike(server: Running) -> None:
    def ask(**fields: Any) -> Any:
        messages = [{"role": "user", "content": "a"}]
        body = {"messages": messages, "max_tokens": 40, "seed": 1, **fields}
        return server.client.post("/v1/chat/completions", json=body)

    schema = {"type": "json_schema", "json_schema": {"schema": {}}}
    given: tuple[tuple[str, Any], ...] = (("guided_json", {}), ("response_format", schema))
    for name, value in given:
        assert is_json(ask(**{name: value}).json()["choices"][0]["message"]["content"])
    empty: tuple[tuple[str, Any], ...] = (("guided_choice", []), ("guided_regex", ""), ("response_format", {}))
    for name, value in empty:
        answer = ask(**{name: value})
        assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)


def test_a_grammar_of_an_unknown_type_is_refused_in_its_dialect(server: Running) -> None:
    parameters = {"grammar": {"type": "xml", "value": "a"}}
    response = server.client.post("/generate", json={"inputs": "a", "parameters": parameters})
    assert response.status_code == 422
    assert response.json()["error"] == "parameters.grammar.type is 'xml'; choose regex, json or json_schema."


def test_a_text_is_the_same_alone_in_a_crowd_and_from_the_terminal(server: Running) -> None:
    """With penalties, biases, filters and greedy draws, beside free texts and others that must match."""
    cases: list[tuple[dict[str, Any], Any]] = [
        ({}, ("regex", DATE)),
        ({"temperature": 0}, ("json_schema", json.dumps(PERSON))),
        ({"top_k": 30, "frequency_penalty": 0.5}, ("json_schema", json.dumps(PERSON))),
        ({"logit_bias": {"300": 5}, "top_p": 0.9}, ("regex", "[A-Z][a-z]+( [A-Z][a-z]+)*")),
        ({"repetition_penalty": 1.3, "temperature": 1.5}, ("json_object", "")),
        ({"stop": ["-"]}, ("regex", DATE)),
        ({"min_p": 0.02}, None),
    ]
    fields = {"regex": "guided_regex", "json_schema": "guided_json"}

    def ask(number: int) -> tuple[str, str]:
        draws, kind = cases[number % len(cases)]
        asked: dict[str, Any] = {"seed": number, "max_tokens": 70, **draws}
        if kind is not None and kind[0] == "json_object":
            asked["response_format"] = {"type": "json_object"}
        elif kind is not None:
            asked[fields[kind[0]]] = kind[1]
        choice = server.complete("ab", **asked)["choices"][0]
        return choice["text"], choice["finish_reason"]

    def expected(number: int) -> tuple[str, str | None]:
        draws, kind = cases[number % len(cases)]
        biases = {int(token): bias for token, bias in draws.get("logit_bias", {}).items()}
        options = {**draws, "logit_bias": biases, "seed": number}
        found = write(None if kind is None else constraint(*kind), "ab", 70, **options)
        return found.text, found.finish_reason

    with ThreadPoolExecutor(8) as threads:
        crowd = list(threads.map(ask, range(42)))
    assert crowd == [expected(number) for number in range(42)]


def test_a_stop_string_ends_a_text_in_the_middle_and_min_tokens_delays_only_that(server: Running) -> None:
    def ends(**fields: Any) -> tuple[str, str, str | None]:
        choice = server.complete(guided_regex=DATE, seed=4, max_tokens=20, **fields)["choices"][0]
        return choice["text"], choice["finish_reason"], choice["stop_reason"]

    whole, _, _ = ends()
    assert ends(stop=["-"]) == (whole[:4], "stop", "-")
    assert ends(stop=["-"], include_stop_str_in_output=True) == (whole[:5], "stop", "-")
    assert ends(stop=["-"], min_tokens=5) == (whole[:7], "stop", "-")
    assert ends(stop=["-"], min_tokens=20) == (whole, "stop", None)
    assert ends(min_tokens=20) == (whole, "stop", None)


def test_several_texts_and_the_best_of_them(server: Running) -> None:
    several = server.complete(guided_regex=DATE, seed=4, n=5, max_tokens=20)
    texts = [choice["text"] for choice in several["choices"]]
    assert texts == [write(constraint("regex", DATE), seed=4, max_tokens=20, choice=at).text for at in range(5)]
    assert several["usage"]["completion_tokens"] == 50
    best = server.complete(guided_regex=DATE, seed=4, n=2, best_of=5, max_tokens=20, logprobs=0)
    means = [sum(choice["logprobs"]["token_logprobs"]) / 10 for choice in best["choices"]]
    assert means == sorted(means, reverse=True)
    assert {choice["text"] for choice in best["choices"]} < set(texts)


def test_the_character_that_ends_a_text_counts_nowhere(server: Running) -> None:
    asked = constraint("regex", "[^e]*")
    for seed in range(8):
        found = write(asked, max_tokens=60, seed=seed, logprobs=1)
        answer = server.complete(guided_regex="[^e]*", max_tokens=60, seed=seed, logprobs=1)
        choice = answer["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == (found.text, found.finish_reason)
        assert answer["usage"]["completion_tokens"] == len(found.text) == len(choice["logprobs"]["tokens"])
        assert choice["logprobs"]["tokens"] == list(found.text)


def test_the_openai_package_asks_with_a_format_and_with_fields_of_its_servers(server: Running) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="x", max_retries=0) as client:

        def text(**extra: Any) -> str:
            answer = client.completions.create(model=server.model, prompt="a", max_tokens=80, seed=1, extra_body=extra)
            return answer.choices[0].text

        assert is_person(text(response_format=FORMAT))
        assert re.fullmatch(DATE, text(structured_outputs={"regex": DATE}))
        assert text(guided_choice=["yes", "no"]) in ("yes", "no")


@pytest.mark.filterwarnings("default")  # what a client warns of itself is its makers' matter
def test_the_client_of_huggingface_hub_asks_with_a_grammar(server: Running) -> None:
    client = huggingface_hub.InferenceClient(model=server.url)
    grammar: Any = {"type": "regex", "value": DATE}
    text = client.text_generation("a", grammar=grammar, max_new_tokens=20)
    assert re.fullmatch(DATE, text)
    pieces = client.text_generation("a", grammar=grammar, max_new_tokens=20, stream=True)
    assert "".join(pieces) == text
    grammar = {"type": "json", "value": PERSON}
    assert is_person(client.text_generation("a", grammar=grammar, max_new_tokens=80, seed=3, do_sample=True))
    huggingface_hub.close_session()
