"""Other runtimes, with what a Debian has of them at least: plain spawns are counted, failed execs are."""

from __future__ import annotations

from tests.live.lab import Lab


def test_perl(lab: Lab) -> None:
    """Perl's system() waits for the child first and reads then; a failed exec closes before it exits."""
    code = (
        "system('/bin/true', 'x'); my $x = `/bin/echo hi`; open(F, '-|', '/bin/true', 'x'); close F;"
        "system('/no/such/program', 'x');"
    )
    traced = lab.trace(["/usr/bin/perl", "-e", code])
    spawns = sorted(traced.of("spawn"), key=lambda spawn: str(spawn["time"]))
    outcomes = [spawn["outcome"] for spawn in spawns]
    assert outcomes == ["ok", "ok", "ok", "exec_failed"]
    assert traced.of("stall") == []
