"""Where the runbooks are."""

from __future__ import annotations

__all__ = ["DEFAULT_BASE", "runbook_url"]

DEFAULT_BASE = "https://github.com/spawnstall/spawnstall/blob/main/dashboards/runbooks"
"""A stand-in, as there is no public repository. ``make dashboards RUNBOOKS=URL`` builds with another one."""


def runbook_url(base: str, alert: str) -> str:
    """The page of an alert's runbook."""
    return f"{base.rstrip('/')}/{alert}.md"
