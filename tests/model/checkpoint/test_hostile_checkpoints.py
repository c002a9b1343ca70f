"""Checkpoint folders made to harm: each is a decoder that works, or refused soon, cheaply and with a sentence."""

import json
import os
import shutil
import struct
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from model.cells.spec import Cell
from model.checkpoint import CARD, CONFIG, TOKENIZER, WEIGHTS, load, save
from model.checkpoint.weights_file import LARGEST_WEIGHT
from model.config import NetworkConfig
from model.decoding.decoder import NUMPY, Decoder
from model.decoding.step_weights import Quantization
from model.errors import CheckpointError, ParameterError
from model.held_out_surprise import HeldOutSurprise
from tests.model.damage import change_config, change_header, change_network, change_tensors, refused, without_digests
from tests.model.small import CELLS, SIZE, small_checkpoint
from tests.pace import loops

SOON = 30  # loops of `tests.pace`, on this thread, so that neither a busy machine nor a slow one matters
LITTLE = 32 << 20  # bytes: a configuration of a megabyte, all names, is 21 MB of text
GIANT = 2**40


@pytest.fixture
def folder(checkpoint_folder: Path, tmp_path: Path) -> Path:
    """A copy of the small checkpoint to do damage to, without digests: what is found without them."""
    copy = Path(shutil.copytree(checkpoint_folder, tmp_path / "copy"))
    without_digests(copy)
    return copy


def change_text(folder: Path, name: str, old: str, new: str) -> None:
    text = (folder / name).read_text("utf-8")
    assert old in text
    (folder / name).write_text(text.replace(old, new, 1), "utf-8")


def header_of(content: bytes) -> bytes:
    (size,) = struct.unpack("<Q", content[:8])
    return content[8 : 8 + size]


def with_header(folder: Path, header: bytes) -> None:
    content = (folder / WEIGHTS).read_bytes()
    numbers = content[8 + len(header_of(content)) :]
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(header)) + header + numbers)


def steps_to_numbers(decoder: Decoder, ids: NDArray[np.int32], following: NDArray[np.int32]) -> None:
    """Two rows read ids (2, T) to states and log-probabilities of all ids that are numbers."""
    rows = decoder.rows(2)
    scored = rows.score([0, 1], ids, following, decoder.config.vocabulary)
    assert scored.top_logprobs is not None
    assert scored.top_logprobs.shape == (*ids.shape, decoder.config.vocabulary)
    assert np.isfinite(scored.top_logprobs).all()
    assert np.isfinite(rows.state).all()


def works(folder: Path) -> None:
    """What loads is a decoder that steps, whose numbers are numbers, and a record that can be asked."""
    loaded = load(folder)
    decoder = Decoder(loaded)
    assert 0 < len(decoder.ids) <= loaded.config.vocabulary
    ids = np.array([[loaded.tokenizer.start_id], [0]], np.int32)
    steps_to_numbers(decoder, ids, ids[::-1])
    assert loaded.tokenizer.decode(loaded.tokenizer.encode("aé😀x").tolist()) == "aé😀x"
    held_out = HeldOutSurprise.of(loaded.training)
    assert held_out is None or 0 <= held_out.percentile(2.0, 100) <= 100
    json.dumps(loaded.training, ensure_ascii=False, allow_nan=False).encode()


# What a file declares costs nothing


def bombs() -> dict[str, Callable[[Path], object]]:
    """Folders that declare much, by what they declare."""
    opening, names = '{"format": "unroll-checkpoint", ', (CONFIG, TOKENIZER)
    values = {
        "lists": "[" + "[]," * 340_000 + "[]]",
        "deep lists": "[" * 500_000 + "]" * 500_000,
        "tables": "[" + "{}," * 340_000 + "{}]",
        "floats": "[" + "1.0," * 250_000 + "1]",
        "numbers of many digits": "[" + ("9" * 308 + ",") * 3_300 + "1]",
        "one number": "9" * 1_000_000,
        "one fraction": "0." + "3" * 1_000_000,
        "surrogates": "[" + r'"\ud83d\ude00",' * 60_000 + "1]",
        "names": "{" + ",".join(f'"{at}":0' for at in range(90_000)) + "}",
        "one name": "{" + '"a":0,' * 150_000 + '"a":0}',
    }

    def lengthen(name: str) -> Callable[[Path], object]:
        return lambda folder: os.truncate(folder / name, GIANT)

    def write(name: str, value: str) -> Callable[[Path], object]:
        return lambda folder: (folder / name).write_text(opening + '"x": ' + value + "}")

    made: dict[str, Callable[[Path], object]] = {
        f"{key} in {name}": write(name, value) for key, value in values.items() for name in names
    }
    for name in (CONFIG, TOKENIZER, CARD, WEIGHTS):
        made[f"a terabyte of {name}"] = lengthen(name)
    made["many ranges"] = lambda folder: change_config(folder, unseen_ids=[[0, 300]] * 16_000)
    made["many lanes"] = lambda folder: change_network(folder, layers=10**9, hidden=10**9, vocabulary=10**12)
    made["wide"] = lambda folder: change_network(folder, layers=16, hidden=8192, embedding=8192, vocabulary=1_114_368)
    made["a header of 100 MB"] = long_header
    made["a header of brackets"] = lambda folder: with_header(folder, b"{" + b'"x":[[[' * 8_000)
    made["a header of 2^63 bytes"] = lambda folder: (folder / WEIGHTS).write_bytes(struct.pack("<Q", 2**63) * 1_000)
    made["a crowded tokenizer"] = crowded_tokenizer
    made["weights never written"] = sparse_weights
    return made


def crowded_tokenizer(folder: Path) -> None:
    """A network of 100,000 ids and next to no width, so that a tokenizer.json of some megabytes is not too large."""
    made = small_checkpoint("rnn", 1, 1, 1, "".join(map(chr, range(0x10000, 0x10000 + 99_744))))
    save(made, folder)
    text = (folder / TOKENIZER).read_text("utf-8")
    (folder / TOKENIZER).write_text(text.replace('"merges": []', f'"merges": [{"0," * 1_000_000}0]'), "utf-8")


def long_header(folder: Path) -> None:
    length = 100_000_000
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", length) + b"{")
    os.truncate(folder / WEIGHTS, 8 + length + 4 * small_checkpoint().config.parameters())


def sparse_weights(folder: Path) -> None:
    """A network of 75 million parameters of which nothing was written but the header, in which all is right."""
    config = NetworkConfig(cell="lstm", layers=1, hidden=4096, embedding=512, vocabulary=SIZE)
    at, header = 0, {}
    for name, shape in config.tensor_shapes().items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    written = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(written)) + written)
    os.truncate(folder / WEIGHTS, 8 + len(written) + at)
    change_config(folder, network=config.to_json())


@pytest.mark.parametrize("name", bombs())
def test_what_a_folder_declares_takes_neither_time_nor_memory(name: str, folder: Path) -> None:
    bombs()[name](folder)
    soon = loops(SOON)
    taken: list[float] = []
    while not taken or (min(taken) > soon and len(taken) < 5):  # of a busy machine, the best of five
        started = time.thread_time()
        refused(folder)
        taken.append(time.thread_time() - started)
    assert min(taken) < soon
    tracemalloc.start()
    try:
        refused(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < LITTLE


def test_a_file_of_mostly_holes_is_refused_and_one_of_few_is_not(folder: Path) -> None:
    sparse_weights(folder)
    if (folder / WEIGHTS).stat().st_blocks * 512 > 1e6:
        pytest.skip("needs a file system that leaves out what was never written")
    refused(folder, r"model\.safetensors has [\d,]+ bytes of which most were never written, as by a download cut short")


def test_a_network_may_be_large_and_not_larger() -> None:
    def wide(layers: int) -> NetworkConfig:
        return NetworkConfig(cell="rnn", layers=layers, embedding=1, vocabulary=257, hidden=8192)

    assert wide(8).parameters() == 1_008_878_082
    with pytest.raises(ParameterError, match=r"would have 1,143,112,194 parameters; choose fewer layers or narrower"):
        wide(9)


# What Python takes for the same, and other readers do not


@pytest.mark.parametrize("version", [True, 1.0, "1", None])
def test_a_version_that_is_not_the_number_one_is_refused(version: Any, folder: Path) -> None:
    change_config(folder, format_version=version)
    refused(folder, "has format version")


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (CONFIG, '"format":', '"format": "other", "format":'),
        (CONFIG, '"hidden": 24', '"hidden": 8192, "hidden": 24'),
        (CONFIG, '"training": {', '"training": {"a": NaN, '),
        (CONFIG, '"training": {', '"training": {"a": -1e400, '),
        (CONFIG, '"training": {', '"training": {"a": "\\ud800", '),
        (CONFIG, '"training": {', f'"training": {{"a": {"9" * 400}, '),
        (CONFIG, '"training": {', f'"training": {{"a": {"[" * 90}{"]" * 90}, '),
        (CONFIG, '"training": {', '"training": [], "other": {'),
        (CONFIG, '"training": {', '"training": null, "other": {'),
        (CONFIG, "{", "\ufeff{"),
        (TOKENIZER, "{", "\ufeff{"),
        (TOKENIZER, '"<0x01>": 1,', '"<0x01>": true,'),
        (TOKENIZER, '"<0x01>": 1,', '"<0x01>": 1.0,'),
        (TOKENIZER, '"<0x01>": 1,', '"<0x01>": 7, "<0x01>": 1,'),
        (TOKENIZER, '"<0x01>": 1,', '"<0x1>": 1,'),
        (TOKENIZER, '"<0x01>": 1,', '"\\u0001": 1,'),
        (TOKENIZER, '"a": 258', '"ab": 258'),
        (TOKENIZER, '"a": 258', '"a": 258, "A": 258'),
        (TOKENIZER, '"a": 258', '"a": 1000000'),
        (TOKENIZER, '"a": 258', '"\\ud800": 258'),
        (TOKENIZER, '"byte_fallback": true', '"byte_fallback": 1'),
        (TOKENIZER, '"added_tokens": []', '"added_tokens": [{"id": 258, "content": "a", "special": true}]'),
        (TOKENIZER, '"normalizer": null', '"normalizer": {"type": "NFKC"}'),
        (TOKENIZER, '"type": "ByteFallback"', '"type": "Strip", "content": "a", "start": 1, "stop": 1'),
    ],
    ids=lambda part: ascii(part)[:40],
)
def test_json_that_another_reader_would_read_otherwise_is_refused(name: str, old: str, new: str, folder: Path) -> None:
    change_text(folder, name, old, new)
    refused(folder, name)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "utf-8-sig"])
@pytest.mark.parametrize("name", [CONFIG, TOKENIZER])
def test_json_in_another_encoding_is_refused(name: str, encoding: str, folder: Path) -> None:
    (folder / name).write_bytes((folder / name).read_text("utf-8").encode(encoding))
    refused(folder, name)


def test_ranges_of_ids_out_of_order_or_twice_are_refused(folder: Path) -> None:
    for ranges in ([[5, 6], [1, 2]], [[1, 5], [5, 6]], [[1, 2], [1, 2]]):
        change_config(folder, unseen_ids=ranges)
        refused(folder, "unseen_ids are not ranges of ids")
    change_config(folder, unseen_ids=[[1, 2], [3, 3]])
    assert load(folder).unseen.tolist() == [1, 2, 3]


# The header of the weights


@pytest.mark.parametrize(
    "change",
    [
        lambda header: header["out.bias"].update(shape=[SIZE, 1]),
        lambda header: header["out.bias"].update(shape=[2**32, 2**32, SIZE]),
        lambda header: header["out.bias"].update(extra=1),
        lambda header: header["out.bias"].pop("dtype"),
        lambda header: header["out.bias"].update(data_offsets=header["out.weight"]["data_offsets"]),
        lambda header: header["out.bias"].update(data_offsets=[at + 4 for at in header["out.bias"]["data_offsets"]]),
        lambda header: header["out.bias"].update(data_offsets=[float(at) for at in header["out.bias"]["data_offsets"]]),
        lambda header: header["out.bias"].update(data_offsets=[False, 4 * SIZE]),
        lambda header: header["out.bias"].update(data_offsets=[-4 * SIZE, 0]),
        lambda header: header["out.bias"].update(data_offsets={}),
        lambda header: header.update({"out.bias": []}),
        lambda header: header.update({"out.bias": None}),
    ],
)
def test_a_header_that_does_not_say_what_the_network_asks_for_is_refused(change: Any, folder: Path) -> None:
    change_header(folder, change)
    refused(folder, r"out\.bias is .+, but config\.json asks for F32 \(290,\) in bytes|asks for F32")


def test_two_tensors_in_one_place_are_refused_and_in_another_order_are_not(folder: Path) -> None:
    names = [f"layers.1.bias_{kind}_l0" for kind in ("ih", "hh")]
    before = load(folder).tensors

    def exchange(header: dict[str, Any]) -> None:
        header[names[0]], header[names[1]] = header[names[1]], header[names[0]]

    change_header(folder, exchange)
    after = load(folder).tensors
    assert after[names[0]].tobytes() == before[names[1]].tobytes()
    assert after[names[1]].tobytes() == before[names[0]].tobytes()
    change_header(folder, lambda header: header.update({names[0]: header[names[1]]}))
    refused(folder, "restore both files from the same checkpoint")


def test_a_tensor_declared_twice_or_a_header_of_another_kind_is_refused(folder: Path) -> None:
    header = header_of((folder / WEIGHTS).read_bytes())
    for other in (header.rstrip()[:-1] + b',"out.bias":{}}', b"[]", b"7", b"", b"{}", header + b"\0", b"\xff" + header):
        with_header(folder, other)
        refused(folder, "model.safetensors")
    with_header(folder, b"  " + header.rstrip() + b" \n")
    works(folder)


# Weights that are numbers and still do harm


@pytest.mark.parametrize("value", [LARGEST_WEIGHT * 1.01, -LARGEST_WEIGHT * 1.01, 3e38])
def test_weights_beyond_any_that_training_finds_are_refused(value: float, folder: Path) -> None:
    change_tensors(folder, lambda tensors: tensors["out.bias"].__setitem__(3, value))
    refused(folder, r"out\.bias holds NaN, infinity or a weight beyond ±1,000,000,000; the training run diverged")


@pytest.mark.parametrize("processor", [None, NUMPY])
@pytest.mark.parametrize("quantization", ["int8", "fp32"])
@pytest.mark.parametrize("value", [LARGEST_WEIGHT, -LARGEST_WEIGHT, 5e-324, 1e-40, 0.0])
@pytest.mark.parametrize("cell", CELLS)
def test_the_largest_and_the_least_weights_that_load_make_a_decoder_of_numbers(
    cell: Cell, value: float, quantization: Quantization, processor: str | None, tmp_path: Path
) -> None:
    made = small_checkpoint(cell)
    save(replace(made, tensors={name: np.full_like(tensor, value) for name, tensor in made.tensors.items()}), tmp_path)
    decoder = Decoder(load(tmp_path), quantization, processor=processor)
    ids = np.array([range(20), range(256, 276)], np.int32)
    steps_to_numbers(decoder, ids, ids[::-1])


# Anything


NUMBERS = ("-1", "0", "1.5", "1e400", "NaN", "0x1", "9" * 400, str(10**300), str(2**64))
STRINGS = ('""', r'"\ud800"', r'"\u0000"', '"\U0010ffff"', '"F32"')
TABLES = ("[]", "{}", "[" * 60 + "]" * 60, '{"a": 1, "a": 2}', "[[0, 10]]")
ODD = st.sampled_from([*NUMBERS, *STRINGS, *TABLES, "null", "true", "", ","])


@st.composite
def tampered(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with some places changed: bytes, a value or a name of JSON, a piece cut out, doubled or put elsewhere."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        ends = [at for at, byte in enumerate(changed[:20_000]) if byte in b',:[]{}"'] or [0]
        near = st.sampled_from(ends) | st.integers(0, max(0, len(changed) - 1))
        first, last = sorted((draw(near), draw(near)))
        match draw(st.sampled_from(["bytes", "value", "cut", "twice", "end"])):
            case "bytes":
                changed[first : first + 4] = draw(st.binary(max_size=4))
            case "value":
                after = next((at for at in ends if at > first), first)
                changed[first + 1 : after] = draw(ODD).encode()
            case "cut":
                del changed[first : min(last, first + draw(st.integers(1, 200)))]
            case "twice":
                changed[last:last] = changed[first : first + draw(st.integers(1, 400))]
            case "end":
                del changed[last:]
    return bytes(changed)


@settings(max_examples=150)
@given(data=st.data(), name=st.sampled_from([CONFIG, TOKENIZER, WEIGHTS, CARD]))
def test_any_change_anywhere_makes_a_decoder_that_works_or_is_refused(
    data: st.DataObject, name: str, checkpoint_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.getbasetemp() / "hostile"
    if not folder.is_dir():
        shutil.copytree(checkpoint_folder, folder)
        without_digests(folder)
    content = (folder / name).read_bytes()
    if name == WEIGHTS and data.draw(st.booleans()):  # the header with its length made right again
        header = data.draw(tampered(header_of(content)))
        changed = struct.pack("<Q", len(header)) + header + content[8 + len(header_of(content)) :]
    else:
        changed = data.draw(tampered(content))
    (folder / name).write_bytes(changed)
    said = "It works."
    try:
        works(folder)
    except CheckpointError as error:
        said = str(error)
    finally:
        (folder / name).write_bytes(content)
    assert said.endswith(".")
    assert len(said) < 2_000
