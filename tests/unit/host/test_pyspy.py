# SPDX-License-Identifier: Apache-2.0
"""agent.host.pyspy: how py-spy is run, how its output is read, and the messages for its failures."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Optional

import pytest

from agent.host import pyspy
from agent.host.pyspy import PythonStacks, StackError, Taken, find_py_spy, python_stack, take_now, with_python
from agent.model import Cause, Frame, Stack, Stall
from tests.unit.samples import BEGAN, ENDED, HOLDER, MS, PARENT, SPAWNER, UNSEEN, holder, stall, waiting

PID, TID = 41, 42
Program = Callable[[str], str]


def frame(name: str = "f", filename: str = "/a.py", line: int = 7) -> dict[str, Any]:
    return {"name": name, "filename": filename, "line": line, "short_filename": "a.py", "is_entry": True}


def thread(tid: Optional[int], *frames: dict[str, Any]) -> dict[str, Any]:
    return {"pid": PID, "os_thread_id": tid, "frames": list(frames or (frame(),))}


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Create a fake py-spy from a Python script, which finds its arguments in args."""

    def make(script: str) -> str:
        path = tmp_path / "py-spy"
        path.write_text(f"#!{sys.executable}\nimport sys, time, json\nargs = sys.argv[1:]\n{script}\n")
        path.chmod(0o755)
        return str(path)

    return make


def answering(program: Program, *threads: dict[str, Any]) -> str:
    return program(f"print({json.dumps(threads)!r})")


def why_not(py_spy: str) -> str:
    with pytest.raises(StackError) as caught:
        python_stack(py_spy, PID, TID)
    [line] = str(caught.value).splitlines()
    return line


# -- one stack --


def test_the_stack_of_a_thread(program: Program) -> None:
    before = time.monotonic_ns()
    inner, outer = frame("read", "/lib/subprocess.py", 1857), frame("<module>", "/srv/app.py", 3)
    py_spy = answering(program, thread(1, frame("other")), thread(TID, inner, outer))
    found = python_stack(py_spy, PID, TID)
    assert found.by == "py-spy"
    assert found.frames == (
        Frame("read", "/lib/subprocess.py", 1857),
        Frame("<module>", "/srv/app.py", 3),
    )
    assert before < found.at <= time.monotonic_ns()


def test_a_process_is_paused_only_if_needed(program: Program, tmp_path: Path) -> None:
    """py-spy must pause Python 2.7 to identify its threads."""
    log = tmp_path / "log"
    py_spy = program(
        f"open({str(log)!r}, 'a').write(' '.join(args) + '\\n')\n"
        f"tids = [None, None] if '--nonblocking' in args else [1, {TID}]\n"
        f"print(json.dumps([dict(os_thread_id=tid, frames=[dict(name=str(tid), filename='a', line=1)])"
        " for tid in tids]))"
    )
    assert python_stack(py_spy, PID, TID).frames[0].function == str(TID)
    assert log.read_text().splitlines() == [
        f"dump --json --nonblocking --pid {PID}",
        f"dump --json --pid {PID}",
    ]
    log.unlink()
    with pytest.raises(StackError, match="thread 43"):
        python_stack(py_spy, PID, 43)


def test_the_only_thread_needs_no_id(program: Program) -> None:
    py_spy = program(
        "assert '--nonblocking' in args\n"
        'print(\'[{"os_thread_id": null, "frames": [{"name": "f", "filename": "a", "line": 0}]}]\')'
    )
    assert python_stack(py_spy, PID, TID).frames == (Frame("f", "a", None),)


def test_names_and_depth_are_bounded(program: Program) -> None:
    deep = [frame("n" * 3000, "/" + "d" * 3000)] * 500
    found = python_stack(answering(program, thread(TID, *deep)), PID, TID)
    assert len(found.frames) == 64
    assert {(len(each.function), len(each.file or "")) for each in found.frames} == {(200, 256)}


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "\x1b[31m", "\ud800", 'a"b\nc', ""])
def test_hostile_names_are_not_changed(name: str, program: Program) -> None:
    """The outputs escape them."""
    [found] = python_stack(answering(program, thread(TID, frame(name, name))), PID, TID).frames
    assert (found.function, found.file) == (name, name)


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("print('no json')", "the output of py-spy is not JSON"),
        ("print('{}')", "the output of py-spy is not a list of threads"),
        ("print('[1]')", "the output of py-spy is not a list of threads"),
        ("print('[{}]')", "the output of py-spy has malformed frames"),
        ("print('[{\"frames\": [{\"name\": 1}]}]')", "the output of py-spy has malformed frames"),
        ("print('[]')", f"py-spy does not find thread {TID} of pid {PID}: it does not run Python"),
        ("sys.stdout.write('[' * 4_000_001)", f"the output of py-spy for pid {PID} is too long"),
        ("sys.exit('Error: Failed to find python version from target process\\n\\nStack backtrace:')",
         f"pid {PID} does not run a Python version that py-spy supports"),
        ("sys.exit('Error: Failed to get process executable name.\\n0: Permission denied (os error 13)')",
         f"py-spy lacks permission to read pid {PID} (CAP_SYS_PTRACE)"),
        ("sys.exit('Error: Failed to get process executable name.\\n0: No such file or directory')",
         f"pid {PID} exited before py-spy read it"),
        ("sys.exit('Error: another\\nmore')", f"py-spy failed for pid {PID}: Error: another"),
        ("sys.exit(3)", f"py-spy failed for pid {PID}: no reason given"),
    ],
)  # fmt: skip
def test_each_failure_is_one_line(script: str, words: str, program: Program) -> None:
    assert why_not(program(script)) == words


def test_a_py_spy_that_hangs_is_killed(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "_TIMEOUT_SECONDS", 0.3)
    began = time.monotonic()
    assert why_not(program("time.sleep(60)")) == f"py-spy took longer than 0.3 s for pid {PID}"
    assert time.monotonic() - began < 30


def test_a_py_spy_that_cannot_be_run(tmp_path: Path) -> None:
    path = tmp_path / "py-spy"
    path.write_text("not a program")
    assert why_not(str(path)) == f"{path}: Permission denied"


# -- where py-spy is --


def test_py_spy_beside_python_comes_first(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    there = program("")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))
    assert find_py_spy() == there
    monkeypatch.setenv("PATH", "/nonexistent")
    assert find_py_spy() is None
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert find_py_spy() == there


# -- stacks of a stall --


def ongoing(**changes: Any) -> Stall:
    return stall(holder(**changes), ended=None, of=waiting(read_tid=77))


def ask(stall: Stall, py_spy: Optional[str], monkeypatch: pytest.MonkeyPatch) -> Taken:
    monkeypatch.setattr(pyspy, "find_py_spy", lambda: py_spy)
    stacks = PythonStacks()
    try:
        return stacks.ask(stall).result(30)
    finally:
        stacks.close()


NAMING = "print(json.dumps([dict(os_thread_id=None, frames=[dict(name=args[-1], filename='a', line=1)])]))"


def test_stacks_of_reader_and_holder(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = ask(ongoing(), program(NAMING), monkeypatch)
    assert taken.reader is not None
    assert taken.reader.frames[0].function == str(PARENT)
    assert {pid: stack.frames[0].function for pid, stack in taken.holders.items()} == {HOLDER: str(HOLDER)}
    assert taken.missing == ()


def test_the_thread_that_reads_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def note(_py_spy: str, pid: int, tid: int) -> Stack:
        asked.append((pid, tid))
        return Stack("py-spy", (), 0)

    monkeypatch.setattr(pyspy, "python_stack", note)
    ask(ongoing(), "py-spy", monkeypatch)
    ask(stall(holder(), ended=None, of=waiting()), "py-spy", monkeypatch)
    assert asked == [(PARENT, 77), (HOLDER, HOLDER), (PARENT, SPAWNER), (HOLDER, HOLDER)]


def test_a_holder_that_has_called_exec_is_skipped(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = ask(ongoing(cause=Cause.LEAKED), program(NAMING), monkeypatch)
    assert taken.holders == {}
    [line] = taken.missing
    assert line.startswith(f"holder {HOLDER}: ") and "leaked" in line
    assert ask(stall(UNSEEN, ended=None, of=waiting()), program(NAMING), monkeypatch).missing == ()


def test_only_the_first_holders_are_captured(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    many = stall(*(holder(pid=pid) for pid in range(100, 120)), ended=None, of=waiting())
    assert list(ask(many, program(NAMING), monkeypatch).holders) == [100, 101, 102]


def test_each_failure_names_its_process(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = ask(ongoing(), program("sys.exit('Failed to find python version')"), monkeypatch)
    assert taken == Taken(
        missing=(
            f"reader: pid {PARENT} does not run a Python version that py-spy supports",
            f"holder {HOLDER}: pid {HOLDER} does not run a Python version that py-spy supports",
        )
    )


def test_a_missing_py_spy_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = ask(ongoing(), None, monkeypatch).missing
    assert "py-spy is not installed" in line


def test_too_many_stalls_at_once(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "find_py_spy", lambda: program("time.sleep(60)"))
    stacks = PythonStacks()
    try:
        asked = [stacks.ask(ongoing()) for _ in range(20)]
        assert [future.done() for future in asked].count(True) >= 4
        [line] = asked[-1].result().missing
        assert "too many stalls" in line
    finally:
        stacks.close()


def test_take_now(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyspy, "find_py_spy", lambda: program(NAMING))
    taken = take_now(PID, TID, [(HOLDER, Cause.FORKED), (None, Cause.UNKNOWN)])
    assert taken.reader is not None
    assert taken.reader.frames[0].function == str(PID)
    assert list(taken.holders) == [HOLDER]
    monkeypatch.setattr(pyspy, "find_py_spy", lambda: None)
    assert take_now(PID, TID, []) == Taken(missing=(pyspy._NOT_INSTALLED,))


# -- stacks in time --


def at(when: int) -> Stack:
    return Stack("py-spy", (Frame("f", "a", 1),), when)


def test_stacks_that_were_captured_in_time() -> None:
    taken = Taken(at(BEGAN + 1), {HOLDER: at(BEGAN + 2)}, ("one line",))
    found = with_python(stall(holder(released=ENDED)), taken, ENDED)
    assert found.reader_stack == at(BEGAN + 1)
    assert found.culprit.own_stack == at(BEGAN + 2)
    assert found.missing == ("one line",)


def test_a_stack_that_was_captured_too_late_is_left_out() -> None:
    taken = Taken(at(ENDED + 1), {HOLDER: at(ENDED + 1)})
    found = with_python(stall(holder(released=ENDED - MS)), taken, ENDED)
    assert (found.reader_stack, found.culprit.own_stack) == (None, None)
    assert found.missing == (
        "reader: the stall ended before py-spy captured its stack",
        f"holder {HOLDER}: it released its copy before py-spy captured its stack",
    )


def test_a_holder_that_releases_its_copy_before_the_stall_ends() -> None:
    taken = Taken(at(BEGAN), {HOLDER: at(ENDED - MS)})
    assert with_python(stall(holder(released=ENDED - 2 * MS)), taken, ENDED).culprit.own_stack is None


def test_a_holder_that_has_called_exec_since_has_another_stack() -> None:
    found = with_python(stall(holder(cause=Cause.LEAKED)), Taken(at(BEGAN), {HOLDER: at(BEGAN)}), ENDED)
    assert found.culprit.own_stack is None


@pytest.mark.parametrize(
    ("ended", "words"),
    [
        (ENDED, "no Python stacks: the stall ended before py-spy finished"),
        (None, "no Python stacks: py-spy has not finished"),
    ],
)
def test_no_stacks_were_captured(ended: Optional[int], words: str) -> None:
    before = dataclasses.replace(stall(ended=ended), missing=("another line",))
    assert with_python(before, None, ENDED).missing == ("another line", words)
