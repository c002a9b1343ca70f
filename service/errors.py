"""Why the service cannot take or finish a request, as kinds of ServiceError; service/api gives each an HTTP status.

ServiceError (model/errors.py)
├── SettingsError     a setting lies outside its range, or the server cannot start with it
├── MemorySpent       the bytes a request will hold are not left now
├── TooCostly         a request needs more bytes than all requests together may have
├── QueueFull         as many requests run and wait as the settings allow
├── Draining          the server is stopping and takes no more requests
├── EngineStopped     a thread that generates text is not running
├── StepFailed        the call of the model that a request took part in raised an exception
├── DeadlineExceeded  a request took longer than the settings allow
├── ReaderTooSlow     the client reads a stream too slowly
├── UnknownModel      the request names a model this server does not serve
├── VersionGone       the request names a version of a model that is no longer served
├── ModelUnavailable  the model that the request names cannot be loaded now
├── StateOfAnother    a state was made for another API key or cache_salt
└── Disconnected      the client is gone
"""

from model.errors import ServiceError


class SettingsError(ServiceError):
    """A setting lies outside its range, or the server cannot start with it; names the setting and the remedy."""


class MemorySpent(ServiceError):
    """The bytes a request will hold are not left now, of the ledger or of the machine."""


class TooCostly(ServiceError):
    """A request needs more bytes than all requests together may have."""


class QueueFull(ServiceError):
    """As many requests run and wait as the settings allow."""


class Draining(ServiceError):
    """The server is stopping and takes no more requests."""


class EngineStopped(ServiceError):
    """A thread that generates text was not started, or has died."""


class StepFailed(ServiceError):
    """The call of the model that a request took part in raised an exception; the text so far is all there is."""


class DeadlineExceeded(ServiceError):
    """A request, its time in the queue included, took longer than the settings allow."""


class ReaderTooSlow(ServiceError):
    """The client reads a stream too slowly: more of it waits to be sent than the limit allows."""


class UnknownModel(ServiceError):
    """The request names a model this server does not serve."""


class VersionGone(ServiceError):
    """The request names a version of a model that is no longer served; says which one is."""


class ModelUnavailable(ServiceError):
    """The model that the request names cannot be loaded now."""


class StateOfAnother(ServiceError):
    """A state was made for another API key, or another cache_salt, than it is sent with."""


GIVEN_UP = "The request was given up."
"""Of a client that has left, for the log."""


class Disconnected(ServiceError):
    """The client is gone, so that nobody reads this."""
