"""Every object that the chart makes, by Helm, kubectl and the schemas of Kubernetes; `make chart-proof` runs these."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from service.server import FLUSH_SECONDS
from service.settings import Settings
from tests.kubernetes.chart import (
    CHART,
    SETS,
    Object,
    container_of,
    helm,
    of_kind,
    pod_of,
    rendered,
    tool,
    values_of,
    variables,
)  # fmt: skip
from tests.kubernetes.schemas import OLDEST, Refused, check, check_all

pytestmark = pytest.mark.chart

OPTIONAL = {
    "bundled": set(),
    "claim": {"HorizontalPodAutoscaler", "Ingress", "NetworkPolicy", "PodDisruptionBudget", "ServiceMonitor"},
    "archive": {"ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "ScaledObject", "Secret", "ServiceMonitor"},
    "copy": {"NetworkPolicy", "PodDisruptionBudget"},
    "image": {"Ingress", "NetworkPolicy", "PodDisruptionBudget"},
}


@pytest.mark.parametrize("name", SETS)
def test_every_object_is_one_of_kubernetes(name: str) -> None:
    linted = helm("lint", name)
    assert linted.returncode == 0, linted.stdout + linted.stderr
    objects = rendered(name)
    assert {one["kind"] for one in objects} == {"Deployment", "Service"} | OPTIONAL[name]
    for one in objects:
        assert ": null" not in yaml.safe_dump(one)
        check(one, None)
        if name != "image":  # a volume of that kind is younger
            check(one, OLDEST)


def changed_chart(folder: Path, file: str, before: str, after: str) -> Path:
    """A copy of the chart with one change of a template."""
    chart = folder / "chart"
    shutil.copytree(CHART, chart)
    path = chart / "templates" / file
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after), "utf-8")
    return chart


@pytest.mark.parametrize(
    ("name", "file", "right", "wrong"),
    [
        ("claim", "deployment.yaml", "terminationGracePeriodSeconds", "terminationGracePeriodSecond"),
        ("claim", "_volumes.tpl", "readOnly: true", "readonly: true"),
        ("claim", "_helpers.tpl", "readOnlyRootFilesystem: true", 'readOnlyRootFilesystem: "yes"'),
        ("claim", "autoscaling.yaml", "stabilizationWindowSeconds", "stabilisationWindowSeconds"),
        ("claim", "policies.yaml", "maxUnavailable", "maxUnavailble"),
        ("claim", "servicemonitor.yaml", "interval:", "intervall:"),
        ("archive", "autoscaling.yaml", "minReplicaCount", "minReplicasCount"),
    ],
)
def test_a_misspelt_field_is_found(name: str, file: str, right: str, wrong: str, tmp_path: Path) -> None:
    objects = rendered(name, chart=changed_chart(tmp_path, file, right, wrong))
    with pytest.raises(Refused, match=wrong.partition(":")[0]):
        check_all(objects)


@pytest.mark.parametrize("words", ["replica=3", "settings.max_row=3", "ingress.enable=true", "settings.threads=1000"])
def test_helm_itself_refuses_a_misspelt_value(words: str) -> None:
    for verb in ("lint", "template"):
        done = helm(verb, "bundled", "--set", words)
        assert done.returncode == 1
        where = words.rpartition("=")[0].split(".")
        assert re.search(f"'?{where[-1]}'? not allowed|/{'/'.join(where)}': maximum", done.stdout + done.stderr)


@pytest.mark.parametrize(
    ("name", "words", "sentence"),
    [
        ("claim", ["models.copy.image=models"], "Models come from one place; set one of models.volume, models.copy."),
        ("archive", ["models.archive.sha256="], "An archive of models needs its digest: set models.archive.sha256."),
        ("archive", ["autoscaling.prometheus="], "KEDA asks Prometheus: set autoscaling.prometheus to its address."),
        ("bundled", ["ingress.enabled=true"], "name apiKeys.existingSecret, or set apiKeys.open to true."),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_a_remedy(
    name: str, words: list[str], sentence: str
) -> None:
    done = helm("template", name, *(part for word in words for part in ("--set", word)))
    assert done.returncode == 1
    assert sentence in done.stderr


@pytest.mark.parametrize("name", SETS)
def test_kubectl_reads_every_object(name: str) -> None:
    # `kubectl apply --dry-run=client` asks a cluster for its kinds; these read files alone.
    objects = rendered(name)
    text = yaml.safe_dump_all(objects)
    labelled = tool("kubectl", "label", "--local", "--dry-run=client", "-f", "-", "a=b", "-o", "json", given=text)
    assert labelled.returncode == 0, labelled.stderr
    decoder, rest = json.JSONDecoder(), labelled.stdout.strip()
    seen: list[Object] = []
    while rest:
        one, end = decoder.raw_decode(rest)
        seen += one["items"] if one["kind"] == "List" else [one]
        rest = rest[end:].strip()
    assert [(one["kind"], one["metadata"]["labels"].pop("a")) for one in seen] == [
        (one["kind"], "b") for one in objects
    ]
    assert seen == objects
    deployment = yaml.safe_dump(*of_kind(objects, "Deployment"))
    listed = tool("kubectl", "set", "env", "--local", "-f", "-", "--list", "--containers=unroll", given=deployment)
    assert listed.returncode == 0, listed.stderr
    shown = [line for line in listed.stdout.splitlines() if not line.startswith("#")]
    assert shown == [f"{key}={value}" for key, value in variables(container_of(objects)).items()]


def within(small: Object, large: Object) -> bool:
    return bool(small) and small.items() <= large.items()


@pytest.mark.parametrize("name", SETS)
def test_objects_find_each_other(name: str) -> None:
    objects = rendered(name)
    [deployment], pod, container = of_kind(objects, "Deployment"), pod_of(objects), container_of(objects)
    labels, own = pod["metadata"]["labels"], deployment["metadata"]["name"]
    ports = {one["name"] for one in container["ports"]}
    assert within(deployment["spec"]["selector"]["matchLabels"], labels)
    services = {one["metadata"]["name"]: one for one in of_kind(objects, "Service")}
    for service in services.values():
        assert within(service["spec"]["selector"], labels)
        assert {one["targetPort"] for one in service["spec"]["ports"]} <= ports
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in ports
    for one in of_kind(objects, "PodDisruptionBudget"):
        assert within(one["spec"]["selector"]["matchLabels"], labels)
    for one in of_kind(objects, "NetworkPolicy"):
        assert within(one["spec"]["podSelector"]["matchLabels"], labels)
        assert {port["port"] for rule in one["spec"]["ingress"] for port in rule["ports"]} == ports
    for one in of_kind(objects, "HorizontalPodAutoscaler") + of_kind(objects, "ScaledObject"):
        assert one["spec"]["scaleTargetRef"]["name"] == own
        assert "replicas" not in deployment["spec"]
    for one in of_kind(objects, "Ingress"):
        [path] = one["spec"]["rules"][0]["http"]["paths"]
        backend = path["backend"]["service"]
        assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}
    for one in of_kind(objects, "ServiceMonitor"):
        wanted = one["spec"]["selector"]["matchLabels"]
        [found] = [service for service in services.values() if within(wanted, service["metadata"]["labels"])]
        assert {one["spec"]["endpoints"][0]["port"]} == {port["name"] for port in found["spec"]["ports"]}
        for scaled in of_kind(objects, "ScaledObject"):
            queries = [trigger["metadata"]["query"] for trigger in scaled["spec"]["triggers"]]
            series = f'{{namespace="default",service="{found["metadata"]["name"]}"}}'
            assert queries == [f"sum(unroll_requests_{what}{series})" for what in ("waiting", "running")]
    volumes = {one["name"] for one in pod["spec"].get("volumes", ())}
    containers = [container, *pod["spec"].get("initContainers", ())]
    assert {mount["name"] for one in containers for mount in one.get("volumeMounts", ())} == volumes


@pytest.mark.parametrize("name", SETS)
def test_pods_may_do_nothing_that_serving_does_not_need(name: str) -> None:
    spec = pod_of(rendered(name))["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for one in (*spec["containers"], *spec.get("initContainers", ())):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}
        }  # fmt: skip
        assert one["resources"]["limits"]["memory"]
    assert all(one["readOnly"] for one in spec["containers"][0].get("volumeMounts", ()))


@pytest.mark.parametrize("name", SETS)
def test_the_kubelet_waits_longer_than_the_server(name: str) -> None:
    values, spec = values_of(name), pod_of(rendered(name))["spec"]
    grace = float(variables(spec["containers"][0])["UNROLL_GRACE_SECONDS"])
    assert grace == values["graceSeconds"]
    paused = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    assert paused == values["preStopSeconds"]
    assert spec["terminationGracePeriodSeconds"] > paused + grace + FLUSH_SECONDS
    assert spec["terminationGracePeriodSeconds"] == pytest.approx(paused + grace + 10)


@pytest.mark.parametrize("name", ["claim", "image"])
def test_an_ingress_holds_nothing_back_and_waits_longer_than_the_server(name: str) -> None:
    values, [ingress] = values_of(name), of_kind(rendered(name), "Ingress")
    said: dict[str, Any] = {key.rpartition("/")[2]: value for key, value in ingress["metadata"]["annotations"].items()}
    assert (said["proxy-buffering"], said["proxy-request-buffering"]) == ("off", "off")
    settings = values["settings"]
    keep_alive = settings.get("keep_alive_seconds", Settings.keep_alive_seconds)
    deadline = settings.get("deadline_seconds", Settings.deadline_seconds) or 86_400
    assert int(said["proxy-read-timeout"]) > max(keep_alive, deadline)
    assert int(said["proxy-body-size"]) == Settings.max_body_bytes
    assert said["backend-protocol"] == ("HTTPS" if name == "claim" else "HTTP")
    assert said["proxy-send-timeout"] == ("30" if name == "claim" else said["proxy-read-timeout"])
    waits = ["--set", "settings.keep_alive_seconds=1000"]
    [patient] = of_kind(rendered(name, *waits), "Ingress")
    assert int(patient["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-read-timeout"]) > 1000


def test_another_file_of_keys_is_another_pod() -> None:
    def sum_(*words: str) -> str:
        return str(pod_of(rendered("archive", *words))["metadata"]["annotations"]["checksum/files"])

    assert sum_() == sum_()
    assert sum_() != sum_("--set", "apiKeys.file=another-key-in-an-example")
