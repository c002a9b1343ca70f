"""A network trained on English and then on French, beside one that saw French alone, for as many steps of one size."""

import tempfile
import time
from pathlib import Path

import torch

from model.checkpoint import Checkpoint, load
from model.text.tokenizer import Tokenizer
from tests.benchmarks.figures import Figure
from training.allocator import keep_buffers
from training.data.corpus import Corpus
from training.data.prepared_corpus import count_ids
from training.data.sources import TextSource
from training.data.split import split
from training.evaluation.network_reader import network_reader
from training.evaluation.protocols import carried
from training.loop.initial_weights import InitialWeights, fits
from training.loop.trainer import Trainer
from training.planning.plan import make_plan
from training.planning.train_options import PlanOverrides

PAIRS = Path("../shared/corpora/fra-eng.txt")  # lines of English, tab, French, tab, source
CHARACTERS = 1_000_000  # of each language
PASSES = 2.0  # over each language: the same steps on networks of the same sizes, so that a busy machine decides nothing
SEEDS = (1, 2, 3)


def languages() -> tuple[str, str]:
    """English and French sentences of different pairs, so that neither is the other's translation."""
    pairs = [line.split("\t")[:2] for line in PAIRS.read_text("utf-8").splitlines()]
    english, french = (
        "\n".join(pair[side] for pair in pairs[half::2])[:CHARACTERS] + "\n" for side, half in ((0, 0), (1, 1))
    )
    return english, french


def train(text: str, tokenizer: Tokenizer, folder: Path, base: Checkpoint | None, seed: int) -> tuple[float, float]:
    """Nats per character on the test part, state carried, of the best of a run; and the processor's seconds for it."""
    ids = Corpus([TextSource("text", text)]).encode(tokenizer)
    parts, device = split(ids), torch.device("cpu")
    counts = count_ids(parts.train, tokenizer.size)
    overrides = PlanOverrides(epochs=PASSES, layers=None if base else 1, hidden=None if base else 512, seed=seed)
    grown = None if base is None else fits(base, tokenizer)
    config = make_plan(overrides, tokenizer.size, len(parts.train), device, grown).config
    trainer = Trainer(
        config,
        tokenizer,
        parts,
        folder,
        [],
        device=device,
        started=time.monotonic(),
        initial_weights=InitialWeights(counts, base),
    )
    began = time.process_time()
    trainer.run()
    seconds = time.process_time() - began
    best = load(folder / "best")
    trainer.learner.network.load_state_dict({name: torch.from_numpy(value) for name, value in best.tensors.items()})
    return carried(network_reader(trainer.learner.network), parts.test).nats_per_character, seconds


def measure() -> list[Figure]:
    """Three seeds; nothing where the text is missing."""
    if not PAIRS.exists():
        return []
    keep_buffers()
    english, french = languages()
    old = Tokenizer.learn([english])
    grown = Tokenizer(old.characters + "".join(sorted(set(french) - set(old.characters))))
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            train(english, old, Path(folder) / f"english-{seed}", None, seed)
            base = load(Path(folder) / f"english-{seed}" / "best")
            on, on_seconds = train(french, grown, Path(folder) / f"on-{seed}", base, seed)
            anew, anew_seconds = train(french, grown, Path(folder) / f"anew-{seed}", None, seed)
            names = f"French after English, {PASSES:g} passes each, seed {seed}"
            figures += [
                Figure(f"{names}: test", on, "nats per character"),
                Figure(f"French alone, {PASSES:g} passes, seed {seed}: test", anew, "nats per character"),
                Figure(f"{names}: gained over French alone", anew - on, "nats per character", 0.0),
                Figure(f"{names}: processor time against French alone", on_seconds / anew_seconds, "×"),
            ]
    return figures
