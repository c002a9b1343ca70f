"""The harness lm-eval on tasks of our own: rolling perplexity, log-likelihood, multiple choice, generation."""

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from model.checkpoint import BUNDLED
from tests.clients.conftest import MODEL, Served
from tests.service.serving import REPOSITORY

pytestmark = [
    pytest.mark.clients,
    pytest.mark.skipif(find_spec("lm_eval") is None, reason="needs the extra `clients`: make clients"),
]

TOLERANCE = 1e-3
BEFORE = "\n"  # what lm-eval predicts a text's first character from: the tokenizer's bos_token
LINES = """\
GLOUCESTER:
Good excellent and speed, for that in the law
Provoke with such a friend: this looks the rest
A sword and castle — ne'er was Béatrice so naïve! 🎭

ROMEO:
I will do thee passing to my sword and castle,
To promise you to the law: and be the doubt!
"""
HELD_OUT = 12_000  # characters of the held-out part of Shakespeare's text, in one window and one sequence
STARTS = ["ROMEO:\nI wil", "First Citizen:\nBefore we p", "KING RICHARD III:\nMy lo", "JULIET:\nWhat is thy na"]
UNLIKELY = "qzxjk"

ROLLING = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list: [{{metric: bits_per_byte}}, {{metric: byte_perplexity}}]
"""
LIKELIHOOD = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: loglikelihood
target_delimiter: ""
doc_to_text: "{{{{start}}}}"
doc_to_target: "{{{{end}}}}"
metric_list: [{{metric: acc}}, {{metric: perplexity}}]
"""
CHOICE = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: multiple_choice
target_delimiter: ""
doc_to_text: "{{{{start}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: right
metric_list: [{{metric: acc}}]
"""
GENERATION = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: generate_until
target_delimiter: ""
doc_to_text: "{{{{start}}}}"
doc_to_target: "{{{{end}}}}"
generation_kwargs: {{until: ["."], max_gen_toks: 40, temperature: 0}}
metric_list: [{{metric: exact_match}}]
"""


@dataclass(frozen=True)
class Evaluated:
    """What lm-eval found: its metrics by task, and its samples by task, in order."""

    metrics: dict[str, dict[str, Any]]
    samples: dict[str, list[dict[str, Any]]]
    texts: dict[str, str]


def held_out(corpus: Callable[[str], bytes]) -> str | None:
    """A stretch of the held-out part of Shakespeare's text, where it is at hand."""
    try:
        whole = corpus("tinyshakespeare.txt").decode()
    except pytest.skip.Exception:
        return None
    start = whole.index("\n", len(whole) * 95 // 100) + 1
    return whole[start : start + HELD_OUT]


@pytest.fixture(scope="module")
def evaluated(served: Served, corpus: Callable[[str], bytes], tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """One run of lm-eval over all tasks, with no internet."""
    folder = tmp_path_factory.mktemp("lm-eval")
    texts = {"lines": LINES}
    if (stretch := held_out(corpus)) is not None:
        texts["held_out"] = stretch
    docs: dict[str, tuple[str, list[dict[str, Any]]]] = {
        f"unroll_{name}": (ROLLING, [{"text": text}]) for name, text in texts.items()
    }
    likely = [served.write(start, max_tokens=5, temperature=0) for start in STARTS]
    docs["unroll_likelihood"] = (
        LIKELIHOOD,
        [
            {"start": start, "end": end}
            for start, greedy in zip(STARTS, likely, strict=True)
            for end in (greedy, UNLIKELY)
        ],
    )
    docs["unroll_choice"] = (
        CHOICE,
        [
            {"start": start, "choices": [greedy, UNLIKELY][:: 1 - 2 * (at % 2)], "right": at % 2}
            for at, (start, greedy) in enumerate(zip(STARTS, likely, strict=True))
        ],
    )
    docs["unroll_generation"] = (
        GENERATION,
        [
            {"start": start, "end": served.write(start, max_tokens=40, temperature=0, stop=[".", BEFORE])}
            for start in STARTS
        ],
    )
    for name, (task, rows) in docs.items():
        data = folder / f"{name}.jsonl"
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))
        (folder / f"{name}.yaml").write_text(task.format(name=name, data=data))
    arguments = {
        "model": MODEL,
        "base_url": f"{served.url}/v1/completions",
        "tokenizer_backend": "remote",
        "max_length": 2 * HELD_OUT,  # one window for each text
        "num_concurrent": 1,
    }
    run = subprocess.run(
        [
            *(sys.executable, "-m", "lm_eval", "run", "--model", "local-completions"),
            *("--model_args", ",".join(f"{name}={value}" for name, value in arguments.items())),
            *("--tasks", ",".join(docs), "--include_path", str(folder)),
            *("--output_path", str(folder / "out"), "--log_samples", "--batch_size", "4"),
        ],
        env={
            **os.environ,
            "HF_HOME": str(folder / "hub"),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_OFFLINE": "1",
            "HF_EVALUATE_OFFLINE": "1",
            "OPENAI_API_KEY": "x",
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    (results,) = folder.glob("out/**/results_*.json")
    metrics = json.loads(results.read_text())["results"]
    samples = {}
    for name in docs:
        (path,) = folder.glob(f"out/**/samples_{name}_*.jsonl")
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        samples[name] = sorted(rows, key=lambda row: row["doc_id"])
        assert len(rows) == len(docs[name][1])
    return Evaluated(metrics, samples, texts)


def bits_per_character(text: str, folder: Path) -> float:
    """What `unroll evaluate` says of a text, every character predicted, the first one from BEFORE."""
    path = folder / "text.txt"
    path.write_text(BEFORE + text, newline="")
    run = subprocess.run(
        [
            *(sys.executable, "-m", "unroll", "evaluate", str(BUNDLED), str(path)),
            "--reader",
            "int8",
            "--batch-size",
            "1",
            "--json",
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    whole = json.loads(run.stdout)["parts"]["whole"]
    assert whole["characters"] == len(text)
    return float(whole["bits_per_character"])


@pytest.mark.parametrize("name", ["lines", "held_out"])
def test_p12_bits_per_byte_are_those_of_unroll_evaluate(
    evaluated: Evaluated, served: Served, name: str, tmp_path: Path
) -> None:
    if name not in evaluated.texts:
        pytest.skip("needs the corpus tinyshakespeare.txt")
    text = evaluated.texts[name]
    found = evaluated.metrics[f"unroll_{name}"]
    bits, size = found["bits_per_byte,none"], len(text.encode())
    assert bits == pytest.approx(bits_per_character(text, tmp_path) * len(text) / size, abs=TOLERANCE)
    assert found["byte_perplexity,none"] == pytest.approx(2**bits)
    (score,) = served.post("/v1/score", texts=[text])["results"]
    assert score["bits_per_byte"] == pytest.approx(bits, abs=TOLERANCE)


def test_likely_ends_are_greedy_and_others_are_not(evaluated: Evaluated) -> None:
    samples = evaluated.samples["unroll_likelihood"]
    found = [sample["filtered_resps"][0] for sample in samples]
    assert [_is_true(greedy) for _, greedy in found] == [True, False] * len(STARTS)
    assert evaluated.metrics["unroll_likelihood"]["acc,none"] == 0.5
    likelihoods = [float(likelihood) for likelihood, _ in found]
    mean = sum(likelihoods) / len(likelihoods)
    assert evaluated.metrics["unroll_likelihood"]["perplexity,none"] == pytest.approx(math.exp(-mean))


def test_the_likelier_choice_is_found(evaluated: Evaluated, served: Served) -> None:
    assert evaluated.metrics["unroll_choice"]["acc,none"] == 1
    for sample in evaluated.samples["unroll_choice"]:
        start, choices, right = (sample["doc"][name] for name in ("start", "choices", "right"))
        for at, (choice, (likelihood, greedy)) in enumerate(zip(choices, sample["filtered_resps"], strict=True)):
            fields = {"prompt": start + choice, "max_tokens": 0, "echo": True, "logprobs": 0}
            scored = served.post("/v1/completions", **fields)["choices"][0]["logprobs"]["token_logprobs"]
            assert float(likelihood) == pytest.approx(sum(scored[len(start) :]), abs=1e-6)
            assert _is_true(greedy) == (at == right)


def test_generation_is_the_greedy_text_up_to_a_stop(evaluated: Evaluated) -> None:
    assert evaluated.metrics["unroll_generation"]["exact_match,none"] == 1
    ends = [sample["doc"]["end"] for sample in evaluated.samples["unroll_generation"]]
    assert [sample["resps"][0][0] for sample in evaluated.samples["unroll_generation"]] == ends
    assert any(0 < len(end) < 40 for end in ends)


def _is_true(logged: Any) -> bool:
    """A flag as lm-eval logs it: a boolean, or its name."""
    return str(logged) == "True"
