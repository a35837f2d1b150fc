# SPDX-License-Identifier: Apache-2.0
"""The rules in the formats of Prometheus and of the Prometheus operator."""

from __future__ import annotations

from dashboards.recordings import INTERVAL_SECONDS
from dashboards.rules import Alert, Recording
from dashboards.runbook import runbook_url

__all__ = ["alert_annotations", "alerting_rules", "prometheus_rule", "recording_rules"]

Document = dict[str, object]
Groups = dict[str, list[dict[str, object]]]


def recording_rules(recordings: list[Recording]) -> Groups:
    """Return the rule file with the recording rules."""
    rules: list[dict[str, object]] = [
        {"record": recording.record, "expr": recording.expr} for recording in recordings
    ]
    return _file("spawnstall-recording", rules)


def alerting_rules(alerts: list[Alert], runbooks: str) -> Groups:
    """Return the rule file with the alerts; ``runbooks`` is the URL of the folder with the runbooks."""
    return _file(
        "spawnstall-alerts",
        [
            {
                "alert": alert.name,
                "expr": alert.expr,
                **({"for": alert.wait} if alert.wait else {}),
                **({"keep_firing_for": alert.keep} if alert.keep else {}),
                "labels": {"severity": alert.severity, **alert.labels},
                "annotations": alert_annotations(alert, runbooks),
            }
            for alert in alerts
        ],
    )


def prometheus_rule(recordings: list[Recording], alerts: list[Alert], runbooks: str) -> Document:
    """Return both as a PrometheusRule, the Kubernetes object that the Prometheus operator loads."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {
            "name": "spawnstall",
            "namespace": "spawnstall",
            "labels": {"app.kubernetes.io/name": "spawnstall"},
        },
        "spec": {
            "groups": [*recording_rules(recordings)["groups"], *alerting_rules(alerts, runbooks)["groups"]]
        },
    }


def alert_annotations(alert: Alert, runbooks: str) -> dict[str, str]:
    """Return the annotations of an alert in either format."""
    return {
        "summary": alert.summary,
        "description": alert.description,
        "runbook_url": runbook_url(runbooks, alert.name),
    }


def _file(group: str, rules: list[dict[str, object]]) -> Groups:
    return {"groups": [{"name": group, "interval": f"{INTERVAL_SECONDS}s", "rules": rules}]}
