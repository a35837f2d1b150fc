# SPDX-License-Identifier: Apache-2.0
"""The agent's page in a real browser, beside real stalls. It refreshes itself and is never reloaded."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser import Browser, Page
from tests.live.lab import Lab, Object, RunningAgent, json_lines

pytestmark = pytest.mark.alone


@contextlib.contextmanager
def _stalling(lab: Lab, name: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = lab.program(name, *arguments)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as program:
        try:
            yield program
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)  # the holder too, even after a failure


def _open(browser: Browser, agent: RunningAgent, width: int = 1100, height: int = 1000) -> Page:
    page = browser.open(f"http://127.0.0.1:{agent.port}/", width, height)
    page.evaluate("void (window.neverReloaded = true)")
    return page


def _status(agent: RunningAgent) -> Object:
    return agent.status()


def _play(lab: Lab, live: str = "0.2", count: str = "1") -> list[Object]:
    """Run stalls to their end; return the program's own account of them."""
    command = lab.program("fork_beside_popen.py", "--force", count, "--live", live, "--plain", "0")
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    return json_lines(done.stdout)


def test_nothing_has_happened(lab: Lab, browser: Browser) -> None:
    # Longer than any stall of other programs on a busy host.
    with lab.agent(stalls={"min_ms": 60_000}) as agent:
        page = _open(browser, agent)
        text = page.evaluate("document.body.innerText")
        assert "No stall seen since" in text
        assert "No stall in progress." in text
        assert page.evaluate("document.querySelectorAll('meter').length") == 3
        # Until another stall ends, the page fetches only what changed.
        asked = "performance.getEntriesByType('resource').map(each => new URL(each.name).search)"
        page.wait_for(f"{asked}.length >= 2")
        assert set(page.evaluate(asked)) == {"?news"}
        assert page.complaints() == []


def test_a_stall_appears_in_progress_and_moves_to_the_ended_ones(lab: Lab, browser: Browser) -> None:
    with lab.agent() as agent:
        page = _open(browser, agent)
        arguments = ("fork_beside_popen.py", "--force", "1", "--live", "600", "--plain", "0")
        with _stalling(lab, *arguments) as program:
            mine = f"#ongoing details[data-parent='{program.pid}']"
            page.wait_for(f"document.querySelector({mine!r}) !== null")
            assert "stall in progress" in page.evaluate("document.querySelector('#state').innerText").lower()
            [stall] = [one for one in _status(agent)["ongoing"] if one["parent"]["pid"] == program.pid]
            worker = stall["holders"][0]["pid"]
            assert page.evaluate(f"document.querySelector({mine!r}).id") == f"stall-{stall['id']}"
            shown = page.evaluate(f"document.querySelector({mine!r}).innerText")
            for words in (
                "python3 waits to start true",
                "held by python3",
                "forked",
                stall["advice"],
                str(worker),
            ):
                assert words in shown
            # The timeline is drawn: every bar has a width, and the holder's ends now.
            bars = f"[...document.querySelectorAll({mine + ' svg rect'!r})]"
            widths = page.evaluate(f"{bars}.map(bar => bar.getBoundingClientRect().width)")
            assert len(widths) == 5 and min(widths) > 1
            span = f"document.querySelector({mine + ' .span'!r}).innerText"
            before = page.evaluate(span)
            page.wait_for(f"{span} !== {before!r}")
            # Details that were closed stay closed.
            page.evaluate(f"document.querySelector({mine + ' summary'!r}).click()")
            before = page.evaluate(span)
            page.wait_for(f"{span} !== {before!r}")
            assert page.evaluate(f"document.querySelector({mine!r}).open") is False
            os.kill(worker, signal.SIGKILL)
            program.communicate(timeout=30)
            page.wait_for(f"document.querySelector('#ended #stall-{stall['id']}') !== null")
            page.wait_for(f"document.querySelector('#ongoing #stall-{stall['id']}') === null")
        shown = page.evaluate(f"document.querySelector('#stall-{stall['id']}').textContent")
        assert "python3 waited to start true" in shown
        assert "exits, which closes its copy" in shown
        assert page.evaluate("window.neverReloaded") is True
        assert page.complaints() == []


def test_a_reader_is_not_disturbed(lab: Lab, browser: Browser) -> None:
    """Open details stay open, and the visible stall stays in place, while others are inserted above it."""
    with lab.agent() as agent:
        _play(lab, count="12")
        deadline = time.monotonic() + 30
        while len(_status(agent)["ended"]) < 12:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        page = _open(browser, agent, width=1000, height=500)
        read = f"stall-{_status(agent)['ended'][-6]['id']}"
        element = f"document.getElementById({read!r})"
        page.evaluate(f"{element}.closest('details.kind').open = true")
        page.evaluate(f"{element}.querySelector('summary').click()")
        page.evaluate(f"{element}.scrollIntoView()")
        page.evaluate(f"{element}.querySelector('summary').focus()")
        top = page.evaluate(f"{element}.getBoundingClientRect().top")
        before = page.evaluate("document.querySelectorAll('#ended details.stall').length")
        _play(lab, count="3")
        page.wait_for(f"document.querySelectorAll('#ended details.stall').length >= {before + 3}")
        assert page.evaluate(f"{element}.open") is True
        assert abs(page.evaluate(f"{element}.getBoundingClientRect().top") - top) < 3
        assert page.evaluate(f"document.activeElement.closest('details').id === {read!r}") is True
        assert page.evaluate("scrollY") > 0
        assert page.complaints() == []


@pytest.mark.parametrize(
    ("comm", "shown"),
    [
        (b"<script>a();", "<script>a();"),
        (b"<img onerror=a>", "<img onerror=a>"),
        (b"'\"><b>&amp;", "'\"><b>&amp;"),
        (b"\x1b[31mred\x1b[0m", r"\x1b[31mred\x1b[0m"),
        (b"\xff" * 15, r"\xff" * 15),
    ],
)
def test_hostile_comms_are_harmless(comm: bytes, shown: str, lab: Lab, browser: Browser) -> None:
    with lab.agent() as agent:
        page = _open(browser, agent, width=400, height=800)
        page.evaluate("void (window.a = () => { window.harmed = true; })")
        with _stalling(lab, "hostile_comms.py", "--comm", comm.hex(), "--live", "600") as program:
            assert program.stdout is not None
            worker = json.loads(program.stdout.readline())["pid"]
            mine = f"#ongoing details[data-parent='{program.pid}']"
            page.wait_for(f"document.querySelector({mine!r}) !== null")
            names = f"[...document.querySelectorAll({mine + ' summary b'!r})].map(each => each.textContent)"
            assert page.evaluate(names) == [shown] * 3
            assert shown in page.evaluate(f"document.querySelector({mine + ' svg title'!r}).textContent")
            assert page.evaluate("document.documentElement.scrollWidth") <= 400
            [stall] = [one for one in _status(agent)["ongoing"] if one["parent"]["pid"] == program.pid]
            assert stall["holders"][0]["comm"] == shown
            os.kill(worker, signal.SIGKILL)
            program.communicate(timeout=30)
        page.wait_for(f"document.querySelector('#ended #stall-{stall['id']}') !== null")
        ended = f"[...document.querySelectorAll('#ended #stall-{stall['id']} summary b')]"
        assert page.evaluate(f"{ended}.map(each => each.textContent)") == [shown] * 3
        assert page.evaluate("document.scripts.length") == 1
        assert page.evaluate("document.images.length") == 0
        assert page.evaluate("window.harmed") is None
        assert page.complaints() == []


def test_the_policy_stops_what_is_not_ours(lab: Lab, browser: Browser) -> None:
    """Verify the tests above: an injected inline script does not run."""
    with lab.agent() as agent:
        page = _open(browser, agent)
        page.evaluate(
            "(() => { const s = document.createElement('script'); s.textContent = 'window.harmed = true';"
            " document.body.append(s); document.body.insertAdjacentHTML('beforeend',"
            " '<img src=x onerror=\"window.harmed = true\">'); })()"
        )
        deadline = time.monotonic() + 20
        while not page.complaints():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert page.evaluate("window.harmed") is None


_READ = "fetch({!r}).then(answer => answer.text(), error => 'not readable')"


def test_a_rebound_name_reads_nothing(lab: Lab, tmp_path: Path) -> None:
    """Once evil.example has come to mean 127.0.0.1, its page is of the same origin as the agent."""
    with (
        lab.agent() as agent,
        Browser(tmp_path, "--host-resolver-rules=MAP evil.example 127.0.0.1") as browser,
    ):
        page = browser.open(f"http://evil.example:{agent.port}/")
        assert page.evaluate("location.hostname") == "evil.example"
        assert page.evaluate("document.body.innerText").startswith("unknown Host: ")
        for path in ("/api/stalls", "/metrics", "/?news", "/healthz"):
            assert page.evaluate(_READ.format(path)).startswith("unknown Host: ")
        own = _open(browser, agent)
        assert json.loads(own.evaluate(_READ.format("/api/stalls")))["agent"]["healthy"] is True


def test_another_site_reads_and_embeds_nothing(lab: Lab, browser: Browser) -> None:
    """A page of another port of this host, which browsers take for the same site."""
    with lab.agent() as agent, _another_site() as port:
        page = browser.open(f"http://127.0.0.1:{port}/")
        agents = f"http://127.0.0.1:{agent.port}"
        for path in ("/api/stalls", "/metrics", "/"):
            assert page.evaluate(_READ.format(agents + path)) == "not readable"
        page.evaluate(
            "new Promise(loaded => { const frame = document.createElement('iframe'); frame.onload = loaded;"
            f" frame.src = '{agents}/'; document.body.append(frame); }}).then(() => null)"
        )
        assert page.evaluate("document.querySelector('iframe').contentDocument") is None
        refused = "spawnstall_http_refusals_total", (("reason", "cross_site"),)
        agent.wait_until(lambda: agent.metrics()[refused] == 4)
        page.evaluate(f"void (location.href = '{agents}/')")  # a link is followed
        page.wait_for("document.querySelector('#state') !== null")


@contextlib.contextmanager
def _another_site() -> Iterator[int]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<!doctype html><body>another site</body>")

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as site:
        serving = threading.Thread(target=site.serve_forever)
        serving.start()
        try:
            yield site.server_port
        finally:
            site.shutdown()
            serving.join()


def test_an_agent_that_is_gone_is_noticed_and_its_return_too(lab: Lab, browser: Browser) -> None:
    with lab.agent() as agent:
        page = _open(browser, agent)
        assert page.evaluate("getComputedStyle(document.getElementById('lost')).display") == "none"
        os.kill(agent.process.pid, signal.SIGSTOP)
        try:
            page.wait_for("document.getElementById('lost').innerText.includes('has not answered since')")
        finally:
            os.kill(agent.process.pid, signal.SIGCONT)
        page.wait_for("getComputedStyle(document.getElementById('lost')).display === 'none'")
