"""The Kubernetes manifests: kustomize builds them, references resolve, no pod has more rights than it needs.

Without `kubectl` the base is put together here (its resources are plain YAML); the overlay needs it.
"""

from __future__ import annotations

import functools
from pathlib import Path

import pytest
import yaml

from scheduler.config.load import load_settings
from scheduler.machine.processes import GRACE_S
from scheduler.rules.in_force.apply import read_file_rules
from support.kustomize import kustomized
from workers.plan import Lane
from workers.settings import BrokerSettings, LimitSettings

KUBERNETES = Path(__file__).parents[2] / "deploy" / "kubernetes"
TARGETS = {"base": KUBERNETES / "base", "production": KUBERNETES / "overlays" / "production"}


@functools.cache
def built(target: str) -> list[dict]:
    return [document for document in yaml.safe_load_all(kustomized(TARGETS[target])) if document]


def plain() -> list[dict]:
    base = TARGETS["base"]
    names = yaml.safe_load((base / "kustomization.yaml").read_text())["resources"]
    return [one for name in names for one in yaml.safe_load_all((base / name).read_text()) if one]


def of_kind(documents: list[dict], *kinds: str) -> list[dict]:
    return [one for one in documents if one["kind"] in kinds]


def pods(documents: list[dict]) -> dict[str, dict]:
    """Pod templates by the name of their workload."""
    found = {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in of_kind(documents, "Deployment", "StatefulSet")
    }
    jobs = of_kind(documents, "CronJob")
    return found | {one["metadata"]["name"]: one["spec"]["jobTemplate"]["spec"]["template"] for one in jobs}


@pytest.fixture(params=["plain", *TARGETS])
def documents(request) -> list[dict]:
    return plain() if request.param == "plain" else built(request.param)


def test_every_kind_that_is_promised_is_there(documents):
    names = {(one["kind"], one["metadata"]["name"]) for one in documents}
    assert {
        ("Deployment", "front"), ("Deployment", "worker-hot"), ("Deployment", "worker-cold"),
        ("StatefulSet", "consumer"), ("CronJob", "scan"), ("CronJob", "verify"),
        ("HorizontalPodAutoscaler", "front"), ("ScaledObject", "worker-hot"), ("ScaledObject", "worker-cold"),
        ("PodDisruptionBudget", "front"), ("NetworkPolicy", "default-deny"),
    } <= names  # fmt: skip
    assert len(names) == len(documents)


def test_no_pod_has_more_rights_than_it_needs(documents):
    for name, pod in pods(documents).items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert spec["securityContext"]["runAsNonRoot"] is True, name
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False, name
            assert context["readOnlyRootFilesystem"] is True, name
            assert context["capabilities"] == {"drop": ["ALL"]}, name
            assert container["resources"]["limits"]["memory"], name
            assert not [one for one in container.get("env", []) if "value" in one and "SECRET" in one["name"]]


def test_every_mount_has_its_volume_and_what_is_written_is_a_volume(documents):
    claims = {
        one["metadata"]["name"]: {
            claim["metadata"]["name"] for claim in one["spec"].get("volumeClaimTemplates", [])
        }
        for one in of_kind(documents, "StatefulSet")
    }
    for name, pod in pods(documents).items():
        volumes = {volume["name"] for volume in pod["spec"]["volumes"]} | claims.get(name, set())
        (container,) = pod["spec"]["containers"]
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        assert {mount["name"] for mount in mounts.values()} == volumes, name
        assert {"/var/lib/ferryman", "/tmp", "/etc/ferryman"} <= set(mounts), name


def test_selectors_ports_and_scale_targets_meet_what_they_name(documents):
    templates = pods(documents)
    for one in of_kind(documents, "Deployment", "StatefulSet"):
        labels = one["spec"]["template"]["metadata"]["labels"]
        assert one["spec"]["selector"]["matchLabels"].items() <= labels.items()
    workloads = {(one["kind"], one["metadata"]["name"]) for one in documents}
    for one in of_kind(documents, "HorizontalPodAutoscaler", "ScaledObject"):
        target = one["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in workloads
        owner = next(d for d in of_kind(documents, target["kind"]) if d["metadata"]["name"] == target["name"])
        assert "replicas" not in owner["spec"], "two owners of one number"
    for service in of_kind(documents, "Service"):
        selector = service["spec"]["selector"]
        chosen = [pod for pod in templates.values() if selector.items() <= pod["metadata"]["labels"].items()]
        assert chosen, service["metadata"]["name"]
        names = {port["name"] for pod in chosen for port in pod["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for budget in of_kind(documents, "PodDisruptionBudget"):
        wanted = budget["spec"]["selector"]["matchLabels"]
        assert any(wanted.items() <= pod["metadata"]["labels"].items() for pod in templates.values())
    for pod in templates.values():
        for container in pod["spec"]["containers"]:
            ports = {port["name"] for port in container.get("ports", [])}
            for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
                if probe in container:
                    assert container[probe]["httpGet"]["port"] in ports
                    assert container[probe]["httpGet"]["path"] in {"/healthz", "/readyz"}


def test_scaling_counts_the_lists_that_workers_read(documents):
    namespace = BrokerSettings().namespace
    listed = {
        one["metadata"]["name"]: one["spec"]["triggers"][0]["metadata"]["listName"]
        for one in of_kind(documents, "ScaledObject")
    }
    assert listed == {f"worker-{lane}": f"{namespace}:{lane}" for lane in Lane}
    authentications = {one["metadata"]["name"] for one in of_kind(documents, "TriggerAuthentication")}
    for one in of_kind(documents, "ScaledObject"):
        assert one["spec"]["triggers"][0]["authenticationRef"]["name"] in authentications


def test_a_pod_may_drain_before_it_is_killed(documents):
    for name, pod in pods(documents).items():
        assert pod["spec"]["terminationGracePeriodSeconds"] > LimitSettings().drain_s + GRACE_S, name


@pytest.mark.parametrize("target", sorted(TARGETS))
def test_the_configuration_is_valid_and_its_secrets_are_mounted(target, tmp_path):
    text = (TARGETS[target] / "config.yaml").read_text(encoding="utf-8")
    # The broker's URL is read when the settings are.
    (tmp_path / "url").write_text("redis://:x@valkey.ferryman.svc:6379/0\n")
    path = tmp_path / "config.yaml"
    path.write_text(text.replace("/run/secrets/broker/url", str(tmp_path / "url")))
    settings = load_settings(path, env={})
    assert settings.limits.drain_s == LimitSettings().drain_s
    rulesets, _ = read_file_rules(settings)
    assert rulesets
    files = yaml.safe_load(text)
    wanted = [
        files["admin"]["token_file"],
        files["store"]["secret_access_key_file"],
        files["broker"]["url_file"],
    ]
    for name, pod in pods(plain()).items():
        mounted = {
            mount["mountPath"]: mount["name"] for mount in pod["spec"]["containers"][0]["volumeMounts"]
        }
        for file in wanted:
            assert str(Path(file).parent) in mounted, (name, file)


def test_the_overlay_replaces_configuration_image_and_suspension():
    documents = built("production")
    (config,) = of_kind(documents, "ConfigMap")
    assert config["data"]["config.yaml"] == (TARGETS["production"] / "config.yaml").read_text()
    assert all(one["metadata"].get("namespace", "ferryman") == "ferryman" for one in documents)
    for pod in pods(documents).values():
        assert pod["spec"]["containers"][0]["image"].startswith("images.example.com/ferryman:")
        used = next(v["configMap"]["name"] for v in pod["spec"]["volumes"] if "configMap" in v)
        assert used == config["metadata"]["name"]
        # The default-deny policy and the way out hold for every pod.
        assert pod["metadata"]["labels"]["app.kubernetes.io/part-of"] == "ferryman"
    assert all(one["spec"]["suspend"] is False for one in of_kind(documents, "CronJob"))
