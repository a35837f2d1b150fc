"""The agent's configuration file: YAML, checked key by key.

``config/agent.yaml`` has every key with its default and says when to change it.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

__all__ = ["Config", "ConfigError", "Section", "load", "parse"]

_Model = TypeVar("_Model", bound="Section")


class ConfigError(Exception):
    """The configuration cannot be used; each line names file, key, value and what is expected."""


class Section(BaseModel):
    """Keys with values; any other key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Web(Section):
    """Where metrics and the page are served.

    config_file: of TLS and users (webconfig.py), "" for none; in a file, relative to that file's folder.
    history: ended stalls that are kept for the page and /api/stalls.
    """

    listen: str = "127.0.0.1:9848"
    config_file: str = ""
    history: int = Field(default=100, ge=0, le=10_000)

    @field_validator("config_file")
    @classmethod
    def _is_beside_its_file(cls, value: str, info: ValidationInfo) -> str:
        return str(info.context / value) if value and info.context else value

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


class Stalls(Section):
    """Which stalls are told."""

    min_ms: float = Field(default=10, ge=1, le=3_600_000)
    ongoing_seconds: float = Field(default=1, ge=0.25, le=3600)


class Labels(Section):
    """How many values a metric's label may take."""

    limit: int = Field(default=100, ge=1, le=10_000)


class Log(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """The whole file."""

    web: Web = Web()
    stalls: Stalls = Stalls()
    labels: Labels = Labels()
    log: Log = Log()


def load(path: Path) -> Config:
    """Reads and checks the agent's configuration file; raises ConfigError."""
    return parse(path, Config)


def parse(path: Path, model: type[_Model]) -> _Model:
    """Reads a YAML file and checks it against a model; raises ConfigError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from error
    try:
        document: Any = yaml.safe_load(text)
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
        key = next(iter(model.model_fields))
        raise ConfigError(f"{path}: expected keys such as '{key}:', found {_shown(document)}")
    # A section of which every key is commented out is an empty one.
    document = {key: {} if value is None else value for key, value in document.items()}
    try:
        return model.model_validate(document, context=path.parent)
    except ValidationError as error:
        raise ConfigError("\n".join(_line(path, item, model) for item in error.errors())) from error


def _line(path: Path, item: Any, model: type[Section]) -> str:
    key = ".".join(_shown(part).strip("'") for part in item["loc"])
    if item["type"] == "extra_forbidden":
        known = _keys_beside(item["loc"], model)
        near = difflib.get_close_matches(str(item["loc"][-1]), known, n=1)
        hint = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(known)}"
        return f"{path}: {key}: unknown key; {hint}"
    message = item["msg"].removeprefix("Value error, ")
    message = message.replace("Input should be", "expected")
    return f"{path}: {key}: {_shown(item['input'])}: {message}"


def _keys_beside(location: tuple[Union[str, int], ...], model: type[Section]) -> list[str]:
    section: type[BaseModel] = model
    for part in location[:-1]:
        annotation = section.model_fields[str(part)].annotation
        assert isinstance(annotation, type) and issubclass(annotation, BaseModel)
        section = annotation
    return list(section.model_fields)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
