"""A Transformer of random weights with about as many parameters as the bundled model, in 8 bits, as GGUF.

Run with the package `gguf` on the path: `python -m tests.benchmarks.peer_transformer FILE PARAMETERS CHARACTERS`.
"""

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np

WIDTH, LAYERS, HEADS = 256, 4, 4
BLOCK = 32  # numbers that share a scale in q8_0; every row has a multiple
CONTEXT = 4096
BYTES = 256


def inner_width(parameters: int, vocabulary: int) -> int:
    """The width of the feed-forward layers with which all parameters come nearest to that number."""
    others = 2 * vocabulary * WIDTH + WIDTH + LAYERS * (4 * WIDTH * WIDTH + 2 * WIDTH)
    return max(BLOCK, round((parameters - others) / (3 * LAYERS * WIDTH) / BLOCK) * BLOCK)


def write(path: Path, parameters: int, characters: str) -> int:
    """Write the model; returns how many parameters it has.

    The vocabulary is the bundled model's: every byte, and a token for each character.
    """
    gguf: Any = importlib.import_module("gguf")  # installed for this alone, beside the repository

    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(BYTES)), *characters]
    inner = inner_width(parameters, len(tokens))
    writer = gguf.GGUFWriter(str(path), "llama")
    _describe(writer, gguf, inner, tokens)
    random = np.random.default_rng(1)
    written = 0

    def matrix(name: str, rows: int, columns: int) -> None:
        nonlocal written
        values = random.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
        data = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
        writer.add_tensor(name, data, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
        written += rows * columns

    def scale(name: str) -> None:
        nonlocal written
        writer.add_tensor(name, np.ones(WIDTH, np.float32))
        written += WIDTH

    matrix("token_embd.weight", len(tokens), WIDTH)
    for layer in range(LAYERS):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            matrix(f"blk.{layer}.{name}.weight", WIDTH, WIDTH)
        matrix(f"blk.{layer}.ffn_gate.weight", inner, WIDTH)
        matrix(f"blk.{layer}.ffn_up.weight", inner, WIDTH)
        matrix(f"blk.{layer}.ffn_down.weight", WIDTH, inner)
        scale(f"blk.{layer}.attn_norm.weight")
        scale(f"blk.{layer}.ffn_norm.weight")
    scale("output_norm.weight")
    matrix("output.weight", len(tokens), WIDTH)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return written


def _describe(writer: Any, gguf: Any, inner: int, tokens: list[str]) -> None:
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(inner)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(tokens))
    kinds = gguf.TokenType
    special = [kinds.UNKNOWN, kinds.CONTROL, kinds.CONTROL]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    writer.add_token_types([*special, *[kinds.BYTE] * BYTES, *[kinds.NORMAL] * (len(tokens) - BYTES - len(special))])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(False)
    writer.add_add_space_prefix(False)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
