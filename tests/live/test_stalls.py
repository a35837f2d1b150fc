# SPDX-License-Identifier: Apache-2.0
"""Real programs under the real tracer: every stall is found with its holder, and nothing else is reported."""

from __future__ import annotations

import math
import statistics

import pytest

from probes.btf import VMLINUX_BTF
from tests.live.lab import TOLERANCE_SECONDS, Lab, Object, Traced

# Machines that run tests are busy; an emulated one (tests/kernels) is also slow.


def _assert_stalls_are(traced: Traced, slow: list[Object], cause: str, holder_key: str | None = None) -> None:
    """Assert that exactly these spawns were reported, each with the holder that the program knows."""
    stalls = {stall["child"]["pid"]: stall for stall in traced.of("stall")}
    assert set(stalls) == {spawn["child"] for spawn in slow}
    apart = []
    for spawn in slow:
        stall = stalls[spawn["child"]]
        holder = stall["holders"][0]
        assert holder["cause"] == cause
        assert stall["parent"]["pid"] == spawn["pid"]
        assert stall["parent"]["tid"] == spawn["tid"]
        apart.append(abs(stall["stall_seconds"] - spawn["seconds"]))
        if holder_key is not None:
            assert holder["pid"] == spawn[holder_key]
    # The program starts its clock one or two forks earlier, which can take long on a busy machine.
    assert statistics.median(apart or [0]) < TOLERANCE_SECONDS
    assert max(apart, default=0) < 5 * TOLERANCE_SECONDS
    assert traced.summary["stalls"] == len(slow)
    assert traced.summary["lost_records"] == 0


def _waited_for_others(spawn: Object) -> float:
    """Return the seconds of the read after the own child's release: the time before is exec latency."""
    steps = {step["what"]: step["seconds"] for step in spawn["steps"]}
    return float(steps["read_ended"] - max(steps["read_began"], steps["child_execed"]))


def test_worker_that_never_execs(lab: Lab) -> None:
    live = [] if VMLINUX_BTF.exists() else ["--live", "1.5"]  # without types /proc must show the worker
    traced = lab.trace(lab.program("fork_beside_popen.py", "--force", "6", *live))
    slow = [spawn for spawn in traced.spawns() if spawn["worker"] is not None]
    assert len(slow) == 6
    _assert_stalls_are(traced, slow, "forked", "worker")
    assert traced.summary["spawns"] == len(traced.spawns())


def test_workers_forked_freely_beside_popen(lab: Lab) -> None:
    command = lab.program("fork_beside_popen.py", "--seconds", "6", "--live", "0.25")
    traced = lab.trace(command, "--min-ms", "100")
    slow = [spawn for spawn in traced.spawns() if spawn["seconds"] > 0.2]
    _assert_stalls_are(traced, slow, "forked")
    workers = {line["pid"]: line for line in traced.printed if line["kind"] == "worker"}
    for stall in traced.of("stall"):
        assert stall["holders"][0]["pid"] in workers


@pytest.mark.parametrize("option", ["--close-fds", "--no-close-fds"])
def test_sibling_with_a_slow_preexec_fn(lab: Lab, option: str) -> None:
    traced = lab.trace(lab.program("slow_preexec_sibling.py", "--count", "2", option))
    blocked = [spawn for spawn in traced.spawns() if spawn["role"] == "a"]
    _assert_stalls_are(traced, blocked, "late_exec", "holder")


def test_own_childs_slow_preexec_fn_is_exec_latency(lab: Lab) -> None:
    traced = lab.trace(lab.program("slow_preexec_own.py", "--count", "2", "--sleep", "0.3"))
    assert traced.of("stall") == []
    assert [spawn["outcome"] for spawn in traced.of("spawn")] == ["ok", "ok"]
    for spawn in traced.of("spawn"):
        assert spawn["exec_seconds"] == pytest.approx(0.3, abs=10 * TOLERANCE_SECONDS)


@pytest.mark.parametrize("beside", [(), ("--beside",)])
def test_output_pipes_are_no_errpipes(lab: Lab, beside: tuple[str, ...]) -> None:
    traced = lab.trace(lab.program("communicate.py", "--count", "2", *beside))
    assert traced.of("stall") == []
    assert traced.summary["spawns"] == len(traced.spawns())


def test_shells_are_not_reported(lab: Lab) -> None:
    traced = lab.trace(lab.program("shell_loop.sh", "--loops", "3"))
    assert traced.status == 0
    assert traced.of("stall") == []
    assert traced.of("spawn") == []


def test_program_that_does_not_exist(lab: Lab) -> None:
    traced = lab.trace(lab.program("missing_program.py", "--count", "5"))
    outcomes = [spawn["outcome"] for spawn in traced.of("spawn")]
    assert outcomes == ["exec_failed"] * 6  # five missing, one not executable
    assert traced.summary["exec_failures"] == 6
    assert traced.of("stall") == []


def test_two_thousand_spawns_are_counted_exactly(lab: Lab) -> None:
    traced = lab.trace(lab.program("many_popen.py", "--count", "2000"))
    assert traced.of("stall") == []
    assert traced.summary["spawns"] == 2000
    assert traced.summary["lost_records"] == 0
    assert {spawn["outcome"] for spawn in traced.of("spawn")} == {"ok"}


def test_many_threads_without_a_holder(lab: Lab) -> None:
    """Popens wait for the GIL and the CPU here, and other threads' children call exec at once."""
    traced = lab.trace(lab.program("many_popen.py", "--count", "1000", "--threads", "8"))
    assert traced.summary["spawns"] == 1000
    assert [stall for stall in traced.of("stall") if stall["stall_seconds"] > 0.1] == []


def test_original_program_on_python_2(lab: Lab, python27: str) -> None:
    """The slow echos are found, and the holder is the sibling's shell or its sleep."""
    program = str(lab.root / "tests" / "programs" / "original27.py")
    for _attempt in range(8):
        traced = lab.trace([python27, program, "--iterations", "100", "--no-pipes"])
        slow = [spawn for spawn in traced.spawns() if spawn["seconds"] > 0.025 and "echo" in spawn["command"]]
        stalls = {stall["child"]["pid"]: stall for stall in traced.of("stall")}
        leaked = [s for s in stalls.values() if s["holders"][0]["cause"] == "leaked"]
        for stall in leaked:
            assert stall["holders"][0]["comm"] in ("sh", "sleep")
        spawns = {spawn["child"]["pid"]: spawn for spawn in traced.of("spawn")}
        for spawn in slow:
            if _waited_for_others(spawns[spawn["child"]]) > 0.025:
                assert spawn["child"] in stalls
        if leaked:
            return
    pytest.fail("the original program did not stall in 800 iterations")


def test_forced_leak_on_python_2(lab: Lab, python27: str) -> None:
    program = str(lab.root / "tests" / "programs" / "original27.py")
    # Without the kernel's types /proc must show the holder, and does not know how it got its copy.
    sleep, cause = ("0.2", "leaked") if VMLINUX_BTF.exists() else ("1.5", "unknown")
    traced = lab.trace([python27, program, "--iterations", "10", "--force", "--sleep", sleep])
    forced = [spawn for spawn in traced.spawns() if spawn.get("forced")]
    assert len(forced) >= 8
    stalls = {stall["child"]["pid"]: stall for stall in traced.of("stall")}
    for spawn in forced:
        stall = stalls[spawn["child"]]
        assert {holder["cause"] for holder in stall["holders"]} == {cause}
        assert spawn["holder"] in {holder["pid"] for holder in stall["holders"]}


def test_close_fds_on_python_2(lab: Lab, python27: str) -> None:
    program = str(lab.root / "tests" / "programs" / "original27.py")
    traced = lab.trace([python27, program, "--iterations", "50", "--close-fds", "--force"])
    assert [stall for stall in traced.of("stall") if stall["stall_seconds"] > 0.025] == []


def test_native_threads(lab: Lab, native_storm: str) -> None:
    """At least 97 % of the reads that a worker delayed by over 4 ms are reported with a worker.

    A read that its own child delayed (starved by the forks) is exec latency. On a busy machine readers wake
    late and workers are reaped late, which looks like a miss: one of three runs has to pass.
    """
    bad = []
    for _attempt in range(3):
        traced = lab.trace([native_storm, "--count", "1000"], "--min-ms", "1", timeout=300)
        bad = _missed_or_unnamed(traced)
        if not bad:
            return
    pytest.fail(f"missed or unnamed in each of three runs, in the last: {bad}")


def _missed_or_unnamed(traced: Traced) -> list[Object]:
    """Return the long reads without a named holder if they are more than 3 %; fail if a holder is wrong."""
    workers = [line for line in traced.printed if line["kind"] == "worker"]
    spawns = {spawn["child"]["pid"]: spawn for spawn in traced.of("spawn")}
    stalls = {stall["child"]["pid"]: stall for stall in traced.of("stall")}
    assert len(spawns) == 1000
    for stall in stalls.values():
        assert stall["holders"][0]["pid"] in {None, *(worker["pid"] for worker in workers)}
    long_reads = [spawn for spawn in traced.spawns() if spawn["seconds"] > 0.004]
    assert len(long_reads) >= 10
    bad = []
    for read in long_reads:
        waited = _waited_for_others(spawns[read["child"]])
        released = read["start"] + read["seconds"] - waited
        kept = any(w["start"] < read["start"] and w["end"] > released + 0.004 for w in workers)
        found = stalls.get(read["child"])
        named = found is not None and found["holders"][0]["pid"] is not None
        if waited > 0.004 and kept and not named:
            bad.append(read)
    return bad if len(bad) > math.ceil(0.03 * len(long_reads)) else []


@pytest.mark.parametrize("by", ["socket", "pidfd_getfd", "proc"])
def test_passed_copy(lab: Lab, by: str) -> None:
    """No fork made this copy: /proc shows its holder while the stall is in progress."""
    traced = lab.trace(lab.program("passed_copy.py", "--by", by))
    [spawn] = traced.spawns()
    ongoing, ended = (report for report in traced.reports if report["type"] == "stall")
    for stall in (ongoing, ended):
        [holder] = stall["holders"]
        assert (holder["pid"], holder["cause"]) == (spawn["receiver"], "passed")
        assert holder["confirmed"]
    assert ended["stall_seconds"] == pytest.approx(spawn["seconds"], abs=5 * TOLERANCE_SECONDS)


def test_short_stall_by_a_passed_copy_names_no_other_process(lab: Lab) -> None:
    traced = lab.trace(lab.program("passed_copy.py", "--live", "0.1"))
    [spawn] = traced.spawns()
    [stall] = traced.of("stall")
    [holder] = stall["holders"]
    seen = (spawn["receiver"], "passed", True)  # if /proc was read during the stall
    assert (holder["pid"], holder["cause"], holder["confirmed"]) in (seen, (None, "unknown", False))


def test_socketpair_as_errpipe(lab: Lab) -> None:
    """As Rust's Command with pre_exec does."""
    plain = lab.trace(lab.program("socket_errpipe.py"))
    assert plain.of("stall") == []
    assert [spawn["outcome"] for spawn in plain.of("spawn")] == ["ok"] * 3
    failed = lab.trace(lab.program("socket_errpipe.py", "--program", "/no/such/program"))
    assert [spawn["outcome"] for spawn in failed.of("spawn")] == ["exec_failed"] * 3
    traced = lab.trace(lab.program("socket_errpipe.py", "--force", "--live", "0.8"))
    _assert_stalls_are(traced, traced.spawns(), "forked", "worker")
    assert all(stall["holders"][0]["confirmed"] for stall in traced.of("stall"))


@pytest.mark.parametrize("by", ["pipe", "socket"])
def test_daemon_that_reports_readiness_is_no_stall(lab: Lab, by: str) -> None:
    traced = lab.trace(lab.program("readiness.py", by))
    assert traced.status == 0
    assert traced.printed[-1]["kind"] == "done"
    assert [report for report in traced.reports if report["type"] == "stall"] == []


def test_child_that_is_killed_before_its_exec(lab: Lab) -> None:
    """It never reports anything; then only the worker keeps the parent waiting."""
    traced = lab.trace(lab.program("killed_child.py"))
    [spawn] = traced.spawns()
    ongoing, ended = (report for report in traced.reports if report["type"] == "stall")
    assert (ongoing["state"], ended["state"]) == ("ongoing", "ended")
    assert ended["holders"][0]["pid"] == ongoing["holders"][0]["pid"] == spawn["worker"]
    assert ended["holders"][0]["cause"] == "forked"
    assert ended["stall_seconds"] > 1
