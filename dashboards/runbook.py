# SPDX-License-Identifier: Apache-2.0
"""Addresses of the runbooks."""

from __future__ import annotations

__all__ = ["DEFAULT_BASE", "runbook_url"]

DEFAULT_BASE = "https://github.com/spawnstall/spawnstall/blob/main/dashboards/runbooks"
"""A placeholder: there is no public repository. ``make dashboards RUNBOOKS=URL`` replaces it."""


def runbook_url(base: str, alert: str) -> str:
    """Return the URL of an alert's runbook."""
    return f"{base.rstrip('/')}/{alert}.md"
