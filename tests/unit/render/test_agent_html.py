# SPDX-License-Identifier: Apache-2.0
"""agent.render.agent_html, read back by an HTML parser; tests/e2e/test_page.py uses a real browser."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from html.parser import HTMLParser
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent import diagnosis
from agent.advice import advise
from agent.model import Cause, Container, Holder, Identity, Stall
from agent.render.agent_html import content_security_policy, news, page
from agent.serve.history import History
from agent.serve.metrics import BOUNDS_SECONDS
from agent.serve.stallkinds import StallKinds
from agent.serve.status import Status
from agent.tracing.translate import MapUse
from tests.unit.reports.test_objects import CLOCK
from tests.unit.samples import (
    BEGAN,
    CREATED,
    MS,
    UNSEEN,
    holder,
    python_stack,
    release,
    spawn,
    stall,
    waiting,
    with_stacks,
)
from tests.unit.serve.test_metrics import FakeSource

_VOID = {"meta", "link", "br", "input"}
_CELLS = {"td", "th", "dt", "dd"}


class Document(HTMLParser):
    """The elements of a page with their attributes, its text, and its inline style and script."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, Optional[str]]]] = []
        self._words: list[str] = []
        self.inline: dict[str, str] = {}
        self._path: list[str] = []
        self.feed(source)
        self.close()
        assert self._path == [], "unclosed elements"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, Optional[str]]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in _VOID:
            self._path.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, Optional[str]]]) -> None:
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag: str) -> None:
        assert self._path.pop() == tag
        if tag in _CELLS:
            self._words.append(" ")

    def handle_data(self, data: str) -> None:
        if self._path and self._path[-1] in ("style", "script"):
            self.inline[self._path[-1]] = self.inline.get(self._path[-1], "") + data
        else:
            self._words.append(data)

    @property
    def text(self) -> str:
        """The text of the page, with single spaces."""
        return " ".join("".join(self._words).split())

    def stalls(self) -> list[tuple[Optional[str], bool]]:
        """State and openness of each stall, in document order."""
        return [(attributes["data-state"], "open" in attributes) for attributes in self.details("stall")]

    def details(self, kind: str) -> list[dict[str, Optional[str]]]:
        """The attributes of each ``<details>`` of a class."""
        return [
            attributes
            for tag, attributes in self.elements
            if tag == "details" and kind in str(attributes.get("class")).split()
        ]


def _status(
    ongoing: tuple[Stall, ...] = (),
    ended: tuple[Stall, ...] = (),
    source: Optional[FakeSource] = None,
    limit: int = 1000,
    healthy: bool = True,
) -> Any:
    history, kinds = History(limit), StallKinds(CLOCK)
    for each in ended:
        history.add(each)
        kinds.add(each)
    source = source or FakeSource()
    source.ongoing = ongoing
    return Status(source, history, kinds, lambda: (1, 0, 99, 0), CLOCK, lambda: healthy, "0.26.0").read()


def _in_progress(*holders: Holder) -> Stall:
    made = diagnosis.ongoing_stall(waiting(id=500), holders or (holder(),), BEGAN + 700 * MS, MS, True)
    assert made is not None
    return made


def _ended(number: int = 1, **changes: Any) -> Stall:
    made, _ = diagnosis.judge(spawn(id=number, releases=(release(),), **changes), MS, True)
    assert made is not None
    return made


def test_page_without_stalls() -> None:
    status = _status()
    text = Document(page(status)).text
    assert f"No stall seen since {status['agent']['started'][:10]}" in text
    assert "No stall in progress." in text
    assert "In progress" not in text


def test_stalls_in_progress_are_open_and_above_ended_ones() -> None:
    document = Document(page(_status((_in_progress(),), (_ended(1), _ended(2)))))
    assert document.stalls() == [("ongoing", True), ("ended", False), ("ended", False)]
    assert "1 stall in progress" in document.text
    ids = [attributes["id"] for attributes in document.details("stall")]
    assert ids == ["stall-00000000000001f4", "stall-0000000000000002", "stall-0000000000000001"]


def test_all_details_of_a_stall_are_shown() -> None:
    of = spawn(comm=b"web-app", child_comm=b"convert", releases=(release(comm=b"pool-worker"),))
    seen, _ = diagnosis.judge(of, MS, True, seen={1020: BEGAN + 250 * MS})
    assert seen is not None
    text = Document(page(_status(ended=(seen,)))).text
    for words in (
        "web-app waited to start convert, held by pool-worker forked",
        "500.0 ms",
        advise(Cause.FORKED).text,
        "pid 1020: was forked while the pipe was open and has not called exec; fd 6;"
        " copy last seen open at 10:23:20",
        "web-app waited for pool-worker",  # the picture's title
        "creates the errpipe (read fd 5, write fd 6)",
        "exits, which closes its copy",
    ):
        assert words in text


def test_late_wakeup_is_reported() -> None:
    of = spawn(releases=(release(by="close", at=BEGAN + 200 * MS),))
    late, _ = diagnosis.judge(of, MS, True)
    assert late is not None
    text = Document(page(_status(ended=(late,)))).text
    assert "the reader took another 300.0 ms to wake up." in text
    assert "wake up" not in Document(page(_status(ended=(_ended(),)))).text


def test_unknown_holder() -> None:
    text = Document(page(_status(ended=(stall(UNSEEN),)))).text
    assert "held by an unknown process unknown" in text
    assert "an unknown process, whose copy was not observed" in text
    assert "None" not in text


def test_date_is_shown_unless_it_is_today() -> None:
    status = _status(ended=(_ended(),))
    status["agent"]["time"] = "2026-11-25T00:00:01.000000Z"
    assert "2026-11-24 10:23:20" in Document(page(status)).text
    status["agent"]["time"] = "2026-11-24T23:00:00.000000Z"
    assert "2026-11-24 10:23:20" not in Document(page(status)).text


def test_at_most_a_hundred_ended_stalls_are_shown() -> None:
    document = Document(page(_status(ended=tuple(_ended(number) for number in range(250)))))
    assert len(document.stalls()) == 100
    assert "the last 100 of 250" in document.text
    ids = [attributes["id"] for attributes in document.details("stall")]
    assert ids[0] == f"stall-{249:016x}"


def test_long_lists_of_holders_are_cut() -> None:
    crowd = [holder(pid=3000 + number, acquired=CREATED + number) for number in range(1000)]
    source = page(_status((_in_progress(*crowd),)))
    assert "and 988 more" in source
    assert len(source) < 70_000


def test_page_without_history() -> None:
    text = Document(page(_status(ended=(_ended(),), limit=0))).text
    assert "1 stall ended since" in text
    assert "none are kept (web.history)" in text


def test_health_of_the_agent() -> None:
    source = FakeSource()
    source.counts.update(records_lost=1234567, processes_added=50)
    source.uses["processes"] = MapUse(4000, 4096, 0)
    text = Document(page(_status(source=source))).text
    for words in (
        "records lost 1,234,567",
        "evicted from processes 0",
        "processes 4,000 of 4,096",
        "Self-test passed",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("healthy", "failure", "words"),
    [
        (False, None, "Not tracing"),
        (True, "read fd 3, not <4>", "The self-test failed"),
    ],
)
def test_problems_are_shown_at_the_top(healthy: bool, failure: Optional[str], words: str) -> None:
    source = FakeSource(self_test_failure=failure)
    text = Document(page(_status((_in_progress(),), source=source, healthy=healthy))).text
    assert text.index(words) < text.index("In progress")
    assert ("1 stall in progress" in text) is healthy
    assert failure is None or failure in text


# -- Content-Security-Policy --


def test_policy_allows_only_the_inline_style_and_script() -> None:
    document = Document(page(_status((_in_progress(),), (_ended(),))))
    policy = dict(part.strip().split(" ", 1) for part in content_security_policy().split(";"))
    assert policy["default-src"] == "'none'"
    for tag in ("script", "style"):
        digest = hashlib.sha256(document.inline[tag].encode()).digest()
        assert policy[f"{tag}-src"] == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert "unsafe" not in content_security_policy()


def test_page_is_self_contained() -> None:
    document = Document(page(_status((_in_progress(),), (_ended(),))))
    for tag, attributes in document.elements:
        assert "style" not in attributes and "src" not in attributes
        assert not any(name.startswith("on") for name in attributes)
        if tag not in ("a", "svg"):
            assert str(attributes.get("href", "data:")).startswith("data:")
    assert [tag for tag, _ in document.elements].count("script") == 1


def test_news_have_every_part_except_the_ended_stalls() -> None:
    status = _status((_in_progress(),), (_ended(),))

    def parts(source: str) -> set[Optional[str]]:
        return {attributes["id"] for _, attributes in Document(source).elements if "data-part" in attributes}

    assert parts(page(status)) == {"state", "figures", "kinds", "ongoing", "ended", "health"}
    assert parts(news(status)) == {"state", "figures", "kinds", "ongoing", "health"}


def test_news_change_when_another_stall_has_ended() -> None:
    def generation(source: str) -> Optional[str]:
        [(_, header)] = [element for element in Document(source).elements if element[0] == "header"]
        return header["data-ended"]

    before, after = _status(ended=(_ended(1),)), _status(ended=(_ended(1), _ended(2)))
    after["agent"]["started"] = before["agent"]["started"]
    assert generation(news(before)) == generation(page(before)) != generation(news(after))


# -- untrusted text --


@pytest.mark.parametrize(
    "comm",
    [
        b"<script>alert()",
        b"\"'><img src=x ",
        b"\x1b[31mred\x1b[0m",
        b"\xff" * 15,
        b"</style><svg/>",
        b"$x${y}&lt;",
        b"{{ title }}",
    ],
)
def test_hostile_comms_are_escaped(comm: bytes) -> None:
    def shown_for(comm: bytes) -> str:
        in_progress = _in_progress(holder(comm=comm))
        return page(_status((in_progress,), (_ended(comm=comm, child_comm=comm),)))

    plain, hostile = shown_for(b"plain"), shown_for(comm)
    assert [tag for tag, _ in Document(hostile).elements] == [tag for tag, _ in Document(plain).elements]
    shown = comm.decode("utf-8", "backslashreplace").replace("\x1b", r"\x1b")
    assert Document(hostile).text.count(shown) >= 3


@given(st.binary(max_size=15), st.text(max_size=40))
def test_untrusted_text_does_not_change_the_structure(comm: bytes, failure: str) -> None:
    status = _status(
        (_in_progress(holder(comm=comm)),), (_ended(comm=comm),), FakeSource(self_test_failure=failure)
    )
    plain = _status(
        (_in_progress(holder(comm=b"plain")),), (_ended(comm=b"plain"),), FakeSource(self_test_failure="x")
    )
    assert [tag for tag, _ in Document(page(status)).elements] == [
        tag for tag, _ in Document(page(plain)).elements
    ]


def test_stacks_are_shown() -> None:
    document = Document(page(_status((with_stacks(_in_progress()),), (_ended(1),))))
    [stacks] = document.details("stacks")
    of_stall = document.details("stall")[0]
    assert stacks["id"] == "stacks-" + str(of_stall["id"])
    assert stacks["data-state"] == "ongoing"  # keeps it open when the page is refreshed
    for words in ("stack of the blocked thread", "/srv/_execute_child.py:1", "_Fork", "holder 9: something"):
        assert words in document.text


def test_hostile_names_in_stacks_are_escaped() -> None:
    hostile = dataclasses.replace(with_stacks(_in_progress()), reader_stack=python_stack("</pre><script>x"))
    plain = with_stacks(_in_progress())
    found, expected = Document(page(_status((hostile,)))), Document(page(_status((plain,))))
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in expected.elements]
    assert "</pre><script>x" in found.text


def test_executable_user_and_container_of_each_process() -> None:
    inside = Identity("/opt/<x>", 33, Container("ab" * 32, "podman", "11111111-2222"))
    outside = Identity("/usr/bin/python3.11", 0, None)
    seen = dataclasses.replace(_ended(), identity=outside)
    seen = dataclasses.replace(seen, holders=(seen.culprit._replace(identity=inside),))
    text = Document(page(_status(ended=(seen,)))).text
    assert "/usr/bin/python3.11, uid 0" in text
    assert "/opt/<x>, uid 33; container abababababab (podman), pod 11111111-2222" in text


def test_probes_that_are_not_attached_are_listed() -> None:
    text = Document(page(_status())).text
    assert "attached 1 of 2" in text
    assert "syscalls:sys_enter_dup not attached" in text
    assert "run time 0.00 s" in text


# -- kinds --


def test_the_figures_are_at_the_top() -> None:
    status = _status((_in_progress(),), (_ended(1), _ended(2)))
    status["ongoing"][0]["stall_seconds"] = 2.0
    status["kinds"]["kinds"][0]["seconds"] = 3.0
    text = Document(page(status)).text
    places = [
        text.index(words)
        for words in (
            "p99 of a spawn at most 256 us",
            "time lost to stalls 3.00 s",
            "stalls 3",
            "spawns 100",
            "Stalls by duration",
            "Spawns by duration",
            "Who waits for whom",
            "In progress",
            "Ended",
        )
    ]
    assert places == sorted(places)


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ((0, 0, 0), "p99 of a spawn no spawn"),
        ((99, 1), "p99 of a spawn at most 64 us"),
        ((0,) * 30 + (1,), "more than"),
    ],
)
def test_p99_of_a_spawn(counts: tuple[int, ...], words: str) -> None:
    bounds = BOUNDS_SECONDS
    counts = counts if len(counts) <= len(bounds) else (0,) * len(bounds) + (1,)
    kinds = StallKinds(CLOCK)
    status = Status(FakeSource(), History(1), kinds, lambda: counts, CLOCK, lambda: True, "0.26.0")
    assert words in Document(page(status.read())).text


def test_a_row_leads_to_the_stalls_of_its_kind() -> None:
    one, other = _ended(1), _ended(2, comm=b"other")
    document = Document(page(_status((_in_progress(),), (one, other, _ended(3, comm=b"other")))))
    groups = {str(attributes["id"]) for attributes in document.details("kind")}
    links = [str(attributes["href"]) for tag, attributes in document.elements if tag == "a"]
    targets = [link[1:] for link in links if link.startswith("#")]
    # The kind with a stall in progress leads there.
    assert len(targets) == 2 and "stall-00000000000001f4" in targets
    assert set(targets) - groups == {"stall-00000000000001f4"}
    assert "other, held by worker forked 2 stalls" in document.text


def test_rows_stay_when_their_stalls_are_dropped() -> None:
    document = Document(page(_status(ended=tuple(_ended(number, comm=b"x") for number in range(9)), limit=2)))
    assert "the last 2 of 9 stalls" in document.text
    document = Document(page(_status(ended=(_ended(),), limit=0)))
    assert document.details("kind") == []
    assert "parent worker forked 1 500.0 ms" in document.text
    assert not any(str(attributes.get("href")).startswith("#") for _, attributes in document.elements)
