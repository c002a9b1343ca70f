"""Chats and embeddings of clients, unmodified: openai in two languages, litellm, langchain-openai, gradio, llm."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest

import unroll
from tests.clients.conftest import MODEL, Served

pytestmark = [
    pytest.mark.clients,
    pytest.mark.filterwarnings("default"),  # what a client warns of itself is its makers' matter
]

SAID: list[Any] = [
    {"role": "system", "content": "A room in the castle."},
    {"role": "user", "content": "What news, my lord?"},
]
PROMPT = "A room in the castle.\n\nUser:\nWhat news, my lord?\n\nAssistant:\n"
TEXTS = ["To be, or not to be", "that is the question"]

JAVASCRIPT = """
import OpenAI from "openai";
const client = new OpenAI({ baseURL: process.env.URL + "/v1", apiKey: "x", maxRetries: 0 });
const asked = { model: process.env.MODEL, messages: JSON.parse(process.env.SAID), seed: 1, temperature: 0.7 };
const whole = await client.chat.completions.create(asked);
let text = "";
for await (const event of await client.chat.completions.create({ ...asked, stream: true }))
  text += event.choices[0]?.delta?.content ?? "";
const found = await client.embeddings.create({ model: process.env.MODEL, input: JSON.parse(process.env.TEXTS) });
console.log(JSON.stringify([whole.choices[0].message.content, text, found.data.map((one) => one.embedding)]));
"""

LITELLM = """
import litellm
asked = {"model": f"openai/{MODEL}", "api_base": f"{URL}/v1", "api_key": "x"}
talk = {"messages": SAID, "seed": 1, "temperature": 0.7}
whole = litellm.completion(**asked, **talk).choices[0].message.content
stream = litellm.completion(**asked, **talk, stream=True)
text = "".join(event.choices[0].delta.content or "" for event in stream)
found = litellm.embedding(**asked, input=TEXTS, encoding_format="float")
print(json.dumps([whole, text, [one["embedding"] for one in found.data]]))
"""

GRADIO = """
import gradio, gradio_client
page = gradio.load_chat(f"{URL}/v1", model=MODEL, token="x", streaming=True)
_, url, _ = page.launch(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1", share=False)
client = gradio_client.Client(url, verbose=False)
said = client.predict({"text": "What news, my lord?", "files": []}, api_name="/open_api_stream")
page.close(verbose=False)
print(json.dumps([said]))
"""


def run(program: str, package: str, served: Served) -> Any:
    """What a program of a package prints last, in a process of its own: such clients leave sockets and threads."""
    if find_spec(package) is None:
        pytest.skip(f"needs the package {package}")
    about = {"URL": served.url, "MODEL": MODEL, "SAID": SAID, "TEXTS": TEXTS}
    given = "import json\n" + "".join(f"{name} = {value!r}\n" for name, value in about.items())
    done = subprocess.run([sys.executable, "-c", given + program], capture_output=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout.decode().splitlines()[-1])


@pytest.fixture(scope="module")
def answer(served: Served) -> str:
    """What the model says, asked for as a completion."""
    return served.write(PROMPT, seed=1, temperature=0.7, stop=["\n\n"], max_tokens=1024)


@pytest.fixture(scope="module")
def vectors() -> Any:
    """The texts' vectors, from Python."""
    return unroll.load().embed(TEXTS)


def test_openai_whole_and_streamed(served: Served, answer: str, vectors: Any) -> None:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key="x", max_retries=0) as client:
        whole = client.chat.completions.create(model=MODEL, messages=SAID, seed=1, temperature=0.7)
        assert (whole.choices[0].message.content, whole.choices[0].finish_reason) == (answer, "stop")
        stream = client.chat.completions.create(model=MODEL, messages=SAID, seed=1, temperature=0.7, stream=True)
        assert "".join(event.choices[0].delta.content or "" for event in stream) == answer
        found = client.embeddings.create(model=MODEL, input=TEXTS)
        assert np.array_equal(np.array([one.embedding for one in found.data], np.float32), vectors)


def test_openai_in_javascript(served: Served, answer: str, vectors: Any, tmp_path: Path) -> None:
    if shutil.which("npm") is None:
        pytest.skip("needs Node.js")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "openai"]
    if subprocess.run(install, cwd=tmp_path, capture_output=True, timeout=120, check=False).returncode:
        pytest.skip("needs the npm package openai")
    (tmp_path / "chat.mjs").write_text(JAVASCRIPT)
    about = {"URL": served.url, "MODEL": MODEL, "SAID": json.dumps(SAID), "TEXTS": json.dumps(TEXTS)}
    done = subprocess.run(
        ["node", "chat.mjs"], cwd=tmp_path, env={**os.environ, **about}, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    whole, streamed, found = json.loads(done.stdout)
    assert (whole, streamed) == (answer, answer)
    assert np.array_equal(np.array(found, np.float32), vectors)


def test_litellm(served: Served, answer: str, vectors: Any) -> None:
    whole, streamed, found = run(LITELLM, "litellm", served)
    assert (whole, streamed) == (answer, answer)
    assert np.array_equal(np.array(found, np.float32), vectors)


def test_langchain(served: Served, answer: str, vectors: Any) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="needs the extra `clients`: make clients")
    about = {"base_url": f"{served.url}/v1", "api_key": "x", "model": MODEL, "max_retries": 0}
    model = langchain.ChatOpenAI(**about, seed=1, temperature=0.7)
    said = [(message["role"], message["content"]) for message in SAID]
    assert model.invoke(said).content == answer
    assert "".join(part.content for part in model.stream(said)) == answer
    embeddings = langchain.OpenAIEmbeddings(**about, check_embedding_ctx_length=False)
    assert np.array_equal(np.array(embeddings.embed_documents(TEXTS), np.float32), vectors)


def test_a_chat_page(served: Served) -> None:
    """Gradio's chat page of an OpenAI model (`gr.load_chat`), asked as a browser asks it."""
    (said,) = run(GRADIO, "gradio", served)
    assert isinstance(said, str)
    assert said


def test_the_program_llm(served: Served, answer: str, tmp_path: Path) -> None:
    if find_spec("llm") is None:
        pytest.skip("needs the package llm")
    (tmp_path / "extra-openai-models.yaml").write_text(
        f"- model_id: unroll\n  model_name: {MODEL}\n  api_base: {served.url}/v1\n  api_key_name: none\n"
    )
    asked = ["-m", "unroll", "-s", "A room in the castle.", "-o", "seed", "1", "-o", "temperature", "0.7"]
    done = subprocess.run(
        [sys.executable, "-m", "llm", *asked, "What news, my lord?"],
        env={**os.environ, "LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "x"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.decode().removesuffix("\n") == answer
