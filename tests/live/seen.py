# SPDX-License-Identifier: Apache-2.0
"""A tracer in the process of the test."""

from __future__ import annotations

import subprocess

from agent.model import Spawn, Stall
from agent.tracing.prepared import TracerOptions
from agent.tracing.tracer import Tracer

__all__ = ["Seen"]


class Seen:
    """A tracer in this process, and all its reports."""

    def __init__(self, **options: object) -> None:
        self.stalls: list[Stall] = []
        self.spawns: list[Spawn] = []
        self.tracer = Tracer(
            TracerOptions(every=True, **options),  # type: ignore[arg-type]
            self.stalls.append,
            self.spawns.append,
        )

    def poll_beside(self, process: subprocess.Popen[str]) -> str:
        """Poll until a process has ended; return its output."""
        while process.poll() is None:
            self.tracer.run_once(0.05)
        self.tracer.run_once(0.2)
        self.tracer.drain()
        assert process.stdout is not None
        return process.stdout.read()
