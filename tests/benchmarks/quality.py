"""The bundled model on the Shakespeare it was held out from: the network's bits, and what int8 costs."""

import os
from pathlib import Path

from model.checkpoint import BUNDLED, load
from model.decoding.decoder import Decoder
from model.network import from_tensors
from tests.benchmarks.figures import Figure
from training.data.corpus import Corpus
from training.data.sources import FileSource
from training.data.split import split
from training.evaluation.network_reader import network_reader
from training.evaluation.protocols import carried
from training.evaluation.readers import decoder_reader

SHAKESPEARE = Path(os.environ.get("BENCHMARK_SHAKESPEARE", "../shared/corpora/tinyshakespeare.txt"))


def measure() -> list[Figure]:
    """Carried state on the last tenth, whose first half chose the checkpoint; nothing when the text is missing."""
    if not SHAKESPEARE.exists():
        return []
    checkpoint = load(BUNDLED)
    parts = split(Corpus([FileSource(SHAKESPEARE)]).encode(checkpoint.tokenizer), "nanogpt")
    read = network_reader(from_tensors(checkpoint.config, checkpoint.tensors))
    validation, test = carried(read, parts.validation), carried(read, parts.test)
    held_out = validation + test
    exact = carried(decoder_reader(Decoder(checkpoint, "fp32")), parts.test)
    rounded = carried(decoder_reader(Decoder(checkpoint, "int8")), parts.test)
    cost = rounded.bits_per_character - exact.bits_per_character
    return [
        Figure("bundled model, last tenth", held_out.nats_per_character, "nats per character", 1.34, "most"),
        Figure("bundled model, last tenth", held_out.bits_per_character, "bits per character", 1.935, "most"),
        Figure("bundled model, last twentieth (test)", test.bits_per_character, "bits per character"),
        Figure("int8 instead of fp32, last twentieth (test)", cost, "bits per character", 0.001, "most"),
    ]
