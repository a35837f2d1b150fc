# SPDX-License-Identifier: Apache-2.0
"""Healthy programs that wait for a pipe by design: no stall is ever reported."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.live.lab import PYTHON
from tests.live.sidebyside import SideBySide, play

_PROGRAMS = Path(__file__).resolve().parent.parent / "programs"
_AT_ONCE = 12
_WAITED_SECONDS = 1.0
"""After this time a stall in progress is reported; each program waits half a second longer."""

_MAKEFILE = """
SAID := $(shell sleep 1.5; echo said)
all: a b
a b:
\t@+echo $(SAID)
"""
_PERL_WORKER = """
pipe(my $r, my $w); system("true");
if (!fork) { close $r; select(undef, undef, undef, 1.5); print $w "done\\n"; exit }
close $w; print <$r>; wait
"""
_SHELLS = {
    "substitution": ["/bin/sh", "-c", "x=$(sleep 1.5 | cat)"],
    "nested-substitution": ["/bin/sh", "-c", "x=$(true; y=$(sleep 1.5; echo $(true)); echo $y)"],
    "process-substitution": ["/bin/bash", "-c", "while read x; do :; done < <(sleep 1.5; echo done)"],
    "coproc": ["/bin/bash", "-c", "coproc { sleep 1.5; echo done; }; true; read -u ${COPROC[0]} x"],
    "lastpipe": ["/bin/bash", "-c", "shopt -s lastpipe; (sleep 1.5; echo done) | read x"],
    "job-control": ["/bin/bash", "-mc", "x=$(sleep 1.5 | cat)"],
    "trap": ["/bin/sh", "-c", "trap : USR1 CHLD; x=$( (sleep 1.5; kill -USR1 $$; echo done) )"],
    "background": ["/bin/sh", "-c", "x=$(sleep 1.5 & sleep 0.2; true)"],
    "xargs": ["/bin/sh", "-c", "x=$(echo 1.5 1.5 | xargs -P2 -n1 sleep)"],
    "timeout": ["/bin/sh", "-c", "x=$(timeout 10 sh -c 'sleep 1.5; echo done')"],
    "nohup": ["/bin/sh", "-c", "x=$(nohup sh -c 'sleep 1.5; echo done' </dev/null 2>&1)"],
    "setsid": ["/bin/sh", "-c", "x=$(setsid -f sh -c 'sleep 1.5; echo done')"],
    "git": ["/bin/sh", "-c", "x=$(git -c alias.wait='!sleep 1.5; echo done' wait)"],
    "perl-open": ["perl", "-e", 'open(my $f, "-|", "sleep 1.5; echo done"); print <$f>'],
    "perl-list-open": ["perl", "-e", 'open(my $f, "-|", "sleep", "1.5"); print <$f>'],
    "perl-backticks": ["perl", "-e", "print `sleep 1.5; echo done`"],
    "perl-worker": ["perl", "-e", _PERL_WORKER],
    "make": ["make", "-j2", "-f", "{folder}/Makefile"],
}


def _functions_of(file: str) -> list[str]:
    """Return the names in healthy.py's table without importing a program for another Python."""
    tree = ast.parse((_PROGRAMS / file).read_text())
    return [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_") and not node.args.args
    ]


_IN_PYTHON = {f"python-{name}": name for name in _functions_of("healthy.py")}
_IN_C = {
    f"c-{name}": name for name in re.findall(r'^    \{"(\w+)"', (_PROGRAMS / "healthy.c").read_text(), re.M)
}


@pytest.fixture(scope="module")
def played(
    repo_root: Path, tmp_path_factory: pytest.TempPathFactory, compiled: Callable[..., str]
) -> SideBySide:
    """Trace all of them at once."""
    folder = tmp_path_factory.mktemp("healthy")
    (folder / "Makefile").write_text(_MAKEFILE)
    cases = {
        **{name: [PYTHON, str(_PROGRAMS / "healthy.py"), case] for name, case in _IN_PYTHON.items()},
        **{name: [compiled("healthy"), case] for name, case in _IN_C.items()},
        **{
            name: [word.replace("{folder}", str(folder)) for word in command]
            for name, command in _SHELLS.items()
        },
    }
    return play(repo_root, folder, cases, _AT_ONCE)


@pytest.mark.parametrize("name", [*_IN_PYTHON, *_IN_C, *_SHELLS])
def test_no_stall(played: SideBySide, name: str) -> None:
    case = played.case(name)
    assert case["status"] == 0
    assert case["waited"] > _WAITED_SECONDS  # otherwise the test shows nothing
    assert played.of(name, "stall") == []
    assert played.of(name, "exposure") == []


def test_no_stall_of_an_unknown_process(played: SideBySide) -> None:
    """Processes too brief to be seen in /proc also belong to one of the cases."""
    assert played.of_no_case("stall") == []
    assert played.traced.summary["stalls"] == len(played.traced.of("stall"))
    assert played.traced.summary["lost_records"] == 0
