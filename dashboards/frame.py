# SPDX-License-Identifier: Apache-2.0
"""The parts that the dashboards share: variables, annotations, links, layout and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards.alerts import JOB, alerts
from dashboards.panels import DATASOURCE, Panel
from dashboards.recordings import HOST_LABELS
from dashboards.runbook import runbook_url

__all__ = ["JOBS", "TAG", "dashboard_json", "instance_variable"]

TAG = "spawnstall"

JOBS = 'cluster=~"$cluster", job=~"$job"'
"""Selects the metrics of the chosen jobs; without a label ``cluster``, "All" matches."""

_START_SECONDS = 120
"""How long the start of an agent is marked."""


def dashboard_json(
    uid: str,
    title: str,
    description: str,
    instance: builders.QueryVariable,
    rows: Mapping[str, Sequence[Panel]],
    runbooks: str,
) -> str:
    """Return the dashboard as JSON; rows are panels by the row's title."""
    board = builders.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    board.timezone("browser").time("now-3h", "now").refresh("1m").tooltip(
        models.DashboardCursorSync.CROSSHAIR
    )
    board.variables([_datasource_variable(), _cluster_variable(), _job_variable(), instance])
    board.links(_links(runbooks))
    for row, panels in rows.items():
        board.with_row(builders.Row(row))
        for panel in panels:
            board.with_panel(panel)
    built = board.build()
    built.annotations = models.AnnotationContainer(list_val=_annotations())
    for number, placed in enumerate(built.panels or [], start=1):
        placed.id_val = number
    return json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def instance_variable(*, many: bool) -> builders.QueryVariable:
    """Return the variable for one host, or with ``many`` for any number of hosts."""
    variable = _query_variable("instance", "Host", f"label_values(spawnstall_build_info{{{JOBS}}}, instance)")
    if many:
        everything = models.VariableOption(text="All", value="$__all", selected=True)
        variable.multi(True).include_all(True).all_value(".*").current(everything)
    return variable


def _cluster_variable() -> builders.QueryVariable:
    variable = _query_variable("cluster", "Cluster", "label_values(spawnstall_build_info, cluster)")
    everything = models.VariableOption(text="All", value="$__all", selected=True)
    return variable.multi(True).include_all(True).all_value(".*").current(everything)


def _job_variable() -> builders.QueryVariable:
    """Return the variable for jobs. "All" is the list of jobs: ``.*`` would match other jobs' ``up``."""
    query = 'label_values(spawnstall_build_info{cluster=~"$cluster"}, job)'
    variable = _query_variable("job", "Job", query).multi(True).include_all(True)
    return variable.current(models.VariableOption(text=JOB, value=JOB, selected=True))


def _query_variable(name: str, label: str, query: str) -> builders.QueryVariable:
    variable = builders.QueryVariable(name).label(label).query(query).datasource(DATASOURCE)
    variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.sort(models.VariableSort.ALPHABETICAL_ASC)


def _datasource_variable() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


def _annotations() -> list[models.AnnotationQuery]:
    hosts = f'{JOBS}, instance=~"$instance"'
    fired = f'ALERTS{{alertname=~"Spawn.+", alertstate="firing", {hosts}}}'
    started = f"max by ({HOST_LABELS}) (process_start_time_seconds{{{hosts}}})"
    return [
        _PrometheusAnnotation("Alerts", fired, "red", "{{alertname}}", "{{instance}} {{comm}}"),
        _PrometheusAnnotation(
            "Agent starts", f"time() - {started} < {_START_SECONDS}", "blue", "Agent started", "{{instance}}"
        ),
    ]


class _PrometheusAnnotation(models.AnnotationQuery):
    """An annotation with the fields of Grafana's Prometheus data source, which the SDK lacks."""

    def __init__(self, name: str, expr: str, color: str, title: str, text: str) -> None:
        super().__init__(name=name, datasource=DATASOURCE, icon_color=color, expr=expr)
        self._more = {"titleFormat": title, "textFormat": text}

    def to_json(self) -> dict[str, object]:
        """Return the fields by their JSON names."""
        return {**super().to_json(), **self._more}


def _links(runbooks: str) -> list[Builder[models.DashboardLink]]:
    boards = builders.DashboardLink("Dashboards").type(models.DashboardLinkType.DASHBOARDS).tags([TAG])
    boards.as_dropdown(True).include_vars(True).keep_time(True)
    names = list(dict.fromkeys(alert.name for alert in alerts()))
    return [
        boards,
        *(
            builders.DashboardLink(name)
            .type(models.DashboardLinkType.LINK)
            .icon("doc")
            .tooltip(f"Runbook of {name}")
            .url(runbook_url(runbooks, name))
            .target_blank(True)
            for name in names
        ),
    ]
