# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: a YAML file, the environment, and ``--set``.

``config/agent.yaml`` documents every key with its default.  The environment variable
``SPAWNSTALL_SECTION_KEY`` overrides a key of the file, and ``--set section.key=VALUE`` overrides both; values
are YAML.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal, Optional

from agent.settings.yamlfile import ConfigError, check, parse, read
from agent.shape import Check, Length, Range, key_name, shown, unknown_key

__all__ = ["Config", "ConfigError", "Filter", "Labels", "Rule", "load"]

_log = logging.getLogger(__name__)
_PREFIX = "SPAWNSTALL_"
_MODES = {0o600: "0600", 0o660: "0660", 0o666: "0666"}  # without quotes, 0660 is a number in YAML
_NO_ADDRESS = "none"
_HOST_NAME = re.compile(r"[A-Za-z0-9._-]+")


def _is_address(text: str) -> None:
    host, _, port = text.rpartition(":")
    if text == _NO_ADDRESS:
        return
    if not host.strip("[]") or not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError("expected HOST:PORT, as in 127.0.0.1:9848 or [::1]:9848")


def _are_names(names: list[str]) -> None:
    if not all(map(_HOST_NAME.fullmatch, names)):
        raise ValueError("expected host names without a port, as in [agent.example]")


def _compiles(text: str) -> None:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"expected a regular expression: {error}") from error


@dataclass(frozen=True)
class Web:
    """Where metrics and the page are served.

    listen: "none" to listen on the socket only.  allowed_hosts: accepted in Host headers on the loopback,
    besides the host's own names.  socket: a Unix socket, "" for none.
    config_file: TLS and users (``webfile``), "" for none.
    history: number of ended stalls kept for the page and /api/stalls.
    In a file, socket and config_file are relative to that file's directory.
    """

    listen: Annotated[str, Check(_is_address)] = "127.0.0.1:9848"
    allowed_hosts: Annotated[list[str], Check(_are_names)] = field(default_factory=list)
    socket: str = ""
    socket_mode: Literal["0600", "0660", "0666"] = "0600"
    socket_group: str = ""
    config_file: str = ""
    history: Annotated[int, Range(0, 10_000)] = 100

    @property
    def host(self) -> str:
        """The host, without the brackets of an IPv6 address; "" to listen on the socket only."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The TCP port, 0 for any free port."""
        return int(self.listen.rpartition(":")[2]) if self.host else 0


@dataclass(frozen=True)
class Stalls:
    """Which stalls are reported."""

    min_ms: Annotated[float, Range(1, 3_600_000)] = 10
    ongoing_seconds: Annotated[float, Range(0.25, 3600)] = 1


@dataclass(frozen=True)
class Stacks:
    """Whether stack traces are captured."""

    capture: bool = False


def _is_pattern(text: str) -> None:
    try:
        re.compile(fnmatch.translate(text))
    except re.error as error:  # Python 3.9 makes an invalid expression of [z-a]
        raise ValueError(f"expected a shell pattern: {error}") from error


@dataclass(frozen=True)
class Filter:
    """Selects the parents whose stalls are reported; an empty list selects all."""

    comm: list[Annotated[str, Check(_is_pattern)]] = field(default_factory=list)
    uid: list[int] = field(default_factory=list)
    container: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Rule:
    """A regular expression, and the label value for every comm that it matches as a whole."""

    match: Annotated[str, Check(_compiles)]
    name: Annotated[str, Length(64, least=1)]


@dataclass(frozen=True)
class Labels:
    """Which values the labels of the metrics can take."""

    limit: Annotated[int, Range(1, 10_000)] = 100
    allow: list[str] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)
    container: bool = False


@dataclass(frozen=True)
class Probes:
    """How the kernel side is attached."""

    attach: Literal["auto", "tracepoints"] = "auto"


@dataclass(frozen=True)
class Log:
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    stalls_per_minute: Annotated[int, Range(1, 1_000_000)] = 600


@dataclass(frozen=True)
class Config:
    """The whole configuration."""

    web: Web = field(default_factory=Web)
    stalls: Stalls = field(default_factory=Stalls)
    stacks: Stacks = field(default_factory=Stacks)
    filter: Filter = field(default_factory=Filter)
    labels: Labels = field(default_factory=Labels)
    probes: Probes = field(default_factory=Probes)
    log: Log = field(default_factory=Log)


_SECTIONS = [section.name for section in dataclasses.fields(Config)]


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
    _quote_mode(document.get("web"))
    source = "built-in defaults" if path is None else str(path)
    config = check(document, Config, source, sources)
    if not config.web.host and not config.web.socket:
        source = sources.get("web.listen", source)
        raise ConfigError(f"{source}: web.listen: {_NO_ADDRESS}: set web.socket, or an address")
    if path is None:
        return config
    config_file, socket = (_beside(path, name) for name in (config.web.config_file, config.web.socket))
    return dataclasses.replace(
        config, web=dataclasses.replace(config.web, config_file=config_file, socket=socket)
    )


def _quote_mode(web: object) -> None:
    if isinstance(web, dict) and type(web.get("socket_mode")) is int:
        web["socket_mode"] = _MODES.get(web["socket_mode"], web["socket_mode"])


def _beside(path: Path, name: str) -> str:
    return str(path.parent / name) if name else ""


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Source, section, key and text of each variable that sets a key."""
    found = []
    for name, text in sorted(environ.items()):
        section, _, key = name.removeprefix(_PREFIX).lower().partition("_")
        if not name.startswith(_PREFIX):
            continue
        if section in _SECTIONS:
            source = f"environment variable {name}"
            if not key:
                raise ConfigError(f"{source}: expected {name}_KEY, as in SPAWNSTALL_STALLS_MIN_MS=50")
            found.append((source, section, key, text))
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
        if section not in _SECTIONS:
            raise ConfigError(f"{source}: {key_name([section])}: {unknown_key(section, _SECTIONS)}")
        found.append((source, section, key, text))
    return found
