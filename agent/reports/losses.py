"""What is not followed, and counted: names, descriptions, and words for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

__all__ = ["LOSSES", "loss_lines", "not_followed"]

LOSSES = (
    (
        "records_lost",
        "records_lost",
        "Records that found no room in the perf buffer or in the agent, or cannot be read.",
    ),
    ("probe_misses", "misses", "Events that a program did not see: another was at work on its CPU."),
    ("slots_overflowed", "spawns_refused", "Pipes that are not followed: there was no place for them."),
    ("pipes_forgotten", "pipes_forgotten", "Pipes that nobody had forked for and that made room for others."),
    ("numbers_overflowed", "numbers_overflowed", "Copies of write ends at more fds than are followed."),
    ("walks_cut", "walks_cut", "Events with more spawns than one event can handle."),
    ("programs_full", "programs_full", "Spawns counted as ~other: the map was full."),
    ("tables_shared", "tables_shared", "Forks that share an fd table, which is not followed."),
    ("stacks_lost", "stacks_lost", "Stacks of forks that the kernel side had no room for."),
    (
        "map_updates_failed",
        "updates_failed",
        "Pipes and processes that could not be noted: a map refused them, or memory was not there.",
    ),
)
"""The metric's name, the kernel side's counter, a description."""

_WORDS = {
    "records_lost": ("record was lost", "records were lost"),
    "probe_misses": ("event was not seen", "events were not seen"),
    "slots_overflowed": ("pipe had no place", "pipes had no place"),
    "pipes_forgotten": ("idle pipe made room for another", "idle pipes made room for others"),
    "numbers_overflowed": (
        "copy was at more fds than are followed",
        "copies were at more fds than are followed",
    ),
    "walks_cut": (
        "event had more spawns than one can handle",
        "events had more spawns than one can handle",
    ),
    "programs_full": ("spawn is counted as ~other", "spawns are counted as ~other"),
    "tables_shared": ("fork shared an fd table", "forks shared an fd table"),
    "stacks_lost": ("stack of a fork had no room", "stacks of forks had no room"),
    "map_updates_failed": ("pipe or process could not be noted", "pipes or processes could not be noted"),
}
"""What happened to one, and to several, by the metric's name."""


def not_followed(before: Mapping[str, int], now: Mapping[str, int]) -> dict[str, int]:
    """What was lost between two readings of the counters, by the metric's name; each loss, be it 0."""
    return {name: now.get(counter, 0) - before.get(counter, 0) for name, counter, _ in LOSSES}


def loss_lines(lost: Mapping[str, int], besides: str = "") -> Iterator[str]:
    """One for each that is not 0, as in ``12 pipes had no place (slots_overflowed)``.

    besides: the one that has been told in another way.
    """
    for name, number in lost.items():
        if number and name != besides:
            what = _WORDS.get(name, ("was lost", "were lost"))[number != 1]
            yield f"{number:,} {what} ({name})"
