# SPDX-License-Identifier: Apache-2.0
"""Losses: what the agent misses and counts, with descriptions and sentences for each counter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["LOSSES", "loss_lines", "not_followed"]

LOSSES = (
    (
        "records_lost",
        "records_lost",
        "Records lost because the perf buffer or the agent had no room, or that could not be decoded.",
    ),
    ("probe_misses", "misses", "Events missed because another BPF program was running on the same CPU."),
    ("slots_overflowed", "spawns_refused", "Pipes not followed because all slots were taken."),
    (
        "spawns_unfinished",
        "spawns_unfinished",
        "Spawns not counted because the tracer lost track of their parent or child.",
    ),
    ("pipes_forgotten", "pipes_forgotten", "Pipes evicted before any fork to make room for others."),
    (
        "numbers_overflowed",
        "numbers_overflowed",
        "Copies of write ends not followed because they were at too many different fds.",
    ),
    ("walks_cut", "walks_cut", "Events that concerned more spawns than one event can process."),
    ("programs_full", "comm_stats_full", "Spawns counted under ~other because the map was full."),
    ("tables_shared", "tables_shared", "Forks not followed because the processes share an fd table."),
    ("stacks_lost", "stacks_lost", "Stacks of forks that the kernel side had no room for."),
    (
        "map_updates_failed",
        "updates_failed",
        "Pipes and processes not followed because a map refused them or memory could not be read.",
    ),
    (
        "searches_cut",
        "searches_cut",
        "Searches of open files or /proc that left something out because they had no time left.",
    ),
)
"""The name of the metric, the tracer's counter, a description."""

_SENTENCES = {
    "records_lost": ("record was lost", "records were lost"),
    "probe_misses": ("event was missed", "events were missed"),
    "slots_overflowed": ("pipe found no free slot", "pipes found no free slot"),
    "spawns_unfinished": (
        "spawn was not counted, as the tracer lost track of its parent or child",
        "spawns were not counted, as the tracer lost track of their parents or children",
    ),
    "pipes_forgotten": ("idle pipe was evicted", "idle pipes were evicted"),
    "numbers_overflowed": (
        "copy of a write end was at one fd too many",
        "copies of write ends were at too many fds",
    ),
    "walks_cut": (
        "event concerned more spawns than one event can process",
        "events concerned more spawns than one event can process",
    ),
    "programs_full": ("spawn was counted under ~other", "spawns were counted under ~other"),
    "tables_shared": ("fork shared an fd table", "forks shared an fd table"),
    "stacks_lost": ("stack of a fork found no room", "stacks of forks found no room"),
    "map_updates_failed": (
        "pipe or process could not be recorded",
        "pipes or processes could not be recorded",
    ),
    "searches_cut": ("search left something out", "searches left something out"),
}
"""What happened to one and to several, by the name of the metric."""


def not_followed(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """Return the losses between two readings of the counters, by metric name and including zeros."""
    return {name: now.get(counter, 0) - before.get(counter, 0) for name, counter, _ in LOSSES}


def loss_lines(lost: Mapping[str, int], besides: str = "") -> Iterator[str]:
    """Yield a line for each nonzero loss, such as ``12 pipes found no free slot (slots_overflowed)``.

    besides: the name of one that is already reported elsewhere.
    """
    for name, number in lost.items():
        if number and name != besides:
            what = _SENTENCES.get(name, ("was lost", "were lost"))[number != 1]
            yield f"{number:,} {what} ({name})"
