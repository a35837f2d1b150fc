# SPDX-License-Identifier: Apache-2.0
"""Damaged reports and hostile names, through every output.

No escape sequence and no foreign markup get through, sizes are bounded, an invalid file is one error line.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import io
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

from agent import snapshot
from agent.cli import main
from agent.model import Cause, Container, Frame, Identity, Stack
from agent.render.agent_html import page
from agent.reports.objects import stall_object
from agent.serve.history import History
from agent.serve.metrics import Metrics
from agent.serve.stallkinds import StallKinds
from agent.serve.status import Status
from agent.settings import agentfile
from tests.unit import reportsamples
from tests.unit.render.test_agent_html import Document
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import holder, spawn, stall, with_stacks
from tests.unit.serve.test_metrics import FakeSource, program

_HOSTILE = [
    *(
        "\x1b[2J\x1b]0;gone\x07",
        "\x9b31m",
        "\r\nok",
        "\0",
        "\u202egnp",
        "\ud800",
        "<script>x</script>",
        "'\"><blink>",
    ),
    *(
        "</title>",
        "]]>",
        "&amp;",
        "${x}",
        "[bold]x[/bold]",
        "[link=http://x]",
        '"\\\n',
        "{{x}}",
        "~other",
        "%s",
    ),
]
_VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(1 << 70), 1 << 70),
        st.floats(),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.sampled_from([text for text in _HOSTILE if text != "\ud800"]),
        st.just("x" * 4096),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
_WAIT = snapshot.Wait(
    kind="output",
    time=1_764_000_000.0,
    pid=4711,
    tid=4712,
    comm=b"web-app",
    child=123,
    child_comm=b"sh",
    headline="web-app (pid 4711) reads a pipe that is still open in sleep (pid 456)",
    holders=(snapshot.WaitHolder(456, b"sleep", (1, 2), 1, 1_764_000_000.0, "sleeps"),),
    evidence=("fd 3 is pipe:[77]",),
    advice="Redirect the output.",
)
_SAMPLES = [
    _WAIT.to_object(),
    *(
        reportsamples.ended(),
        reportsamples.ongoing(),
        reportsamples.found(),
        reportsamples.plain_spawn(),
        reportsamples.summary(),
    ),
    stall_object(with_stacks(stall()), CLOCK),
]
# Each comes with a part of 15 bytes of a comm, an exe, a name in the code, ...
_NAMES = st.sampled_from(_HOSTILE).map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(
    max_size=20
)


def _changed(sample: dict[str, Any], path: tuple[Any, ...], value: Any) -> Any:
    changed = copy.deepcopy(sample)
    if not path:
        return value
    within = changed
    for key in path[:-1]:
        within = within[key]
    within[path[-1]] = value
    return changed


_OBJECTS = st.sampled_from(_SAMPLES).flatmap(
    lambda sample: st.builds(
        _changed, st.just(sample), st.sampled_from(list(reportsamples.places(sample))), _VALUES
    )
)
_LINES = st.lists(st.one_of(st.sampled_from(_SAMPLES), _OBJECTS), min_size=1, max_size=4).map(
    lambda reports: b"".join(json.dumps(line).encode() + b"\n" for line in reports)
)
_DAMAGED_LINES = st.builds(
    lambda lines, at, what, length: lines[: at % len(lines)] + what + lines[at % len(lines) + length :],
    _LINES,
    st.integers(0, 1 << 20),
    st.binary(max_size=8) | st.sampled_from([b"NaN", b"1e999", b"[" * 2000, b"\\u001b", b"\n", b'"', b"}"]),
    st.integers(0, 40),
)


def _unclean(text: str) -> list[str]:
    """Lines with characters that could mislead a terminal or a person."""
    return [line for line in text.split("\n") if not line.isprintable()]


def _replay(folder: Path, content: bytes, *options: str) -> tuple[int, str, str]:
    """Status and streams of trace-popen --replay."""
    file = folder / "report.jsonl"
    file.write_bytes(content)
    said, complaints = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complaints),
        pytest.raises(SystemExit) as exited,
    ):
        main.main(["--replay", str(file), *options])
    return int(exited.value.code or 0), said.getvalue(), complaints.getvalue()


def _check_page(source: str) -> None:
    document = Document(source)
    for tag, attributes in document.elements:
        assert tag not in ("blink", "iframe", "img", "object", "embed", "base", "form"), tag
        assert not any(name.startswith("on") for name in attributes)
    assert "<script>x" not in source
    assert _unclean(source) == []


def _check_replay(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        html, trace = folder / "report.html", folder / "trace.json"
        status, said, complaints = _replay(
            folder, content, "--steps", "--html", str(html), "--trace", str(trace)
        )
        assert _unclean(said) == _unclean(complaints) == []
        assert "Traceback" not in complaints
        assert status in (0, 2)
        lines = complaints.splitlines()
        assert len(lines) <= 1
        assert all(
            line.startswith(f"trace-popen: {folder}/report.jsonl:") and len(line) < 1000 for line in lines
        )
        if status == 2:
            assert len(lines) == 1
            return
        _check_page(html.read_text())
        json.loads(trace.read_text())
        status, said, _ = _replay(folder, content, "--json")
        assert status == 0
        assert _unclean(said) == []
        for line in said.splitlines():
            assert json.loads(line)["type"] in ("run", "stall", "spawn", "exposure", "summary", "wait")


@given(content=_LINES)
def test_objects_with_a_value_of_another_kind(content: bytes) -> None:
    _check_replay(content)


@given(content=_DAMAGED_LINES)
def test_damaged_lines(content: bytes) -> None:
    _check_replay(content)


@given(reports=reportsamples.objects.filter(bool))
def test_any_valid_report(reports: list[dict[str, Any]]) -> None:
    _check_replay(b"".join(json.dumps(line).encode() + b"\n" for line in reports))


@given(names=st.lists(_NAMES, min_size=5, max_size=5))
def test_hostile_names(names: list[bytes]) -> None:
    """As the kernel and /proc give them: through JSON to text, report, trace and page; and into labels."""
    parent, child, other, exe, function = names
    where = function.decode("utf-8", "surrogateescape")
    identity = Identity(
        exe.decode("utf-8", "surrogateescape").replace("\0", ""),
        5,
        Container("ab" * 32, None, None),
    )
    stack = Stack("py-spy", (Frame(where, where, 1),), 1)
    made = stall(
        holder(comm=other[:15], identity=identity, fork_stack=stack, own_stack=stack),
        of=spawn(comm=parent[:15], child_comm=child[:15]),
    )
    made = dataclasses.replace(made, identity=identity, reader_stack=stack, missing=(where,))
    written = stall_object(made, CLOCK)
    line = json.dumps(written)
    assert line.isprintable()
    assert len(line) < 10_000
    _check_replay(line.encode() + b"\n")

    history = History(10)
    history.add(made)
    source = FakeSource(ongoing=(made,))
    kinds = StallKinds(CLOCK)
    kinds.add(made)
    status = Status(source, history, kinds, lambda: (1, 0, 99, 0), CLOCK, lambda: True, "0.26.0")
    _check_page(page(status.read()))

    source.by_comm = {name[:15]: program(1, 2, 3) for name in names}
    metrics = Metrics(source, CLOCK, agentfile.Labels(container=True), "0.26.0")
    metrics.add_stall(made)
    text = generate_latest(metrics.registry).decode()
    openmetrics = exposition.generate_latest(metrics.registry).decode()  # type: ignore[no-untyped-call]
    families = [
        *text_string_to_metric_families(text),
        *parser.text_string_to_metric_families(openmetrics),  # type: ignore[no-untyped-call]
    ]
    seen = {label for family in families for sample in family.samples for label in sample.labels.values()}
    assert all(label.isprintable() and len(label) <= 200 for label in seen)
    assert made.culprit.cause is Cause.FORKED


@given(names=st.lists(_NAMES, min_size=3, max_size=3))
def test_hostile_names_of_a_wait(names: list[bytes]) -> None:
    """Through JSON to the single file's text, the terminal and a page, and into the agent's page."""
    parent, child, other = (name[:15] for name in names)
    holder = _WAIT.holders[0]._replace(comm=other)
    told = _WAIT._replace(comm=parent, child_comm=child, holders=(holder,)).to_object()
    assert told["parent"]["comm"].isprintable()
    assert _unclean(snapshot.text(told)) == []
    line = json.dumps(told)
    assert line.isprintable()
    _check_replay(line.encode() + b"\n")


_LATER_KEYS = ("id", "state", "ended", "ending")


@pytest.mark.parametrize(
    "key",
    [
        *(key for key in _WAIT.to_object() if key not in _LATER_KEYS),
        *("holders.pid", "holders.doing", "parent.comm"),
    ],
)
def test_a_wait_without_one_of_its_keys_is_one_line(key: str) -> None:
    told = _WAIT.to_object()
    within, _, name = key.rpartition(".")
    part = told[within] if within else told
    del (part[0] if isinstance(part, list) else part)[name]
    with tempfile.TemporaryDirectory() as folder:
        status, said, complaints = _replay(Path(folder), json.dumps(told).encode() + b"\n")
    assert (status, said) == (2, "")
    assert complaints.count("\n") == 1


@pytest.mark.parametrize(
    "text", ["", "\n\n", "null\n", "[]\n", '{"type": "stall"}\n', '{"type": ["stall"]}\n', "{" * 99]
)
def test_files_that_are_not_reports(text: str) -> None:
    _check_replay(text.encode())
