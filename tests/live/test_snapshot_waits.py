# SPDX-License-Identifier: Apache-2.0
"""Processes that wait for a child or a pipe: what /proc alone shows, and no stall for healthy ones."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agent import snapshot
from tests.live.lab import PYTHON, Lab, Object, json_lines
from tests.live.test_healthy import _IN_C, _IN_PYTHON, _MAKEFILE, _SHELLS

_PROGRAMS = Path(__file__).resolve().parent.parent / "programs"
_CASES = [
    node.name
    for node in ast.parse((_PROGRAMS / "waits.py").read_text()).body
    if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
]


@contextlib.contextmanager
def hanging(case: str, folder: Path) -> Iterator[Object]:
    """Start a case of waits.py; yield its own description of the wait."""
    command = [PYTHON, str(_PROGRAMS / "waits.py"), case]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
        env={**os.environ, "TMPDIR": str(folder)},
    ) as program:
        try:
            assert program.stdout is not None
            printed = json.loads(program.stdout.readline())
            time.sleep(0.5)
            yield {**printed, "program": program.pid}
        finally:
            for process in snapshot._trees([program.pid], snapshot._processes("/proc")):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)


@pytest.mark.parametrize("case", _CASES)
def test_what_it_waits_for(case: str, tmp_path: Path) -> None:
    with hanging(case, tmp_path) as printed:
        deadline = time.monotonic() + 20
        while True:  # on a busy machine it may take a while until it is blocked
            look = snapshot.look(printed["program"])
            assert look.stalls == ()
            found = [
                wait
                for wait in look.waits
                if wait.kind in printed["kind"].split() and wait.pid == printed["parent"]
            ]
            if len(found) == 1 and _is_as_said(found[0], printed, case):
                return
            seen = json.dumps([wait.to_object() for wait in look.waits], indent=1)
            assert time.monotonic() < deadline, seen
            time.sleep(0.5)


def _is_as_said(wait: snapshot.Wait, printed: Object, case: str) -> bool:
    if case.endswith("_is_in_exec") and not (
        "execve of /" in wait.headline and "/leased on " in wait.headline
    ):
        return False
    return printed["holder"] in [holder.pid for holder in wait.holders] and wait.normal == printed["normal"]


def test_text_json_and_replay(lab: Lab) -> None:
    """All outputs have the same words, and no stall is counted."""
    report = lab.folder / "report.json"
    page = lab.folder / "page.html"
    with hanging("grandchild_keeps_output", lab.folder) as printed:
        command = [*lab.trace_popen, "--pid", str(printed["program"]), "--snapshot", "--fail-on-stall"]
        options = ["--report", str(report), "--html", str(page)]
        text = subprocess.run(
            [*command, *options], cwd=lab.root, stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        done = subprocess.run(
            [sys.executable, snapshot.__file__, str(printed["program"])], stdout=subprocess.PIPE, text=True
        )
    alone = done.stdout
    assert done.returncode == 1
    run, wait = json_lines(report.read_text())
    assert run["type"] == "run"
    assert (wait["type"], wait["kind"]) == ("wait", "output")
    assert _words(text.partition(f"  on {run['host']}")[0]) == _words(alone)
    assert f"sleep (pid {printed['holder']}), fd 1" in " ".join(text.split())
    assert str(printed["holder"]) in page.read_text()
    again = subprocess.run(
        [*lab.trace_popen, "--replay", str(report)],
        cwd=lab.root,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    assert again == text


def _words(text: str) -> list[str]:
    """The words of a report; the duration of a hang that goes on can differ."""
    return re.sub(r"for at most [\d.]+ m?s", "for at most N s", " ".join(text.split())).split()


def test_nothing_to_report(lab: Lab) -> None:
    with subprocess.Popen(["sleep", "60"]) as program:
        time.sleep(0.2)
        done = subprocess.run(
            [*lab.trace_popen, "--pid", str(program.pid), "--snapshot"],
            cwd=lab.root,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        program.kill()
    sentence = f"no thread of {program.pid} waits for a child or a pipe; they are in: sleep (1)"
    assert done.stdout.splitlines()[0] == sentence


# -- healthy programs --

_SERVICES = {
    "sleep": ["sleep", "5"],
    "make": ["make", "-j3", "-f", "{folder}/Makefile"],
    "asyncio": [
        PYTHON,
        "-c",
        "import asyncio\n"
        "async def main():\n"
        "    p = await asyncio.create_subprocess_exec('sleep', '5', stdin=-1, stdout=-1)\n"
        "    await p.communicate()\n"
        "asyncio.run(main())",
    ],
    "pool": [
        PYTHON,
        "-c",
        "import concurrent.futures as c, os, time\n"
        "with c.ProcessPoolExecutor(3) as pool:\n"
        "    a = pool.submit(time.sleep, 5); os.system('true'); a.result()",
    ],
    "multiprocessing": [
        PYTHON,
        "-c",
        "import multiprocessing as m, os, time\n"
        "with m.Pool(3) as pool:\n"
        "    a = pool.map_async(time.sleep, [5] * 3); os.system('true'); a.get()",
    ],
    "node": ["node", "-e", "require('child_process').exec('sleep 5')"],
    "ruby": ["ruby", "-e", "r, w = IO.pipe; system('true'); fork { r.close; sleep 5 }; w.close; r.read(4)"],
    "perl": [
        "perl",
        "-e",
        "pipe R, W; system 'true'; if (!fork) { sleep 5; exit } close W; sysread R, $x, 4",
    ],
}


@pytest.fixture(scope="module")
def healthy(
    tmp_path_factory: pytest.TempPathFactory, compiled: Callable[..., str]
) -> dict[str, list[snapshot.Look]]:
    """Look three times at each of many programs."""
    folder = tmp_path_factory.mktemp("healthy")
    (folder / "Makefile").write_text(_MAKEFILE)
    commands = {
        **{f"python-{name}": [PYTHON, str(_PROGRAMS / "healthy.py"), name] for name in _IN_PYTHON.values()},
        **{f"c-{name}": [compiled("healthy"), name] for name in _IN_C.values()},
        **{f"shell-{name}": command for name, command in _SHELLS.items()},
        **{f"service-{name}": command for name, command in _SERVICES.items()},
    }
    looks: dict[str, list[snapshot.Look]] = {name: [] for name in commands}
    for at in range(0, len(commands), 12):
        programs = {}
        for name in list(commands)[at : at + 12]:
            command = [word.replace("{folder}", str(folder)) for word in commands[name]]
            programs[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
            )
        for _ in range(3):
            time.sleep(0.4)
            for name, program in programs.items():
                looks[name].append(snapshot.look(program.pid))
        for program in programs.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)
            program.wait()
    return looks


@pytest.mark.parametrize(
    "name",
    [
        *(f"python-{name}" for name in _IN_PYTHON.values()),
        *(f"c-{name}" for name in _IN_C.values()),
        *(f"shell-{name}" for name in _SHELLS),
        *(f"service-{name}" for name in _SERVICES),
    ],
)
def test_a_healthy_program_has_no_stall(healthy: dict[str, list[snapshot.Look]], name: str) -> None:
    assert [look.stalls for look in healthy[name]] == [(), (), ()]
    assert any(look.waits or look.nothing for look in healthy[name])
    for look in healthy[name]:
        # A look can hit the moment between a fork and its exec: that is a normal wait.
        late = [wait for wait in look.waits if wait.kind in ("own_child", "vfork") and not wait.normal]
        assert not late or name == "python-slow_own_child", late
