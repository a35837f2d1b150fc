"""The alerts as Grafana's provisioning reads them (the recording rules stay with Prometheus)."""

from __future__ import annotations

import re

from dashboards.model import Alert
from dashboards.prometheus_rules import alert_annotations
from dashboards.recordings import INTERVAL_SECONDS

__all__ = ["DATASOURCE_UID", "FOLDER", "alerting_provisioning"]

DATASOURCE_UID = "spawnstall-prometheus"
"""As provisioning/datasources/spawnstall.yaml has it."""

FOLDER = "spawnstall"

_INSTANT_RANGE = {"from": 600, "to": 0}  # seconds before now; an instant query looks at its end only


def alerting_provisioning(alerts: list[Alert], runbooks: str) -> dict[str, object]:
    """The file for provisioning/alerting; ``runbooks`` is the URL of the folder with the runbooks."""
    group = {
        "orgId": 1,
        "name": "spawnstall",
        "folder": FOLDER,
        "interval": f"{INTERVAL_SECONDS}s",
        "rules": [_rule(alert, runbooks) for alert in alerts],
    }
    return {"apiVersion": 1, "groups": [group]}


def _rule(alert: Alert, runbooks: str) -> dict[str, object]:
    return {
        "uid": re.sub(r"[^a-z0-9]+", "-", alert.title.lower()),
        "title": alert.title,
        "condition": "FIRING",
        "data": [_query(alert), _condition()],
        # A series that is there alerts, one that is not is fine, as with Prometheus.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": alert.wait,
        "labels": {"severity": alert.severity, **alert.labels},
        # No $ needs to be escaped: Grafana puts environment variables into neither annotations nor
        # models (grafana/grafana issue 71007).
        "annotations": {
            name: text.replace("$value", "$values.A.Value")
            for name, text in alert_annotations(alert, runbooks).items()
        },
    }


def _query(alert: Alert) -> dict[str, object]:
    return {
        "refId": "A",
        "relativeTimeRange": _INSTANT_RANGE,
        "datasourceUid": DATASOURCE_UID,
        "model": {"refId": "A", "expr": alert.expr, "instant": True, "range": False},
    }


def _condition() -> dict[str, object]:
    """Turns each series that the query returns, be its value 0, into 1: alerting."""
    return {
        "refId": "FIRING",
        "relativeTimeRange": _INSTANT_RANGE,
        "datasourceUid": "__expr__",
        "model": {"refId": "FIRING", "type": "math", "expression": "is_number($A)"},
    }
