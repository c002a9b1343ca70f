"""Texts drawn with the online memory and without: how much of a text stood in it before, and how fast they come."""

from statistics import mean, median
from time import perf_counter

from model.checkpoint import load, named_checkpoint
from model.decoding.decoder import Decoder
from model.generate import generate
from model.memory import LoadLimit
from model.online_memory.weights import MemoryWeights
from model.sampling.parameters import SamplingParameters
from tests.benchmarks.figures import Figure

TEMPERATURES = (0.5, 0.8, 1.0)
TEXTS, LENGTH = 6, 2_000
PROMPT = "ROMEO:\n"
GRAM = 16  # characters of what counts as said before


def repeated(text: str) -> float:
    """The share of a text's 16-grams that stood in it before."""
    seen: set[str] = set()
    again = 0
    grams = [text[at : at + GRAM] for at in range(len(text) - GRAM + 1)]
    for gram in grams:
        again += gram in seen
        seen.add(gram)
    return again / len(grams)


def measure() -> list[Figure]:
    """By temperature, with and without in turns."""
    checkpoint = load(named_checkpoint(None), LoadLimit(most_bytes=1 << 30, arithmetic="int8"))
    decoder, figures = Decoder(checkpoint), []
    weights = MemoryWeights.required(checkpoint.training, items=False)
    for temperature in TEMPERATURES:
        shares: dict[bool, list[float]] = {False: [], True: []}
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for seed in range(TEXTS):
            for remembers in (False, True):
                began = perf_counter()
                pieces = generate(
                    *(decoder, checkpoint.tokenizer, PROMPT),
                    max_tokens=LENGTH,
                    parameters=SamplingParameters(seed=seed, temperature=temperature),
                    memory=weights if remembers else None,
                )
                text = "".join(piece.text for piece in pieces)
                seconds[remembers].append(perf_counter() - began)
                shares[remembers].append(repeated(text))
        name = f"{TEXTS} texts of {LENGTH:,} characters at temperature {temperature:g}"
        figures += [
            Figure(f"{name}, {GRAM}-grams that stood in it before, without memory", 100 * mean(shares[False]), "%"),
            Figure(f"{name}: the same with memory", 100 * mean(shares[True]), "%"),
            Figure(f"{name}: speed with memory", median(seconds[False]) / median(seconds[True]), "× without"),
        ]
    return figures
