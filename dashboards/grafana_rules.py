# SPDX-License-Identifier: Apache-2.0
"""The alerts in the format of Grafana's provisioning; Prometheus evaluates the recording rules."""

from __future__ import annotations

import json
import re

from dashboards.fleet import fleet_dashboard
from dashboards.host import host_dashboard
from dashboards.prometheus_rules import alert_annotations
from dashboards.recordings import INTERVAL_SECONDS
from dashboards.rules import Alert

__all__ = ["DATASOURCE_UID", "FOLDER", "alerting_provisioning"]

DATASOURCE_UID = "spawnstall-prometheus"
"""The same as in provisioning/datasources/spawnstall.yaml."""

FOLDER = "spawnstall"

_INSTANT_RANGE = {"from": 600, "to": 0}  # seconds before now; only the end matters to an instant query


def alerting_provisioning(alerts: list[Alert], runbooks: str) -> dict[str, object]:
    """Return the file for provisioning/alerting; ``runbooks`` is the URL of the folder with the runbooks."""
    panels = {
        (board, panel["title"]): {
            "__dashboardUid__": document["uid"],
            "__panelId__": str(panel["id"]),
        }
        for board, text in (("host", host_dashboard(runbooks)), ("fleet", fleet_dashboard(runbooks)))
        for document in [json.loads(text)]
        for panel in document["panels"]
    }
    group = {
        "orgId": 1,
        "name": "spawnstall",
        "folder": FOLDER,
        "interval": f"{INTERVAL_SECONDS}s",
        "rules": [_rule(alert, runbooks, panels[alert.board, alert.panel]) for alert in alerts],
    }
    return {"apiVersion": 1, "groups": [group]}


def _rule(alert: Alert, runbooks: str, panel: dict[str, str]) -> dict[str, object]:
    return {
        "uid": re.sub(r"[^a-z0-9]+", "-", alert.title.lower()),
        "title": alert.title,
        "condition": "FIRING",
        "data": [_query(alert), _condition()],
        # As in Prometheus: only a series in the result alerts.
        "noDataState": "OK",
        "execErrState": "Error",
        "for": alert.wait or "0s",  # required
        **({"keepFiringFor": alert.keep} if alert.keep else {}),  # Grafana 11 ignores it
        "labels": {"severity": alert.severity, **alert.labels},
        # No escapes: Grafana expands $ in neither annotations nor models (grafana/grafana issue 71007).
        "annotations": panel
        | {
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
    """Return the expression that turns each series in the result into 1, alerting, whatever its value."""
    return {
        "refId": "FIRING",
        "relativeTimeRange": _INSTANT_RANGE,
        "datasourceUid": "__expr__",
        "model": {"refId": "FIRING", "type": "math", "expression": "is_number($A)"},
    }
