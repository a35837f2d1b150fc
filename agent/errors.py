# SPDX-License-Identifier: Apache-2.0
"""The error that is shown to the user."""

from __future__ import annotations

__all__ = ["UserError"]


class UserError(Exception):
    """Something that the user can put right: a message of one or more printable lines, and an exit status.

    ``agent.cli.main`` alone catches it, prints the lines to standard error and exits.  Its subclasses are for
    callers that react to one kind::

        UserError             options that contradict each other, files that cannot be opened, a dead PID
        ├── ConfigError       settings: a configuration file, an environment variable, --set
        │   └── WebConfigError    web.config_file
        ├── CommandError      cli: the COMMAND cannot be run
        ├── ReplayError       reports: the file is not a report
        ├── TraceError        tracing: the probes cannot be loaded (from probes' PreflightError, LoadError)
        └── WebError          serve: the server cannot listen on web.listen

    Other errors stay inside their folder: ``StackError`` (host) becomes a line of the report, the errors of
    probes become a TraceError.  Anything else that reaches ``main`` is a bug and shows its traceback.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status
