# SPDX-License-Identifier: Apache-2.0
"""agent.settings.agentfile: valid files, and the message for each kind of error."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict
from pathlib import Path

import pytest
import yaml

from agent.settings.agentfile import Config, ConfigError, Web, load


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "agent.yaml"


def error_of(file: Path, text: str) -> str:
    """The error message for a file, without the path that each line must start with."""
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    lines = str(caught.value).splitlines()
    assert all(line.startswith(f"{file}:") for line in lines)
    return "\n".join(line.removeprefix(str(file)).removeprefix(": ") for line in lines)


# -- the file in config/ --


def test_the_annotated_file_has_every_key_with_its_default(repo_root: Path) -> None:
    path = repo_root / "config" / "agent.yaml"
    written = yaml.safe_load(path.read_text())
    assert written == asdict(Config())
    assert {section: list(keys) for section, keys in written.items()} == {
        section: list(keys) for section, keys in asdict(Config()).items()
    }
    assert load(path) == Config()


def test_the_annotated_file_has_a_comment_above_each_key(repo_root: Path) -> None:
    lines = (repo_root / "config" / "agent.yaml").read_text().splitlines()
    for before, line in zip(lines, lines[1:]):
        if line.startswith("  ") and not line.lstrip().startswith("#"):
            assert before.lstrip().startswith("#"), f"no comment above {line.strip()}"


# -- valid files --


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}\n", "web: {}\n"])
def test_missing_keys_have_defaults(text: str, file: Path) -> None:
    file.write_text(text)
    assert load(file) == Config()


def test_every_key_can_be_set(file: Path) -> None:
    sections = {
        "web": {
            "listen": "0.0.0.0:80",
            "allowed_hosts": ["agent.example"],
            "socket": "/run/web.sock",
            "socket_mode": "0660",
            "socket_group": "monitoring",
            "config_file": "/etc/web.yml",
            "history": 7,
        },
        "stalls": {"min_ms": 1.5, "ongoing_seconds": 30},
        "stacks": {"capture": True},
        "filter": {"comm": ["a*", "!b"], "uid": [0, 33], "container": ["host"]},
        "labels": {
            "limit": 7,
            "allow": ["nginx"],
            "rules": [{"match": "w-[0-9]+", "name": "w"}],
            "container": True,
        },
        "probes": {"attach": "tracepoints"},
        "log": {"level": "error", "stalls_per_minute": 7},
    }
    file.write_text(yaml.safe_dump(sections))
    assert asdict(load(file)) == sections


@pytest.mark.parametrize(
    "text",
    [
        "stalls: {min_ms: 1, ongoing_seconds: 0.25}\nlabels: {limit: 1}\nweb: {history: 0}",
        "stalls: {min_ms: 3600000, ongoing_seconds: 3600}\nlabels: {limit: 10000}\nweb: {history: 10000}",
    ],
)
def test_bounds_are_inclusive(text: str, file: Path) -> None:
    file.write_text(text)
    load(file)


@pytest.mark.parametrize(
    ("listen", "host", "port"),
    [
        ("127.0.0.1:9848", "127.0.0.1", 9848),
        ("[::1]:9848", "::1", 9848),
        ("[::]:0", "::", 0),
        ("localhost:65535", "localhost", 65535),
    ],
)
def test_listen(listen: str, host: str, port: int) -> None:
    web = Web(listen=listen)
    assert (web.host, web.port) == (host, port)


def test_listening_on_the_socket_only(file: Path) -> None:
    file.write_text("web: {listen: none, socket: run/web.sock, socket_mode: 0660}\n")
    web = load(file).web
    assert (web.host, web.port, web.socket_mode) == ("", 0, "0660")
    assert web.socket == str(file.parent / "run" / "web.sock")
    message = error_of(file, "web: {listen: none}")
    assert message.startswith("web.listen: none: ") and "web.socket" in message


def test_config_file_is_relative_to_the_file(file: Path) -> None:
    file.write_text("web: {config_file: tls/web.yml}\n")
    assert load(file).web.config_file == str(file.parent / "tls" / "web.yml")


def test_a_configuration_is_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        Config().stalls.min_ms = 5  # type: ignore[misc]


# -- invalid files --


def test_a_missing_file(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file)
    assert str(caught.value) == f"{file}: No such file or directory"


def test_a_directory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path)
    assert str(caught.value) == f"{tmp_path}: Is a directory"


def test_not_utf8(file: Path) -> None:
    file.write_bytes(b"web:\n  \xff\xfe: 1\n")
    with pytest.raises(ConfigError, match=r"agent\.yaml: not UTF-8 text \(invalid start byte at byte 7\)$"):
        load(file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web: [\n", ":2:1: invalid YAML: expected the node content, but found '<stream end>'"),
        ("log: {}\na: b: c\n", ":2:5: invalid YAML: mapping values are not allowed here"),
        ("web:\n\tlisten: x\n", ":2:1: invalid YAML: found character '\\t' that cannot start any token"),
        ("? [a]\n: b\n", ":1:3: invalid YAML: found unhashable key"),
        ("web: !!python/object:os.system x\n", ":1:6: invalid YAML: could not determine a constructor"),
        ("log: {}\n---\nlog: {}\n", ":2:1: invalid YAML: but found another document"),
    ],
)
def test_not_yaml(text: str, message: str, file: Path) -> None:
    assert error_of(file, text).startswith(message)


@pytest.mark.parametrize(
    ("text", "shown"),
    [("- web\n", "['web']"), ("just words\n", "'just words'"), ("42\n", "42"), ("false\n", "False")],
)
def test_no_keys(text: str, shown: str, file: Path) -> None:
    assert error_of(file, text) == f"expected keys such as 'web:', found {shown}"


def test_a_long_value_is_truncated(file: Path) -> None:
    message = error_of(file, "x" * 500)
    assert message.endswith("...")
    assert len(message) < 120


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("wbe: {}", "wbe: unknown key; did you mean 'web'?"),
        ("stall: {}", "stall: unknown key; did you mean 'stalls'?"),
        ("zzz: 1", "zzz: unknown key; expected one of web, stalls, stacks, filter, labels, probes, log"),
        ("web: {listn: x}", "web.listn: unknown key; did you mean 'listen'?"),
        ("stalls: {min: 1}", "stalls.min: unknown key; did you mean 'min_ms'?"),
        (
            "stalls: {ongoing_second: 1}",
            "stalls.ongoing_second: unknown key; did you mean 'ongoing_seconds'?",
        ),
        ("stalls: {zzz: 1}", "stalls.zzz: unknown key; expected one of min_ms, ongoing_seconds"),
        (
            "web: {min_ms: 1}",
            "web.min_ms: unknown key; expected one of listen, allowed_hosts, socket, socket_mode,"
            " socket_group, config_file, history",
        ),
    ],
)
def test_unknown_key(text: str, message: str, file: Path) -> None:
    assert error_of(file, text) == message


ADDRESS = "expected HOST:PORT, as in 127.0.0.1:9848 or [::1]:9848"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web: {listen: '127.0.0.1'}", f"web.listen: '127.0.0.1': {ADDRESS}"),
        ("web: {listen: ':9848'}", f"web.listen: ':9848': {ADDRESS}"),
        ("web: {listen: 'host:http'}", f"web.listen: 'host:http': {ADDRESS}"),
        ("web: {listen: 'host:65536'}", f"web.listen: 'host:65536': {ADDRESS}"),
        ("web: {listen: 'host:-1'}", f"web.listen: 'host:-1': {ADDRESS}"),
        ("web: {listen: 'host:'}", f"web.listen: 'host:': {ADDRESS}"),
        ("web: {listen: ''}", f"web.listen: '': {ADDRESS}"),
        ("web: {listen: '[]:80'}", f"web.listen: '[]:80': {ADDRESS}"),
        ("web: {socket_mode: 440}", "web.socket_mode: 440: expected '0600', '0660' or '0666'"),
        ("web: {socket_mode: '0777'}", "web.socket_mode: '0777': expected '0600', '0660' or '0666'"),
        ("web: {allowed_hosts: ['a:80']}", "web.allowed_hosts: ['a:80']: expected host names without a port"),
        ("web: {listen: 9848}", "web.listen: 9848: expected a string"),
        ("web: {history: -1}", "web.history: -1: expected an integer from 0 to 10000"),
        ("web: {history: 10001}", "web.history: 10001: expected an integer from 0 to 10000"),
        ("stalls: {min_ms: 0}", "stalls.min_ms: 0: expected a number from 1 to 3600000"),
        ("stalls: {min_ms: .inf}", "stalls.min_ms: inf: expected a number from 1 to 3600000"),
        ("stalls: {min_ms: .nan}", "stalls.min_ms: nan: expected a number from 1 to 3600000"),
        ("stalls: {min_ms: ten}", "stalls.min_ms: 'ten': expected a number from 1 to 3600000"),
        (
            "stalls: {ongoing_seconds: 0.2}",
            "stalls.ongoing_seconds: 0.2: expected a number from 0.25 to 3600",
        ),
        ("labels: {limit: 0}", "labels.limit: 0: expected an integer from 1 to 10000"),
        ("labels: {limit: 10001}", "labels.limit: 10001: expected an integer from 1 to 10000"),
        ("labels: {limit: 1.5}", "labels.limit: 1.5: expected an integer from 1 to 10000"),
        ("log: {level: loud}", "log.level: 'loud': expected 'debug', 'info', 'warning' or 'error'"),
        ("log: {level: INFO}", "log.level: 'INFO': expected 'debug', 'info', 'warning' or 'error'"),
        ("web: 5", "web: 5: expected keys: listen"),
        ("1: x", "1: unknown key; expected one of web"),
        ("stalls: {min_ms: 0x" + "f" * 5000 + "}", "stalls.min_ms: a very long int: expected a number"),
        ("web: {listen: 'host:" + "9" * 5000 + "'}", f"web.listen: 'host:{'9' * 51}...: {ADDRESS}"),
    ],
)
def test_bad_value(text: str, message: str, file: Path) -> None:
    found = error_of(file, text)
    assert found.startswith(message)
    assert "\n" not in found


def test_all_errors_are_reported_at_once(file: Path) -> None:
    message = error_of(file, "wbe: {}\nlabels: {limit: 0}\nlog: {level: loud}\n").splitlines()
    assert sorted(line.split(":")[0] for line in message) == ["labels.limit", "log.level", "wbe"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("stalls: {min_ms: true}", "stalls.min_ms: True: expected a number from 1 to 3600000"),
        ("labels: {limit: '5'}", "labels.limit: '5': expected an integer from 1 to 10000"),
        ("filter: {uid: [root]}", "filter.uid.0: 'root': expected an integer"),
        ("filter: {comm: x}", "filter.comm: 'x': expected a list"),
        (
            "labels: {rules: [{match: '(', name: x}]}",
            "labels.rules.0.match: '(': expected a regular expression: missing ), unterminated subpattern at"
            " position 0",
        ),
        (
            "labels: {rules: [{mtch: x, name: x}]}",
            "labels.rules.0.match: missing: expected a string\n"
            "labels.rules.0.mtch: unknown key; did you mean 'match'?",
        ),
    ],
)
def test_wrong_type(text: str, expected: str, file: Path) -> None:
    assert error_of(file, text) == expected


def test_a_duplicate_key(file: Path) -> None:
    message = error_of(file, "stalls: {min_ms: 1}\nlog: {}\nstalls: {min_ms: 2}\n")
    assert message.startswith(":3:1: ") and "'stalls'" in message


# -- single keys --


def test_the_environment_overrides_the_file_and_set_overrides_that(file: Path) -> None:
    file.write_text("stalls: {min_ms: 1, ongoing_seconds: 2}\nlabels: {limit: 3}\n")
    environ = {"SPAWNSTALL_STALLS_MIN_MS": "4", "SPAWNSTALL_LABELS_LIMIT": "5", "HOME": "/"}
    config = load(file, environ, ["labels.limit=6", "filter.uid=[1, 2]"])
    assert (config.stalls.min_ms, config.stalls.ongoing_seconds, config.labels.limit) == (4, 2, 6)
    assert config.filter.uid == [1, 2]
    assert load(None, environ).labels.limit == 5


@pytest.mark.parametrize(
    ("environ", "settings", "expected"),
    [
        (
            {"SPAWNSTALL_STALLS_MIN_MS": "x"},
            [],
            "environment variable SPAWNSTALL_STALLS_MIN_MS: stalls.min_ms: 'x': expected a number from 1 to"
            " 3600000",
        ),
        (
            {"SPAWNSTALL_STALLS_MIN": "1"},
            [],
            "environment variable SPAWNSTALL_STALLS_MIN: stalls.min: unknown key; did you mean 'min_ms'?",
        ),
        (
            {"SPAWNSTALL_STACKS": "true"},
            [],
            "environment variable SPAWNSTALL_STACKS: expected SPAWNSTALL_STACKS_KEY, as in"
            " SPAWNSTALL_STALLS_MIN_MS=50",
        ),
        (
            {},
            ["labels.limit=0"],
            "--set 'labels.limit=0': labels.limit: 0: expected an integer from 1 to 10000",
        ),
        ({}, ["labels=0"], "--set 'labels=0': expected SECTION.KEY=VALUE, as in stalls.min_ms=50"),
        ({}, ["labels.limit"], "--set 'labels.limit': expected SECTION.KEY=VALUE, as in stalls.min_ms=50"),
        ({}, ["lables.limit=1"], "--set 'lables.limit=1': lables: unknown key; did you mean 'labels'?"),
        ({}, ["labels.limit={"], "--set 'labels.limit={': '{': expected a value in YAML"),
    ],
)
def test_an_invalid_override_names_its_source(
    environ: dict[str, str], settings: list[str], expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(None, environ, settings)
    assert str(caught.value) == expected


def test_variables_of_a_kubernetes_service_are_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert load(None, {"SPAWNSTALL_PORT_9848_TCP": "tcp://10.0.0.1:9848"}) == Config()
    assert "SPAWNSTALL_PORT_9848_TCP" in caplog.text
