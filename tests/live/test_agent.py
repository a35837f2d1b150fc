# SPDX-License-Identifier: Apache-2.0
"""The agent beside real programs: its metrics agree with the programs' own measurements."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
import urllib.error
from pathlib import Path

import pytest

from tests.live.lab import PYTHON, Lab, Object, json_lines

pytestmark = pytest.mark.alone


def _run(lab: Lab, name: str, *arguments: str) -> list[dict[str, object]]:
    done = subprocess.run(
        lab.program(name, *arguments), stdout=subprocess.PIPE, text=True, check=True, timeout=120
    )
    return json_lines(done.stdout)


def test_metrics_agree_with_the_programs(lab: Lab) -> None:
    with lab.agent(stalls={"min_ms": 100}) as agent:
        assert agent.metrics()["spawnstall_selftest_success", ()] == 1
        forked = _run(lab, "fork_beside_popen.py", "--force", "4", "--plain", "3")
        missing = _run(lab, "missing_program.py", "--count", "3")
        many = _run(lab, "many_popen.py", "--count", "500")
        slow = _run(lab, "slow_preexec_own.py", "--count", "1")
        time.sleep(0.5)
        metrics = agent.metrics()
        ok = [line for line in forked + many + slow if line["kind"] == "spawn"]
        failed = [line for line in missing if line["kind"] == "spawn"]

        def comm_total(name: str, **labels: str) -> float:
            return sum(
                value
                for (sample, found), value in metrics.items()
                if sample == name
                and dict(found).get("comm") == "python3"
                and labels.items() <= dict(found).items()
            )

        assert comm_total("spawnstall_spawns_total", outcome="ok") >= len(ok)
        assert comm_total("spawnstall_spawns_total", outcome="exec_failed") >= len(failed)
        assert comm_total("spawnstall_spawn_seconds_count") >= len(ok) + len(failed)
        stalled = [line for line in forked if line.get("worker")]
        assert len(stalled) == 4
        assert comm_total("spawnstall_stall_seconds_count", cause="forked") == 4
        seconds = sum(float(str(line["seconds"])) for line in stalled if line["kind"] == "spawn")
        assert comm_total("spawnstall_stall_seconds_sum", cause="forked") == pytest.approx(seconds, abs=0.1)
        assert metrics["spawnstall_records_lost_total", ()] == 0
        assert metrics["spawnstall_oldest_stall_start_timestamp_seconds", ()] == 0
        logged = {stall["child"]["pid"]: stall for stall in agent.stalls()}
        for line in stalled:
            assert logged[line["child"]]["holders"][0]["pid"] == line["worker"]


def test_every_kind_of_program_at_once(lab: Lab, python27: str, native_storm: str) -> None:
    """All programs of test_stalls beside one agent: every cause is counted exactly."""
    original = [python27, str(lab.root / "tests" / "programs" / "original27.py")]
    with lab.agent(stalls={"min_ms": 30}) as agent:
        commands = [
            lab.program("communicate.py", "--count", "2"),
            lab.program("shell_loop.sh", "--loops", "2"),
            lab.program("slow_preexec_own.py", "--count", "2"),
            lab.program("slow_preexec_sibling.py", "--count", "2"),
            [*original, "--iterations", "5", "--force", "--sleep", "0.2"],
            [*original, "--iterations", "20", "--close-fds"],
            [native_storm, "--count", "200", "--live-ms", "60", "--heap-mb", "0"],
        ]
        runs = []
        for command in commands:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
            runs.append(json_lines(done.stdout))
        time.sleep(0.5)
        stalls = {stall["child"]["pid"]: stall for stall in agent.stalls() if stall["state"] == "ended"}
        metrics = agent.metrics()
    quiet = {line["child"] for lines in (runs[0], runs[2], runs[5]) for line in lines if "child" in line}
    assert not quiet & set(stalls)
    for line in runs[3]:
        if line.get("role") == "a":
            holder = stalls[line["child"]]["holders"][0]
            assert (holder["pid"], holder["cause"]) == (line["holder"], "late_exec")
    forced = [line["child"] for line in runs[4] if line.get("forced")]
    assert {stalls[child]["holders"][0]["cause"] for child in forced} == {"leaked"}
    workers = {line["pid"] for line in runs[6] if line["kind"] == "worker"}
    reads = [line for line in runs[6] if line["kind"] == "spawn"]
    for read in reads:
        if read["child"] in stalls:
            assert stalls[read["child"]]["holders"][0]["pid"] in workers
        else:
            assert read["seconds"] < 0.2
    for cause in ("forked", "leaked", "late_exec", "unknown"):
        counted = sum(
            value
            for (name, labels), value in metrics.items()
            if name == "spawnstall_stall_seconds_count" and ("cause", cause) in labels
        )
        logged = [stall for stall in stalls.values() if stall["holders"][0]["cause"] == cause]
        assert counted == len(logged)


def test_ongoing_stall_is_reported_confirmed_and_then_ends(lab: Lab) -> None:
    with lab.agent() as agent:
        command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "4", "--plain", "0")
        began = time.time()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
            labels = (("cause", "forked"), ("comm", "python3"), ("holder", "python3"))
            deadline = time.monotonic() + 3
            while not any(
                name == "spawnstall_stalls_in_progress" and found == labels and value >= 1
                for (name, found), value in agent.metrics().items()
            ):
                assert time.monotonic() < deadline, agent.metrics()
                time.sleep(0.05)
            oldest = agent.metrics()["spawnstall_oldest_stall_start_timestamp_seconds", ()]
            assert began - 0.1 < oldest < time.time()
            printed, _ = program.communicate(timeout=20)
        time.sleep(0.7)
        [worker] = [line["pid"] for line in json_lines(printed) if line["kind"] == "worker"]
        ongoing, ended = (stall for stall in agent.stalls() if stall["holders"][0]["pid"] == worker)
        assert (ongoing["state"], ended["state"]) == ("ongoing", "ended")
        assert 1 <= ongoing["stall_seconds"] < 3
        assert ongoing["id"] == ended["id"]
        assert ended in agent.status()["ended"]
        assert ongoing["holders"][0]["released_seconds"] is None
        assert ongoing["holders"][0]["confirmed"]
        assert ended["holders"][0]["confirmed"]
        assert ended["stall_seconds"] == pytest.approx(4, abs=0.5)
        metrics = agent.metrics()
        assert metrics["spawnstall_oldest_stall_start_timestamp_seconds", ()] != oldest
        assert metrics["spawnstall_confirmations_total", (("result", "confirmed"),)] >= 1


def test_killed_parent_ends_its_stall(lab: Lab) -> None:
    with lab.agent() as agent:
        command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "20", "--plain", "0")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as program:
            deadline = time.monotonic() + 5
            while not agent.stalls():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            program.kill()
        time.sleep(0.7)
        [ongoing, ended] = agent.stalls()
        assert (ongoing["state"], ended["state"]) == ("ongoing", "ended")
        os.kill(ongoing["holders"][0]["pid"], signal.SIGKILL)
        assert agent.metrics()["spawnstall_oldest_stall_start_timestamp_seconds", ()] == 0


def test_sigterm_ends_it_cleanly_within_two_seconds(lab: Lab) -> None:
    with lab.agent() as agent:
        assert agent.stop() < 2
        assert agent.process.returncode == 0
        with pytest.raises(urllib.error.URLError):
            agent.get("/metrics")


def test_second_agent_on_the_port_is_one_clear_line(lab: Lab) -> None:
    with lab.agent() as agent:
        second = subprocess.run(
            [*lab.trace_popen, "agent", "--config", str(lab.folder / "agent.yaml")],
            cwd=lab.root,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=20,
        )
        assert second.returncode == 2
        assert len(second.stderr.splitlines()) == 1
        assert f"127.0.0.1:{agent.port}" in second.stderr
        agent.get("/healthz")


def test_trace_popen_beside_the_agent(lab: Lab) -> None:
    with lab.agent() as agent:
        traced = lab.trace(lab.program("fork_beside_popen.py", "--force", "2"))
        time.sleep(0.5)
        theirs = {stall["child"]["pid"] for stall in traced.of("stall")}
        assert len(theirs) == 2
        assert theirs <= {stall["child"]["pid"] for stall in agent.stalls()}


def test_hostile_comms_and_a_fork_storm(lab: Lab) -> None:
    """Labels remain valid text, and the maps remain within their bounds."""
    storm = (
        "import os, subprocess, sys\n"
        "comm = b'\\xff\\x1b[31m<\"\\\\x'\n"
        "open('/proc/self/comm', 'wb').write(comm)\n"
        "r, w = os.pipe()\n"
        "for _ in range(4000):\n"
        "    pid = os.fork()\n"
        "    if pid == 0:\n"
        "        os._exit(0)\n"
        "    os.waitpid(pid, 0)\n"
        "subprocess.Popen(['/bin/true']).wait()\n"
    )
    with lab.agent() as agent:
        subprocess.run(["/usr/bin/python3", "-c", storm], check=True, timeout=60)
        metrics = agent.metrics()
        comms = {dict(labels).get("comm") for name, labels in metrics if name.startswith("spawnstall_spawns")}
        assert '\\xff\\x1b[31m<"\\x' in comms
        for name in ("spawns", "processes", "programs"):
            entries = metrics["spawnstall_map_entries", (("map", name),)]
            assert entries < metrics["spawnstall_map_max_entries", (("map", name),)] / 10
        with contextlib.suppress(KeyError):
            assert metrics["spawnstall_map_evictions_total", (("map", "processes"),)] == 0


def test_more_stalls_than_the_log_may_contain(lab: Lab) -> None:
    with lab.agent(log={"stalls_per_minute": 1}) as agent:
        _run(lab, "fork_beside_popen.py", "--force", "4", "--live", "0.1", "--plain", "0")
        left_out = "spawnstall_stalls_not_logged_total", ()
        agent.wait_until(lambda: agent.metrics()[left_out] >= 3)
        assert len(agent.stalls()) == 1
        ended = (
            value
            for (name, _labels), value in agent.metrics().items()
            if name == "spawnstall_stall_seconds_count"
        )
        assert sum(ended) >= 4
        agent.stop()
        assert "log.stalls_per_minute" in agent.log()


def test_sighup_reads_the_configuration_again(lab: Lab) -> None:
    forced = ("fork_beside_popen.py", "--force", "1", "--live", "0.3", "--plain", "0")
    reloaded = "spawnstall_config_last_reload_successful"
    with lab.agent(stalls={"min_ms": 50}) as agent:
        file = lab.folder / "agent.yaml"
        before = json.loads(file.read_text())
        _run(lab, *forced)
        agent.wait_until(lambda: len(agent.stalls()) == 1)

        file.write_text(
            json.dumps({**before, "filter": {"comm": ["!python3"]}, "labels": {"container": True}})
        )
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_until(lambda: "configuration was reloaded" in agent.log())
        assert "labels.container has changed" in agent.log()
        _run(lab, *forced)
        time.sleep(0.5)
        assert len(agent.stalls()) == 1
        spawns = "spawnstall_spawns_total"
        assert (spawns, (("comm", "python3"), ("outcome", "ok"))) not in agent.metrics()

        file.write_text("stalls: {min_ms: x}")
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_until(lambda: "configuration is rejected" in agent.log())
        assert f"{file}: stalls.min_ms: 'x': expected a number from 1" in agent.log()
        agent.wait_until(lambda: agent.metrics()[reloaded, ()] == 0)
        _run(lab, *forced)
        time.sleep(0.5)
        assert len(agent.stalls()) == 1

        file.write_text(json.dumps({**before, "stalls": {"min_ms": 500}}))
        agent.process.send_signal(signal.SIGHUP)
        agent.wait_until(lambda: agent.metrics()[reloaded, ()] == 1)
        _run(lab, *forced)
        _run(lab, "fork_beside_popen.py", "--force", "1", "--live", "0.8", "--plain", "0")
        agent.wait_until(lambda: len(agent.stalls()) == 2)
        assert agent.stalls()[1]["stall_seconds"] > 0.5


def test_spawns_without_an_errpipe(lab: Lab) -> None:
    code = (
        "import subprocess\n"
        "for _ in range(20): subprocess.Popen(['/bin/true'], close_fds=False).wait()\n"
        "for _ in range(3): subprocess.Popen(['/bin/true'], preexec_fn=int).wait()\n"
    )
    with lab.agent() as agent:
        subprocess.run([PYTHON, "-c", code], check=True)
        metrics = agent.metrics()
    comm = (("comm", "python3"),)
    assert metrics["spawnstall_vfork_seconds_count", comm] == 20
    assert 0.0001 < metrics["spawnstall_vfork_seconds_sum", comm] < 5
    assert metrics["spawnstall_spawn_seconds_count", comm] == 3


def test_identities_of_the_processes(lab: Lab) -> None:
    with lab.agent() as agent:
        _run(lab, "fork_beside_popen.py", "--force", "1", "--live", "0.8", "--plain", "0")
        agent.wait_until(lambda: len(agent.stalls()) == 1)
        [stall] = agent.stalls()
    for process in (stall["parent"], stall["holders"][0]):
        assert process["exe"] == str(Path(PYTHON).resolve())
        assert process["uid"] == 0
        assert process["container"] is None


def test_arguments_are_never_reported(lab: Lab) -> None:
    """Arguments of the parent, the child and the holder can contain passwords."""
    secret = "4711.04711040"
    with lab.agent() as agent:
        command = lab.program("fork_beside_popen.py", "--force", "1", "--live", "8", "--plain", "0")
        with subprocess.Popen([*command, "--seconds", secret], stdout=subprocess.DEVNULL) as program:

            def mine() -> list[Object]:
                return [stall for stall in agent.stalls() if stall["parent"]["pid"] == program.pid]

            agent.wait_until(lambda: bool(mine()))
            assert secret in Path(f"/proc/{mine()[0]['holders'][0]['pid']}/cmdline").read_text()
            snapshot = subprocess.run(
                [*lab.trace_popen, "--snapshot", "--json", "--pid", str(program.pid)],
                cwd=lab.root,
                capture_output=True,
                text=True,
                check=True,
            )
            assert json_lines(snapshot.stdout)
            pages = [agent.get(path) for path in ("/", "/api/stalls", "/metrics")]
        agent.wait_until(lambda: len(mine()) == 2)
        for text in (agent.log(), snapshot.stdout, snapshot.stderr, *pages):
            assert secret not in text
        assert all("stacks" not in stall for stall in mine())  # no lines of code by default


def _vforks(metrics: dict[tuple[str, tuple[tuple[str, str], ...]], float]) -> float:
    return sum(n for (name, _), n in metrics.items() if name == "spawnstall_vfork_seconds_count")


def test_ten_thousand_comms(lab: Lab) -> None:
    """A process can choose any comm: neither the series nor the agent may grow with their number."""
    code = (
        "import os\n"
        "for number in range(10_000):\n"
        "    with open('/proc/self/comm', 'w') as comm: comm.write(f'c{number}')\n"
        "    try: os.posix_spawn('/no/such/program', ['x'], {})\n"
        "    except OSError: pass\n"
    )
    with lab.agent(labels={"limit": 50}) as agent:
        before = agent.metrics()
        subprocess.run([PYTHON, "-c", code], check=True, timeout=120)
        # The page is made again after a second.
        agent.wait_until(lambda: _vforks(agent.metrics()) >= 10_000)
        for _ in range(3):
            metrics = agent.metrics()
    comms = {dict(labels)["comm"] for (name, labels) in metrics if name == "spawnstall_vfork_seconds_count"}
    assert len(comms) == 51
    assert "~other" in comms
    assert metrics["spawnstall_programs_full_total", ()] > 8_000
    grown = metrics["process_resident_memory_bytes", ()] - before["process_resident_memory_bytes", ()]
    assert grown < 30e6
