"""Reads a report again: the JSON lines that ``trace-popen --json`` wrote (JSON.md), on any machine.

Every object is checked, so that whoever renders it can rely on its keys, but for those that earlier versions
did not have.  A key that is not known is kept and not looked at: it is news of a later version.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

from agent.escape import printable
from agent.model import Cause, Confirmation, Outcome
from agent.settings.yamlfile import key_name, shown

__all__ = ["ReplayError", "read_report"]

_LONGEST_LINE = 16 << 20  # a stall with 20,000 holders
_MOST = 100_000  # items of a list
_MOST_PID = 1 << 22  # PID_MAX_LIMIT, include/linux/threads.h


class ReplayError(Exception):
    """A file is no report; one line that names file, line, what is wrong and what is expected."""


def read_report(path: Path, warn: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """The objects of a report, in its order and as they were written; it is read as they are taken.

    What is not printable in a text is escaped, as whoever writes a report does it.

    A last line that was cut off (the disk was full, the writer was killed) is left out, and said to warn in
    one line.  Raises ReplayError.
    """
    found = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_LONGEST_LINE), b""), 1):
                where = f"{path}:{number}"
                whole = line.endswith(b"\n")
                if not whole and len(line) == _LONGEST_LINE:
                    raise ReplayError(f"{where}: longer than {_LONGEST_LINE:,} bytes: expected one object")
                if not line.strip():
                    continue
                try:
                    told = _OBJECT.validate_json(line)
                except ValidationError as error:
                    item = error.errors(include_url=False)[0]
                    if found and not whole and item["type"] == "json_invalid":
                        warn(f"{where}: the last line is cut off: 1 object of {len(line):,} bytes left out")
                        return
                    raise ReplayError(f"{where}: {_problem(item)}") from error
                found += 1
                yield _printable(told.model_dump(mode="json", exclude_unset=True))
    except OSError as error:
        raise ReplayError(f"{path}: {error.strerror}") from error
    if not found:
        raise ReplayError(f"{path}: is empty: expected a report as 'trace-popen --json' writes it")


def _printable(value: Any) -> Any:
    """The same with every text as our own reports have it: who wrote the file is not known."""
    if isinstance(value, str):
        return value if value.isprintable() else printable(value.encode(errors="backslashreplace"))
    if isinstance(value, list):
        return [_printable(item) for item in value]
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    return value


def _problem(item: Any) -> str:
    if item["type"] == "json_invalid":
        problem = re.sub(r" at line \d+ column", " at column", item["ctx"]["error"])
        return f"no JSON: {problem}: expected one object, as 'trace-popen --json' writes it"
    if not item["loc"]:
        if item["type"].startswith("union_tag"):
            return f"expected an object with type {', '.join(_TYPES)}"
        return f"{shown(item['input'])}: expected an object"
    kind, *location = item["loc"]
    if not location:
        return f"{shown(item['input'])}: expected the keys of a {kind}"
    key = key_name(location)
    if item["type"] == "missing":
        return f"{key}: is missing: expected in a {kind}"
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return f"{key}: {shown(item['input'])}: {message}"


# -- what is expected --


def _is_time(text: str) -> str:
    try:
        datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")
    except ValueError:
        raise ValueError("expected a time such as 2026-11-24T09:00:00.000000Z") from None
    return text


_Text = Annotated[str, Field(max_length=4096)]
_Word = Annotated[str, Field(max_length=256)]
_Number = Annotated[int, Field(ge=0, le=1 << 63)]
_Pid = Annotated[int, Field(ge=0, le=_MOST_PID)]
_Fd = Annotated[int, Field(ge=-1, le=1 << 31)]
_Seconds = Annotated[float, Field(ge=-1e10, le=1e10, allow_inf_nan=False)]
_Span = Annotated[float, Field(ge=0, le=1e10, allow_inf_nan=False)]
_Name = Annotated[str, Field(pattern=r"\A[a-z0-9_]{1,64}\z")]
_Time = Annotated[str, AfterValidator(_is_time)]


class _Object(BaseModel):
    model_config = ConfigDict(extra="allow", strict=True)


class _Container(_Object):
    id: _Word
    runtime: Optional[_Word]
    pod_uid: Optional[_Word]


class _Parent(_Object):
    pid: _Pid
    tid: _Pid
    comm: _Word


class _StalledParent(_Parent):
    exe: Optional[_Text]
    uid: Optional[_Number]
    container: Optional[_Container]


class _Child(_Object):
    pid: _Pid
    comm: _Word


class _Errpipe(_Object):
    read_fd: _Fd
    write_fd: Optional[_Fd]


class _Forker(_Object):
    pid: _Pid
    tid: Optional[_Pid]


class _Holder(_Object):
    pid: Optional[_Pid]
    comm: Optional[_Word]
    exe: Optional[_Text]
    uid: Optional[_Number]
    container: Optional[_Container]
    fds: Annotated[list[_Fd], Field(max_length=_MOST)]
    cause: Cause
    acquired_seconds: Optional[_Seconds]
    forked_by: Optional[_Forker]
    released_seconds: Optional[_Seconds]
    released_by: Optional[Literal["close", "exec", "exit"]]
    confirmed: bool
    confirmation: Union[Confirmation, Literal["gone", "mismatch"], None]  # the literals: of earlier versions
    last_seen_seconds: Optional[_Seconds] = None

    @model_validator(mode="after")
    def _only_the_unseen_have_no_name(self) -> _Holder:
        if self.pid is not None and self.comm is None:
            raise ValueError("expected a comm beside the pid")
        return self


class _Step(_Object):
    seconds: _Seconds
    pid: _Pid
    tid: Optional[_Pid]
    what: _Name


_Steps = Annotated[list[_Step], Field(max_length=_MOST)]


class _Frame(_Object):
    function: _Text
    file: Optional[_Text]
    line: Optional[_Number]


class _Stack(_Object):
    by: _Word
    frames: Annotated[list[_Frame], Field(max_length=_MOST)]


class _Stacks(_Object):
    reader: Optional[_Stack]
    fork: Optional[_Stack]
    holder: Optional[_Stack]
    missing: Annotated[list[_Text], Field(max_length=_MOST)]


class _Stall(_Object):
    type: Literal["stall"]
    id: Optional[_Word]
    time: _Time
    state: Literal["ongoing", "ended"]
    parent: _StalledParent
    child: Optional[_Child]
    errpipe: _Errpipe
    spawn_seconds: Optional[_Span]
    exec_seconds: Optional[_Seconds]
    began_seconds: Optional[_Seconds]
    stall_seconds: Optional[_Span]
    late_wakeup_seconds: _Span = 0.0
    holders: Annotated[list[_Holder], Field(min_length=1, max_length=_MOST)]
    steps: _Steps
    advice: _Text
    advice_source: _Text
    stacks: Optional[_Stacks] = None
    source: Literal["snapshot"] = "snapshot"
    certainty: Literal["certain", "possible"] = "certain"
    evidence: Annotated[list[_Text], Field(max_length=_MOST)] = []


class _Spawn(_Object):
    type: Literal["spawn"]
    time: _Time
    state: Literal["ended"]
    parent: _Parent
    child: _Child
    errpipe: _Errpipe
    spawn_seconds: Optional[_Span]
    exec_seconds: Optional[_Seconds]
    outcome: Optional[Outcome]
    steps: _Steps


class _Quantiles(_Object):
    p50: Optional[_Span]
    p95: Optional[_Span]
    p99: Optional[_Span]
    max: Optional[_Span]


class _Culprit(_Object):
    comm: Optional[_Word]
    cause: Cause
    stalls: _Number
    seconds: _Span


class _Summary(_Object):
    type: Literal["summary"]
    seconds: _Span
    spawns: _Number
    stalls: _Number
    ongoing: _Number
    exec_failures: _Number
    lost_records: _Number
    not_followed: Annotated[dict[_Name, _Number], Field(max_length=_MOST)] = {}
    spawn_seconds: _Quantiles
    stalled_seconds: _Span
    holders: Annotated[list[_Culprit], Field(max_length=_MOST)]


_TYPES = ("stall", "spawn", "summary")
_OBJECT: TypeAdapter[Union[_Stall, _Spawn, _Summary]] = TypeAdapter(
    Annotated[Union[_Stall, _Spawn, _Summary], Field(discriminator="type")]
)
