"""What the dashboards have in common: variables, links, layout, and their JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.builder import Builder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards.alerts import JOB, alerts
from dashboards.panels import DATASOURCE, Panel
from dashboards.runbook import runbook_url

__all__ = ["TAG", "dashboard_json", "instance_variable"]

TAG = "spawnstall"


def dashboard_json(
    uid: str,
    title: str,
    description: str,
    instance: builders.QueryVariable,
    rows: Mapping[str, Sequence[Panel]],
    runbooks: str,
) -> str:
    """The text of a dashboard's file; rows are panels by the row's title."""
    board = builders.Dashboard(title).uid(uid).description(description).tags([TAG]).readonly()
    board.timezone("browser").time("now-3h", "now").refresh("1m").tooltip(
        models.DashboardCursorSync.CROSSHAIR
    )
    board.variables([_datasource_variable(), _job_variable(), instance])
    board.links(_links(runbooks))
    for row, panels in rows.items():
        board.with_row(builders.Row(row))
        for panel in panels:
            board.with_panel(panel)
    built = board.build()
    for number, placed in enumerate(built.panels or [], start=1):
        placed.id_val = number
    return json.dumps(built, cls=JSONEncoder, indent=1, sort_keys=True) + "\n"


def instance_variable(*, many: bool) -> builders.QueryVariable:
    """One host, or any number of them."""
    variable = _query_variable(
        "instance", "Host", 'label_values(spawnstall_build_info{job="$job"}, instance)'
    )
    if many:
        everything = models.VariableOption(text="All", value="$__all", selected=True)
        variable.multi(True).include_all(True).all_value(".*").current(everything)
    return variable


def _job_variable() -> builders.QueryVariable:
    variable = _query_variable("job", "Job", "label_values(spawnstall_build_info, job)")
    return variable.current(models.VariableOption(text=JOB, value=JOB, selected=True))


def _query_variable(name: str, label: str, query: str) -> builders.QueryVariable:
    variable = builders.QueryVariable(name).label(label).query(query).datasource(DATASOURCE)
    variable.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
    return variable.sort(models.VariableSort.ALPHABETICAL_ASC)


def _datasource_variable() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Data source").type("prometheus")


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
