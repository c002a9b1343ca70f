"""Short texts from a network in training, drawn as in serving."""

from model.checkpoint import Checkpoint
from model.decoding.decoder import Decoder
from model.generate import generate
from model.sampling.parameters import SamplingParameters

SAMPLED = 160  # characters of a sample
MOST_ITEMS = 40  # of a sample
TEMPERATURES = (0.5, 0.8, 1.0)  # a sample is drawn at each


def draw_samples(checkpoint: Checkpoint, characters: int = SAMPLED) -> dict[str, str]:
    """A text for each temperature, by the temperature's name; the same weights give the same texts."""
    decoder = Decoder(checkpoint)
    return {f"{temperature:g}": _draw(decoder, checkpoint, temperature, characters) for temperature in TEMPERATURES}


def _draw(decoder: Decoder, checkpoint: Checkpoint, temperature: float, characters: int) -> str:
    """One text; or items, each with its separator, up to this many characters."""
    parameters, separator = SamplingParameters(temperature=temperature, seed=1), checkpoint.tokenizer.frame.separator
    text, choice = "", 0
    while not choice or (separator and len(text) < characters and choice < MOST_ITEMS):
        left = characters - len(text)
        pieces = generate(decoder, checkpoint.tokenizer, "", max_tokens=left, parameters=parameters, choice=choice)
        item = "".join(piece.text for piece in pieces)
        text += item + separator if separator and len(item) < left else item
        choice += 1
    return text
