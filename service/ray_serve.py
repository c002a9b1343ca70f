"""Unroll on Ray Serve, for `serve run service.ray_serve:app`: replicas of the application behind Ray's proxy."""

import difflib
import gc
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

from fastapi import FastAPI
from pydantic import TypeAdapter, ValidationError
from ray import serve

from model.checkpoint import check
from model.command_line.options import about
from service.app import Application, create_application
from service.errors import EngineStopped, SettingsError
from service.inference.served_model import load_limit
from service.models.naming import named_places
from service.monitoring import logs
from service.process import allocator
from service.process.address_space import too_little
from service.process.background import SWITCH_SECONDS
from service.setting_fields import CONNECTIONS
from service.settings import OPTIONS, Settings, variable_of

OF_RAY = {
    *("host", "uds", "port", "tls_certificate", "tls_key", "trusted_proxies"),
    *("processes", "watchdog_seconds"),
}
"""Settings of what Ray does in our place, beside those of connections."""

ANY_HOST = "0.0.0.0"  # Ray's proxy listens; which names it is called by is for `allowed_hosts` alone

Values = TypeVar("Values")


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """How many replicas serve.

    min_replicas, max_replicas: Ray starts and ends replicas between the two. ongoing_requests: of each replica, that
    Ray aims at; None is half of the texts that it generates at once. cores: that Ray keeps for each replica; None is as
    many as threads, by default one.
    """

    min_replicas: int = 1
    max_replicas: int = 4
    ongoing_requests: int | None = None
    cores: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_replicas <= self.max_replicas or self.max_replicas < 1:
            raise SettingsError(
                f"min_replicas is {self.min_replicas} and max_replicas {self.max_replicas}; choose whole numbers, of "
                "which the second is at least 1 and the larger one."
            )
        if self.ongoing_requests is not None and self.ongoing_requests < 1:
            raise SettingsError(f"ongoing_requests is {self.ongoing_requests}; choose at least 1.")


class Replica:
    """One replica: the application in a process of Ray's."""

    def __init__(self, settings: Settings) -> None:
        allocator.configure()
        sys.setswitchinterval(SWITCH_SECONDS)
        logs.configure(settings)
        self._made: Application = create_application(settings)
        gc.freeze()  # what is loaded stays, so the garbage collector need not look at it again

    def __serve_build_asgi_app__(self) -> FastAPI:
        """What answers requests; Ray calls this once."""
        return self._made.asgi

    def check_health(self) -> None:
        """Raise ServiceError where Ray should put another replica in this one's place."""
        engine = self._made.engine
        if engine.died or engine.threads < engine.started:
            raise EngineStopped("A thread that generates has died; this replica has to be started again.")
        if self._made.ledger.starved:
            raise too_little()


def app(args: dict[str, Any]) -> Any:
    """The application of Ray Serve.

    args: settings of `unroll serve` by their names, as `checkpoint=runs/book/best`, and the fields of Replicas. What is
    not given comes from the environment, as for `unroll serve`.
    Raises SettingsError and CheckpointError before a replica is started.
    """
    of_replicas = {one.name for one in fields(Replicas)}
    replicas = _valid(Replicas, {name: value for name, value in args.items() if name in of_replicas})
    settings = settings_of({name: value for name, value in args.items() if name not in of_replicas}, os.environ)
    for place in named_places(settings):
        check(place.checkpoint, load_limit(settings))
    return _deployment(settings, replicas).bind(settings)


def settings_of(args: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """The settings of all replicas: those given, then those of the environment.

    All have one secret of states, so that each takes the states of the others; and one thread, unless it is said.
    Raises SettingsError on a setting that is none, that is out of range, or that is of what Ray does.
    """
    for name in args:
        if name not in OPTIONS:
            [nearest] = difflib.get_close_matches(name, [*OPTIONS, *Replicas.__dataclass_fields__], n=1, cutoff=0)
            raise SettingsError(f"There is no setting {name}; perhaps {nearest} is meant.")
    given = {name: environment[variable_of(name)] for name in OPTIONS if environment.get(variable_of(name))} | {**args}
    for name in given:
        if name in OF_RAY or about(OPTIONS[name]).panel == CONNECTIONS:
            named = name if name in args else variable_of(name)
            raise SettingsError(
                f"{named} is for `unroll serve` alone, as Ray Serve has the connections and the processes; leave it "
                "out, and see its http_options."
            )
    if isinstance(given.get("others"), str):
        given["others"] = given["others"].split()
    settings = _valid(Settings, given)
    if settings.state_secret is None and settings.state_secret_file is None:
        settings = replace(settings, state_secret=secrets.token_hex())
    return replace(settings, host=ANY_HOST, threads=settings.threads or 1)


def _deployment(settings: Settings, replicas: Replicas) -> Any:
    """The deployment: how Ray scales and ends replicas. Each takes twice the requests that it generates at once."""
    scaling = {
        "min_replicas": replicas.min_replicas,
        "max_replicas": replicas.max_replicas,
        "target_ongoing_requests": replicas.ongoing_requests or max(1, settings.max_rows // 2),
    }
    options = {
        "name": "Unroll",
        "autoscaling_config": scaling,
        "max_ongoing_requests": 2 * settings.max_rows,
        "max_queued_requests": max(1, settings.max_waiting),
        "graceful_shutdown_timeout_s": settings.grace_seconds,
        "ray_actor_options": {"num_cpus": replicas.cores if replicas.cores is not None else settings.threads},
    }
    return serve.deployment(**options)(serve.ingress()(Replica))


def _valid(kind: type[Values], given: Mapping[str, Any]) -> Values:
    """A dataclass of values that may be texts. Raises SettingsError on one that is not of its type."""
    try:
        return TypeAdapter(kind).validate_python(dict(given))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"]))
        raise SettingsError(f"{name} is {first['input']!r}: {first['msg'].lower()}; give another value.") from None
