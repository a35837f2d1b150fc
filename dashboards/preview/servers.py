# SPDX-License-Identifier: Apache-2.0
"""Servers such as Prometheus on free loopback ports."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

__all__ = ["free_port", "prometheus", "running"]

_START_SECONDS = 60
_STOP_SECONDS = 120  # a Prometheus with millions of series is slow to stop


@contextlib.contextmanager
def prometheus(folder: Path, config: Mapping[str, object], *flags: str) -> Iterator[int]:
    """Run Prometheus with its files in ``folder``; yields its port. Stopped by SIGTERM."""
    port = free_port()
    file = folder / "prometheus.yaml"
    file.write_text(yaml.safe_dump(dict(config)))
    command = [
        "prometheus",
        f"--config.file={file}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        *flags,
    ]
    with running(command, folder / "prometheus.log", port):
        yield port


@contextlib.contextmanager
def running(command: list[str], log: Path, port: int) -> Iterator[None]:
    """Run a server until the block ends, ready from the beginning. Raises RuntimeError with its log."""
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not start: {log.read_text()}")
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        process.wait(_STOP_SECONDS)


def free_port() -> int:
    """Return a TCP port that is free on the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/-/ready", timeout=10):
            return True
    except OSError:
        return False
