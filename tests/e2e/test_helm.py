# SPDX-License-Identifier: Apache-2.0
"""The Helm chart, rendered by helm 3 and helm 4: valid for Kubernetes, for the agent, and in itself."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from jsonschema import Draft7Validator  # type: ignore[import-untyped]

from agent import __version__
from agent.settings import agentfile, webfile

_HASH = "$2y$10$abcdefghijklmnopqrstuuABCDEFGHIJKLMNOPQRSTUVWXYZ01234"
_TLS = {"secret": "agent-tls", "clientCertificates": False}
_MONITOR = {"labels": {"release": "prom"}, "serverName": "agents.example"}
SETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "TLS": {"tls": _TLS},
    "users": {"users": {"prometheus": _HASH}},
    "all of the Prometheus operator": {
        "monitor": {**_MONITOR, "kind": "PodMonitor"},
        "prometheusRule": {"enabled": True, "labels": {"release": "prom"}},
        "dashboards": {"enabled": True, "annotations": {"grafana_folder": "Stalls"}},
    },
    "TLS, users and a ServiceMonitor": {
        "tls": {**_TLS, "clientCertificates": True},
        "users": {"prometheus": _HASH},
        "monitor": {**_MONITOR, "kind": "ServiceMonitor", "clientSecret": "prom", "userSecret": "login"},
    },
    "OpenShift": {"openshift": True, "tls": _TLS},
    "RHEL 8": {
        "capabilities": ["SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"],
        "tracefs": "/sys/kernel/debug/tracing",
    },
    "every other value": {
        "image": {"repository": "quay.example/spawnstall", "digest": "sha256:12"},
        "imagePullSecrets": [{"name": "registry"}],
        "config": {"filter": {"uid": [1000660000]}, "log": {"stalls_per_minute": 1_000_000}},
        "networkPolicy": {"clients": []},
        "resources": {"limits": {"cpu": 1}},
        "nodeSelector": {"pool": "web"},
        "tolerations": [{"key": "web", "operator": "Exists"}],
        "affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "system-node-critical",
        "updateStrategy": {"type": "OnDelete", "rollingUpdate": None},
        "podLabels": {"team": "infra"},
        "podAnnotations": {"note": "x"},
        "createNamespace": True,
    },
}
"""Values by what they are for."""

Object = dict[str, Any]
Render = Callable[..., "subprocess.CompletedProcess[str]"]


@cache
def _template(helm: Path, chart: Path, values: str, release: str) -> subprocess.CompletedProcess[str]:
    command = [str(helm), "template", release, str(chart), "--namespace=watch", "--values=-"]
    return subprocess.run(command, input=values, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(params=["3", "4"], ids=lambda release: f"helm {release}")
def render(request: pytest.FixtureRequest, repo_root: Path) -> Render:
    """Runs helm template with values."""
    helm = repo_root / ".cache" / f"helm-{request.param}"
    if not helm.exists():
        pytest.skip("helm is not installed: make setup-e2e")

    def run(values: Object, release: str = "spawnstall") -> subprocess.CompletedProcess[str]:
        return _template(helm, repo_root / "config" / "helm", json.dumps(values), release)

    return run


def _objects(done: subprocess.CompletedProcess[str]) -> list[Object]:
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def _by_kind(done: subprocess.CompletedProcess[str]) -> dict[str, Object]:
    return {document["kind"]: document for document in _objects(done)}


def _of_kubernetes(document: Object) -> bool:
    group = document["apiVersion"].partition("/")[0]
    return "." not in group or group.endswith(".k8s.io")


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_kubernetes_accepts_the_objects(render: Render, values: Object) -> None:
    objects = _objects(render(values))
    for document in filter(_of_kubernetes, objects):
        for version in ("1.30", kubernetes_validate.latest_version()):
            kubernetes_validate.validate(document, version, strict=True)
    names = [(document["kind"], document["metadata"]["name"]) for document in objects]
    assert len(set(names)) == len(names)
    for document in objects:
        labels = document["metadata"].get("labels", {})
        if document["kind"] not in ("Namespace", "SecurityContextConstraints"):
            assert document["metadata"]["namespace"] == "watch"
            assert labels["app.kubernetes.io/instance"] == "spawnstall", names


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_references_match(render: Render, values: Object) -> None:
    """Selectors, ports, volumes and probes."""
    kinds = _by_kind(render(values))
    template = kinds["DaemonSet"]["spec"]["template"]
    pod, labels = template["spec"], template["metadata"]["labels"]
    selectors = [kinds["DaemonSet"]["spec"]["selector"], kinds["NetworkPolicy"]["spec"]["podSelector"]]
    selectors += [
        kinds[kind]["spec"]["selector"] for kind in ("PodMonitor", "ServiceMonitor") if kind in kinds
    ]
    assert all(selector == selectors[0] for selector in selectors)
    assert selectors[0]["matchLabels"].items() <= labels.items()
    [container] = pod["containers"]
    [copier] = pod["initContainers"]
    mounts = {mount["name"] for each in (container, copier) for mount in each["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}
    assert pod["serviceAccountName"] == kinds["ServiceAccount"]["metadata"]["name"]
    assert [port["name"] for port in container["ports"]] == ["web"]
    secure = bool(values.get("tls") or values.get("users"))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert ("exec" in container[probe]) == secure
    used = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    if "SecurityContextConstraints" in kinds:
        allows = kinds["SecurityContextConstraints"]
        assert used == set(allows["volumes"])
        assert allows["users"] == [f"system:serviceaccount:watch:{pod['serviceAccountName']}"]
        assert allows["allowedCapabilities"] == container["securityContext"]["capabilities"]["add"]
    if "Service" in kinds:
        service = kinds["Service"]
        assert service["spec"]["selector"].items() <= labels.items()
        assert selectors[0]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert [port["name"] for port in service["spec"]["ports"]] == ["web"]


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_the_agent_accepts_its_configuration(render: Render, values: Object, tmp_path: Path) -> None:
    """As the pod's volume has it: both configurations, and the files of the certificate's Secret."""
    objects = _objects(render(values))
    for document in objects:
        if document["kind"] == "Secret" or "agent.yaml" in document.get("data", {}):
            for name, text in (document.get("data") or document["stringData"]).items():
                (tmp_path / name).write_text(text)
    config = agentfile.load(tmp_path / "agent.yaml")
    assert config.web.listen == "0.0.0.0:9848"
    expected = values.get("config", {})
    assert config.filter.uid == expected.get("filter", {}).get("uid", [])
    assert config.log.stalls_per_minute == expected.get("log", {}).get("stalls_per_minute", 600)
    if "tls" not in values and "users" not in values:
        assert config.web.config_file == ""
        return
    key = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=agents.example"]
    for name in ("tls", "ca"):
        files = ["-keyout", str(tmp_path / f"{name}.key"), "-out", str(tmp_path / f"{name}.crt")]
        subprocess.run([*key, *files], check=True, capture_output=True)
    web = webfile.load(Path(config.web.config_file))
    assert (web.tls is not None) == ("tls" in values)
    assert web.has_users == ("users" in values)


def test_the_monitors(render: Render) -> None:
    """Both have the same endpoint, with the names that alerts and dashboards use."""
    plain = _by_kind(render({"monitor": {"kind": "PodMonitor"}}))["PodMonitor"]["spec"]["podMetricsEndpoints"]
    same = _by_kind(render({"monitor": {"kind": "ServiceMonitor"}}))["ServiceMonitor"]["spec"]["endpoints"]
    assert plain == same
    [endpoint] = plain
    assert {rule["targetLabel"] for rule in endpoint["relabelings"]} == {"job", "instance"}
    assert "scheme" not in endpoint
    [endpoint] = _by_kind(render(SETS["TLS, users and a ServiceMonitor"]))["ServiceMonitor"]["spec"][
        "endpoints"
    ]
    assert endpoint["scheme"] == "https"
    assert endpoint["tlsConfig"] == {
        "ca": {"secret": {"name": "agent-tls", "key": "ca.crt"}},
        "serverName": "agents.example",
        "cert": {"secret": {"name": "prom", "key": "tls.crt"}},
        "keySecret": {"name": "prom", "key": "tls.key"},
    }
    assert endpoint["basicAuth"]["password"] == {"name": "login", "key": "password"}


def test_rules_and_dashboards_are_the_generated_ones(render: Render, repo_root: Path) -> None:
    objects = _objects(render(SETS["all of the Prometheus operator"]))
    [rule] = (document for document in objects if document["kind"] == "PrometheusRule")
    plain = yaml.safe_load((repo_root / "config/kubernetes/prometheusrule.yaml").read_text())
    assert rule["spec"] == plain["spec"]
    assert rule["metadata"]["labels"]["release"] == "prom"
    found = {
        name: json.loads(text)
        for document in objects
        if document["metadata"].get("labels", {}).get("grafana_dashboard") == "1"
        for name, text in document["data"].items()
    }
    generated = repo_root / "dashboards" / "generated"
    assert found == {f"spawnstall-{file.name}": json.loads(file.read_text()) for file in generated.iterdir()}


def test_two_releases_share_a_namespace(render: Render) -> None:
    def names(release: str) -> set[tuple[str, str]]:
        values = {**SETS["all of the Prometheus operator"], "openshift": True}
        return {(each["kind"], each["metadata"]["name"]) for each in _objects(render(values, release))}

    assert not names("spawnstall-web") & names("batch")


def test_a_change_of_the_configuration_replaces_the_pods(render: Render) -> None:
    def template(**values: Any) -> Object:
        spec: Object = _by_kind(render(values))["DaemonSet"]["spec"]["template"]
        return spec

    changed = {"stalls": {"min_ms": 20}}
    assert template(config=changed) != template()
    assert template(config=changed, restartOnChange=False) == template(restartOnChange=False)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"tolerance": []}, "tolerance"),
        ({"image": {"repo": "x"}}, "repo"),
        ({"config": {"web": {"listn": "x"}}}, "listn"),
        ({"config": {"labels": {"limit": 0}}}, "limit"),
        ({"monitor": {"kind": "Pod"}}, "kind"),
        ({"openshift": "yes"}, "openshift"),
        ({"capabilities": ["NET_ADMIN"]}, "capabilities"),
        ({"config": {"web": {"listen": "none"}}}, "config.web.listen"),
        ({"config": {"web": {"config_file": "web.yml"}}}, "set tls and users instead"),
        ({"tls": {"clientCertificates": True}}, "needs tls.secret"),
        ({"users": {"a": _HASH}, "monitor": {"kind": "PodMonitor"}}, "monitor.userSecret"),
        (
            {"tls": {"secret": "x", "clientCertificates": True}, "monitor": {"kind": "PodMonitor"}},
            "monitor.clientSecret",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_named(render: Render, values: Object, named: str) -> None:
    done = render(values)
    assert done.returncode != 0
    assert named in done.stderr


def test_the_example_of_the_install_page(render: Render, repo_root: Path) -> None:
    text = (repo_root / "config" / "INSTALL.md").read_text()
    [example] = re.findall(r"(?m)(?:^    [a-zA-Z]+: .*\n){3,}", text)
    kinds = _by_kind(render(yaml.safe_load(example)))
    assert {"PodMonitor", "PrometheusRule", "Secret"} <= set(kinds)


def test_the_generated_files_are_up_to_date(repo_root: Path, tmp_path: Path) -> None:
    if not (repo_root / ".cache" / "helm-4").exists():
        pytest.skip("helm is not installed: make setup-e2e")
    command = [sys.executable, str(repo_root / "config" / "make-manifests.py"), str(tmp_path)]
    subprocess.run(command, check=True, cwd=repo_root)
    written = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert len(written) == 4
    for file in written:
        kept = repo_root / "config" / file.relative_to(tmp_path)
        assert file.read_text() == kept.read_text(), f"{kept} is out of date: run make manifests"


def test_the_schema_is_that_of_the_values(repo_root: Path) -> None:
    """Every value is documented in values.yaml, with a default of its type."""
    chart = repo_root / "config" / "helm"
    schema = json.loads((chart / "values.schema.json").read_text())
    values = yaml.safe_load((chart / "values.yaml").read_text())
    Draft7Validator.check_schema(schema)
    Draft7Validator(schema).validate(values)
    assert set(schema["properties"]) == {*values, "global"}


def test_the_chart_has_the_projects_version(repo_root: Path) -> None:
    chart = yaml.safe_load((repo_root / "config" / "helm" / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)
