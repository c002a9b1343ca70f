"""The client of huggingface_hub: text plain, with details, streamed, stopped and refused; health and info."""

import asyncio
from typing import Any

import pytest

from tests.clients.conftest import MODEL, Served

pytestmark = [
    pytest.mark.clients,
    pytest.mark.filterwarnings("default"),  # what a client warns of itself is its makers' matter
]

PROMPT = "ROMEO:\nWhat l"


@pytest.fixture(scope="module")
def hub() -> Any:
    """The package. HF_HUB_OFFLINE would refuse our own server, too; with an address for a model it asks nobody else."""
    package = pytest.importorskip("huggingface_hub", reason="needs the extra `clients`: make clients")
    yield package
    package.close_session()


@pytest.fixture(scope="module")
def client(hub: Any, served: Served) -> Any:
    return hub.InferenceClient(model=served.url)


def test_plain_text_is_the_likeliest(client: Any, served: Served) -> None:
    text = client.text_generation(PROMPT, max_new_tokens=40)
    assert text == served.write(PROMPT, max_tokens=40, temperature=0)


def test_parameters_draw(client: Any, served: Served) -> None:
    text = client.text_generation(
        PROMPT, max_new_tokens=40, do_sample=True, temperature=0.8, top_k=20, top_p=0.9, seed=7, return_full_text=True
    )
    assert text == PROMPT + served.write(PROMPT, max_tokens=40, temperature=0.8, top_k=20, top_p=0.9, seed=7)


def test_details_tell_of_every_token(client: Any) -> None:
    answer = client.text_generation(
        PROMPT, max_new_tokens=30, details=True, decoder_input_details=True, top_n_tokens=3, best_of=2, do_sample=True
    )
    details = answer.details
    assert "".join(token.text for token in details.tokens) == answer.generated_text
    assert (details.finish_reason, details.generated_tokens) == ("length", 30)
    assert "".join(token.text for token in details.prefill) == PROMPT
    assert details.prefill[0].logprob is None
    assert all(token.logprob < 0 for token in [*details.prefill[1:], *details.tokens])
    assert [len(top) for top in details.top_tokens] == [3] * 30
    assert isinstance(details.seed, int)
    assert len(details.best_of_sequences) == 1


def test_a_stream_joins_to_the_text(client: Any) -> None:
    pieces = list(client.text_generation(PROMPT, max_new_tokens=40, stream=True))
    assert len(pieces) == 40
    assert "".join(pieces) == client.text_generation(PROMPT, max_new_tokens=40)


def test_a_stream_with_details_ends_with_all_of_it(client: Any) -> None:
    events = list(client.text_generation(PROMPT, max_new_tokens=40, details=True, stream=True, top_n_tokens=2))
    *before, last = events
    assert [event.index for event in events] == list(range(1, 41))
    assert all(event.generated_text is None and event.details is None for event in before)
    assert last.generated_text == "".join(event.token.text for event in events)
    assert (last.details.finish_reason, last.details.generated_tokens) == ("length", 40)
    assert last.details.input_length == len(PROMPT)
    assert all(len(event.top_tokens) == 2 for event in events)


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_ends_the_text(client: Any, stream: bool) -> None:
    answer = client.text_generation(PROMPT, max_new_tokens=500, stop=["\n"], details=True, stream=stream)
    end = list(answer)[-1] if stream else answer
    assert end.details.finish_reason == "stop_sequence"
    assert end.generated_text.endswith("\n")
    assert end.generated_text.count("\n") == 1


def test_the_asynchronous_client_streams_the_same(hub: Any, client: Any, served: Served) -> None:
    async def read() -> str:
        async with hub.AsyncInferenceClient(model=served.url) as one:
            stream = await one.text_generation(PROMPT, max_new_tokens=40, stream=True)
            return "".join([piece async for piece in stream])

    assert asyncio.run(read()) == client.text_generation(PROMPT, max_new_tokens=40)


def test_what_is_refused_is_the_clients_own_error(hub: Any, client: Any) -> None:
    for stream in (False, True):
        with pytest.raises(hub.errors.ValidationError, match="max_new_tokens"):
            list(client.text_generation(PROMPT, max_new_tokens=0, stream=stream))
        with pytest.raises(hub.errors.ValidationError, match="best_of"):
            list(client.text_generation(PROMPT, best_of=99, stream=stream))


def test_health_and_information(hub: Any, served: Served) -> None:
    client = hub.InferenceClient(model=served.url, provider="hf-inference")
    assert client.health_check() is True
    about = client.get_endpoint_info()
    assert about["model_id"] == MODEL
    assert about["max_best_of"] >= 2
    assert about["version"]
