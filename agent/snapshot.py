"""Who keeps a process that hangs already waiting: one look at ``/proc``, without eBPF.

This file stands alone: standard library only, Python 3.6 and later.  Copy it to a host and run

    python3 snapshot.py PID [--interval SECONDS] [--duration SECONDS]

as root; it prints one JSON object a line, with the keys of a live stall (agent/reports/JSON.md) and "source",
"certainty" ("certain" or "possible") and "evidence".

What is looked for is a thread that is blocked in ``read`` on a pipe whose write end its own process does
not hold.  Most such pipes are data pipes.  The decision, in ``_judge``, errs on the side of silence:

* A copy on fd 0 to 2 of anybody, a read of standard input, a pipe that an ancestor of the reader holds, or
  a read of a size that no known runtime uses for its errpipe: a data pipe, not reported.
* The read sizes of Python (50000, 1048576) and Tcl (223) come with a close-on-exec read end.  Small sizes
  (4 and 8 bytes: Node, Ruby, Perl, Java, git, GLib) are common in data pipes too: never more than "possible",
  and in a Python process a data pipe.
* Nothing is written to an errpipe before its end, so the times of its inode are those of its making.  Who
  was forked earlier did not inherit it; the own child is a child that the reading thread forked since.
* The own child is that thread's youngest child since then (``/proc/PID/task/TID/children`` tells which
  thread forked whom; without it, any child of a process with one thread).  While it has a copy itself it is
  slow to exec, or a worker with a result pipe, or was given the pipe as a data pipe: not reported, whoever
  else holds it.
* Where the forking thread is not known, a child that has not execed and holds no read end may be the own
  child: not reported.  One that has the read end too is not the own child of Python, which closes that
  before all else.
* "certain" needs an own child that has let go, and a read size of Python or Tcl.

Each finding is checked once more before it is returned: the same read, the same pipe, the same holders.
What is not seen: socketpairs (Rust with pre_exec), and the fds of a thread that has a table of its own.
"""

import argparse
import json
import os
import signal
import sys
import time
from datetime import datetime, timezone
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

__all__ = ["Finding", "Holder", "Sampler", "main", "printable", "take", "why_not"]

PROC = "/proc"

_O_ACCMODE, _O_RDONLY, _O_WRONLY, _O_CLOEXEC = 0o3, 0o0, 0o1, 0o2000000
_PF_FORKNOEXEC, _PF_KTHREAD = 0x40, 0x200000  # <linux/sched.h>
_CLOCK_BOOTTIME = 7  # time.CLOCK_BOOTTIME is there from Python 3.7 on
_TICKS = os.sysconf("SC_CLK_TCK")
# Start times are cut to a tick, the times of an inode to a timer interrupt.
_SLACK_SECONDS = 0.05

# read(2) by machine, <asm/unistd.h>; 3 also for 32-bit programs on a 64-bit kernel (there it is close or
# io_cancel for 64-bit ones, which no pipe blocks).
_READ = {"x86_64": (0, 3), "aarch64": (63, 3), "riscv64": (63,), "loongarch64": (63,), "mips64": (5000,)}
_READ_ELSEWHERE = (3,)

# Read sizes of errpipes (design: errpipes.md).
_RUNTIMES = {50000: "Python 3", 1048576: "Python 2.7", 223: "Tcl"}
FOUND = 1 << 63
"""Set in the id of a stall that was found here; the rest is the inode of its pipe."""
_LONGEST_COMM = 64  # of a kernel thread; a process's own has 15
_SMALL_READ = 8
_SMALL_RUNTIMES = {4: "Node, Ruby, Perl and Java", 8: "git and GLib"}


class _Process(NamedTuple):
    """What ``/proc/PID/stat`` says; start is in seconds since the boot."""

    pid: int
    state: str
    parent: int
    session: int
    flags: int
    threads: int
    start: float

    @property
    def execed(self) -> bool:
        """Whether it has execed since it was forked."""
        return not self.flags & _PF_FORKNOEXEC

    @property
    def age(self) -> Tuple[float, int]:
        """Sorts by time of birth."""
        return self.start, self.pid


class _Reader(NamedTuple):
    """A thread that is blocked in read on a pipe."""

    pid: int
    tid: int
    fd: int
    size: int
    pipe: str
    cloexec: bool


class _Copies(NamedTuple):
    """The fds of a process on a pipe: write ends with their close-on-exec flags; whether it can read."""

    writes: Dict[int, bool]
    reads: bool


class _Facts(NamedTuple):
    """All that is known of a blocked read; times are in seconds since the boot.

    created: when the pipe was made, None: not known.  used: data has come through it.
    children: those that the thread itself forked, None: not known.
    """

    reader: _Reader
    python: bool
    processes: Dict[int, _Process]
    thread_start: float
    created: Optional[float]
    used: bool
    children: Optional[Set[int]]
    copies: Dict[int, _Copies]


class Holder(NamedTuple):
    """A foreign holder; pid None: nobody that could be seen."""

    pid: Optional[int]
    comm: bytes
    fds: Tuple[int, ...]
    cause: str

    def to_object(self) -> Dict[str, Any]:
        """As in a stall's "holders"."""
        return {
            "pid": self.pid,
            "comm": None if self.pid is None else printable(self.comm),
            "exe": None,
            "uid": None,
            "container": None,
            "fds": list(self.fds),
            "cause": self.cause,
            "acquired_seconds": None,
            "forked_by": None,
            "released_seconds": None,
            "released_by": None,
            "confirmed": self.pid is not None,
            "confirmation": None if self.pid is None else "confirmed",
            "last_seen_seconds": None,
        }


class Finding(NamedTuple):
    """A blocked read and who keeps it so; time: when the pipe was made, or else when it was looked at."""

    time: float
    pid: int
    tid: int
    comm: bytes
    child: Optional[int]
    child_comm: bytes
    read_fd: int
    write_fd: Optional[int]
    holders: Tuple[Holder, ...]
    certain: bool
    evidence: Tuple[str, ...]
    pipe: str
    state: str = "ongoing"
    seconds: Optional[float] = None

    @property
    def id(self) -> Optional[str]:
        """The same for as long as the pipe exists."""
        inode = self.pipe.rpartition("[")[2].rstrip("]")
        return "{:016x}".format(FOUND | int(inode)) if inode.isdecimal() else None

    def to_object(self) -> Dict[str, Any]:
        """The JSON object of a stall."""
        when = datetime.fromtimestamp(self.time, timezone.utc).isoformat(timespec="microseconds")
        child = None if self.child is None else {"pid": self.child, "comm": printable(self.child_comm)}
        return {
            "type": "stall",
            "time": when.replace("+00:00", "Z"),
            "state": self.state,
            "id": self.id,
            "parent": {
                "pid": self.pid,
                "tid": self.tid,
                "comm": printable(self.comm),
                "exe": None,
                "uid": None,
                "container": None,
            },
            "child": child,
            "errpipe": {"read_fd": self.read_fd, "write_fd": self.write_fd},
            "spawn_seconds": None,
            "exec_seconds": None,
            "began_seconds": None,
            "stall_seconds": self.seconds,
            "late_wakeup_seconds": 0.0,
            "holders": [holder.to_object() for holder in self.holders],
            "steps": [],
            "source": "snapshot",
            "certainty": "certain" if self.certain else "possible",
            "evidence": list(self.evidence),
        }


def printable(comm: bytes) -> str:
    """A comm as text that harms no terminal, JSON, label or page: control characters are escaped."""
    chars = comm.decode("utf-8", "backslashreplace")
    if chars.isprintable():
        return chars
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in chars)


def why_not(pid: int, proc: str = PROC) -> Optional[str]:
    """Why no snapshot of a process can be taken, in one line; None: it can."""
    try:
        with open("{}/{}/syscall".format(proc, pid), "rb") as file:
            file.read()
        os.listdir("{}/{}/fd".format(proc, pid))
    except PermissionError:
        return "pid {} cannot be looked at: run this as root".format(pid)
    except OSError:
        if os.path.exists("{}/{}".format(proc, pid)):
            return "this kernel has no /proc/PID/syscall: a blocked read cannot be seen"
        return "there is no process with pid {}".format(pid)
    return None


def take(pid: int, proc: str = PROC, boot: Optional[float] = None) -> List[Finding]:
    """The stalls that are going on in a process and its descendants.

    boot: when the host booted, in seconds since the epoch; None: asked of the clocks.
    """
    tree = _tree(pid, _processes(proc))
    readers = [reader for process in tree for reader in _readers(process.pid, proc)]
    if not readers:
        return []
    if boot is None:
        boot = time.time() - time.clock_gettime(_CLOCK_BOOTTIME)
    # Whoever was forked before the reads began is in this second look at all processes.
    processes = _processes(proc)
    wanted = {reader.pipe for reader in readers}
    seen = _scan(processes.values(), wanted, proc)
    late = {number: process for number, process in _processes(proc).items() if number not in processes}
    for pipe, by in _scan(late.values(), wanted, proc).items():
        seen.setdefault(pipe, {}).update(by)
    processes.update(late)
    return [
        finding
        for reader in readers
        for finding in [_look(reader, seen.get(reader.pipe, {}), processes, proc, boot)]
        if finding is not None
    ]


class Sampler:
    """Takes snapshots again and again; tells a stall once while it is going on, and when it is seen no more.

    Shorter ones than min_seconds are not told, and only after ongoing_seconds is one told before its end.
    """

    def __init__(
        self, pid: int, min_seconds: float = 0.01, ongoing_seconds: float = 1.0, proc: str = PROC
    ) -> None:
        self._pid = pid
        self._min_seconds = min_seconds
        self._ongoing_seconds = ongoing_seconds
        self._proc = proc
        self._known: Dict[Tuple[int, int, str], Finding] = {}
        self._began: Dict[Tuple[int, int, str], float] = {}
        self._told: Set[Tuple[int, int, str]] = set()

    def sample(self, now: float) -> List[Finding]:
        """What is to be told; now is time.monotonic(). The seconds of a stall count from its first sight."""
        news = []
        found = {(one.pid, one.tid, one.pipe): one for one in take(self._pid, self._proc)}
        for key, finding in found.items():
            seconds = now - self._began.setdefault(key, now)
            self._known[key] = finding._replace(seconds=seconds)
            if seconds >= self._ongoing_seconds and key not in self._told:
                self._told.add(key)
                news.append(self._known[key])
        for key, finding in list(self._known.items()):
            if key in found:
                continue
            again = _reader(finding.pid, finding.tid, self._proc)
            if again is None or again.pipe != finding.pipe:
                del self._known[key]
                self._told.discard(key)
                seconds = now - self._began.pop(key)
                if seconds >= self._min_seconds:
                    news.append(finding._replace(state="ended", seconds=seconds))
        return news


# -- looking --


def _processes(proc: str) -> Dict[int, _Process]:
    found = {}
    for name in os.listdir(proc):
        if name.isdecimal():
            process = _process(proc + "/" + name, int(name))
            if process is not None:
                found[process.pid] = process
    return found


def _process(folder: str, pid: int) -> Optional[_Process]:
    """A process, or a thread of one, by its folder."""
    try:
        stat = _bytes(folder + "/stat")
        # The comm in parentheses can hold anything, a closing parenthesis too: the last one ends it.
        fields = stat[stat.rindex(b")") + 1 :].split()
        state, start = fields[0].decode("ascii"), int(fields[19]) / _TICKS
        parent, session, flags, threads = (int(fields[number]) for number in (1, 3, 6, 17))
    except (OSError, ValueError, IndexError):
        return None
    return _Process(pid, state, parent, session, flags, threads, start)


def _tree(pid: int, processes: Dict[int, _Process]) -> List[_Process]:
    children: Dict[int, List[_Process]] = {}
    for process in processes.values():
        children.setdefault(process.parent, []).append(process)
    found = [processes[pid]] if pid in processes else []
    children.setdefault(pid, [])
    for process in found:  # grows
        found += [child for child in children.pop(process.pid, []) if child.pid != pid]
    return found


def _readers(pid: int, proc: str) -> Iterator[_Reader]:
    for name in _numbers("{}/{}/task".format(proc, pid)):
        reader = _reader(pid, name, proc)
        if reader is not None:
            yield reader


def _reader(pid: int, tid: int, proc: str) -> Optional[_Reader]:
    """The read that a thread is blocked in, when it is one of a pipe."""
    task = "{}/{}/task/{}".format(proc, pid, tid)
    try:
        words = _bytes(task + "/syscall").split()
        if len(words) < 4 or int(words[0]) not in _READ.get(os.uname().machine, _READ_ELSEWHERE):
            return None  # fewer words: it runs
        fd, size = int(words[1], 16) & 0xFFFFFFFF, int(words[3], 16)
        pipe = os.readlink("{}/fd/{}".format(task, fd))
        flags = _flags("{}/fdinfo/{}".format(task, fd))
    except (OSError, ValueError):
        return None
    if not pipe.startswith("pipe:[") or flags is None or flags & _O_ACCMODE == _O_WRONLY:
        return None
    return _Reader(pid, tid, fd, size, pipe, bool(flags & _O_CLOEXEC))


def _scan(processes: Iterable[_Process], pipes: Set[str], proc: str) -> Dict[str, Dict[int, List[int]]]:
    """For each of these pipes the fds by pid, of whatever mode."""
    found: Dict[str, Dict[int, List[int]]] = {}
    for process in processes:
        if process.flags & _PF_KTHREAD:
            continue
        folder = _folder(process, proc) + "/fd/"
        for fd in _numbers(folder):
            try:
                link = os.readlink(folder + str(fd))
            except OSError:
                continue
            if link in pipes:
                found.setdefault(link, {}).setdefault(process.pid, []).append(fd)
    return found


def _folder(process: _Process, proc: str) -> str:
    """Where the fds of a process are: when its leader has exited before its threads, with one of these."""
    folder = "{}/{}".format(proc, process.pid)
    if process.state == "Z" and process.threads > 1:
        for tid in _numbers(folder + "/task"):
            if _numbers("{}/task/{}/fd".format(folder, tid)):
                return "{}/task/{}".format(folder, tid)
    return folder


def _look(
    reader: _Reader, fds: Dict[int, List[int]], before: Dict[int, _Process], proc: str, boot: float
) -> Optional[Finding]:
    """Gathers the facts of a blocked read afresh, and has them judged."""
    task = "{}/{}/task/{}".format(proc, reader.pid, reader.tid)
    thread = _process(task, reader.tid)
    if thread is None:
        return None
    try:
        times = os.stat("{}/fd/{}".format(task, reader.fd))
    except OSError:
        times = None
    used = times is not None and times.st_atime_ns != times.st_mtime_ns
    created = None if times is None or used else times.st_mtime_ns / 1e9 - boot
    children = _children(task)
    # First whether they have execed, then what they hold: an exec in between drops the holder, and does not
    # make its close-on-exec copy look like one that an exec has left.
    kin = set(fds) | {reader.pid} | {one.pid for one in before.values() if one.parent == reader.pid}
    processes = dict(before)
    for pid in kin | (children or set()):
        fresh = _process("{}/{}".format(proc, pid), pid)
        if fresh is None:
            processes.pop(pid, None)
        else:
            processes[pid] = fresh
    copies = {}
    for pid, numbers in fds.items():
        if pid in processes:
            mine = _copies(_folder(processes[pid], proc), numbers, reader.pipe)
            if mine.writes:
                copies[pid] = mine
    facts = _Facts(
        reader, _is_python(reader.pid, proc), processes, thread.start, created, used, children, copies
    )
    verdict = _judge(facts)
    if verdict is None or _reader(reader.pid, reader.tid, proc) != reader:
        return None
    holders = tuple(
        Holder(
            holder.pid,
            b"" if holder.pid is None else _comm("{}/{}".format(proc, holder.pid)),
            holder.fds,
            holder.cause,
        )
        for holder in verdict.holders
    )
    return Finding(
        time=time.time() if created is None else created + boot,
        pid=reader.pid,
        tid=reader.tid,
        comm=_comm(task),
        child=verdict.child,
        child_comm=b"" if verdict.child is None else _comm("{}/{}".format(proc, verdict.child)),
        read_fd=reader.fd,
        write_fd=verdict.write_fd,
        holders=holders,
        certain=verdict.certain,
        evidence=verdict.evidence,
        pipe=reader.pipe,
    )


def _copies(folder: str, fds: Sequence[int], pipe: str) -> _Copies:
    writes, reads = {}, False
    for fd in sorted(fds):
        try:
            flags = _flags("{}/fdinfo/{}".format(folder, fd))
            if flags is None or os.readlink("{}/fd/{}".format(folder, fd)) != pipe:
                continue
        except (OSError, ValueError):
            continue
        if flags & _O_ACCMODE != _O_RDONLY:
            writes[fd] = bool(flags & _O_CLOEXEC)
        if flags & _O_ACCMODE != _O_WRONLY:
            reads = True
    return _Copies(writes, reads)


def _children(task: str) -> Optional[Set[int]]:
    """Whom a thread has forked; None: the kernel does not tell."""
    try:
        return {int(word) for word in _bytes(task + "/children").split()}
    except (OSError, ValueError):
        return None


def _is_python(pid: int, proc: str) -> bool:
    try:
        name = os.readlink("{}/{}/exe".format(proc, pid)).rpartition("/")[2]
    except OSError:
        return False
    return name.startswith(("python", "pypy"))


def _flags(path: str) -> Optional[int]:
    """The flags of an fd by its fdinfo; raises OSError and ValueError."""
    for line in _bytes(path).splitlines():
        if line.startswith(b"flags:"):
            return int(line[6:].decode("ascii"), 8)
    return None


def _comm(folder: str) -> bytes:
    try:
        comm = _bytes(folder + "/comm")
    except OSError:
        return b""
    return comm[:_LONGEST_COMM].rstrip(b"\n")


def _numbers(folder: str) -> List[int]:
    try:
        return [int(name) for name in os.listdir(folder) if name.isdecimal()]
    except OSError:
        return []  # gone, or not ours to look at


def _bytes(path: str) -> bytes:
    with open(path, "rb", 0) as file:
        return file.read()


# -- judging: pure --


class _Verdict(NamedTuple):
    child: Optional[int]
    write_fd: Optional[int]
    holders: Tuple[Holder, ...]
    certain: bool
    evidence: Tuple[str, ...]


def _judge(facts: _Facts) -> Optional[_Verdict]:
    """Tells a read of an errpipe that foreign holders keep open; None: it is none, or may be none."""
    reader, processes, copies, created = facts.reader, facts.processes, facts.copies, facts.created
    parent = processes.get(reader.pid)
    if parent is None or reader.pid in copies or reader.fd <= 2:
        return None
    if any(fd <= 2 for mine in copies.values() for fd in mine.writes):
        return None  # somebody's standard output
    if copies.keys() & set(_ancestors(reader.pid, processes)):
        return None  # the reader was given it by its parent, as bash's job control does
    runtime = _RUNTIMES.get(reader.size)
    older = _older(created, parent.start, facts.thread_start)
    certain = runtime is not None and not older
    if runtime is not None:
        if not reader.cloexec or facts.used:
            return None
    elif not 0 < reader.size <= _SMALL_READ or facts.python or older:
        return None

    # Who the own child is
    known = facts.children is not None or parent.threads == 1
    forked = facts.children
    if forked is None:
        forked = {one.pid for one in processes.values() if one.parent == reader.pid}
    since = [
        processes[pid]
        for pid in forked
        if pid in processes and (created is None or processes[pid].start >= created - _SLACK_SECONDS)
    ]
    foreign = {
        pid
        for pid, mine in copies.items()
        if runtime is not None and mine.reads and not processes[pid].execed
    }
    may_be_own = sorted((one for one in since if one.pid not in foreign), key=lambda one: one.age)
    released = [one for one in may_be_own if one.pid not in copies and (one.execed or one.state == "Z")]
    own: Optional[_Process] = None
    if known:
        if may_be_own and may_be_own[-1] in released:
            own = may_be_own[-1]
        released = [] if own is None else [own]
        if any(one.pid in copies for one in since):
            # It is the own child, slow to exec or with a data pipe; or this thread forked the holder as well,
            # as with a worker's result pipe; or it inherited it from a thread that is gone.
            if own is None or runtime is None:
                return None
            certain = False
    else:
        if any(one.pid in copies and not one.execed for one in may_be_own):
            return None  # it may be the own child, slow to exec
        if len(released) == 1:
            own = released[0]
    if not released and (runtime is None or not copies):
        return None  # no sign of a spawn
    certain = certain and bool(released) and created is not None and bool(copies)

    holders = sorted(copies, key=lambda pid: processes[pid].age)
    causes = {pid: _cause(pid, own, facts) for pid in holders}
    numbers = {fd for pid in holders for fd in copies[pid].writes if causes[pid] in ("forked", "leaked")}
    return _Verdict(
        child=None if own is None else own.pid,
        write_fd=numbers.pop() if len(numbers) == 1 else None,
        holders=tuple(Holder(pid, b"", tuple(copies[pid].writes), causes[pid]) for pid in holders)
        or (Holder(None, b"", (), "unknown"),),
        certain=certain,
        evidence=tuple(_evidence(facts, own, released)),
    )


def _cause(pid: int, own: Optional[_Process], facts: _Facts) -> str:
    holder, mine = facts.processes[pid], facts.copies[pid]
    ancestors = set(_ancestors(pid, facts.processes))
    if own is not None and own.pid in ancestors:
        return "own_descendant"
    if facts.created is not None and holder.start < facts.created - _SLACK_SECONDS:
        return "unknown" if mine.reads else "passed"  # it is older than the pipe
    if not holder.execed:
        return "forked" if mine.reads else "unknown"
    kin = facts.reader.pid in ancestors or holder.session == facts.processes[facts.reader.pid].session
    if not all(mine.writes.values()):
        return "leaked" if kin else "unknown"
    return "unknown" if kin else "passed"  # no exec leaves a close-on-exec copy


def _evidence(facts: _Facts, own: Optional[_Process], released: Sequence[_Process]) -> Iterator[str]:
    reader = facts.reader
    runtime = _RUNTIMES.get(reader.size)
    if runtime is not None:
        yield "read size {}: as {} reads its errpipe".format(reader.size, runtime)
    else:
        others = _SMALL_RUNTIMES.get(reader.size, "others")
        yield "read size {}: as {} read an errpipe, but data pipes too".format(reader.size, others)
    yield "the read end is {}close-on-exec".format("" if reader.cloexec else "not ")
    if facts.created is None:
        yield "the age of the pipe is not known"
    elif _older(facts.created, facts.processes[reader.pid].start, facts.thread_start):
        yield "the pipe looks older than the thread that reads it"
    else:
        yield "the pipe is younger than the thread that reads it"
    if own is not None:
        which = "the thread's youngest" if facts.children is not None else "the process's only or youngest"
        state = "ended" if own.state == "Z" else "execed"
        yield "own child: pid {}, {} child since the pipe was made, has {} and no copy".format(
            own.pid, which, state
        )
    elif released:
        yield "own child: one of {} that were started since then".format(len(released))
    else:
        yield "no own child is to be seen"
    if not facts.copies:
        yield "no process that can be looked at has the write end"
    for pid, mine in sorted(facts.copies.items()):
        execed = "execed" if facts.processes[pid].execed else "not execed since its fork"
        flags = "close-on-exec" if all(mine.writes.values()) else "not close-on-exec"
        both = ", has the read end too" if mine.reads else ""
        yield "holder {}: {}, its copy is {}{}".format(pid, execed, flags, both)


def _older(created: Optional[float], *starts: float) -> bool:
    """Whether a pipe was there before a process or thread that should have made it."""
    return created is not None and any(start > created + _SLACK_SECONDS for start in starts)


def _ancestors(pid: int, processes: Dict[int, _Process]) -> Iterator[int]:
    seen = {pid}
    while pid in processes:
        pid = processes[pid].parent
        if pid in seen:
            return  # pids were reused while the processes were read
        seen.add(pid)
        yield pid


# -- alone --


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Prints JSON objects; status 2 and one line on standard error when there is nothing to look at."""
    parser = argparse.ArgumentParser(prog="snapshot.py", description="Who keeps a process blocked in Popen.")
    parser.add_argument("pid", type=int, metavar="PID", help="with its threads and descendants")
    parser.add_argument("--interval", type=float, metavar="SECONDS", help="look again and again")
    parser.add_argument("--duration", type=float, metavar="SECONDS", help="stop after so long")
    options = parser.parse_args(argv)
    for value in (options.interval, options.duration):
        if value is not None and not 0 < value < float("inf"):
            parser.error("SECONDS must be above 0")
    wrong = why_not(options.pid)
    if wrong is not None:
        print("snapshot.py: " + wrong, file=sys.stderr)
        return 2
    sampler = Sampler(options.pid)
    interval = options.interval or (options.duration and 0.1)
    ends = None if options.duration is None else time.monotonic() + options.duration
    try:
        for finding in take(options.pid):
            print(json.dumps(finding.to_object()), flush=True)
        while interval is not None:
            for finding in sampler.sample(time.monotonic()):
                print(json.dumps(finding.to_object()), flush=True)
            if not os.path.exists("{}/{}".format(PROC, options.pid)):
                return 0
            left = interval if ends is None else min(interval, ends - time.monotonic())
            if left <= 0:
                return 0
            time.sleep(left)
        return 0
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # the reader of our output has had enough (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


if __name__ == "__main__":
    sys.exit(main())
