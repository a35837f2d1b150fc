# SPDX-License-Identifier: Apache-2.0
"""The kinds of panels, all in one style."""

from __future__ import annotations

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, Union

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import heatmap as heatmap_builders
from grafana_foundation_sdk.builders import prometheus as prometheus_builders
from grafana_foundation_sdk.builders import stat as stat_builders
from grafana_foundation_sdk.builders import table as table_builders
from grafana_foundation_sdk.builders import timeseries as timeseries_builders
from grafana_foundation_sdk.models import common, dashboard, heatmap, prometheus

__all__ = [
    "DATASOURCE",
    "PER_MINUTE",
    "PER_SECOND",
    "About",
    "Column",
    "Panel",
    "heat",
    "lines",
    "stat",
    "table",
]

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

PER_SECOND, PER_MINUTE = "suffix: /s", "suffix: /min"
"""Units as Grafana shows them: ``7.2 /s``. Its own ``cps`` reads ``7.2 c/s``."""

Panel = Union[heatmap_builders.Panel, stat_builders.Panel, table_builders.Panel, timeseries_builders.Panel]
_AnyPanel = TypeVar(
    "_AnyPanel",
    heatmap_builders.Panel,
    stat_builders.Panel,
    table_builders.Panel,
    timeseries_builders.Panel,
)


@dataclass(frozen=True)
class About:
    """What every panel has; ``runbook`` is a URL."""

    title: str
    description: str
    unit: str
    runbook: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table: the value of a query, or a label if there is no ``expr``."""

    name: str
    expr: str = ""
    label: str = ""
    unit: str = "short"
    link: str = ""


def stat(
    about: About,
    expr: str,
    *,
    orange_from: float | None = None,
    red_from: float | None = None,
    words: Mapping[int, str] | None = None,
) -> stat_builders.Panel:
    """Return a panel that shows the current value, without colour below the thresholds.

    ``words`` replace the values 0 (orange) and 1.
    """
    steps = [dashboard.Threshold(value=None, color="text")]
    if orange_from is not None:
        steps.append(dashboard.Threshold(orange_from, "orange"))
    if red_from is not None:
        steps.append(dashboard.Threshold(red_from, "red"))
    if words is not None:
        steps = [dashboard.Threshold(value=None, color="orange"), dashboard.Threshold(1, "text")]
    panel = stat_builders.Panel().color_mode(common.BigValueColorMode.VALUE)
    panel.graph_mode(common.BigValueGraphMode.NONE)
    panel.reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
    panel.thresholds(_thresholds(steps))
    if words is not None:
        options = {str(value): dashboard.ValueMappingResult(text=text) for value, text in words.items()}
        panel.mappings([dashboard.ValueMap(options=options)])
    return _describe(panel, about, 4, 4).with_target(_query("A", expr).instant())


def lines(
    about: About, queries: Mapping[str, str], *, exemplars: bool = False, limit: float | None = None
) -> timeseries_builders.Panel:
    """Return a graph of queries by legend, with a dashed line at ``limit``."""
    panel = timeseries_builders.Panel().min(0)
    # With automatic points, a series with a single sample, such as a short stall's, is visible.
    panel.fill_opacity(0).show_points(common.VisibilityMode.AUTO).line_width(1)
    if about.unit in ("none", PER_MINUTE):
        panel.axis_soft_max(1)
    panel.tooltip(
        common_builders.VizTooltipOptions()
        .mode(common.TooltipDisplayMode.MULTI)
        .sort(common.SortOrder.DESCENDING)
    )
    panel.legend(
        common_builders.VizLegendOptions()
        .show_legend(True)
        .display_mode(common.LegendDisplayMode.LIST)
        .placement(common.LegendPlacement.BOTTOM)
        .calcs([])
    )
    if limit is not None:
        steps = [dashboard.Threshold(value=None, color="transparent"), dashboard.Threshold(limit, "red")]
        panel.thresholds(_thresholds(steps))
        panel.thresholds_style(
            common_builders.GraphThresholdsStyleConfig().mode(common.GraphThresholdsStyleMode.DASHED)
        )
    for name, (legend, expr) in zip(string.ascii_uppercase, queries.items()):
        query = _query(name, expr).range().legend_format(legend)
        panel.with_target(query.exemplar(True) if exemplars else query)
    return _describe(panel, about, 8, 8)


def heat(about: About, expr: str) -> heatmap_builders.Panel:
    """Return a heatmap of a histogram; ``expr`` is a rate by ``le`` only."""
    panel = heatmap_builders.Panel().calculate(False).cell_gap(1)
    panel.color(
        heatmap_builders.HeatmapColorOptions()
        .mode(heatmap.HeatmapColorMode.SCHEME)
        .scheme("Oranges")
        .scale(heatmap.HeatmapColorScale.EXPONENTIAL)
        .exponent(0.5)
        .steps(64)
    )
    panel.y_axis(heatmap_builders.YAxisConfig().unit("s").axis_placement(common.AxisPlacement.LEFT))
    panel.cell_values(heatmap_builders.CellValues().unit(about.unit))
    panel.filter_values(heatmap_builders.FilterValueRange().le(1e-9))
    panel.mode(common.TooltipDisplayMode.SINGLE).show_y_histogram().show_legend()
    query = _query("A", expr).range().legend_format("{{le}}").format(prometheus.PromQueryFormat.HEATMAP)
    return _describe(panel, about, 8, 8).with_target(query)


def table(about: About, columns: Sequence[Column], *, sort_by: str) -> table_builders.Panel:
    """Return a table of current values with one row for each set of labels, the largest first."""
    panel = table_builders.Panel().show_header(True).cell_height(common.TableCellHeight.SM).min_width(60)
    panel.sort_by([common_builders.TableSortByFieldState().display_name(sort_by).desc(True)])
    values = [column for column in columns if column.expr]
    fields = {column.label: column.name for column in columns if column.label}
    for query_id, column in zip("ABCDEFGH", values):
        query = _query(query_id, column.expr).instant().format(prometheus.PromQueryFormat.TABLE)
        panel.with_target(query)
        # Grafana's names for the fields.
        fields[f"Value #{query_id}" if len(values) > 1 else "Value"] = column.name
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    organize = {
        "excludeByName": {"Time": True},
        "includeByName": {},
        "indexByName": {name: index for index, name in enumerate(fields)},
        "renameByName": fields,
    }
    panel.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=organize))
    for column in columns:
        properties = [dashboard.DynamicConfigValue("unit", column.unit)] if column.expr else []
        if column.link:
            link = {"title": "Show this host", "url": column.link}
            properties.append(dashboard.DynamicConfigValue("links", [link]))
        if properties:
            panel.override_by_name(column.name, properties)
    return _describe(panel, about, 8, 8)


def _describe(panel: _AnyPanel, about: About, width: int, height: int) -> _AnyPanel:
    panel.title(about.title).description(about.description).unit(about.unit).datasource(DATASOURCE)
    if about.runbook:
        panel.links(
            [
                dashboard_builders.DashboardLink("Runbook")
                .type(dashboard.DashboardLinkType.LINK)
                .url(about.runbook)
            ]
        )
    return panel.span(width).height(height)


def _query(name: str, expr: str) -> prometheus_builders.Dataquery:
    return prometheus_builders.Dataquery().ref_id(name).expr(expr).datasource(DATASOURCE)


def _thresholds(steps: list[dashboard.Threshold]) -> dashboard_builders.ThresholdsConfig:
    return dashboard_builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
