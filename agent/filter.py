# SPDX-License-Identifier: Apache-2.0
"""Selects the parents whose stalls are reported."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Collection, Sequence
from typing import Optional

from agent.errors import UserError
from agent.escape import printable
from agent.model import Container, Identity, Stall

__all__ = ["Filter"]

_HOST = "host"


class Filter:
    """Passes a parent that matches every non-empty list.

    comms: shell patterns; a leading ``!`` excludes.  UserError if one is invalid.
    uids: of the parent.
    containers: prefixes of container ids, pod uids, or ``host`` for no container.  A user's own (rootless)
    container counts as the host too, because only that user's word says that it is one.
    A parent whose identity is unknown because it has exited matches no uid and no container.
    """

    def __init__(
        self, comms: Sequence[str] = (), uids: Sequence[int] = (), containers: Sequence[str] = ()
    ) -> None:
        self._included = [_compiled(pattern) for pattern in comms if not pattern.startswith("!")]
        self._excluded = [_compiled(pattern[1:]) for pattern in comms if pattern.startswith("!")]
        self._uids = frozenset(uids)
        self._containers = tuple(containers)

    def passes_comm(self, comm: bytes) -> bool:
        """Whether stalls of a parent with this comm are reported."""
        text = printable(comm)
        if any(pattern.match(text) for pattern in self._excluded):
            return False
        return not self._included or any(pattern.match(text) for pattern in self._included)

    def passes(self, comm: bytes, identify: Callable[[], Optional[Identity]]) -> bool:
        """Whether stalls of a parent are reported; ``identify`` is called only if its identity matters."""
        if not self.passes_comm(comm):
            return False
        if not self._uids and not self._containers:
            return True
        identity = identify()
        if identity is None or (self._uids and identity.uid not in self._uids):
            return False
        return not self._containers or self._passes_container(identity)

    def passes_stall(self, stall: Stall) -> bool:
        """Whether a stall is reported."""
        return self.passes(stall.spawn.comm, lambda: stall.identity)

    def unmatched(self, running: Collection[Container]) -> list[str]:
        """The listed containers and pods that are not among the running ones."""
        return [
            listed
            for listed in self._containers
            if listed != _HOST and not any(_is(container, listed) for container in running)
        ]

    def _passes_container(self, identity: Identity) -> bool:
        container = identity.container
        if (container is None or container.user is not None) and _HOST in self._containers:
            return True
        return container is not None and any(_is(container, listed) for listed in self._containers)


def _is(container: Container, listed: str) -> bool:
    return container.id.startswith(listed) or container.pod_uid == listed


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(fnmatch.translate(pattern))
    except re.error as error:  # Python 3.9 makes an invalid expression of [z-a]
        raise UserError(f"{pattern!r}: expected a shell pattern: {error}") from error
