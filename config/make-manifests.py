# SPDX-License-Identifier: Apache-2.0
"""Generates the schema of the Helm chart's values, and the manifests for those who do not use Helm.

    .venv/bin/python config/make-manifests.py [FOLDER]

Writes ``helm/values.schema.json`` from the types below, and with the chart ``kubernetes/spawnstall.yaml``,
``podmonitor.yaml`` and ``openshift.yaml``.  FOLDER: where to write them; default: config.  Needs helm, which
``make setup-e2e`` installs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agent.settings import agentfile
from agent.shape import shape_of

_CONFIG = Path(__file__).resolve().parent
_CHART = _CONFIG / "helm"
_HELM = _CONFIG.parent / ".cache" / "helm-4"
_GENERATED = "# Generated from config/helm by `make manifests`; do not edit."
_APPLY = "Set the image, then kubectl apply -f spawnstall.yaml (config/INSTALL.md)."

_MANIFESTS = {
    "spawnstall.yaml": (
        f"The agent on every node. {_APPLY}",
        ("--set=createNamespace=true,restartOnChange=false",),
    ),
    "podmonitor.yaml": (
        "The Prometheus operator scrapes the agents.",
        ("--set=monitor.kind=PodMonitor", "--show-only=templates/monitor.yaml"),
    ),
    "openshift.yaml": (
        "For kubectl or oc apply -f, before spawnstall.yaml.",
        ("--set=openshift=true", "--show-only=templates/openshift.yaml"),
    ),
}
"""The manifests by file name: a comment, and helm's options."""


# The values of the chart, as values.yaml documents them. All are required, because values.yaml has them all.


@dataclass(frozen=True)
class Image:
    repository: str
    tag: str
    digest: str
    pullPolicy: Literal["Always", "IfNotPresent", "Never"]


@dataclass(frozen=True)
class Tls:
    secret: str
    clientCertificates: bool


@dataclass(frozen=True)
class NetworkPolicy:
    enabled: bool
    clients: list[dict[str, Any]]


@dataclass(frozen=True)
class Monitor:
    kind: Literal["", "PodMonitor", "ServiceMonitor"]
    labels: dict[str, str]
    interval: str
    serverName: str
    clientSecret: str
    userSecret: str


@dataclass(frozen=True)
class PrometheusRule:
    enabled: bool
    labels: dict[str, str]


@dataclass(frozen=True)
class Dashboards:
    enabled: bool
    labels: dict[str, str]
    annotations: dict[str, str]


@dataclass(frozen=True)
class Values:
    image: Image
    imagePullSecrets: list[dict[str, str]]
    config: agentfile.Config
    restartOnChange: bool
    tls: Tls
    users: dict[str, str]
    capabilities: list[Literal["BPF", "PERFMON", "SYS_ADMIN", "SYS_PTRACE", "DAC_READ_SEARCH"]]
    tracefs: str
    networkPolicy: NetworkPolicy
    resources: dict[str, dict[str, Any]]
    nodeSelector: dict[str, str]
    tolerations: list[dict[str, Any]]
    affinity: dict[str, dict[str, Any]]
    priorityClassName: str
    updateStrategy: dict[str, Any]
    podLabels: dict[str, str]
    podAnnotations: dict[str, str]
    monitor: Monitor
    prometheusRule: PrometheusRule
    dashboards: Dashboards
    openshift: bool
    createNamespace: bool


def main() -> None:
    """Write the schema and the manifests."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else _CONFIG
    for name, text in {"helm/values.schema.json": _schema(), **_manifests()}.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def _schema() -> str:
    """Return the schema of the values; helm 3 knows draft 7 at most."""
    definitions: dict[str, Any] = {}
    shape_of(Values).schema(definitions)
    for found in definitions.values():
        found.pop("description", None)  # values.yaml and agent.yaml describe them
    root = definitions.pop("Values")
    root["properties"]["global"] = {"type": "object"}  # what a chart that depends on this one hands down
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", **root, "$defs": definitions}
    return json.dumps(schema, indent=2) + "\n"


def _manifests() -> dict[str, str]:
    if not _HELM.exists():
        sys.exit("helm is not installed: make setup-e2e")
    return {
        f"kubernetes/{name}": f"{_GENERATED}\n# {comment}\n{_rendered(options)}"
        for name, (comment, options) in _MANIFESTS.items()
    }


def _rendered(options: tuple[str, ...]) -> str:
    command = [str(_HELM), "template", "spawnstall", str(_CHART), "--namespace=spawnstall", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    documents = re.split(r"(?m)^---\n# Source: .*\n", done.stdout)
    return "---\n".join(f"{document.strip()}\n" for document in documents if document.strip())


if __name__ == "__main__":
    main()
