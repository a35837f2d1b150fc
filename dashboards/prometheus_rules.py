"""The rules as Prometheus reads them."""

from __future__ import annotations

from dashboards.model import Alert, Recording
from dashboards.recordings import INTERVAL_SECONDS
from dashboards.runbook import runbook_url

__all__ = ["alert_annotations", "alerting_rules", "recording_rules"]

Document = dict[str, object]


def recording_rules(recordings: list[Recording]) -> Document:
    """The rule file with the recording rules."""
    rules: list[dict[str, object]] = [
        {"record": recording.record, "expr": recording.expr} for recording in recordings
    ]
    return _file("spawnstall-recording", rules)


def alerting_rules(alerts: list[Alert], runbooks: str) -> Document:
    """The rule file with the alerts; ``runbooks`` is the URL of the folder with the runbooks."""
    return _file(
        "spawnstall-alerts",
        [
            {
                "alert": alert.name,
                "expr": alert.expr,
                "for": alert.wait,
                "labels": {"severity": alert.severity, **alert.labels},
                "annotations": alert_annotations(alert, runbooks),
            }
            for alert in alerts
        ],
    )


def alert_annotations(alert: Alert, runbooks: str) -> dict[str, str]:
    """Of an alert."""
    return {
        "summary": alert.summary,
        "description": alert.description,
        "runbook_url": runbook_url(runbooks, alert.name),
    }


def _file(group: str, rules: list[dict[str, object]]) -> Document:
    return {"groups": [{"name": group, "interval": f"{INTERVAL_SECONDS}s", "rules": rules}]}
