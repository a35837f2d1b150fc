# SPDX-License-Identifier: Apache-2.0
"""Names in documents, docstrings and comments exist: files, options, keys, metrics, targets, identifiers."""

from __future__ import annotations

import ast
import dataclasses
import functools
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import yaml

from agent.settings.agentfile import Config
from tests.metrics_contract import contract

_ROOT = Path(__file__).resolve().parents[3]
_FOLDERS = (".ci", ".github", "agent", "config", "dashboards", "probes", "tests")
_PYTHON_2 = "tests/programs/original27.py"

# Names of the kernel, of SELinux and Prometheus, of runtimes; and patterns of names.
_FOREIGN_WORDS = {
    *(
        "__data_loc",
        "__x64_sys_close",
        "bpf_iter_KIND",
        "bpf_probe_read_user",
        "bpf_seq_write",
        "no_new_privs",
    ),
    *("parent_pid", "pid_max", "pipe_release", "set_tid", "task_file", "trace_entry", "CLONE_VM"),
    *("sys_enter_CALL", "sys_exit_CALL", "SPAWNSTALL_SECTION_KEY"),
    *("bin_t", "unconfined_service_t", "honor_labels", "sample_limit"),
    *("g_spawn_sync", "proc_open", "process_group", "spawnv_passfds"),
}
_FOREIGN_FILES = re.compile(
    r"(include/)?(linux|uapi|asm|asm-generic)/.*|version\.h|(\.bpf)?\.c"
    r"|(bench|stalls)\.json|prometheus_(alerts|rules)\.yaml|mixin\.libsonnet"  # written by our programs
)
_FOREIGN_OPTIONS = {"--build-arg", "--enable-feature", "--format", "--privileged"}

_SUFFIX = r"\.(?:py|c|h|md|sh|ya?ml|jsonl?|css|js|toml|libsonnet|png|bpf)"
_FILE = re.compile(rf"(?<![\w/.*-])((?:[.\w-]+/)*[\w.-]*{_SUFFIX})\b(?!\()")
_DOTTED = re.compile(r"(?<![\w./])(\w+)\.([A-Za-z_]\w*)(?![\w/])")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_OUR_COMMAND = re.compile(r"^--|trace-popen|snapshot\.py|python3? -m (?:agent|tests|dashboards)\b")


class _Prose(NamedTuple):
    """Text for people: a document without its indented lines, a docstring or a comment."""

    where: str
    text: str
    commands: str = ""

    def spans(self) -> list[str]:
        """The words in backquotes."""
        return re.findall(r"``?([^`\n]+)``?", self.text)

    def dotted(self) -> Iterator[tuple[str, str]]:
        """The two parts of a name such as ``web.listen``, unless it is a file."""
        for owner, name in _DOTTED.findall(" ".join(self.spans())):
            if not re.fullmatch(_SUFFIX, f".{name}"):
                yield owner, name


class _Project(NamedTuple):
    """All prose; all code without it; the paths of all files; the names in each class and each module."""

    prose: list[_Prose]
    code: list[str]
    files: list[str]
    classes: dict[str, set[str]]
    modules: dict[str, set[str]]


@functools.cache
def _project() -> _Project:
    project = _Project([], [], [], {}, {})
    for file in _files():
        name = file.relative_to(_ROOT).as_posix()
        project.files.append(name)
        if file.suffix == ".png" or file == Path(__file__):
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        if file.suffix == ".md":
            _add_document(name, text, project)
        elif file.suffix == ".py" and name != _PYTHON_2:
            _add_python(name, text, project)
        elif file.suffix in (".c", ".h"):
            comment = re.compile(r"/\*.*?\*/", re.DOTALL)
            project.prose.extend(_Prose(name, each) for each in comment.findall(text))
            project.code.append(comment.sub(" ", text))
        else:
            project.code.append(re.sub(r"(?m)^\s*#.*$", "", text))
    return project


def _files() -> Iterator[Path]:
    for name in _FOLDERS:
        for folder, inner, files in os.walk(_ROOT / name):
            inner[:] = [each for each in inner if each not in ("node_modules", "__pycache__")]
            yield from (Path(folder, each) for each in files)
    yield from (file for file in _ROOT.iterdir() if file.is_file())


def _add_document(name: str, text: str, project: _Project) -> None:
    lines = text.splitlines()
    commands = [line for line in lines if line.startswith("    ")]
    rest = [line for line in lines if not line.startswith("    ")]
    project.prose.append(_Prose(name, "\n".join(rest), "\n".join(commands)))


def _add_python(name: str, text: str, project: _Project) -> None:
    lines = text.splitlines()
    nodes = list(ast.walk(ast.parse(text)))
    for node in nodes:
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and node.end_lineno:
            project.prose.append(_Prose(f"{name}:{node.lineno}", str(node.value.value)))
            lines[node.lineno - 1 : node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    for number, line in enumerate(lines):
        code, mark, comment = line.partition("# ")
        if mark and (not code.strip() or code.endswith("  ")):
            project.prose.append(_Prose(f"{name}:{number + 1}", comment))
            lines[number] = code
    project.code.extend(lines)
    project.modules[name] = _words(lines)
    for node in nodes:
        if isinstance(node, ast.ClassDef):
            inside = "\n".join(lines[node.lineno : node.end_lineno])
            defined = re.findall(
                r"(?m)(?:\bdef |\bself\.|^    (?!def )|\")(\w+)", inside
            )  # quoted: _fields_ of ctypes
            project.classes.setdefault(node.name, set()).update(defined)


def _words(lines: Iterable[str]) -> set[str]:
    return set(re.findall(r"\w+", "\n".join(lines)))


def _sections() -> dict[str, dict[str, object]]:
    """The keys of agent.yaml, by section."""
    return dataclasses.asdict(Config())


def _assert_none(missing: Iterable[str]) -> None:
    assert not sorted(set(missing))


def test_identifiers_are_in_the_code() -> None:
    """Those with an underscore; others are words of the language too."""
    project = _project()
    known = _FOREIGN_WORDS | _words(project.code + project.files)
    _assert_none(
        f"{prose.where}: {word}"
        for prose in project.prose
        for span in prose.spans()
        if "*" not in span
        for word in re.findall(r"\w*_\w+", span)
        if word not in known
    )


def test_files_exist() -> None:
    """By their path from the root, or by the end of it."""
    project = _project()
    ends = {file[found.end() :] for file in project.files for found in re.finditer("^|/", file)}
    _assert_none(
        f"{prose.where}: {name}"
        for prose in project.prose
        for name in _FILE.findall(prose.text)
        if re.sub(r"^(\.{1,2}/)+", "", name) not in ends and not _FOREIGN_FILES.fullmatch(name)
    )


def test_configuration_keys_exist() -> None:
    project, sections = _project(), _sections()
    _assert_none(
        f"{prose.where}: {section}.{key}"
        for prose in project.prose
        if prose.where != "agent/reports/JSON.md"  # keys of the JSON objects
        for section, key in prose.dotted()
        if section in sections
        and key not in sections[section]
        and f"{section}/{key}.py" not in project.modules  # probes and filter are folder and module, too
    )


def test_attributes_exist() -> None:
    """``Class.name`` of our classes, and ``module.name`` of modules beside a document."""
    project = _project()
    others = {*_sections(), "Process"}  # of Ruby
    _assert_none(
        f"{prose.where}: {owner}.{name}"
        for prose in project.prose
        for owner, name in prose.dotted()
        if owner not in others
        for beside in [prose.where.rpartition("/")[0]]
        for inside in [project.classes.get(owner) or project.modules.get(f"{beside}/{owner}.py")]
        if inside and name not in inside
    )


def test_modules_exist() -> None:
    project = _project()
    keys = _sections()["probes"]
    _assert_none(
        f"{prose.where}: {name}"
        for prose in project.prose
        for name in re.findall(r"(?<![\w./])((?:agent|probes|dashboards|tests)(?:\.\w+)+)", prose.text)
        if not re.search(rf"{_SUFFIX}$", name)
        for path in [name.replace(".", "/")]
        for owner, _, last in [path.rpartition("/")]
        if not (_ROOT / path).is_dir()
        and f"{path}.py" not in project.modules
        and last not in project.modules.get(f"{owner}.py", keys)
    )


def test_options_exist() -> None:
    """Of trace-popen, snapshot.py and our other programs."""
    project = _project()
    known = _FOREIGN_OPTIONS.union(_OPTION.findall("\n".join(project.code)))
    commands = [(prose.where, line) for prose in project.prose for line in prose.commands.splitlines()]
    commands += [(prose.where, span) for prose in project.prose for span in prose.spans()]
    ours = [(where, command) for where, command in commands if _OUR_COMMAND.search(command)]
    assert len(ours) > 100
    _assert_none(
        f"{where}: {option}"
        for where, command in ours
        for option in _OPTION.findall(command)
        if option not in known
    )


def test_metrics_exist() -> None:
    """And the variables of the Ansible role, which begin like metrics."""
    names = contract(_ROOT).keys()
    known = {"spawnstall_", *names, *(re.sub(r"_(bucket|sum|count)$", "", name) for name in names)}
    known |= yaml.safe_load((_ROOT / "config/ansible/roles/spawnstall/defaults/main.yml").read_text()).keys()
    _assert_none(
        f"{prose.where}: {name}"
        for prose in _project().prose
        for name in re.findall(r"\bspawnstall_\w*", f"{prose.text}\n{prose.commands}")
        if name not in known
    )


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"(?m)^([a-z0-9-]+):", (_ROOT / "Makefile").read_text()))
    commands = [
        command for prose in _project().prose for command in (*prose.spans(), *prose.commands.splitlines())
    ]
    named = {
        name for command in commands for name in re.findall(r"(?:^|&& )\s*make ([a-z][a-z0-9-]*)", command)
    }
    assert {"run", "test", "check", "preview"} <= named <= targets
