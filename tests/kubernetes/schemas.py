"""Whether an object is one that Kubernetes, KEDA and the Prometheus operator know, with no field they do not know."""

from typing import Any

from tests.kubernetes.chart import Object

OLDEST = "1.30.0"  # of kubeVersion in Chart.yaml


class Refused(AssertionError):
    """An object that is none."""


def check(one: Object, version: str | None) -> None:
    """Raise Refused unless the object is what its kind allows. version: of Kubernetes; None for the newest known."""
    import kubernetes_validate

    if one["kind"] in ("ScaledObject", "ServiceMonitor"):
        _check_custom(one)
        return
    try:
        kubernetes_validate.validate(one, version or kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        raise Refused(f"{one['kind']}: {error}") from error


def check_all(objects: list[Object]) -> None:
    """Check each by the newest version known."""
    for one in objects:
        check(one, None)


def _check_custom(one: Object) -> None:
    """Of kinds that are not Kubernetes' own: a field that the model does not know is lost in it."""
    from cloudcoil.models.keda.v1alpha1 import ScaledObject
    from cloudcoil.models.prometheus_operator.v1 import ServiceMonitor
    from pydantic import ValidationError

    kinds: dict[str, Any] = {kind.__name__: kind for kind in (ScaledObject, ServiceMonitor)}
    try:
        known = kinds[one["kind"]].model_validate(one).model_dump(mode="json", by_alias=True, exclude_none=True)
    except ValidationError as error:
        raise Refused(f"{one['kind']}: {error}") from error
    if lost := sorted(_fields(one) - _fields(known)):
        raise Refused(f"{one['kind']} has no {', '.join(lost)}")
    if known != one:
        raise Refused(f"{one['kind']} is read as {known}")


def _fields(value: Any, path: str = "") -> set[str]:
    if isinstance(value, dict):
        return {name for key, inner in value.items() for name in {f"{path}/{key}"} | _fields(inner, f"{path}/{key}")}
    if isinstance(value, list):
        return {name for place, inner in enumerate(value) for name in _fields(inner, f"{path}/{place}")}
    return set()
