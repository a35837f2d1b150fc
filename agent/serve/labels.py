"""Bounds the values of one metric label: a process chooses its own comm, and Prometheus has to store it."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence

from agent.escape import printable

__all__ = ["OTHER", "Label"]

OTHER = "~other"
"""Value for everything beyond the limit."""


class Label:
    """One label's values.

    A comm that a rule (regular expression, name) matches as a whole has the first such rule's name; those of
    allow stand for themselves; of the rest the first ``limit`` that come do, and all others are OTHER.
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
