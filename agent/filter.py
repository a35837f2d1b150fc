"""Of which parents stalls are told."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from agent.model import Identity, Stall
from agent.report import printable

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

    def passes(self, stall: Stall) -> bool:
        """Whether a stall is told."""
        identity = stall.identity
        if self._uids and (identity is None or identity.uid not in self._uids):
            return False
        if self._containers and (identity is None or not self._passes_container(identity)):
            return False
        return self.passes_comm(stall.spawn.comm)

    def _passes_container(self, identity: Identity) -> bool:
        container = identity.container
        if container is None:
            return "host" in self._containers
        return any(
            container.id.startswith(wanted) or container.pod_uid == wanted for wanted in self._containers
        )
