"""Of which parents stalls are told."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import Optional

from agent.escape import printable
from agent.model import Identity, Stall

__all__ = ["Filter"]


class Filter:
    """Passes what matches each list that is not empty.

    comms: shell patterns; one that begins with ``!`` excludes.  uids: of the parent.  containers: the
    beginning of a container id, a pod uid, or ``host`` for no container.  A parent whose identity could not
    be read (it is gone) passes no list of uids or containers.
    """

    def __init__(
        self, comms: Sequence[str] = (), uids: Sequence[int] = (), containers: Sequence[str] = ()
    ) -> None:
        self._wanted = [pattern for pattern in comms if not pattern.startswith("!")]
        self._unwanted = [pattern[1:] for pattern in comms if pattern.startswith("!")]
        self._uids = frozenset(uids)
        self._containers = tuple(containers)

    def passes_comm(self, comm: bytes) -> bool:
        """Whether a parent with this comm is told of."""
        text = printable(comm)
        if any(fnmatch.fnmatchcase(text, pattern) for pattern in self._unwanted):
            return False
        return not self._wanted or any(fnmatch.fnmatchcase(text, pattern) for pattern in self._wanted)

    def passes(self, comm: bytes, who: Callable[[], Optional[Identity]]) -> bool:
        """Whether a parent is told of; who is asked for its identity only when that is needed."""
        if not self.passes_comm(comm):
            return False
        if not self._uids and not self._containers:
            return True
        identity = who()
        if identity is None or (self._uids and identity.uid not in self._uids):
            return False
        return not self._containers or self._passes_container(identity)

    def passes_stall(self, stall: Stall) -> bool:
        """Whether a stall is told of."""
        return self.passes(stall.spawn.comm, lambda: stall.identity)

    def _passes_container(self, identity: Identity) -> bool:
        container = identity.container
        if container is None:
            return "host" in self._containers
        return any(
            container.id.startswith(wanted) or container.pod_uid == wanted for wanted in self._containers
        )
