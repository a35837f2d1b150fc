# SPDX-License-Identifier: Apache-2.0
"""A command traced from its first instruction: forked at once, and execed when the probes are ready."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from agent.errors import UserError

__all__ = ["Command", "CommandError"]


_NOT_EXECUTABLE, _NOT_FOUND = 126, 127  # exit statuses of a shell


class CommandError(UserError):
    """The command cannot be run.  The message is one line, the status is that of a shell."""


class Command:
    """A forked child that waits for ``release`` and then executes the command.

    words: the program and its arguments.
    variables: added to its environment.
    It is a context manager; leaving it without ``release`` ends the child, and the command never runs.
    user: as whom the command runs, None: as the caller.
    Raises CommandError if the program does not exist or cannot be executed.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        user: Optional[pwd.struct_passwd] = None,
        variables: Mapping[str, str] = {},
    ) -> None:
        if shutil.which(arguments[0]) is None:
            raise _obstacle(arguments[0])
        self.words = tuple(arguments)
        self._status: Optional[int] = None
        go_read, self._go_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._go_write)
            os.environ.update(variables)
            _become(arguments, user, go_read)
        os.close(go_read)

    def __enter__(self) -> Command:
        return self

    def __exit__(self, *_exception: object) -> None:
        if self._go_write >= 0:  # never released: the child reads end-of-file and exits
            os.close(self._go_write)
            self._go_write = -1
            os.waitpid(self.pid, 0)

    def release(self) -> None:
        """Let the command start."""
        with contextlib.suppress(BrokenPipeError):  # it has been killed; poll() reports that
            os.write(self._go_write, b"x")
        os.close(self._go_write)
        self._go_write = -1

    def terminate(self) -> None:
        """Send SIGTERM to the command."""
        # It has exited, or runs as another user now.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(self.pid, signal.SIGTERM)

    def poll(self) -> bool:
        """Whether the command has exited."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = status
        return self._status is not None

    def wait(self, terminate: bool) -> int:
        """Wait for the exit status as a shell reports it: 128 + N if signal N ended the command."""
        if not self.poll():
            if terminate:
                self.terminate()
            _pid, self._status = os.waitpid(self.pid, 0)
        assert self._status is not None
        code = os.waitstatus_to_exitcode(self._status)
        return code if code >= 0 else 128 - code


def _obstacle(program: str) -> CommandError:
    """Why ``which`` finds no such program."""
    is_path = "/" in program
    for path in (Path(folder, program) for folder in ([""] if is_path else os.get_exec_path())):
        if is_path and path.is_dir():
            return CommandError(f"{program}: is a folder", _NOT_EXECUTABLE)
        if path.is_file():
            return CommandError(f"{program}: has no permission to be executed", _NOT_EXECUTABLE)
    return CommandError(f"{program}: no such program", _NOT_FOUND)


def _become(arguments: Sequence[str], user: Optional[pwd.struct_passwd], go_read: int) -> None:
    try:
        if os.read(go_read, 1):
            # Python ignores SIGPIPE; the command must not inherit that.
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)
            if user is not None:
                _switch_to(user)
            os.execvp(arguments[0], list(arguments))
    except OSError as error:
        print(f"trace-popen: {arguments[0]}: {error.strerror}", file=sys.stderr, flush=True)
        os._exit(_NOT_FOUND if error.errno == errno.ENOENT else _NOT_EXECUTABLE)
    except KeyboardInterrupt:
        os._exit(130)
    os._exit(_NOT_EXECUTABLE)


def _switch_to(user: pwd.struct_passwd) -> None:
    """Take a user's ids and groups, and the variables that ``su`` sets."""
    os.initgroups(user.pw_name, user.pw_gid)
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    os.environ.update(HOME=user.pw_dir, SHELL=user.pw_shell, USER=user.pw_name, LOGNAME=user.pw_name)
