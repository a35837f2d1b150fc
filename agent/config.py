"""The agent's configuration: a YAML file, the environment, and ``--set``, checked key by key.

``config/agent.yaml`` has every key with its default and says when to change it.  A single key is overridden
by ``SPAWNSTALL_SECTION_KEY`` in the environment, and that by ``--set section.key=VALUE``; values are YAML.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Optional, Union

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

__all__ = ["Config", "ConfigError", "Filter", "Labels", "Rule", "load"]

_log = logging.getLogger(__name__)
_PREFIX = "SPAWNSTALL_"


class ConfigError(Exception):
    """The configuration cannot be used; each line names file, key, value and what is expected."""


class _Section(BaseModel):
    # Strict: `min_ms: true` is no number.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Web(_Section):
    """Where metrics are served."""

    listen: str = "127.0.0.1:9848"

    @field_validator("listen")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdigit() or not 0 <= int(port) <= 65535:
            raise ValueError("expected HOST:PORT, as in 127.0.0.1:9848 or [::1]:9848")
        return value

    @property
    def host(self) -> str:
        """Without the brackets of an IPv6 address."""
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """TCP port, 0 for any free one."""
        return int(self.listen.rpartition(":")[2])


class Stalls(_Section):
    """Which stalls are told."""

    min_ms: float = Field(default=10, ge=1, le=3_600_000)
    ongoing_seconds: float = Field(default=1, ge=0.25, le=3600)


class Filter(_Section):
    """Of which parents stalls are told; an empty list: of all."""

    comm: list[str] = []
    uid: list[int] = []
    container: list[str] = []


class Rule(_Section):
    """A regular expression, and the label value that stands for every comm that it matches as a whole."""

    match: str
    name: str = Field(min_length=1, max_length=64)

    @field_validator("match")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"expected a regular expression: {error}") from error
        return value


class Labels(_Section):
    """Which values the labels of the metrics may take."""

    limit: int = Field(default=100, ge=1, le=10_000)
    allow: list[str] = []
    rules: list[Rule] = []
    container: bool = False


class Log(_Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(_Section):
    """The whole file."""

    web: Web = Web()
    stalls: Stalls = Stalls()
    filter: Filter = Filter()
    labels: Labels = Labels()
    log: Log = Log()


def load(
    path: Optional[Path], environ: Optional[Mapping[str, str]] = None, settings: Sequence[str] = ()
) -> Config:
    """The configuration of a file (None: all defaults), the environment and ``--set``; raises ConfigError."""
    document = {} if path is None else _read(path)
    sources: dict[str, str] = {}
    for source, section, key, text in (*_from_environment(environ or {}), *_from_settings(settings)):
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f"{source}: {_shown(text)}: expected a value in YAML") from error
        document[section] = {**document.get(section, {}), key: value}
        sources[_key((section, key))] = source
    try:
        return Config.model_validate(document)
    except ValidationError as error:
        lines = [_line(sources.get(_key(item["loc"][:2]), str(path)), item) for item in error.errors()]
        raise ConfigError("\n".join(lines)) from error


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, which YAML forbids and PyYAML takes."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _value in node.value:
            key = key_node.value
            if isinstance(key_node, yaml.ScalarNode) and key in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key '{key}' is there twice", problem_mark=key_node.start_mark
                )
            seen.add(key if isinstance(key, str) else id(key_node))
        return super().construct_mapping(node, deep)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    try:
        document: Any = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise ConfigError(f"{path}{where}: not YAML: {problem}") from error
    except (ValueError, RecursionError) as error:  # values that only look like dates or numbers; depth
        raise ConfigError(f"{path}: not YAML that can be used: {error}") from error
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise ConfigError(f"{path}: expected keys such as 'web:', found {_shown(document)}")
    sections: dict[str, dict[str, Any]] = {}
    for key, value in document.items():
        # A section of which every key is commented out is an empty one.
        sections[key] = {} if value is None else value
        if not isinstance(sections[key], dict):
            _check_section(str(path), key)
            expected = ", ".join(_keys_beside((key, "")))
            raise ConfigError(f"{path}: {key}: {_shown(value)}: expected keys: {expected}")
    return sections


def _check_section(source: str, section: str) -> None:
    if section not in Config.model_fields:
        raise ConfigError(f"{source}: {_unknown_key((section,))}")


def _from_environment(environ: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Source, section, key and text of each variable that is meant for us."""
    found = []
    for name, text in sorted(environ.items()):
        section, _, key = name.removeprefix(_PREFIX).lower().partition("_")
        if not name.startswith(_PREFIX):
            continue
        if section in Config.model_fields:
            found.append((f"environment variable {name}", section, key, text))
        else:  # Kubernetes sets SPAWNSTALL_PORT and the like beside a service of that name
            _log.warning("the environment variable %s names no section of the configuration: ignored", name)
    return found


def _from_settings(settings: Sequence[str]) -> list[tuple[str, str, str, str]]:
    found = []
    for setting in settings:
        name, equals, text = setting.partition("=")
        section, dot, key = name.partition(".")
        source = f"--set {_shown(setting)}"
        if not (equals and dot and key):
            raise ConfigError(f"{source}: expected SECTION.KEY=VALUE, as in stalls.min_ms=50")
        _check_section(source, section)
        found.append((source, section, key, text))
    return found


def _line(source: str, item: Any) -> str:
    if item["type"] == "extra_forbidden":
        return f"{source}: {_unknown_key(item['loc'])}"
    message = item["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "expected")
    return f"{source}: {_key(item['loc'])}: {_shown(item['input'])}: {message}"


def _key(location: Sequence[Union[str, int]]) -> str:
    return ".".join(_shown(part).strip("'") for part in location)


def _unknown_key(location: Sequence[Union[str, int]]) -> str:
    known = _keys_beside(location)
    near = difflib.get_close_matches(str(location[-1]), known, n=1)
    hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(known)}"
    return f"{_key(location)}: unknown key; {hint}"


def _keys_beside(location: Sequence[Union[str, int]]) -> list[str]:
    section: type[BaseModel] = Config
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        annotation: Any = section.model_fields[part].annotation
        section = annotation if isinstance(annotation, type) else annotation.__args__[0]
    return list(section.model_fields)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
