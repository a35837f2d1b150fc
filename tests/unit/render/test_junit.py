# SPDX-License-Identifier: Apache-2.0
"""agent.render.junit: parsed by an XML parser."""

from __future__ import annotations

from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.model import Cause
from agent.render.junit import junit
from agent.reports.gate import Gate
from tests.unit.gatesamples import gate, run, stall


def suite(made: Gate) -> Element:
    """The only suite of the document, with the numbers that it claims to have."""
    root = fromstring(junit(made))
    [found] = root
    assert (root.tag, found.tag, found.get("name")) == ("testsuites", "testsuite", "spawnstall")
    for element in (root, found):
        assert element.get("tests") == str(len(found.findall("testcase")))
        assert element.get("failures") == str(len(found.findall("testcase/failure")))
        assert element.get("errors") == str(len(found.findall("testcase/error")))
    return found


def test_each_kind_is_a_test_case() -> None:
    found = suite(
        gate(
            stall(Cause.FORKED, 0.5),
            stall(Cause.LATE_EXEC, 0.5),
            run(("web", Cause.LEAKED, 3), ("app", Cause.LATE_EXEC, 9)),
        )
    )
    cases = {(case.get("classname"), case.get("name")): case for case in found.iter("testcase")}
    assert set(cases) == {
        ("spawnstall", "no records are lost"),
        ("spawnstall.app", "forked"),
        ("spawnstall.web", "leaked"),
        ("spawnstall.app", "late_exec"),
    }
    failures = {names: case.find("failure") for names, case in cases.items()}
    forked, leaked = failures["spawnstall.app", "forked"], failures["spawnstall.web", "leaked"]
    assert forked is not None and "1 stall" in str(forked.get("message")) and "Fork" in str(forked.text)
    assert leaked is not None and "3 exposures" in str(leaked.get("message"))
    assert failures["spawnstall.app", "late_exec"] is None


def test_a_run_without_stalls_passes() -> None:
    found = suite(gate({**run(), "seconds": 1.5}))
    assert (found.get("tests"), found.get("failures"), found.get("errors")) == ("1", "0", "0")
    assert found.get("time") == "1.500"


def test_lost_records_are_an_error_and_doubts_are_said() -> None:
    found = suite(gate(run(lost=2, slots_overflowed=7)))
    error = found.find("testcase/error")
    assert error is not None and "2 lost records" in str(error.get("message"))
    assert "slots_overflowed" in str(found.findtext("system-out"))


@pytest.mark.parametrize("comm", ['<a>&"b"', "]]>", "\0\x1b[31m\x7f", "\ud800", "\uffff", "😀"])
def test_names_do_not_break_the_document(comm: str) -> None:
    [_, case] = suite(gate(run((comm, Cause.FORKED, 1)))).iter("testcase")
    if comm.isprintable():
        assert case.get("classname") == f"spawnstall.{comm}"


@given(st.text(st.characters(), max_size=20))
def test_fuzz_any_name_gives_a_document(comm: str) -> None:
    made = gate(stall(Cause.FORKED, 0.1, comm), run((comm, Cause.LEAKED, 1)))
    made.doubts.append(comm)
    suite(made)
