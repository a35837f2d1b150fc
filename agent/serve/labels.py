# SPDX-License-Identifier: Apache-2.0
"""Bound the values of a metric label: processes choose their own comm, and Prometheus stores each value."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

from agent.escape import printable

__all__ = ["OTHER", "Label"]

OTHER = "~other"
"""Label value for all comms beyond the limit."""


class Label:
    """The values of one label.

    A comm that a rule (regular expression, name) matches as a whole gets the name of the first such rule.  A
    comm in allow is its own value, and so are the first ``limit`` others; the rest become OTHER.
    """

    def __init__(self, limit: int, allow: Sequence[str] = (), rules: Sequence[tuple[str, str]] = ()) -> None:
        self._limit = limit
        self._allow = frozenset(allow)
        self._rules = [(re.compile(pattern), name) for pattern, name in rules]
        self._seen: set[str] = set()
        self._lock = threading.Lock()

    def value(self, comm: bytes) -> str:
        """The label value for a comm."""
        text = printable(comm) or "unknown"
        for pattern, name in self._rules:
            if pattern.fullmatch(text):
                return name
        if text in self._allow:
            return text
        with self._lock:
            if text in self._seen:
                return text
            if len(self._seen) < self._limit:
                self._seen.add(text)
                return text
        return OTHER
