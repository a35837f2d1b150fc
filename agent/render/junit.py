# SPDX-License-Identifier: Apache-2.0
"""What the gate found as JUnit XML, which CI systems show as test cases."""

from __future__ import annotations

import re
from xml.etree.ElementTree import Element, SubElement, tostring

from agent.render.verdict import finding_words, lost_words
from agent.reports.gate import Gate

__all__ = ["junit"]

_SUITE = "spawnstall"
_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
"""The characters that XML 1.0 does not allow, not even as references."""


def junit(gate: Gate) -> str:
    """A document with a test case for each finding, and one that fails if records were lost."""
    findings = gate.findings()
    totals = {
        "tests": str(len(findings) + 1),
        "failures": str(sum(finding.fails for finding in findings)),
        "errors": str(int(gate.lost_records > 0)),
        "skipped": "0",
        "time": f"{gate.seconds:.3f}",
    }
    root = Element("testsuites", totals)
    suite = SubElement(root, "testsuite", {"name": _SUITE, **totals})
    received = SubElement(suite, "testcase", {"classname": _SUITE, "name": "no records are lost"})
    if gate.lost_records:
        SubElement(received, "error", {"type": "lost_records", "message": lost_words(gate)})
    for finding in findings:
        case = SubElement(
            suite, "testcase", {"classname": _text(f"{_SUITE}.{finding.comm}"), "name": _text(finding.cause)}
        )
        words = _text(finding_words(finding))
        if finding.fails:
            failure = SubElement(case, "failure", {"type": _text(finding.cause), "message": words})
            failure.text = _text(finding.advice)
        else:
            SubElement(case, "system-out").text = words
    if gate.doubts:
        SubElement(suite, "system-out").text = _text("\n".join(gate.doubts))
    return str(tostring(root, encoding="utf-8", xml_declaration=True), "utf-8") + "\n"


def _text(text: str) -> str:
    return _NOT_XML.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))
