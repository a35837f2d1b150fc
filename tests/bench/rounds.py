# SPDX-License-Identifier: Apache-2.0
"""Interleaved rounds: each peer once per round, so that a slow minute of the machine affects all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tests.bench import tracers
from tests.bench.bench import Bench
from tests.bench.peers import CannotRunError, Peer

__all__ = ["Rounds", "interleaved"]

_TRIES = 3
_PATIENCE_SECONDS = 8
_LEAVE_SECONDS = 2


@dataclass
class Rounds:
    """The measurements.

    values: of each peer and figure, one per round; cannot: why a peer did not run;
    disturbed: see interleaved.
    """

    values: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    cannot: dict[str, str] = field(default_factory=dict)
    disturbed: int = 0

    def last_row(self, columns: int) -> list[str]:
        """Return the row of a table that says how many measurements were disturbed."""
        return ["measurements that another tracer disturbed", str(self.disturbed), *[""] * (columns - 2)]


def interleaved(
    bench: Bench, peers: Sequence[Peer], measure: Callable[[Sequence[str]], dict[str, float]]
) -> Rounds:
    """Measure beside each peer in turn.

    measure: receives the prefix of its command.  If another tracer's programs are in the kernel before,
    during or after a measurement, it is repeated a few times; then it is kept, and counted as disturbed.
    """
    rounds = Rounds()
    for number in range(bench.rounds):
        for peer in peers:
            if peer.name in rounds.cannot:
                continue
            bench.say(f"round {number + 1} of {bench.rounds}, beside {peer.name}")
            try:
                found = _undisturbed(rounds, peer, measure)
            except CannotRunError as error:
                rounds.cannot[peer.name] = str(error)
                rounds.values.pop(peer.name, None)
                continue
            for name, value in found.items():
                rounds.values.setdefault(peer.name, {}).setdefault(name, []).append(value)
    return rounds


def _undisturbed(
    rounds: Rounds, peer: Peer, measure: Callable[[Sequence[str]], dict[str, float]]
) -> dict[str, float]:
    for _ in range(_TRIES):
        is_alone = tracers.wait_for(0, _PATIENCE_SECONDS)
        with peer.beside() as prefix:
            before = tracers.programs()
            found = measure(prefix)
            # Programs that the prefix or the peer loaded disappear a moment after it.
            is_alone = tracers.wait_for(before, _LEAVE_SECONDS) and is_alone
        if tracers.wait_for(0, _LEAVE_SECONDS) and is_alone:
            return found
    rounds.disturbed += 1
    return found
