# SPDX-License-Identifier: Apache-2.0
"""Bound the values of a metric label: processes choose their own comm, and Prometheus stores each value.

A value keeps its place as long as there is room.  When there is none, the value that was not used for the
longest time, if that is an hour, makes room for a new one, so that a flood of comms does not hide the others
until the next restart.  At most ``limit`` values an hour come and go.
"""

from __future__ import annotations

import logging
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from agent.escape import printable

__all__ = ["OTHER", "Label", "Recent"]

OTHER = "~other"
"""Label value for all comms beyond the limit."""

_log = logging.getLogger(__name__)
_UNUSED_SECONDS = 3600.0
_Member = TypeVar("_Member")


class Recent(Generic[_Member]):
    """A set of at most ``limit`` members; one that was not used for an hour makes room for another.

    what: a name for the members, in the warning that is logged once there is no room.
    removed: called with each member that makes room.
    """

    def __init__(self, what: str, limit: int, removed: Callable[[_Member], None]) -> None:
        self._what = what
        self._limit = limit
        self._removed = removed
        self._used: OrderedDict[_Member, float] = OrderedDict()
        """When each was used last, in that order."""
        self._warned = False

    def __len__(self) -> int:
        return len(self._used)

    def use(self, member: _Member) -> bool:
        """Whether this is a member, or becomes one because there is room."""
        now = time.monotonic()
        if member not in self._used and not self._has_room(now):
            return False
        self._used[member] = now
        self._used.move_to_end(member)
        return True

    def discard(self, matches: Callable[[_Member], bool]) -> None:
        """Remove all members that match, without a call of ``removed``."""
        for member in [member for member in self._used if matches(member)]:
            del self._used[member]

    def _has_room(self, now: float) -> bool:
        if len(self._used) < self._limit:
            return True
        oldest, used = next(iter(self._used.items()))
        if now - used >= _UNUSED_SECONDS:
            del self._used[oldest]
            self._removed(oldest)
            return True
        if not self._warned:
            self._warned = True
            _log.warning(
                "the limit of %d %s is reached: others are counted as %s until one is not used for an hour;"
                " raise labels.limit, or select comms by labels.allow and labels.rules",
                self._limit,
                self._what,
                OTHER,
            )
        return False


class Label:
    """The values of one label.

    A comm that a rule (regular expression, name) matches as a whole gets the name of the first such rule.  A
    comm in allow, or named like a rule, is its own value, and so are at most ``limit`` others; the rest
    become OTHER.  removed: called with each value that makes room for another.
    """

    def __init__(
        self,
        name: str,
        limit: int,
        allow: Sequence[str] = (),
        rules: Sequence[tuple[str, str]] = (),
        removed: Callable[[str], None] = lambda value: None,
    ) -> None:
        self._rules = [(re.compile(pattern), value) for pattern, value in rules]
        self._fixed = frozenset((OTHER, *allow, *(value for _pattern, value in rules)))
        self._recent: Recent[str] = Recent(f"values of the label {name}", limit, removed)

    def value(self, comm: bytes) -> str:
        """The label value for a comm."""
        text = printable(comm) or "unknown"
        for pattern, value in self._rules:
            if pattern.fullmatch(text):
                return value
        return text if text in self._fixed or self._recent.use(text) else OTHER
