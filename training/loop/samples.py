"""Short texts drawn from a network in training, as it would be served."""

from model.checkpoint import Checkpoint
from model.decoding.decoder import Decoder
from model.generate import generate
from model.sampling.parameters import SamplingParameters

SAMPLED = 160  # characters of a sample
TEMPERATURES = (0.5, 0.8, 1.0)  # a sample is drawn at each


def draw_samples(checkpoint: Checkpoint, characters: int = SAMPLED) -> dict[str, str]:
    """A text for each temperature, by its name; the same for the same weights."""
    decoder = Decoder(checkpoint)
    return {f"{temperature:g}": _draw(decoder, checkpoint, temperature, characters) for temperature in TEMPERATURES}


def _draw(decoder: Decoder, checkpoint: Checkpoint, temperature: float, characters: int) -> str:
    parameters = SamplingParameters(temperature=temperature, seed=1)
    pieces = generate(decoder, checkpoint.tokenizer, "", max_tokens=characters, parameters=parameters)
    return "".join(piece.text for piece in pieces)
