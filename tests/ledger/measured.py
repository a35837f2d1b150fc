# SPDX-License-Identifier: Apache-2.0
"""Sentences, or parts of them, whose numbers are recorded results."""

from __future__ import annotations

from tests.bench.results import FOLDER, Table, read
from tests.ledger.facts import Fact

__all__ = ["measured"]


def measured() -> list[Fact]:
    """Return all of them."""
    return [*_of_calls_and_spawns(), *_of_memory_and_time(), *_of_the_fleet(), *_of_decisions()]


def _table(file: str, title: str) -> Table:
    return read(f"{FOLDER}/{file}.json").tables[title]


def _value(cell: str) -> float:
    """The number with which a cell begins."""
    return float(cell.split()[0].replace(",", ""))


def _of_calls_and_spawns() -> list[Fact]:
    [calls] = read(f"{FOLDER}/syscalls.json").tables.values()
    without_pipe = calls.header[1:6]  # the next one is of two calls
    agent, empty = (
        [int(_value(calls.cell(f"added by {peer}", call))) for call in without_pipe]
        for peer in ("the agent", "an empty program")
    )
    least, most = (without_pipe[agent.index(pick(agent))] for pick in (min, max))
    names = {"getppid": "getppid", "read FIFO": "read from a FIFO"}
    storms = _table("growth", "One process that spawns")
    rates = _table("spawning", "Spawns a second, in units of the untraced rate")
    shares = [_value(rates.cell("the agent", program)) for program in rates.header[1:]]
    shares += [_value(cell) for cell in storms.column("of untraced")]
    shares += [_value(cell) for cell in _storms().column("rate of untraced, the agent") if cell]
    threads = max(int(_value(row[0].split(", ")[1])) for row in storms.rows)
    cpu = _table("agent_cpu", "The agent's own CPU time, % of a core")
    return [
        (
            "README.md",
            f"Tracing adds {min(agent)} ns ({names[least]}) to {max(agent)} ns ({names[most]})",
        ),
        ("README.md", f"adds {min(empty)} to {max(empty)} ns"),
        ("README.md", f"keeps {min(shares) * 100:.0f} to 100 % of its rate, with up to {threads} threads"),
        ("README.md", f"{_value(cpu.cell('1,000', 'no stalls')):.1f} % of a core at 1,000 spawns a second"),
    ]


def _storms() -> Table:
    return _table("storms", "Storms of spawns of one process")


def _of_memory_and_time() -> list[Fact]:
    memory = _table("memory", "Memory and scrapes")
    later = next(row[0] for row in memory.rows if row[0].endswith("later"))
    rss, maps = (_value(memory.cell(later, column)) for column in ("RSS, MiB", "maps, MiB"))
    cores = {"2 cores": "two cores"}[read(f"{FOLDER}/fleet.json").machine.split(" of ")[0]]
    growth = _table("growth", "Beside processes with 20 files each")
    few, many = (_value(growth.cell(row, "as a program, ms")) / 1000 for row in ("1,000", "5,000"))
    return [
        ("probes/PLATFORMS.md", f"({cores}, root)"),
        ("tests/bench/README.md", f"which {cores} sustain beside the server"),
        ("README.md", f"{rss:.0f} MiB of memory, and {maps:.0f} MiB of eBPF maps"),
        (
            "agent/cli/TRACE-POPEN.md",
            f"It takes {few:.1f} s on a host with 1,000 processes and {many:.1f} s with 5,000",
        ),
    ]


def _of_the_fleet() -> list[Fact]:
    panels = _table("fleet", "Panels")
    fleet = [dict(zip(panels.header, row)) for row in panels.rows if row[0] == "fleet"]
    now = [_seconds(panel["instant"]) for panel in fleet]
    tables = [_seconds(panel["6 h"]) for panel in fleet if panel["panel"] in _TABLES]
    graphs = [_seconds(panel["6 h"]) for panel in fleet if panel["panel"] not in _TABLES and panel["6 h"]]
    return [
        ("config/SIZING.md", f"takes at most {max(now):.2g} s to show the present"),
        ("config/SIZING.md", f"{min(graphs):.1g} to {max(graphs):.2g} s for a graph over 6 h"),
        (
            "config/SIZING.md",
            f"{min(tables):.1f} to {max(tables):.1f} s for each of the three tables that add up 6 h",
        ),
        *_of_ten_thousand_hosts(_table("fleet", "One Prometheus")),
    ]


_TABLES = ("Hosts that stall", "Programs that stall", "Worst holders")


def _seconds(cell: str) -> float:
    return _value(cell) / 1000


def _of_ten_thousand_hosts(one: Table) -> list[Fact]:
    """Ten times what a thousand hosts take."""

    def value(row: str) -> float:
        return _value(one.cell(row, ""))

    millions = value("series in the head") * 10
    rules = {True: "most of a minute"}[30 < value("evaluation of all rules") * 10 < 60]
    return [
        (
            "config/SIZING.md",
            f"Ten times that is about {millions:.0f} million series,"
            f" {value('memory (resident)') * 10:.0f} GB,"
            f" {value('samples a second') * 10:,.0f} samples a second,"
            f" and rules that take {rules} on such cores",
        ),
        ("config/SIZING.md", "## Ten thousand hosts"),
    ]


def _of_decisions() -> list[Fact]:
    start = _decision("Start of the agent, s")
    memory = _decision("Memory of the process that compiles, MB")
    added = _decision("Added to every system call, ns")
    woken = _decision("A wake-up of user space, us of the traced program").cell("a wake-up", "measured")
    exiting = _decision("From sched_process_exit until the files are closed, ms").cell(
        "200 MB of memory", "measured"
    )
    copied = "the parent's state copied at the fork"
    native = _decision("Holders of native threads")
    missed, holders = native.cell(copied, "missed"), native.cell(copied, "holders")
    design = _decision("200 threads in Popen beside forks of workers")
    before, now = (dict(zip(design.header, row)) for row in design.rows)
    found = _decision("Who holds a pipe now")
    per_file = max(
        _value(row[found.header.index("iterator, ms")]) * 1000 / _value(row[found.header.index("open files")])
        for row in found.rows
        if "emulated" not in row[0]
    )
    functions = _table("fentry", "System calls at functions and at tracepoints, ns a call")
    ours = "added by our programs at the"
    close, close_before, other, other_before = (
        functions.cell(f"{ours} {place}", call)
        for call in ("close", "read /dev/zero")
        for place in ("functions", "tracepoints")
    )
    share = {0.5: "about half"}[round(_value(close) / _value(close_before), 1)]
    decisions = "probes/DECISIONS.md"
    return [
        (decisions, f"the first one takes {start.cell('compiled', 'measured').split()[0]} s"),
        (decisions, f"the next ones {start.cell('kept programs', 'measured').split()[0]} s"),
        (decisions, f"({added.cell('a tracepoint of any system call', 'measured')} ns on the build machine)"),
        (decisions, f"({added.cell('a raw tracepoint for all of them', 'measured')} ns on each system call"),
        (decisions, f"those that are traced {share} (close {close} instead of {close_before} ns"),
        (decisions, f"{other} instead of {other_before} ns there"),
        (decisions, f"costs the traced program {woken} us"),
        (decisions, f"counted {before['counted']} of {before['spawns']} spawns"),
        (decisions, "with 200 threads in Popen"),
        (decisions, f"lost {before['lost records']} records"),
        (decisions, f"counted {now['counted']} of {now['spawns']} and lost none"),
        (decisions, f"(missed {missed} of {holders} holders"),
        ("probes/ERRPIPES.md", f"missed {missed} of {holders} holders of native threads"),
        ("probes/ERRPIPES.md", f"returned {exiting} ms later with 200 MB of memory"),
        ("probes/README.md", f"{exiting} ms before with 200 MB of memory"),
        ("probes/README.md", f"about {per_file:.1f} µs per file"),
        ("probes/PLATFORMS.md", f"Importing bcc costs {memory.cell('bcc imported', 'measured')} MB of RSS"),
        ("probes/PLATFORMS.md", f"compiling {memory.cell('programs compiled', 'measured')} MB"),
    ]


def _decision(title: str) -> Table:
    return _table("decisions", title)
