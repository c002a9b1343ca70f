"""A checkpoint that every node of a cluster gets from memory, and makes ready once for each of its processes."""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from model.checkpoint import Checkpoint
from model.constraints.compiling import compiled
from model.constraints.constraint import Constraint
from model.constraints.vocabulary import Vocabulary
from model.decoding.decoder import Decoder
from model.decoding.step_weights import Quantization
from model.sampling.transitions import AnyConstraint

KEPT = 2  # models, and constraints, that a process of a node keeps ready


@dataclass(frozen=True)
class SharedModel:
    """A checkpoint in the memory of a cluster; nodes need no file of it.

    key: of the object; equal keys are the same checkpoint.
    """

    key: str
    quantization: Quantization
    reference: Any = field(compare=False, repr=False)

    @classmethod
    def of(cls, checkpoint: Checkpoint, quantization: Quantization) -> "SharedModel":
        """Share a checkpoint with the cluster that this process is connected to."""
        import ray

        reference = ray.put(checkpoint)
        return cls(reference.hex(), quantization, reference)


@lru_cache(KEPT)
def ready(model: SharedModel) -> tuple[Checkpoint, Decoder]:
    """The checkpoint and what steps it, in a process of a node."""
    import ray

    checkpoint: Checkpoint = ray.get(model.reference)
    return checkpoint, Decoder(checkpoint, model.quantization)


@lru_cache(KEPT)
def ready_constraint(model: SharedModel, constraint: Constraint) -> AnyConstraint:
    """A constraint compiled for the model, in a process of a node."""
    checkpoint, decoder = ready(model)
    return compiled(constraint, Vocabulary(checkpoint.tokenizer, decoder.ids))
