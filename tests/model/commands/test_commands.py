"""The verbs `generate` and `info`, run as a person runs them: as processes, or in this one where that is the same."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from model.checkpoint import BUNDLED, load, named_checkpoint
from model.decoding.beams import BeamOptions
from model.decoding.decoder import Decoder
from model.errors import CheckpointError, ParameterError, TokenizerError, UnrollError
from model.generate import generate, search
from model.sampling.parameters import SamplingParameters
from unroll import program

ROOT = Path(__file__).parents[3]


def unroll(*arguments: str | Path, standard_input: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run the program as a process of its own, where warnings are errors too."""
    command = [sys.executable, "-W", "error", "-m", "unroll", *map(str, arguments)]
    return subprocess.run(command, input=standard_input, capture_output=True, cwd=ROOT, check=False)


def invoke(*arguments: str | Path, standard_input: bytes = b"") -> str:
    """Run a verb in this process; what it wrote to standard output."""
    result = CliRunner(env={"COLUMNS": "120"}).invoke(program, list(map(str, arguments)), input=standard_input)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def generate_json(folder: Path, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(invoke("generate", folder, "--json", *arguments))
    return found


def expected_text(folder: Path, prompt: str, **parameters: Any) -> str:
    checkpoint = load(folder)
    drawn = generate(
        Decoder(checkpoint),
        checkpoint.tokenizer,
        prompt,
        max_tokens=40,
        parameters=SamplingParameters(**{"temperature": 0.8, **parameters}),
    )
    return "".join(piece.text for piece in drawn)


def test_the_program_writes_prompt_and_continuation(checkpoint_folder: Path) -> None:
    arguments = ["--prompt", "the 月", "--seed", "7", "--max-tokens", "40"]
    done = unroll("generate", checkpoint_folder, *arguments)
    expected = expected_text(checkpoint_folder, "the 月", seed=7)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode() == f"the 月{expected}\n"


def test_the_echo_can_be_left_out(checkpoint_folder: Path) -> None:
    found = invoke("generate", checkpoint_folder, "--prompt", "a", "--seed", "7", "--max-tokens", "40", "--no-echo")
    assert found == expected_text(checkpoint_folder, "a", seed=7) + "\n"


def test_several_texts_are_told_apart(checkpoint_folder: Path) -> None:
    options = ["--prompt", "a", "--seed", "7", "--max-tokens", "40", "--n", "2", "--no-echo"]
    found = invoke("generate", checkpoint_folder, *options)
    texts = [choice["text"] for choice in generate_json(checkpoint_folder, *options)["choices"]]
    assert found == f"--- 1 of 2 ---\n{texts[0]}\n--- 2 of 2 ---\n{texts[1]}\n"
    assert texts[0] != texts[1]


def test_json_says_everything_about_the_texts(checkpoint_folder: Path) -> None:
    found = generate_json(checkpoint_folder, "--prompt", "éΩ月", "--seed", "3", "--max-tokens", "40", "--n", "3")
    texts = [choice.pop("text") for choice in found["choices"]]
    assert found == {
        "model": str(checkpoint_folder),
        "prompt": "éΩ月",
        "choices": [{"index": index, "finish_reason": "length"} for index in range(3)],
        "seed": 3,
        "usage": {"prompt_tokens": 4, "completion_tokens": 120, "total_tokens": 124, "unseen_characters": 1},
    }
    assert texts[0] == expected_text(checkpoint_folder, "éΩ月", seed=3)
    assert [len(text) for text in texts] == [40, 40, 40]


def test_without_a_seed_the_one_that_was_taken_is_told(checkpoint_folder: Path) -> None:
    first, second = (generate_json(checkpoint_folder, "--max-tokens", "40") for _ in range(2))
    assert first["seed"] != second["seed"]
    again = generate_json(checkpoint_folder, "--max-tokens", "40", "--seed", str(first["seed"]))
    assert again == first


def test_stop_strings_end_the_text_and_their_ids_are_counted(checkpoint_folder: Path) -> None:
    whole = generate_json(checkpoint_folder, "--seed", "3", "--max-tokens", "60")["choices"][0]["text"]
    stop = whole[20:23]
    options = ["--seed", "3", "--max-tokens", "60", "--stop", "never this", "--stop", stop]
    found = generate_json(checkpoint_folder, *options)
    assert found["choices"][0] == {"index": 0, "text": whole[: whole.index(stop)], "finish_reason": "stop"}
    assert found["usage"]["completion_tokens"] == whole.index(stop) + 3


@pytest.mark.parametrize(
    "parameters",
    [
        {"temperature": 0.0},
        {"temperature": 1.5, "top_k": 3},
        {"top_p": 0.4},
        {"min_p": 0.3},
        {"repetition_penalty": 2.0},
        {"presence_penalty": 3.0},
        {"frequency_penalty": 2.0},
    ],
    ids=str,
)
def test_every_parameter_reaches_the_sampler(parameters: dict[str, float], checkpoint_folder: Path) -> None:
    flags = [part for name, value in parameters.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    found = generate_json(checkpoint_folder, "--prompt", "the", "--seed", "9", "--max-tokens", "40", *flags)
    text = found["choices"][0]["text"]
    assert text == expected_text(checkpoint_folder, "the", seed=9, **parameters)
    assert text != expected_text(checkpoint_folder, "the", seed=9)


def test_the_arithmetic_can_be_chosen(checkpoint_folder: Path) -> None:
    options = ["--seed", "9", "--max-tokens", "300", "--arithmetic"]
    int8, fp32 = (generate_json(checkpoint_folder, *options, name)["choices"] for name in ("int8", "fp32"))
    assert int8 != fp32


def test_a_prompt_file_is_read_to_the_character(checkpoint_folder: Path, tmp_path: Path) -> None:
    prompt = "\ufeffa\r\nb\u2028c\n\n"
    (tmp_path / "prompt.txt").write_bytes(prompt.encode())
    from_file = generate_json(checkpoint_folder, "--prompt-file", str(tmp_path / "prompt.txt"), "--max-tokens", "0")
    piped = unroll(
        "generate", checkpoint_folder, "--prompt-file", "-", "--max-tokens", "0", standard_input=prompt.encode()
    )
    assert from_file["prompt"] == prompt
    assert piped.stdout == prompt.encode() + b"\n"


def test_a_prompt_of_unseen_characters_is_noted_on_standard_error(checkpoint_folder: Path) -> None:
    done = unroll("generate", checkpoint_folder, "--prompt", "aΩΨ", "--max-tokens", "5", "--seed", "1")
    assert done.returncode == 0
    assert done.stderr.decode() == "note: 2 of the prompt's 3 characters never occurred in training.\n"


def test_text_is_written_as_it_is_and_never_read_as_markup(checkpoint_folder: Path) -> None:
    prompt = "[bold]a[/bold] :smile: \\[x] [/nothing]"
    assert invoke("generate", checkpoint_folder, "--prompt", prompt, "--max-tokens", "0") == prompt + "\n"


def test_a_reader_that_leaves_ends_the_program_quietly(checkpoint_folder: Path) -> None:
    command = [sys.executable, "-m", "unroll", "generate", str(checkpoint_folder), "--max-tokens", str(10**9)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.read(10)
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_ctrl_c_ends_the_program_quietly_after_a_whole_line(checkpoint_folder: Path) -> None:
    command = [sys.executable, "-m", "unroll", "generate", str(checkpoint_folder), "--max-tokens", str(10**9)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as running:
        assert running.stdout is not None
        running.stdout.read(10)
        running.send_signal(signal.SIGINT)
        written, complaints = running.communicate()
    assert complaints == b""
    assert written.endswith(b"\n")
    assert running.returncode == 130


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["--temperature", "101"], ParameterError, r"temperature is 101\.0; choose a number from 0 to 100\."),
        (["--top-p", "0"], ParameterError, "top_p is 0; choose"),
        (["--seed", str(2**64)], ParameterError, "seed does not fit in 64 bits"),
        (["--stop", ""], ParameterError, "A stop string has 0 characters"),
        (["--prompt", "a", "--prompt-file", "b"], ParameterError, "give one of them"),
        (["--prompt-file", "no/such/file"], ParameterError, r"prompt file no/such/file cannot be read \(.+\)"),
        (["--prompt", "\udcff"], TokenizerError, "half of a surrogate pair at character 0"),
    ],
)
def test_what_cannot_be_done_is_an_error_of_ours(
    arguments: list[str], error: type[UnrollError], message: str, checkpoint_folder: Path
) -> None:
    with pytest.raises(error, match=message):
        invoke("generate", checkpoint_folder, "--max-tokens", "1", *arguments)


def test_a_prompt_file_of_another_encoding_is_refused(checkpoint_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "latin1.txt").write_bytes("été".encode("latin-1"))
    with pytest.raises(ParameterError, match="is not UTF-8 at byte 0; convert it"):
        invoke("generate", checkpoint_folder, "--prompt-file", tmp_path / "latin1.txt")


@pytest.mark.parametrize("verb", ["generate", "info"])
def test_an_error_is_one_sentence_on_standard_error_and_exit_code_one(verb: str, tmp_path: Path) -> None:
    done = unroll(verb, tmp_path / "[red]nowhere")
    assert (done.returncode, done.stdout) == (1, b"")
    expected = f"unroll: There is no checkpoint folder at {tmp_path}/[red]nowhere; make one with `unroll train`.\n"
    assert done.stderr.decode() == expected


@pytest.mark.parametrize(
    "arguments", [["--n", "0"], ["--max-tokens", "-1"], ["--arithmetic", "int4"], ["--top-k", "x"]]
)
def test_a_flag_of_another_kind_is_a_usage_error(arguments: list[str], checkpoint_folder: Path) -> None:
    result = CliRunner(env={"COLUMNS": "120"}).invoke(program, ["generate", str(checkpoint_folder), *arguments])
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


def test_a_run_stands_for_its_best_checkpoint(tmp_path: Path, checkpoint_folder: Path) -> None:
    shutil.copytree(checkpoint_folder, tmp_path / "run" / "best")
    drawn = [
        json.loads(invoke("generate", folder, "--seed", "1", "--max-tokens", "20", "--json"))["choices"]
        for folder in (tmp_path / "run", checkpoint_folder)
    ]
    assert drawn[0] == drawn[1]
    assert named_checkpoint(checkpoint_folder) == checkpoint_folder
    assert named_checkpoint(tmp_path / "nothing") == tmp_path / "nothing"
    assert named_checkpoint(None) == BUNDLED


@pytest.mark.parametrize("verb", ["generate", "info"])
def test_help_states_every_flag_with_a_description(verb: str) -> None:
    found = invoke(verb, "--help")
    assert "Examples:" in found
    assert f"unroll {verb}" in found
    for flag in ["--json"] if verb == "info" else ["--prompt-file", "--top-p", "--min-p", "--seed", "--stop", "--n"]:
        assert re.search(rf"{flag}\s.+\w", found), flag


def test_without_a_checkpoint_the_bundled_one_is_taken() -> None:
    try:
        load(BUNDLED)
    except CheckpointError as error:
        pytest.skip(f"no checkpoint is bundled yet: {error}")
    assert json.loads(invoke("info", "--json"))["model"] == "bundled"
    assert len(generate_json(BUNDLED, "--max-tokens", "20")["choices"][0]["text"]) <= 20


def test_a_text_matches_what_is_asked_for(checkpoint_folder: Path, tmp_path: Path) -> None:
    options = ["--seed", "3", "--max-tokens", "30"]
    text = generate_json(checkpoint_folder, *options, "--regex", "[a-z]{3},[a-z]+")["choices"][0]["text"]
    assert re.fullmatch("[a-z]{3},[a-z]+", text)
    assert invoke("generate", checkpoint_folder, "--no-echo", *options, "--regex", "[a-z]{3},[a-z]+") == text + "\n"
    found = generate_json(checkpoint_folder, *options, "--choice", "é月", "--choice", "no", "--n", "20")
    assert {choice["text"] for choice in found["choices"]} == {"é月", "no"}
    (tmp_path / "grammar").write_text('root ::= "a" root? "b"', "utf-8")
    text = generate_json(checkpoint_folder, *options, "--grammar", str(tmp_path / "grammar"))["choices"][0]["text"]
    assert text == "a" * (len(text) // 2) + "b" * (len(text) // 2)


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--regex", "a("], "regex is no regular expression at character 2: unclosed group"),
        (["--regex", "a", "--choice", "b"], "There is both a regex and a choice; give one of them."),
        (["--regex", "a{9}", "--max-tokens", "8"], "the shortest text that matches has 9: choose at least that."),
        (["--json-schema", "nowhere.json"], "The json schema file nowhere.json cannot be read"),
        (["--json-schema", "{}"], "needs"),
        (["--regex", ""], "regex is empty; send a pattern, or leave it out for free text."),
        (["--choice", ""], "choice is not a list of texts; send at least one, none of them empty."),
        (["--grammar", "/dev/null"], "grammar is empty; send a pattern, or leave it out for free text."),
        (["--json-schema", "/dev/null"], "json_schema is no JSON at its end: a value is missing; send plain JSON."),
    ],
    ids=str,
)
def test_a_pattern_that_no_text_can_match_is_refused(
    flags: list[str], sentence: str, checkpoint_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object"}', "utf-8")
    flags = [str(tmp_path / "schema.json") if flag == "{}" else flag for flag in flags]
    with pytest.raises(ParameterError, match=re.escape(sentence) if sentence != "needs" else "cannot be matched"):
        invoke("generate", checkpoint_folder, *flags)


def test_a_beam_search_writes_the_likeliest_texts(checkpoint_folder: Path) -> None:
    checkpoint = load(checkpoint_folder)
    expected = search(
        Decoder(checkpoint), checkpoint.tokenizer, "the ", BeamOptions(width=5), max_tokens=20, n=2, stop=["e\n"]
    )
    options = ["--prompt", "the ", "--max-tokens", "20", "--stop", "e\\n", "--beams", "5", "--n", "2"]
    found = generate_json(checkpoint_folder, *options)["choices"]
    assert [(one["text"], one["score"], one["logprob"], one["finish_reason"]) for one in found] == [
        (one.text, one.score, one.logprob, one.finish_reason) for one in expected
    ]
    first, second = (one.text for one in expected)
    assert (
        invoke("generate", checkpoint_folder, *options)
        == f"--- 1 of 2 ---\nthe {first}\n--- 2 of 2 ---\nthe {second}\n"
    )


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--beams", "3", "--top-k", "5"], "has no --top-k"),
        (["--beams", "3", "--temperature", "0.5"], "has no --temperature"),
        (["--beams", "3", "--regex", "a+"], "has no --regex"),
        (["--beams", "3", "--count", "5"], "has no --count"),
        (["--beams", "3", "--n", "4"], "n is 4 and beams 3"),
        (["--length-penalty", "0"], "--length-penalty is of a beam search"),
    ],
)
def test_what_a_beam_search_lacks_is_named(checkpoint_folder: Path, flags: list[str], said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        invoke("generate", checkpoint_folder, *flags)
