# SPDX-License-Identifier: Apache-2.0
"""The generated files."""

from __future__ import annotations

from collections.abc import Mapping

import yaml

from dashboards.alerts import alerts
from dashboards.fleet import fleet_dashboard
from dashboards.grafana_rules import alerting_provisioning
from dashboards.host import host_dashboard
from dashboards.prometheus_rules import alerting_rules, prometheus_rule, recording_rules
from dashboards.recordings import recordings

__all__ = ["as_yaml", "generated_files"]


def generated_files(runbooks: str) -> dict[str, str]:
    """Return the texts by path in the project; ``runbooks`` is the URL of the folder with the runbooks."""
    return {
        "dashboards/generated/fleet.json": fleet_dashboard(runbooks),
        "dashboards/generated/host.json": host_dashboard(runbooks),
        "config/prometheus/recording.yaml": as_yaml(recording_rules(recordings()), "recordings.py"),
        "config/prometheus/alerts.yaml": as_yaml(alerting_rules(alerts(), runbooks), "alerts.py"),
        "dashboards/provisioning/alerting/spawnstall.yaml": as_yaml(
            alerting_provisioning(alerts(), runbooks), "alerts.py"
        ),
        "config/kubernetes/prometheusrule.yaml": as_yaml(
            prometheus_rule(recordings(), alerts(), runbooks), "alerts.py and dashboards/recordings.py"
        ),
    }


def as_yaml(document: Mapping[str, object], source: str, command: str = "make dashboards") -> str:
    """Return a document as YAML that names its source in dashboards/ and the command that generates it."""
    body = yaml.dump(document, Dumper=_WithoutAliases, sort_keys=False, width=10**6)
    return f"# Generated from dashboards/{source} by `{command}`; do not edit.\n{body}"


class _WithoutAliases(yaml.SafeDumper):
    """Repeats equal parts, instead of *id001."""

    def ignore_aliases(self, data: object) -> bool:
        return True
