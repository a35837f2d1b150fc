# SPDX-License-Identifier: Apache-2.0
"""The agent: trace the whole host, log each stall, and serve the metrics and the page until SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Optional

from agent.clock import Clock
from agent.filter import Filter
from agent.host import privileges
from agent.model import Stall, StuckExec
from agent.reports.objects import stall_object
from agent.serve.history import History
from agent.serve.metrics import Metrics
from agent.serve.notify import Notifier
from agent.serve.stallkinds import StallKinds
from agent.serve.stalllog import StallLog
from agent.serve.status import Status
from agent.serve.unixserver import SocketFile
from agent.serve.web import WebServer
from agent.settings.agentfile import Config, ConfigError
from agent.settings.webfile import Security
from agent.tracing.prepared import Prepared, TraceError, TracerOptions
from agent.tracing.tracer import Tracer

__all__ = ["run"]

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.5  # at most; run_once returns earlier if a look is due
_HEALTHY_SECONDS = 5.0
_UPDATE_SECONDS = 60.0


class _Agent:
    """Connect tracer, log and metrics; ``configure`` applies a new configuration at run time."""

    def __init__(self, config: Config, prepared: Prepared) -> None:
        self._clock = Clock()
        self._polled = 0.0
        self._updated = 0.0
        self._config = config
        self._history = History(config.web.history)
        self._kinds = StallKinds(self._clock)
        self.tracer = Tracer(prepared, self._stall, on_stuck=self._stuck)
        self.metrics = Metrics(self.tracer, self._clock, config.labels, self.tracer.bcc_version)
        self.log = StallLog(config.log.stalls_per_minute, self.metrics.add_not_logged)
        self._filter = Filter()
        self._set_filter(config)

    def configure(self, config: Config) -> None:
        """Apply a new configuration, and log which changes need a restart."""
        old = self._config
        if (old.labels, old.filter) != (config.labels, config.filter):
            self._set_filter(config)
        self._config = config
        for name, before, after in (
            ("web", old.web, config.web),
            ("stacks", old.stacks, config.stacks),
            ("probes", old.probes, config.probes),
            ("labels.container", old.labels.container, config.labels.container),
        ):
            if before != after:
                _log.warning("%s has changed: restart the agent to apply it", name)
        options = TracerOptions.of(config)
        self.tracer.set_thresholds(options.min_ns, options.ongoing_ns)
        self.log.limit = config.log.stalls_per_minute
        logging.getLogger().setLevel(config.log.level.upper())

    def _set_filter(self, config: Config) -> None:
        self._filter = Filter(config.filter.comm, config.filter.uid, config.filter.container)
        self.metrics.configure(config.labels, self._filter)

    def _stall(self, stall: Stall) -> None:
        if not self._filter.passes_stall(stall):
            return
        self.metrics.add_stall(stall)
        self._history.add(stall)
        self._kinds.add(stall)
        self.log.add(lambda: stall_object(stall, self._clock))

    def _stuck(self, stuck: StuckExec) -> None:
        if self._filter.passes_comm(stuck.spawn.comm):
            self.log.add(lambda: stuck.wait)

    def status(self) -> Status:
        """The agent's status; call when tracing starts."""
        return Status(
            self.tracer,
            self._history,
            self._kinds,
            self.metrics.spawn_counts,
            self._clock,
            self.is_healthy,
            self.tracer.bcc_version,
        )

    def poll(self) -> None:
        self.tracer.run_once(_POLL_SECONDS)
        self.log.poll()
        self._polled = time.monotonic()
        if self._polled - self._updated >= _UPDATE_SECONDS:
            self._updated = self._polled
            self.metrics.update()

    def is_healthy(self) -> bool:
        """Whether the tracer is being polled."""
        return time.monotonic() - self._polled < _HEALTHY_SECONDS


def run(config: Config, reread: Callable[[], Config], prepared: Prepared) -> int:
    """Run until SIGTERM or SIGINT and return the exit status.  Raises UserError.

    reread: reads the configuration again on SIGHUP, or raises ConfigError.
    prepared: begun with the options of the configuration.
    """
    received: set[int] = set()

    def note(number: int, _frame: Optional[FrameType]) -> None:
        received.add(number)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, note)
    security = Security(Path(config.web.config_file) if config.web.config_file else None)
    web = WebServer(
        config.web.host, config.web.port, security, SocketFile.of(config.web), config.web.allowed_hosts
    )
    try:
        agent = _Agent(config, prepared)
    except TraceError:
        web.close()
        raise
    with agent.tracer:
        privileges.drop(agent.tracer.counters)  # before threads start, and before the self-test
        failure = agent.tracer.start()
        if failure is not None:
            _log.error("the self-test failed: %s; do not trust what the agent reports", failure)
        notifier = Notifier(os.environ)
        agent.poll()
        web.start(agent.metrics.registry, agent.is_healthy, agent.status().read, agent.metrics.add_refused)
        _log.info("tracing; see %s", web.where)
        notifier.ready()
        while received.isdisjoint((signal.SIGTERM, signal.SIGINT)):
            if signal.SIGHUP in received:
                received.remove(signal.SIGHUP)
                _reload(agent, reread)
            agent.poll()
            notifier.alive()
        notifier.stopping()
        web.stop()
        agent.tracer.drain()
        agent.log.close()
    _log.info("stopped")
    return 0


def _reload(agent: _Agent, reread: Callable[[], Config]) -> None:
    try:
        agent.configure(reread())
    except ConfigError as error:
        agent.metrics.set_reloaded(False)
        _log.error("the new configuration is rejected and the running one stays: %s", error)
    except Exception as error:  # a bug, but the tracing need not end
        agent.metrics.set_reloaded(False)
        _log.error("the new configuration is rejected and the running one stays: %r", error)
    else:
        agent.metrics.set_reloaded(True)
        _log.info("the configuration was reloaded")
