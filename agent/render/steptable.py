"""The step table of a stall: who did what when, and which of the pipe's fds each process had open after it.

As the original write-up of the problem has it: a column for each thread and each process, ``-`` where a copy
was closed.  It is made from the steps of a stall's JSON object; what was not recorded is not in it: of
children and holders the copies of the write end are followed, of the parent both ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Optional

from rich.box import SIMPLE_HEAD
from rich.table import Table

from agent.render.words import count

__all__ = ["step_table"]

_MOST_HOLDERS = 4
_CLOSED = "-"
_ENDS = {
    "parent_closed_write_end",
    "child_closed",
    "child_execed",
    "child_exited",
    "holder_closed",
    "holder_execed",
    "holder_exited",
    "holder_released",
}
_ACTIONS = {
    "errpipe_created": "parent makes the errpipe",
    "child_forked": "parent forks the child",
    "parent_closed_write_end": "parent closes its write end",
    "read_began": "parent reads",
    "read_ended": "parent's read returns",
    "parent_died": "parent dies in read",
    "child_closed": "child closes its copy",
    "child_execed": "child execs",
    "child_exited": "child exits",
    "holder_forked": "{holder} is forked",
    "holder_closed": "{holder} closes its copy",
    "holder_execed": "{holder} execs",
    "holder_exited": "{holder} exits",
    "holder_released": "{holder} lets go",
}
_CALLS = {
    "errpipe_created": "pipe",
    "child_forked": "fork",
    "parent_closed_write_end": "close({w})",
    "read_began": "read({r})",
    "read_ended": "returns",
    "parent_died": "dies",
}
"""What the spawner does, in its thread's column."""


def step_table(stall: Mapping[str, Any]) -> Optional[Table]:
    """The table, or None for a stall of which no steps are known (found in /proc)."""
    if not stall["steps"] or stall["child"] is None:
        return None
    parent, child, errpipe = stall["parent"], stall["child"], stall["errpipe"]
    holders = [holder for holder in stall["holders"] if holder["pid"] is not None]
    shown = holders[:_MOST_HOLDERS]
    more = f"without {count(len(holders) - len(shown), 'more holder')}" if len(holders) > len(shown) else None
    threads = _threads(parent, shown)
    processes = [parent["pid"], child["pid"], *(holder["pid"] for holder in shown)]
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=more)
    table.add_column("step", justify="right")
    table.add_column("time ms", justify="right", no_wrap=True)
    table.add_column("action", min_width=16)
    for tid in threads:
        table.add_column(f"thread\n{tid}", no_wrap=True)
    for pid, role in zip(processes, ("parent", "child", *("holder" for _ in shown))):
        table.add_column(f"{role}\n{pid}", no_wrap=True)
    open_fds: dict[int, str] = {}
    blocked = ""
    for number, step in enumerate(stall["steps"], 1):
        what, pid = step["what"], step["pid"]
        if what == "errpipe_created":
            open_fds[pid] = f"{errpipe['read_fd']},{errpipe['write_fd']}"
        elif what == "child_forked":
            open_fds[child["pid"]] = str(errpipe["write_fd"])
        elif what == "holder_forked":
            open_fds[pid] = _fds(shown, pid)
        elif what in _ENDS and pid == parent["pid"]:
            open_fds[pid] = f"{errpipe['read_fd']},{_CLOSED}"
        elif what in _ENDS and pid in open_fds:
            open_fds[pid] = _CLOSED
        calls = {parent["tid"]: blocked}
        if pid == parent["pid"]:
            call = _CALLS.get(what, "").format(r=errpipe["read_fd"], w=errpipe["write_fd"])
            calls[parent["tid"]] = call
            blocked = "|" if what == "read_began" else ""
        elif what == "holder_forked":
            calls.update({tid: "fork" for tid in threads if tid == _forker(shown, pid)})
        holder = "holder" if len(holders) == 1 else f"holder {pid}"
        table.add_row(
            str(number),
            f"{step['seconds'] * 1e3:,.3f}",
            _ACTIONS.get(what, what).format(holder=holder),
            *(calls.get(tid, "") for tid in threads),
            *(open_fds.get(pid, "") for pid in processes),
        )
    return table


def _threads(parent: Mapping[str, Any], holders: Iterable[Mapping[str, Any]]) -> list[int]:
    """The parent's threads that took part: its spawner, and those that forked holders."""
    forkers = [
        holder["forked_by"]["tid"]
        for holder in holders
        if holder["forked_by"] and holder["forked_by"]["pid"] == parent["pid"]
    ]
    return list(dict.fromkeys([parent["tid"], *(tid for tid in forkers if tid is not None)]))


def _forker(holders: Iterable[Mapping[str, Any]], pid: int) -> Optional[int]:
    for holder in holders:
        if holder["pid"] == pid and holder["forked_by"]:
            tid: Optional[int] = holder["forked_by"]["tid"]
            return tid
    return None


def _fds(holders: Iterable[Mapping[str, Any]], pid: int) -> str:
    for holder in holders:
        if holder["pid"] == pid:
            return ",".join(str(fd) for fd in holder["fds"])
    return ""
