# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: a YAML file, the environment, and ``--set``.

``config/agent.yaml`` documents every key with its default.  The environment variable
``SPAWNSTALL_SECTION_KEY`` overrides a key of the file, and ``--set section.key=VALUE`` overrides both; values
are YAML.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Optional

from pydantic import Field, ValidationInfo, field_validator

from agent.settings.yamlfile import ConfigError, Section, check, key_name, parse, read, shown, unknown_key

__all__ = ["Config", "ConfigError", "Filter", "Labels", "Rule", "load"]

_log = logging.getLogger(__name__)
_PREFIX = "SPAWNSTALL_"
_MODES = {0o600: "0600", 0o660: "0660", 0o666: "0666"}  # without quotes, 0660 is a number in YAML
_NO_ADDRESS = "none"
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Web(Section):
    """Where metrics and the page are served.

    listen: "none" to listen on the socket only.  allowed_hosts: accepted in Host headers on the loopback,
    besides the host's own names.  socket: a Unix socket, "" for none.
    config_file: TLS and users (``webfile``), "" for none.
    history: number of ended stalls kept for the page and /api/stalls.
    In a file, socket and config_file are relative to that file's directory.
    """

    listen: str = "127.0.0.1:9848"
    allowed_hosts: list[str] = Field(default_factory=list)
    socket: str = ""
    socket_mode: Literal["0600", "0660", "0666"] = "0600"
    socket_group: str = ""
    config_file: str = ""
    history: int = Field(default=100, ge=0, le=10_000)

    @field_validator("socket_mode", mode="before")
    @classmethod
    def _is_mode(cls, value: object) -> object:
        return _MODES.get(value, value) if isinstance(value, int) else value

    @field_validator("allowed_hosts")
    @classmethod
    def _are_names(cls, value: list[str]) -> list[str]:
        for name in value:
            if not _HOST_NAME.fullmatch(name):
                raise ValueError("expected host names without a port, as in [agent.example]")
        return value

    @field_validator("config_file", "socket")
    @classmethod
    def _is_beside_its_file(cls, value: str, info: ValidationInfo) -> str:
        return str(info.context / value) if value and info.context else value

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if value == _NO_ADDRESS:
            return value
        if not host.strip("[]") or not port.isdigit() or not 0 <= int(port) <= 65535:
            raise ValueError("expected HOST:PORT, as in 127.0.0.1:9848 or [::1]:9848")
        return value

    @property
    def host(self) -> str:
        """The host, without the brackets of an IPv6 address; "" to listen on the socket only."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The TCP port, 0 for any free port."""
        return int(self.listen.rpartition(":")[2]) if self.host else 0


class Stalls(Section):
    """Which stalls are reported."""

    min_ms: float = Field(default=10, ge=1, le=3_600_000)
    ongoing_seconds: float = Field(default=1, ge=0.25, le=3600)


class Stacks(Section):
    """Whether stack traces are captured."""

    capture: bool = False


class Filter(Section):
    """Selects the parents whose stalls are reported; an empty list selects all."""

    comm: list[str] = Field(default_factory=list)
    uid: list[int] = Field(default_factory=list)
    container: list[str] = Field(default_factory=list)


class Rule(Section):
    """A regular expression, and the label value for every comm that it matches as a whole."""

    match: str
    name: str = Field(min_length=1, max_length=64)

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"expected a regular expression: {error}") from error
        return value


class Labels(Section):
    """Which values the labels of the metrics can take."""

    limit: int = Field(default=100, ge=1, le=10_000)
    allow: list[str] = Field(default_factory=list)
    rules: list[Rule] = Field(default_factory=list)
    container: bool = False


class Probes(Section):
    """How the kernel side is attached."""

    attach: Literal["auto", "tracepoints"] = "auto"


class Log(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    stalls_per_minute: int = Field(default=600, ge=1, le=1_000_000)


class Config(Section):
    """The whole configuration."""

    web: Web = Web()
    stalls: Stalls = Stalls()
    stacks: Stacks = Stacks()
    filter: Filter = Filter()
    labels: Labels = Labels()
    probes: Probes = Probes()
    log: Log = Log()


def load(
    path: Optional[Path], environ: Optional[Mapping[str, str]] = None, settings: Sequence[str] = ()
) -> Config:
    """Load a file (None: all defaults) and apply the environment and ``--set``; raises ConfigError."""
    document = {} if path is None else read(path, Config)
    sources: dict[str, str] = {}
    for source, section, key, text in (*_from_environment(environ or {}), *_from_settings(settings)):
        try:
            value = parse(text, source)
        except ConfigError as error:
            raise ConfigError(f"{source}: {shown(text)}: expected a value in YAML") from error
        values = document.get(section, {})
        if isinstance(values, dict):  # check() reports anything else
            document[section] = {**values, key: value}
        sources[key_name((section, key))] = source
    source = "built-in defaults" if path is None else str(path)
    config = check(document, Config, source, sources)
    if not config.web.host and not config.web.socket:
        source = sources.get("web.listen", source)
        raise ConfigError(f"{source}: web.listen: {_NO_ADDRESS}: set web.socket, or an address")
    return config


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Source, section, key and text of each variable that sets a key."""
    found = []
    for name, text in sorted(environ.items()):
        section, _, key = name.removeprefix(_PREFIX).lower().partition("_")
        if not name.startswith(_PREFIX):
            continue
        if section in Config.model_fields:
            found.append((f"environment variable {name}", section, key, text))
        else:  # Kubernetes sets SPAWNSTALL_PORT and the like beside a service of that name
            _log.warning(
                "ignoring environment variable %s: it does not name a section of the configuration", name
            )
    return found


def _from_settings(settings: Sequence[str]) -> list[tuple[str, str, str, str]]:
    found = []
    for setting in settings:
        name, equals, text = setting.partition("=")
        section, dot, key = name.partition(".")
        source = f"--set {shown(setting)}"
        if not (equals and dot and key):
            raise ConfigError(f"{source}: expected SECTION.KEY=VALUE, as in stalls.min_ms=50")
        if section not in Config.model_fields:
            raise ConfigError(f"{source}: {unknown_key((section,), Config)}")
        found.append((source, section, key, text))
    return found
