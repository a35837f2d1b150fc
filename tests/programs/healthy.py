#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Healthy programs that wait in a read for a second or two by design: none of them stalls.

    healthy.py NAME     one of the functions below

Each resembles a spawn: a pipe, a fork beside or in between, a closed end, a long read.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import _spawns

_SECONDS = 1.5
_SLEEP = ["/bin/sh", "-c", f"sleep {_SECONDS}; echo done"]
_fork = multiprocessing.get_context("fork")


def _work(answer: Any) -> None:
    time.sleep(_SECONDS)
    answer.send("result")


def _start_worker(write_end: Any) -> Any:
    worker = _fork.Process(target=_work, args=(write_end,))
    worker.start()
    write_end.close()
    return worker


def _fork_writer(write_fd: int, *not_mine: int) -> int:
    """Fork a worker that does not exec, and writes one byte after a while."""
    pid = os.fork()
    if pid == 0:
        for fd in not_mine:
            os.close(fd)
        time.sleep(_SECONDS)
        os.write(write_fd, b"x")
        os._exit(0)
    return pid


def result_pipe_older_than_system() -> None:
    """os.system calls exec, so the pipe is not for it but for the worker."""
    read_end, write_end = _fork.Pipe(False)
    os.system("true")
    worker = _start_worker(write_end)
    assert read_end.recv() == "result"
    worker.join()


def result_pipe_older_than_posix_spawn() -> None:
    read_fd, write_fd = os.pipe()
    helper = os.posix_spawn("/bin/true", ["true"], dict(os.environ))
    worker = _fork_writer(write_fd, read_fd)
    os.close(write_fd)
    assert os.read(read_fd, 1) == b"x"
    os.waitpid(helper, 0)
    os.waitpid(worker, 0)


def result_pipe_older_than_popen() -> None:
    read_end, write_end = _fork.Pipe(False)
    subprocess.Popen(_spawns.TRUE).wait()
    worker = _start_worker(write_end)
    assert read_end.recv() == "result"
    worker.join()


def result_pipe_and_failed_popen() -> None:
    """The program that is started in between does not exist."""
    read_end, write_end = _fork.Pipe(False)
    try:
        subprocess.Popen(["/no/such/program"])
    except FileNotFoundError:
        worker = _start_worker(write_end)
    assert read_end.recv() == "result"
    worker.join()


def helper_before_producer() -> None:
    """A helper is started before the program whose output the pipe carries."""
    read_fd, write_fd = os.pipe()
    helper = os.posix_spawn("/bin/true", ["true"], dict(os.environ))
    producer = subprocess.Popen(_SLEEP, stdout=write_fd)
    os.close(write_fd)
    assert os.read(read_fd, 100) == b"done\n"
    os.waitpid(helper, 0)
    producer.wait()


def helper_by_popen_before_producer() -> None:
    read_fd, write_fd = os.pipe()
    subprocess.Popen(_spawns.TRUE).wait()
    producer = subprocess.Popen(_SLEEP, stdout=write_fd)
    os.close(write_fd)
    assert os.read(read_fd, 100) == b"done\n"
    producer.wait()


def own_output_pipe_without_close_fds() -> None:
    """posix_spawn or vfork, by version; the pipe is the child's standard output."""
    read_fd, write_fd = os.pipe()
    producer = subprocess.Popen(_SLEEP, stdout=write_fd, close_fds=False)
    os.close(write_fd)
    assert os.read(read_fd, 100) == b"done\n"
    producer.wait()


def own_error_pipe_without_close_fds() -> None:
    read_fd, write_fd = os.pipe()
    command = ["/bin/sh", "-c", f"sleep {_SECONDS}; echo done >&2"]
    producer = subprocess.Popen(command, stderr=write_fd, close_fds=False, preexec_fn=int)
    os.close(write_fd)
    assert os.read(read_fd, 100) == b"done\n"
    producer.wait()


def own_output_pipe_kept_open() -> None:
    """The parent also has a copy of the write end, and reads one line, not to the end."""
    read_fd, write_fd = os.pipe()
    with subprocess.Popen(_SLEEP, stdout=write_fd):
        assert os.read(read_fd, 100) == b"done\n"


def communicate() -> None:
    done = subprocess.run(_SLEEP, input=b"", capture_output=True, check=True)
    assert done.stdout == b"done\n"


def communicate_in_threads() -> None:
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in pool.map(lambda _: subprocess.run(_SLEEP, stdout=subprocess.PIPE), range(4)):
            assert done.stdout == b"done\n"


def pipeline() -> None:
    with subprocess.Popen(_SLEEP, stdout=subprocess.PIPE) as producer:
        filtered = subprocess.Popen(["/bin/cat"], stdin=producer.stdout, stdout=subprocess.PIPE)
        assert producer.stdout is not None
        producer.stdout.close()
        output, _errors = filtered.communicate()
        assert output == b"done\n"


def status_fd() -> None:
    """As with gpg --status-fd: a copy that is not a standard stream survives the exec on purpose."""
    read_fd, write_fd = os.pipe()
    command = ["/bin/sh", "-c", f"sleep {_SECONDS}; echo done >&{write_fd}"]
    child = subprocess.Popen(command, pass_fds=(write_fd,))
    os.close(write_fd)
    assert os.read(read_fd, 100) == b"done\n"
    child.wait()


def status_fd_after_another_spawn() -> None:
    read_fd, write_fd = os.pipe()
    subprocess.Popen(_spawns.TRUE).wait()
    command = ["/bin/sh", "-c", f"sleep {_SECONDS}; echo done >&{write_fd}"]
    child = subprocess.Popen(command, pass_fds=(write_fd,))
    os.close(write_fd)
    assert os.read(read_fd, 100) == b"done\n"
    child.wait()


def pool() -> None:
    with _fork.Pool(2) as workers:
        workers.map(time.sleep, [_SECONDS] * 2)


def pool_and_system() -> None:
    """The workers' pipes are older than a program that is started while the workers run."""
    with _fork.Pool(2) as workers:
        answers = workers.map_async(time.sleep, [_SECONDS] * 2)
        os.system("true")
        answers.get()


def executor_and_run() -> None:
    """The workers are forked first, then programs are started in threads."""
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=_fork) as workers:
        assert workers.submit(int).result() == 0
        answer = workers.submit(time.sleep, _SECONDS)
        for _ in range(3):
            thread = threading.Thread(target=subprocess.run, args=(_spawns.TRUE,))
            thread.start()
            thread.join()
        answer.result()


def queue() -> None:
    answers = _fork.SimpleQueue()

    def work() -> None:
        time.sleep(_SECONDS)
        answers.put(1)

    worker = _fork.Process(target=work)
    worker.start()
    os.system("true")
    assert answers.get() == 1
    worker.join()


def sentinel() -> None:
    """A join with a timeout polls a pipe that the worker never writes to."""
    worker = _fork.Process(target=time.sleep, args=(_SECONDS,))
    worker.start()
    os.system("true")
    worker.join(10)
    assert worker.exitcode == 0


def spawned_worker() -> None:
    """multiprocessing's `spawn` has an errpipe that is never read."""
    spawn = multiprocessing.get_context("spawn")
    read_end, write_end = spawn.Pipe(False)
    worker = spawn.Process(target=_work, args=(write_end,))
    worker.start()
    write_end.close()
    assert read_end.recv() == "result"
    worker.join()


def forkserver_worker() -> None:
    server = multiprocessing.get_context("forkserver")
    read_end, write_end = server.Pipe(False)
    worker = server.Process(target=_work, args=(write_end,))
    worker.start()
    write_end.close()
    assert read_end.recv() == "result"
    worker.join()


def two_workers() -> None:
    """Both result pipes are older than both workers, so each has a copy of the other's."""
    pipes = [_fork.Pipe(False) for _ in range(2)]
    workers = [_fork.Process(target=_work, args=(write_end,)) for _read_end, write_end in pipes]
    for worker in workers:
        worker.start()
    for read_end, write_end in pipes:
        write_end.close()
        assert read_end.recv() == "result"
    for worker in workers:
        worker.join()


def end_of_all_workers() -> None:
    """One pipe for all workers: its end-of-file means that the last has ended."""
    read_fd, write_fd = os.pipe()
    workers = []
    for seconds in (0.1, 0.5, _SECONDS):
        pid = os.fork()
        if pid == 0:
            time.sleep(seconds)
            os._exit(0)
        workers.append(pid)
    os.close(write_fd)
    assert os.read(read_fd, 1) == b""
    for pid in workers:
        os.waitpid(pid, 0)


def self_pipe() -> None:
    """An event loop with a pipe to itself starts helpers by posix_spawn."""
    read_fd, write_fd = os.pipe()
    os.set_blocking(read_fd, False)
    os.set_blocking(write_fd, False)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.set_wakeup_fd(write_fd)
    helper = os.posix_spawn("/bin/sleep", ["sleep", str(_SECONDS)], dict(os.environ))
    with contextlib.suppress(BlockingIOError):
        os.read(read_fd, 1)
    assert select.select([read_fd], [], [], 10)[0]
    os.read(read_fd, 1)
    os.waitpid(helper, 0)


def self_pipe_read_by_a_thread() -> None:
    """A thread is blocked in read while the main thread starts helpers and finally writes."""
    read_fd, write_fd = os.pipe()
    reader = threading.Thread(target=os.read, args=(read_fd, 1))
    reader.start()
    for _ in range(3):
        helper = os.posix_spawn("/bin/sleep", ["sleep", str(_SECONDS / 3)], dict(os.environ))
        os.waitpid(helper, 0)
    os.write(write_fd, b"x")
    reader.join()


def prefork() -> None:
    """A server forks its workers, and waits until each reports that it is ready."""
    ready = []
    for _ in range(3):
        read_fd, write_fd = os.pipe()
        _fork_writer(write_fd, read_fd)
        os.close(write_fd)
        ready.append(read_fd)
    for read_fd in ready:
        assert os.read(read_fd, 1) == b"x"
    for _ in ready:
        os.wait()


def prefork_with_exec() -> None:
    """The pipes are inheritable, and close when the workers' programs end."""
    ready = []
    for _ in range(3):
        read_fd, write_fd = os.pipe()
        os.set_inheritable(write_fd, True)
        if os.fork() == 0:
            os.execv("/bin/sleep", ["sleep", str(_SECONDS)])
        os.close(write_fd)
        ready.append(read_fd)
    for read_fd in ready:
        assert os.read(read_fd, 1) == b""
    for _ in ready:
        os.wait()


def _in_a_thread(function: Callable[..., Any], *arguments: Any) -> Any:
    answers = []
    thread = threading.Thread(target=lambda: answers.append(function(*arguments)))
    thread.start()
    thread.join()
    return answers[0]


def pipe_of_a_thread_then_system_then_worker() -> None:
    """One thread creates the result pipe, a second starts a program, and a third forks the worker."""
    read_fd, write_fd = _in_a_thread(os.pipe)
    _in_a_thread(os.system, "true")
    worker = _in_a_thread(_fork_writer, write_fd, read_fd)
    os.close(write_fd)
    assert os.read(read_fd, 1) == b"x"
    os.waitpid(worker, 0)


def pipe_of_a_thread_then_worker_then_system() -> None:
    read_fd, write_fd = _in_a_thread(os.pipe)
    worker = _in_a_thread(_fork_writer, write_fd, read_fd)
    _in_a_thread(os.system, "true")
    os.close(write_fd)
    assert os.read(read_fd, 1) == b"x"
    os.waitpid(worker, 0)


def popen_of_another_thread_before_the_worker() -> None:
    """This thread creates the pipe and forks the worker; in between another thread uses Popen."""
    read_fd, write_fd = os.pipe()
    _in_a_thread(subprocess.run, _spawns.TRUE)
    worker = _fork_writer(write_fd, read_fd)
    os.close(write_fd)
    assert os.read(read_fd, 1) == b"x"
    os.waitpid(worker, 0)


def ready_then_exec() -> None:
    """The child reports that it is ready, then calls exec, which closes its copy."""
    read_fd, write_fd = os.pipe()
    if os.fork() == 0:
        time.sleep(_SECONDS)
        os.write(write_fd, b"x")
        os.execv("/bin/true", ["true"])
    os.close(write_fd)
    assert os.read(read_fd, 1) == b"x"
    assert os.read(read_fd, 1) == b""
    os.wait()


def socket_to_a_worker() -> None:
    """A socketpair instead of a pipe, older than an os.system."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    os.system("true")
    if os.fork() == 0:
        ours.close()
        time.sleep(_SECONDS)
        theirs.send(b"x")
        os._exit(0)
    theirs.close()
    assert ours.recv(1) == b"x"
    os.wait()


def popen_function() -> None:
    with os.popen(f"sleep {_SECONDS}; echo done") as output:
        assert output.read().rstrip() == "done"


def event_loop() -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*_SLEEP, stdout=subprocess.PIPE)
        assert (await process.communicate())[0] == b"done\n"

    asyncio.run(main())


def event_loop_shells() -> None:
    async def main() -> None:
        shells = [
            await asyncio.create_subprocess_shell(f"sleep {_SECONDS}; echo done", stdout=subprocess.PIPE)
            for _ in range(3)
        ]
        for output, _errors in await asyncio.gather(*(shell.communicate() for shell in shells)):
            assert output == b"done\n"

    asyncio.run(main())


def slow_own_child() -> None:
    """The child is busy before its exec: exec latency."""
    subprocess.Popen(_spawns.TRUE, preexec_fn=lambda: time.sleep(_SECONDS)).wait()


CASES: dict[str, Callable[[], None]] = {
    function.__name__: function
    for function in (
        result_pipe_older_than_system,
        result_pipe_older_than_posix_spawn,
        result_pipe_older_than_popen,
        result_pipe_and_failed_popen,
        helper_before_producer,
        helper_by_popen_before_producer,
        own_output_pipe_without_close_fds,
        own_error_pipe_without_close_fds,
        own_output_pipe_kept_open,
        communicate,
        communicate_in_threads,
        pipeline,
        status_fd,
        status_fd_after_another_spawn,
        pool,
        pool_and_system,
        executor_and_run,
        queue,
        sentinel,
        spawned_worker,
        forkserver_worker,
        two_workers,
        end_of_all_workers,
        self_pipe,
        self_pipe_read_by_a_thread,
        prefork,
        prefork_with_exec,
        pipe_of_a_thread_then_system_then_worker,
        pipe_of_a_thread_then_worker_then_system,
        popen_of_another_thread_before_the_worker,
        ready_then_exec,
        socket_to_a_worker,
        popen_function,
        event_loop,
        event_loop_shells,
        slow_own_child,
    )
}


if __name__ == "__main__":
    CASES[sys.argv[1]]()
