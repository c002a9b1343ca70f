"""The memory of a training step is taken again for the next, in every thread that shares its rows."""

import subprocess
import sys

FEW = 1_500  # pages that a step may take anew, on a busy machine too; where buffers are given back it is thousands
STEPS = """
import resource
import numpy as np, torch
from model.config import NetworkConfig
from training.data.batches import Batches
from training.allocator import keep_buffers
from training.loop.learner import Learner
from training.planning.config import TrainingConfig

if keep_buffers():
    network = NetworkConfig(layers=1, hidden=512, embedding=64, vocabulary=320)
    learner = Learner(TrainingConfig(network=network, precision="fp32", threads=2, epochs=1), torch.device("cpu"))
    batches = Batches(np.random.default_rng(1).integers(320, size=20_000), 32, 64, seed=1)
    def faults(steps):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(steps):
            learner.learn(batches.next(), 1e-3)
        return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps
    faults(6)
    print(faults(4))
"""


def test_a_step_takes_hardly_any_page_anew() -> None:
    found = subprocess.run([sys.executable, "-c", STEPS], capture_output=True, text=True, check=True, timeout=120)
    if found.stdout:  # a C library that can keep them
        assert float(found.stdout) < FEW
