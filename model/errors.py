"""Every error Unroll raises on purpose, as one tree of sentences that name the remedy.

UnrollError
├── CorpusError       a text could not be read, or cannot be trained on as it is
├── TokenizerError    a text cannot be encoded, or a vocabulary is not one of ours
├── CheckpointError   a checkpoint folder is missing, damaged, foreign or of another version
├── ParameterError    a number the caller chose lies outside its range; names the parameter
├── TrainingError     a training run had to stop
└── ServiceError      the service cannot take or finish a request (its kinds: service/errors.py)
"""


class UnrollError(Exception):
    """Anything Unroll refuses to do; its text is a sentence for the person who asked."""


class CorpusError(UnrollError):
    """A corpus could not be read as text, or is too small to train on."""


class TokenizerError(UnrollError):
    """A text cannot be encoded, or a tokenizer file is not one Unroll wrote."""


class CheckpointError(UnrollError):
    """A checkpoint folder is missing, damaged, foreign, or of a version this Unroll does not read."""


class ParameterError(UnrollError):
    """A parameter lies outside its range.

    parameter: the name the caller knows it by, for the error's `param` field.
    """

    def __init__(self, parameter: str, message: str) -> None:
        super().__init__(message)
        self.parameter = parameter


class TrainingError(UnrollError):
    """A training run had to stop; the message says what was kept and what to change."""


class ServiceError(UnrollError):
    """The service cannot take or finish a request."""
