# SPDX-License-Identifier: Apache-2.0
"""An empty program at exactly the agent's tracepoints: the least that tracing them costs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from probes.compiled import Attempt, Compilation, CompilerProcess
from probes.preflight import find_tracefs

__all__ = ["attached", "source"]

_RAW = {"task:task_newtask": "raw:task_newtask"}  # as probes.loader attaches it


def source(tracepoints: Sequence[str]) -> str:
    """Return C of an empty program for each ``category:event``."""
    return "".join(f"int {_function(name)}(void *unused) {{ return 0; }}\n" for name in tracepoints)


@contextlib.contextmanager
def attached(tracepoints: Sequence[str], folder: Path) -> Iterator[None]:
    """Attach the programs until the block ends.  Raises probes.compiled.LoadError."""
    file = folder / "empty.c"
    file.write_text(source(tracepoints))
    functions = {_function(name): _RAW.get(name, name) for name in tracepoints}
    with CompilerProcess() as process:
        attempt = Attempt([], functions)
        compiled = Compilation(
            process, [file], [attempt], list(functions), lambda _: {}, find_tracefs()
        ).result()
    try:
        yield
    finally:
        compiled.close()


def _function(tracepoint: str) -> str:
    return tracepoint.split(":")[1]
