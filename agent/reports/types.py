# SPDX-License-Identifier: Apache-2.0
"""The types of the JSON objects: what every writer and reader of a report relies on.

The constraints (lengths, ranges, patterns) hold for files read by ``--replay``, which anybody can have
written.  The keys of a TypedDict with ``total=False`` are missing in reports of earlier versions, or where
their text says so.
``schema.json`` is generated from this module.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Optional, TypedDict, Union

from agent.model import Cause, Confirmation, Outcome, ReleasedBy, StepKind
from agent.shape import Check, Keywords, Length, Pattern, Range, Tag

__all__ = [
    "AgentObject",
    "BucketObject",
    "ChildObject",
    "CommandObject",
    "ContainerObject",
    "ErrpipeObject",
    "ExposureCountObject",
    "ExposureObject",
    "ForkedByObject",
    "FrameObject",
    "HolderObject",
    "IdentityObject",
    "KindObject",
    "KindsObject",
    "MapObject",
    "ParentObject",
    "ProbeObject",
    "QuantilesObject",
    "ReportObject",
    "RunObject",
    "SpawnObject",
    "SpawnsObject",
    "StackObject",
    "StacksObject",
    "StallObject",
    "StalledParentObject",
    "StatusObject",
    "StepObject",
    "SummaryHolderObject",
    "SummaryObject",
    "WaitHolderObject",
    "WaitObject",
    "WaitProcessObject",
]

_MAX_ITEMS = 100_000
_MAX_PID = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h


def _is_time(text: str) -> None:
    try:
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        raise ValueError("expected a time such as 2026-11-24T09:00:00.000000Z") from None


_Text = Annotated[str, Length(4096)]
_LongText = Annotated[str, Length(65536)]  # with paths in it
_Word = Annotated[str, Length(256)]
_Number = Annotated[int, Range(0, 1 << 63)]
_Pid = Annotated[int, Range(0, _MAX_PID)]
_Fd = Annotated[int, Range(-1, 1 << 31)]
_Seconds = Annotated[float, Range(-1e10, 1e10)]
_Span = Annotated[float, Range(0, 1e10)]
_Name = Annotated[str, Pattern("[a-z0-9_]{1,64}")]
_Time = Annotated[str, Check(_is_time), Keywords(format="date-time")]


# -- parts --


class _LaterContainerKeys(TypedDict, total=False):
    user: Optional[_Number]


class ContainerObject(_LaterContainerKeys):
    """A container; runtime and pod are null if the cgroup path does not name them.

    user: who runs it without root, and could have made up its id; null: root created it.
    """

    id: _Word
    runtime: Optional[_Word]
    pod_uid: Optional[_Word]


class IdentityObject(TypedDict):
    """What /proc says of a process; null: it could not be read."""

    exe: Optional[_Text]
    uid: Optional[_Number]
    container: Optional[ContainerObject]


class ParentObject(TypedDict):
    """The thread that starts a program."""

    pid: _Pid
    tid: _Pid
    comm: _Word


class _LaterParentKeys(TypedDict, total=False):
    thread: Optional[_Word]


class StalledParentObject(ParentObject, IdentityObject, _LaterParentKeys):
    """The thread that is blocked.

    comm: of its process; thread: of the thread itself, null if it could not be read; missing if the stall was
    found in /proc.
    """


class ChildObject(TypedDict):
    """The own child."""

    pid: _Pid
    comm: _Word


class ErrpipeObject(TypedDict):
    """The fds of the errpipe in the parent."""

    read_fd: _Fd
    write_fd: Optional[_Fd]


class ForkedByObject(TypedDict):
    """The process and thread that forked a holder."""

    pid: _Pid
    tid: Optional[_Pid]


class _HolderName(TypedDict):
    pid: Optional[_Pid]
    comm: Optional[_Word]


class _LaterHolderKeys(TypedDict, total=False):
    last_seen_seconds: Optional[_Seconds]
    exiting_seconds: Optional[_Seconds]
    dumping_core: bool


class HolderObject(_HolderName, IdentityObject, _LaterHolderKeys):
    """A foreign holder; pid and comm are null if it was not seen."""

    fds: Annotated[list[_Fd], Length(_MAX_ITEMS)]
    cause: Cause
    acquired_seconds: Optional[_Seconds]
    forked_by: Optional[ForkedByObject]
    released_seconds: Optional[_Seconds]
    released_by: Optional[ReleasedBy]
    confirmed: bool
    confirmation: Union[Confirmation, Literal["gone", "mismatch"], None]  # the literals: of earlier versions


class StepObject(TypedDict):
    """One step of a spawn."""

    seconds: _Seconds
    pid: _Pid
    tid: Optional[_Pid]
    # Any name, as a later version can have more of them.
    what: Annotated[_Name, Keywords(examples=[str(kind) for kind in StepKind])]


class FrameObject(TypedDict):
    """One call of a stack."""

    function: _Text
    file: Optional[_Text]
    line: Optional[_Number]


class StackObject(TypedDict):
    """A stack, innermost frame first."""

    by: _Word
    frames: Annotated[list[FrameObject], Length(_MAX_ITEMS)]


class StacksObject(TypedDict):
    """The stacks of the blocked thread, of the first holder's fork, and of that holder."""

    reader: Optional[StackObject]
    fork: Optional[StackObject]
    holder: Optional[StackObject]
    missing: Annotated[list[_Text], Length(_MAX_ITEMS)]


class QuantilesObject(TypedDict):
    """Durations of spawns in seconds; null if there was none."""

    p50: Optional[_Span]
    p95: Optional[_Span]
    p99: Optional[_Span]
    max: Optional[_Span]


class SummaryHolderObject(TypedDict):
    """The stalls of all holders with one comm and cause; comm null: not seen."""

    comm: Optional[_Word]
    cause: Cause
    stalls: _Number
    seconds: _Span


class ExposureCountObject(TypedDict):
    """The exposures of the parents with one comm, by one cause."""

    comm: _Word
    cause: Cause
    count: _Number


class ExposureObject(TypedDict):
    """Foreign processes that had a copy of one spawn, by one cause, when the own child released its own.

    time: that moment.  cause: one of those with which a process can keep its copy.
    """

    type: Literal["exposure"]
    time: _Time
    parent: ParentObject
    child: ChildObject
    cause: Cause
    count: _Number


class CommandObject(TypedDict):
    """The traced COMMAND; arguments is null if they were not to be recorded."""

    program: _Text
    argument_count: _Number
    arguments: Optional[Annotated[list[_Text], Length(_MAX_ITEMS)]]


# -- the objects of a report, one a line --


class RunObject(TypedDict):
    """Where a report comes from; the first object of a run.

    pids and command: what is traced; [] and null: the whole host.
    options: of trace-popen, as they were given.
    """

    type: Literal["run"]
    time: _Time
    host: _Word
    kernel: _Word
    machine: _Word
    version: _Word
    pids: Annotated[list[_Pid], Length(_MAX_ITEMS)]
    command: Optional[CommandObject]
    options: Annotated[list[_Text], Length(_MAX_ITEMS)]


def _has_name(holder: HolderObject) -> None:
    if holder["pid"] is not None and holder["comm"] is None:
        raise ValueError("expected a comm beside the pid")


_Steps = Annotated[list[StepObject], Length(_MAX_ITEMS)]
_Holders = Annotated[list[Annotated[HolderObject, Check(_has_name)]], Length(_MAX_ITEMS, least=1)]


class _OptionalStallKeys(TypedDict, total=False):
    advice: _Text
    advice_source: _Text
    """These two not in the objects that ``snapshot.py`` prints on its own."""
    late_wakeup_seconds: _Span
    release: Optional[_Text]
    """How to end it now, and what that costs; null if it has ended, or if that is not known."""
    stacks: StacksObject
    """With ``--stacks``."""
    source: Literal["snapshot"]
    """If it was found in /proc, as the two below."""
    certainty: Literal["certain", "possible"]
    evidence: Annotated[list[_Text], Length(_MAX_ITEMS)]


class StallObject(_OptionalStallKeys):
    """A stall.  Seconds count from the creation of the errpipe, which is at ``time``."""

    type: Literal["stall"]
    id: Optional[_Word]
    time: _Time
    state: Literal["ongoing", "ended"]
    parent: StalledParentObject
    child: Optional[ChildObject]
    errpipe: ErrpipeObject
    spawn_seconds: Optional[_Span]
    exec_seconds: Optional[_Seconds]
    began_seconds: Optional[_Seconds]
    stall_seconds: Optional[_Span]
    holders: _Holders
    steps: _Steps


class SpawnObject(TypedDict):
    """A spawn that has ended (``--all``)."""

    type: Literal["spawn"]
    time: _Time
    state: Literal["ended"]
    parent: ParentObject
    child: ChildObject
    errpipe: ErrpipeObject
    spawn_seconds: Optional[_Span]
    exec_seconds: Optional[_Seconds]
    outcome: Optional[Outcome]
    steps: _Steps


class _LaterSummaryKeys(TypedDict, total=False):
    time: _Time
    not_followed: Annotated[dict[_Name, _Number], Length(_MAX_ITEMS)]
    exposures: Optional[Annotated[list[ExposureCountObject], Length(_MAX_ITEMS)]]
    """null: they are not counted, as this needs the kernel's types."""
    waits: _Number
    waits_in_progress: _Number
    spawn_p99_seconds: Optional[_Span]
    """An upper bound if records were lost; null if it is not known."""
    stall_total_seconds: Optional[_Span]
    """With the stalls in progress."""


class SummaryObject(_LaterSummaryKeys):
    """The end of a run, which is at ``time``."""

    type: Literal["summary"]
    seconds: _Span
    spawns: _Number
    stalls: _Number
    ongoing: _Number
    exec_failures: _Number
    lost_records: _Number
    spawn_seconds: QuantilesObject
    stalled_seconds: _Span
    holders: Annotated[list[SummaryHolderObject], Length(_MAX_ITEMS)]


class WaitProcessObject(TypedDict):
    """The process that waits."""

    pid: _Pid
    comm: _Word


class WaitHolderObject(TypedDict):
    """A process with the other end of what a thread waits for."""

    pid: _Pid
    comm: _Word
    fds: Annotated[list[_Fd], Length(_MAX_ITEMS)]
    parent: _Pid
    started: Optional[_Time]
    doing: _LongText


class _LaterWaitKeys(TypedDict, total=False):
    id: _Word
    state: Literal["ongoing", "ended"]
    ended: Optional[_Time]
    ending: Optional[_LongText]


class WaitObject(_LaterWaitKeys):
    """What a thread waits for, found in /proc, that is not a stall.

    normal: the other side is alive and at work.  since: when the wait can have begun at the earliest.
    ended, ending: when it had ended, and how: a clause; null if it goes on.
    """

    type: Literal["wait"]
    kind: Literal[
        "errpipe", "own_child", "vfork", "output", "input", "jobserver", "self_held", "child", "other"
    ]
    time: _Time
    since: Optional[_Time]
    parent: WaitProcessObject
    thread: _Pid
    child: Optional[ChildObject]
    headline: _LongText
    normal: bool
    holders: Annotated[list[WaitHolderObject], Length(_MAX_ITEMS)]
    evidence: Annotated[list[_LongText], Length(_MAX_ITEMS)]
    advice: _Text


ReportObject = Annotated[
    Union[RunObject, StallObject, SpawnObject, ExposureObject, SummaryObject, WaitObject], Tag("type")
]
"""One line of a report."""


# -- /api/stalls --


class BucketObject(TypedDict):
    """A bucket of a histogram: more than ``above`` and at most ``le`` seconds; le null: no bound."""

    above: float
    le: Optional[float]
    count: int


class KindObject(TypedDict):
    """The stalls with one comm of the parent, one of the first holder (null: not seen), and one cause.

    p50_seconds, p99_seconds: of the latest 1,000.  last: when the latest ended or was seen in progress.
    over_time: how many began in each interval; intervals at the end that have none are missing.
    """

    comm: str
    holder: Optional[str]
    cause: Cause
    stalls: int
    ongoing: int
    seconds: float
    p50_seconds: float
    p99_seconds: float
    longest_seconds: float
    last: Optional[_Time]
    over_time: list[int]


class KindsObject(TypedDict):
    """The kinds of stalls, the costliest first.

    began, interval_seconds: the first interval of ``over_time``, and the length of each.
    """

    began: Optional[_Time]
    interval_seconds: float
    histogram: list[BucketObject]
    kinds: list[KindObject]


class SpawnsObject(TypedDict):
    """The spawns of the programs that have started others within the last hour.

    p99_seconds: the upper bound of its bucket; null if there was no spawn, or no bound.
    """

    count: int
    p99_seconds: Optional[float]
    histogram: list[BucketObject]


class ProbeObject(TypedDict):
    """A program of the kernel side; counts are null while the kernel does not count them."""

    attached: bool
    runs: Optional[int]
    run_seconds: Optional[float]


class MapObject(TypedDict):
    """A map of the kernel side; evictions is null if it drops nothing."""

    entries: int
    max_entries: int
    evictions: Optional[int]


class AgentObject(TypedDict):
    """The health of the agent; losses by the names of the metrics."""

    host: str
    version: str
    kernel: str
    bcc: str
    time: _Time
    started: _Time
    uptime_seconds: float
    cpu_seconds: float
    healthy: bool
    self_test_failure: Optional[str]
    stalls_ended: int
    history_limit: int
    probes: dict[str, ProbeObject]
    losses: dict[str, int]
    confirmations: dict[str, int]
    maps: dict[str, MapObject]


class StatusObject(TypedDict):
    """The answer of /api/stalls: ongoing stalls oldest first, ended ones newest first.

    kinds: of all stalls since the agent has started.
    waits: parents whose own child has not called exec for more than a second.
    """

    kinds: KindsObject
    spawns: SpawnsObject
    ongoing: list[StallObject]
    waits: list[WaitObject]
    ended: list[StallObject]
    agent: AgentObject
