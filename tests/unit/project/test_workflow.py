# SPDX-License-Identifier: Apache-2.0
"""The commands of the workflows, which run on GitHub only: what they name is there, or the machine's."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_ROOT = Path(__file__).resolve().parents[3]
_OF_THE_RUNNER = {"apt-get", "docker", "git", "gzip"}


def _jobs() -> Iterator[dict[str, Any]]:
    for file in (_ROOT / ".github/workflows").iterdir():
        yield from yaml.safe_load(file.read_text())["jobs"].values()


def _commands() -> Iterator[list[str]]:
    """Each command of each step, without redirections and sudo."""
    for step in (step for job in _jobs() for step in job["steps"]):
        text = re.sub(r"\$\{\{.*?\}\}|>\S+", "", step.get("run", ""))
        for command in filter(None, re.split(r"&&|\|\||[|;\n]", text)):
            words = shlex.split(command)
            yield words[1:] if words[0] == "sudo" else words


def test_every_command_is_there() -> None:
    commands = list(_commands())
    assert {"make", "docker", ".ci/run"} <= {words[0] for words in commands}
    for program, *_ in commands:
        if "/" in program:
            assert os.access(_ROOT / program, os.X_OK), program
        else:
            assert program in {"make", *_OF_THE_RUNNER}, program


def test_every_target_is_there() -> None:
    makefile = (_ROOT / "Makefile").read_text()
    targets = set(re.findall(r"(?m)^([a-z][a-z0-9-]*):", makefile))
    variables = set(re.findall(r"\$\(([A-Z_]+)\)|ifdef ([A-Z_]+)", makefile))
    of_scripts = re.findall(r"(?m)^(?:exec )?(make .*)$", (_ROOT / ".ci/run").read_text())
    calls = [words for words in _commands() if words[0] == "make"] + [text.split() for text in of_scripts]
    assert of_scripts
    for path in re.findall(r"[\w./-]+\.(?:sh|py)\b", makefile):
        assert (_ROOT / path).is_file(), path
    for _, *words in calls:
        for word in words:
            name, assigned, _ = word.partition("=")
            known = {name for pair in variables for name in pair} if assigned else targets
            assert name in known, word


def test_git_trusts_the_checkout_in_a_container() -> None:
    """There the steps are root's and the checkout is not; what actions/checkout configures ends with it."""
    in_containers = [job["steps"] for job in _jobs() if "container" in job]
    assert in_containers
    for steps in in_containers:
        trusts = ["safe.directory" in step.get("run", "") for step in steps].index(True)
        assert "actions/checkout@" in steps[trusts - 1]["uses"]
