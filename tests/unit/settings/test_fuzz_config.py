# SPDX-License-Identifier: Apache-2.0
"""Arbitrary configuration files cause one line for each error, no traceback and no hang."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from agent.filter import Filter
from agent.serve.labels import Label
from agent.settings import agentfile, webfile
from agent.settings.yamlfile import ConfigError

_LONGEST = 1000
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
_SCALARS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(1 << 80), 1 << 80),
    st.floats(),
    _TEXT,
    st.binary(max_size=20),
    st.dates(),
    st.sampled_from(
        [1e300, "nan", "0x10", "1:30", "a\0b", "²:²", "x" * 5000, 10**4000, datetime.datetime(1, 1, 1)]
    ),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_SCALARS, inner, max_size=4),
    max_leaves=6,
)
_STRINGS = [
    *(
        "a\0b",
        "a\0b:1",
        "\x1b[31m",
        "a\nb",
        "x" * 5000,
        "²:²",
        "[::1]:1",
        "127.0.0.1:0",
        "é:1",
        ".",
        "/",
        "/dev/null",
    ),
    *(
        "(" * 3000,
        "a{99999999999}",
        "(",
        "\\",
        "TLS12",
        "TLS99",
        "RequireAndVerifyClientCert",
        "NoClientCert",
        "X-Frame-Options",
    ),
    *("TLS_AES_128_GCM_SHA256", "deny", "$2y$10$" + "." * 53, "!python*", "host"),
]
# What safe_dump does not write.
_SNIPPETS = [
    "filter: {comm: ['[z-a]', '!a[b-a]']}",
    "labels: {rules: [{mtch: x, name: y}]}",
    "web: {listen: 127.0.0.1:1, listen: 127.0.0.1:2}",
    "web: {}\nweb: {}\n",
    "a: &a {b: c}\nweb: *a\n",
    "web: {<<: {listen: 127.0.0.1:1}}",
    "web: &a [*a]\n",
    "? [a]\n: b\n",
    "? {a: b}\n: b\n",
    "!!python/object/apply:os.system [true]",
    "web: !!python/name:os.system\n",
    "web: !unknown x\n",
    "--- {}\n--- {}\n",
    "%YAML 9.9\n---\nweb: {}\n",
    "web:\n\tlisten: x\n",
    "stalls: {min_ms: 9" + "9" * 5000 + "}",
    "stalls: {min_ms: .nan}",
    "stalls: {min_ms: .inf}",
    "stalls: {min_ms: 2026-99-99}",
    "stalls: {min_ms: !!float x}",
    "stalls: {min_ms: !!int ''}",
    "[" * 1_000,
    "web: " + "{a: " * 3_000 + "}" * 3_000,
    "!!set {a, b}",
    "!!binary x",
    "\ufeff{}",
    "- a\n",
    '{"a\\n\\e": 1, "a\\n\\e": 2}',
    "~",
    "web",
]


def _bomb() -> str:
    """A document of billions of values, if aliases were followed."""
    lines = ["a0: &a0 {x: y}"]
    for level in range(1, 12):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    return "\n".join([*lines, "web: *a11", ""])


def _merge_bomb() -> str:
    lines = ["a0: &a0 {x: y}"]
    for level in range(1, 12):
        lines.append(f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}")
    return "\n".join([*lines, "web: *a11", ""])


def _document(model: Any) -> st.SearchStrategy[Any]:
    """A document with mostly known keys and mostly invalid values."""
    keys: dict[Any, st.SearchStrategy[Any]] = {}
    for name, annotation in get_type_hints(model).items():
        if dataclasses.is_dataclass(annotation):
            keys[name] = _document(annotation) | _VALUES
            continue
        items = [item for item in get_args(annotation) if dataclasses.is_dataclass(item)]
        keys[name] = st.lists(_document(items[0]), max_size=2) | _VALUES if items else _VALUES
    known = st.fixed_dictionaries({}, optional=keys)
    return st.one_of(
        known, known, st.builds(lambda a, b: {**a, **b}, known, st.dictionaries(_SCALARS, _VALUES))
    )


def _hostile(annotation: Any) -> st.SearchStrategy[Any]:
    """Values of the right type with hostile contents."""
    if dataclasses.is_dataclass(annotation):
        keys = get_type_hints(annotation).items()
        return st.fixed_dictionaries({}, optional={name: _hostile(inner) for name, inner in keys})
    of = [_hostile(item) for item in get_args(annotation)]
    if get_origin(annotation) is list:
        return st.lists(of[0], max_size=3)
    if get_origin(annotation) is dict:
        return st.dictionaries(of[0], of[1], max_size=3)
    kinds: dict[Any, st.SearchStrategy[Any]] = {
        str: _TEXT | st.sampled_from(_STRINGS),
        int: st.integers(0, 1 << 40),
        float: st.floats(0, 1e9),
        bool: st.booleans(),
    }
    return kinds.get(annotation, _VALUES)


def _mutated(text: str) -> st.SearchStrategy[bytes]:
    """A valid file with parts removed or replaced by garbage."""

    def mutate(at: int, length: int, what: bytes, halvings: int) -> bytes:
        raw = text.encode()
        return raw[:at] + what + raw[at + length :][: len(raw) >> halvings]

    size = len(text)
    return st.builds(
        mutate,
        st.integers(0, size),
        st.integers(0, 200),
        st.binary(max_size=8)
        | st.sampled_from(
            [b"\n", b":", b"\t", b"- ", b"{", b"&a ", b"*a", b"\0", b"\xff", b"!!python/name:os.system "]
        ),
        st.integers(0, 2),
    )


@pytest.fixture(scope="module")
def file(in_memory: Path) -> Path:
    return in_memory / "file.yaml"


def _check(file: Path, content: bytes, load: Callable[[Path], object]) -> None:
    file.write_bytes(content)
    try:
        load(file)
    except ConfigError as error:
        # Errors in a web.config_file start with its path.
        lines = str(error).split("\n")
        *first, last = lines
        assert all(line.startswith(str(file.parent)) for line in first), error
        assert last.startswith(str(file.parent)) or (len(first) == 20 and last.startswith("and ")), error
        assert all(line.isprintable() for line in lines), error
        assert max(map(len, lines)) <= _LONGEST, error


def _load_config(file: Path) -> object:
    """Load a configuration and use it as the agent does at its start."""
    found = agentfile.load(file)
    Filter(found.filter.comm, found.filter.uid, found.filter.container).passes_comm(b"\xff")
    rules = [(rule.match, rule.name) for rule in found.labels.rules]
    Label("comm", found.labels.limit, found.labels.allow, rules).value(b"\xff")
    if found.web.config_file:
        webfile.load(Path(found.web.config_file))
    return found


@pytest.mark.parametrize("load", [_load_config, webfile.load], ids=["agent", "web"])
@pytest.mark.parametrize("snippet", [*_SNIPPETS, _bomb(), _merge_bomb()], ids=lambda text: text[:20])
def test_snippets(snippet: str, load: Callable[[Path], object], file: Path) -> None:
    _check(file, snippet.encode(), load)


@given(document=_document(agentfile.Config))
def test_values_of_every_kind(file: Path, document: Any) -> None:
    _check(file, yaml.safe_dump(document).encode(), _load_config)


@given(document=_document(webfile._File))
def test_values_of_every_kind_in_the_web_configuration(file: Path, document: Any) -> None:
    _check(file, yaml.safe_dump(document).encode(), webfile.load)


@given(document=_hostile(agentfile.Config))
def test_hostile_values_of_the_right_type(file: Path, document: Any) -> None:
    _check(file, yaml.safe_dump(document).encode(), _load_config)


@given(document=_hostile(webfile._File))
def test_hostile_values_in_the_web_configuration(file: Path, document: Any) -> None:
    _check(file, yaml.safe_dump(document).encode(), webfile.load)


@given(data=st.data())
def test_mutations_of_the_annotated_file(file: Path, repo_root: Path, data: st.DataObject) -> None:
    text = (repo_root / "config" / "agent.yaml").read_text()
    _check(file, data.draw(_mutated(text)), _load_config)


@given(content=st.binary(max_size=200))
def test_bytes(file: Path, content: bytes) -> None:
    _check(file, content, _load_config)
    _check(file, content, webfile.load)


@given(
    name=st.sampled_from(["stalls.min_ms", "web.listen", "labels.rules", "log.level", "filter.uid"]),
    text=_TEXT,
)
def test_settings_and_environment(name: str, text: str) -> None:
    for environ, settings in (
        ({f"SPAWNSTALL_{name.replace('.', '_').upper()}": text}, []),
        ({}, [f"{name}={text}"]),
        ({}, [text]),
    ):
        try:
            agentfile.load(None, environ, settings)
        except ConfigError as error:
            assert all(line.isprintable() and len(line) <= _LONGEST for line in str(error).split("\n"))
