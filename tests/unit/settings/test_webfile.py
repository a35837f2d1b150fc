# SPDX-License-Identifier: Apache-2.0
"""agent.settings.webfile: valid and invalid files, logins, and reloads."""

from __future__ import annotations

import base64
import logging
import ssl
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import yaml

from agent.settings import webfile
from agent.settings.agentfile import ConfigError
from agent.settings.webfile import Security, TooManyLogins, load
from tests.unit.certificates import Authority, Pair

PASSWORD = "correct horse"
# A fixed salt: each of pytest-xdist's processes has to collect the same names of tests.
HASH = bcrypt.hashpw(PASSWORD.encode(), b"$2b$04$abcdefghijklmnopqrstuu").decode()


@pytest.fixture
def file(tmp_path: Path, pair: Pair, authority: Authority) -> Path:
    """A file in a directory with server.crt, server.key and ca.crt."""
    for source in (pair.certificate, pair.key, authority.certificate):
        (tmp_path / source.name).write_bytes(source.read_bytes())
    return tmp_path / "web.yml"


TLS = {"cert_file": "server.crt", "key_file": "server.key"}


def _write(file: Path, document: Any) -> None:
    file.write_text(yaml.safe_dump(document))


def _error_of(file: Path, document: Any) -> str:
    _write(file, document)
    with pytest.raises(ConfigError) as caught:
        load(file)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith(f"{file}: ")
    return message.removeprefix(f"{file}: ")


def _login(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


# -- valid files --


@pytest.mark.parametrize(
    "text", ["", "tls_server_config:\n", "basic_auth_users: {}\n", "http_server_config: {}"]
)
def test_an_empty_file_is_plain_http_without_users(text: str, file: Path) -> None:
    file.write_text(text)
    config = load(file)
    assert config.tls is None
    assert config.headers == {}
    assert config.admits("")


def test_tls(file: Path) -> None:
    _write(file, {"tls_server_config": TLS})
    tls = load(file).tls
    assert tls is not None
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_2
    assert tls.maximum_version is ssl.TLSVersion.TLSv1_3
    assert tls.verify_mode is ssl.CERT_NONE
    assert tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE


def test_every_key_of_tls(file: Path) -> None:
    section = {
        **TLS,
        "client_auth_type": "RequireAndVerifyClientCert",
        "client_ca_file": str(file.parent / "ca.crt"),
        "min_version": "TLS12",
        "max_version": "TLS12",
        "cipher_suites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"],
        "prefer_server_cipher_suites": False,
    }
    _write(file, {"tls_server_config": section})
    tls = load(file).tls
    assert tls is not None
    assert tls.maximum_version is ssl.TLSVersion.TLSv1_2
    assert tls.verify_mode is ssl.CERT_REQUIRED
    old = {cipher["name"] for cipher in tls.get_ciphers() if cipher["protocol"] != "TLSv1.3"}
    assert old == {"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA"}
    assert not tls.options & ssl.OP_CIPHER_SERVER_PREFERENCE


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("NoClientCert", ssl.CERT_NONE), ("VerifyClientCertIfGiven", ssl.CERT_OPTIONAL)],
)
def test_client_auth_types(kind: str, mode: ssl.VerifyMode, file: Path) -> None:
    authority = {} if mode is ssl.CERT_NONE else {"client_ca_file": "ca.crt"}
    _write(file, {"tls_server_config": {**TLS, "client_auth_type": kind, **authority}})
    tls = load(file).tls
    assert tls is not None and tls.verify_mode is mode


def test_every_cipher_is_known_to_openssl(file: Path) -> None:
    from agent.settings.webfile import _CIPHERS

    _write(file, {"tls_server_config": {**TLS, "cipher_suites": list(_CIPHERS)}})
    tls = load(file).tls
    assert tls is not None
    assert set(_CIPHERS.values()) <= {cipher["name"] for cipher in tls.get_ciphers()}


def test_headers_and_disabled_http2(file: Path) -> None:
    headers = {"Strict-Transport-Security": "max-age=9", "X-Frame-Options": "SAMEORIGIN"}
    _write(file, {"http_server_config": {"http2": False, "headers": headers}})
    assert load(file).headers == headers


# -- invalid files --


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"tls_server_confg": {}}, "tls_server_confg: unknown key; did you mean 'tls_server_config'?"),
        (
            {"tls_server_config": {"certfile": "x"}},
            "tls_server_config.certfile: unknown key; did you mean 'cert_file'?",
        ),
        ([1], "expected keys such as 'tls_server_config:', found [1]"),
        ({"rate_limit": {"burst": 1}}, "rate_limit: not supported: "),
        (
            {"http_server_config": {"http2": True}},
            "http_server_config.http2: not supported: ",
        ),
        (
            {"http_server_config": {"headers": {"X-Frame-Option": "deny"}}},
            "http_server_config.headers.X-Frame-Option: unknown header; did you mean 'X-Frame-Options'?",
        ),
        (
            {"http_server_config": {"headers": {"X-Frame-Options": "allow"}}},
            "http_server_config.headers.X-Frame-Options: 'allow': expected deny or sameorigin",
        ),
        (
            {"http_server_config": {"headers": {"X-XSS-Protection": "0\r\nSet-Cookie: a=b"}}},
            "http_server_config.headers.X-XSS-Protection: '0\\r\\nSet-Cookie: a=b': expected one line of ",
        ),
        ({"tls_server_config": {"cert_file": "server.crt"}}, "tls_server_config.key_file: missing: "),
        ({"tls_server_config": {"key_file": "server.key"}}, "tls_server_config.cert_file: missing: "),
        ({"tls_server_config": {"min_version": "TLS13"}}, "tls_server_config.cert_file: missing: "),
        ({"basic_auth_users": {"a:b": HASH}}, "basic_auth_users: 'a:b': expected a name without a colon"),
        ({"basic_auth_users": {"": HASH}}, "basic_auth_users: '': expected a name without a colon"),
    ],
)
def test_invalid(document: Any, message: str, file: Path) -> None:
    assert _error_of(file, document).startswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cert_file": "gone.crt"}, "cert_file: {folder}/gone.crt: No such file or directory"),
        ({"key_file": "gone.key"}, "key_file: {folder}/gone.key: No such file or directory"),
        ({"key_file": "."}, "key_file: {folder}: Is a directory"),
        (
            {"key_file": "server.crt"},
            "cert_file: {folder}/server.crt and {folder}/server.crt are not ",
        ),
        ({"cert_file": "ca.crt"}, "cert_file: {folder}/ca.crt and {folder}/server.key are not "),
        ({"cert": "-----BEGIN"}, "cert: not supported: write it to a file and set cert_file"),
        ({"key": "secret"}, "key: not supported: write it to a file and set key_file"),
        ({"client_allowed_sans": ["a"]}, "client_allowed_sans: not supported"),
        ({"curve_preferences": ["X25519"]}, "curve_preferences: not supported"),
        ({"min_version": "TLS10"}, "min_version: TLS10 is insecure and not supported"),
        ({"max_version": "TLS14"}, "max_version: 'TLS14': expected TLS12 or TLS13"),
        ({"min_version": "TLS13", "max_version": "TLS12"}, "max_version: TLS12 is older than min_version"),
        ({"client_auth_type": "Maybe"}, "client_auth_type: 'Maybe': expected one of NoClientCert, "),
        (
            {"client_auth_type": "RequestClientCert"},
            "client_auth_type: RequestClientCert is not supported",
        ),
        ({"client_auth_type": "RequireAndVerifyClientCert"}, "client_ca_file: missing: client_auth_type"),
        ({"client_ca_file": "ca.crt"}, "client_ca_file: has no effect without client_auth_type"),
        (
            {"client_auth_type": "RequireAndVerifyClientCert", "client_ca_file": "server.key"},
            "client_ca_file: {folder}/server.key does not contain a certificate in PEM",
        ),
        (
            {"cipher_suites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA25"]},
            "cipher_suites: unknown cipher 'TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA25'; did you mean TLS_ECDHE",
        ),
        (
            {"cipher_suites": ["TLS_AES_128_GCM_SHA256"]},
            "cipher_suites: TLS_AES_128_GCM_SHA256: ",
        ),
    ],
)
def test_invalid_tls(changes: Any, message: str, file: Path) -> None:
    found = _error_of(file, {"tls_server_config": {**TLS, **changes}})
    assert found.startswith("tls_server_config." + message.format(folder=file.parent))


def test_an_encrypted_key_does_not_prompt(file: Path, tmp_path: Path) -> None:
    key, locked = tmp_path / "server.key", tmp_path / "locked.key"
    command = ["openssl", "ec", "-in", str(key), "-aes256", "-passout", "pass:x", "-out", str(locked)]
    subprocess.run(command, check=True, capture_output=True)
    message = _error_of(file, {"tls_server_config": {**TLS, "key_file": "locked.key"}})
    assert "locked.key" in message


@pytest.mark.parametrize(
    "hashed",
    [
        PASSWORD,
        "$2y$10$short",
        1234567,
        None,
        HASH + "x",
        HASH.replace("$04$", "$03$"),
        f"{HASH[:28]}v{HASH[29:]}",
    ],
)
def test_an_invalid_password_hash_is_rejected_and_not_shown(hashed: Any, file: Path) -> None:
    message = _error_of(file, {"basic_auth_users": {"alice": hashed}})
    assert message.startswith("basic_auth_users.alice: ") and "htpasswd" in message
    assert str(hashed) not in message


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"web\.yml: No such file or directory$"):
        load(tmp_path / "web.yml")


# -- logins --


@pytest.mark.parametrize(
    ("header", "admitted"),
    [
        (_login("alice", PASSWORD), True),
        (_login("alice", PASSWORD).replace("Basic", "basic"), True),
        (_login("grün", "pass:with:colons"), True),
        (_login("alice", "wrong"), False),
        (_login("alice", ""), False),
        (_login("bob", PASSWORD), False),
        (_login("", ""), False),
        ("", False),
        ("Basic", False),
        ("Basic !!!", False),
        ("Basic " + base64.b64encode(b"alice").decode(), False),
        ("Bearer " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode(), False),
        ("Basic " + base64.b64encode(b"alice:\0\xff" + b"x" * 5000).decode(), False),
        ("Basic grün", False),
    ],
)
def test_logins(header: str, admitted: bool, file: Path) -> None:
    colons = bcrypt.hashpw(b"pass:with:colons", bcrypt.gensalt(4)).decode()
    _write(file, {"basic_auth_users": {"alice": HASH, "grün": colons}})
    config = load(file)
    assert [config.admits(header) for _ in range(3)] == [admitted] * 3


def test_hashes_of_htpasswd_are_accepted(file: Path) -> None:
    _write(file, {"basic_auth_users": {"alice": HASH.replace("$2b$", "$2y$")}})
    assert load(file).admits(_login("alice", PASSWORD))


def test_a_successful_login_is_cached(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(file, {"basic_auth_users": {"alice": HASH}})
    config = load(file)
    checked: list[bytes] = []
    check = bcrypt.checkpw

    def counting(password: bytes, hashed: bytes) -> bool:
        checked.append(password)
        return check(password, hashed)

    monkeypatch.setattr(bcrypt, "checkpw", counting)
    for _ in range(5):
        assert config.admits(_login("alice", PASSWORD))
    assert len(checked) == 1
    for _ in range(2):
        assert not config.admits(_login("alice", "wrong"))
        assert not config.admits(_login("nobody", PASSWORD))  # an unknown user takes a check too
    assert len(checked) == 5


def test_guesses_do_not_block_a_cached_login(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(file, {"basic_auth_users": {"alice": HASH}})
    config = load(file)
    assert config.admits(_login("alice", PASSWORD))
    guessing, go_on = threading.Event(), threading.Event()

    def slow(_password: bytes, _hashed: bytes) -> bool:
        guessing.set()
        go_on.wait(60)
        return False

    monkeypatch.setattr(bcrypt, "checkpw", slow)
    guesser = threading.Thread(target=config.admits, args=(_login("alice", "guess"),))
    guesser.start()
    try:
        assert guessing.wait(20)
        scraper = threading.Thread(target=config.admits, args=(_login("alice", PASSWORD),))
        scraper.start()
        scraper.join(20)
        assert not scraper.is_alive()
    finally:
        go_on.set()
        guesser.join()


def test_guessing_pauses_after_each_check(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(file, {"basic_auth_users": {"alice": HASH}})
    config = load(file)
    clock = iter((10.0, 10.5, 20.0, 20.5))
    pauses: list[float] = []
    monkeypatch.setattr(time, "thread_time", lambda: next(clock))
    monkeypatch.setattr(time, "sleep", pauses.append)
    assert not config.admits(_login("alice", "guess"))
    assert config.admits(_login("alice", PASSWORD))
    assert pauses == [1.5]


def test_few_logins_wait_to_be_checked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise guesses would take all connections."""
    _write(file, {"basic_auth_users": {"alice": HASH}})
    config = load(file)
    go_on = threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda _password, _hashed: not go_on.wait(60))
    with ThreadPoolExecutor(8) as pool:
        guesses = [pool.submit(config.admits, _login("alice", f"guess {number}")) for number in range(8)]
        deadline = time.monotonic() + 20
        with pytest.raises(TooManyLogins):
            while time.monotonic() < deadline:
                if config._room._value == 0:
                    config.admits(_login("alice", "one more"))
        go_on.set()
        assert not any(guess.result(60) for guess in guesses)
    monkeypatch.undo()
    assert config.admits(_login("alice", PASSWORD))


def test_the_cache_of_logins_is_bounded(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(file, {"basic_auth_users": {"alice": HASH}})
    config = load(file)
    monkeypatch.setattr(bcrypt, "checkpw", lambda _password, _hashed: True)
    for number in range(250):
        assert config.admits(_login("alice", "x" * 72 + str(number)))  # bcrypt ignores the rest
    assert len(config._admitted) <= 100


# -- changes --


def test_a_change_applies_at_once(file: Path) -> None:
    _write(file, {"basic_auth_users": {"alice": HASH}})
    security = Security(file)
    before = security.current()
    assert security.current() is before
    _write(file, {"basic_auth_users": {"robert": HASH}})
    assert security.current().admits(_login("robert", PASSWORD))
    assert not security.current().admits(_login("alice", PASSWORD))


def test_a_new_certificate_applies_at_once(file: Path, authority: Authority) -> None:
    _write(file, {"tls_server_config": TLS})
    security = Security(file)
    before = security.current().tls
    fresh = authority.sign("fresh")
    (file.parent / "server.key").write_bytes(fresh.key.read_bytes())
    assert security.current().tls is before  # the certificate does not match the key yet
    (file.parent / "server.crt").write_bytes(fresh.certificate.read_bytes())
    assert security.current().tls is not before


@pytest.mark.parametrize("text", ["tls_server_config: [", "basic_auth_users: {alice: x}"])
def test_a_change_that_is_invalid_is_rejected(
    text: str, file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(file, {"tls_server_config": TLS, "basic_auth_users": {"alice": HASH}})
    security = Security(file)
    before = security.current()
    file.write_text(text)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert security.current() is before
    assert len(caplog.records) == 1
    assert str(file) in caplog.text


@pytest.mark.parametrize("lacks", ["tls_server_config", "basic_auth_users"])
def test_a_change_cannot_remove_protection(lacks: str, file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An editor may truncate the file before it writes it."""
    whole: dict[str, Any] = {"tls_server_config": TLS, "basic_auth_users": {"alice": HASH}}
    _write(file, whole)
    security = Security(file)
    before = security.current()
    _write(file, {key: value for key, value in whole.items() if key != lacks})
    assert security.current() is before
    assert f"{file}: {lacks}: " in caplog.text


def test_a_change_during_a_reload_is_noticed(
    file: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(file, {"tls_server_config": TLS})
    security = Security(file)
    plain = webfile.load

    def load_and_renew(path: Path) -> webfile.WebConfig:
        loaded = plain(path)
        monkeypatch.setattr(webfile, "load", plain)
        renewed = authority.sign("renewed")
        (file.parent / "server.key").write_bytes(renewed.key.read_bytes())
        (file.parent / "server.crt").write_bytes(renewed.certificate.read_bytes())
        return loaded

    monkeypatch.setattr(webfile, "load", load_and_renew)
    file.write_text(file.read_text() + "# changed\n")
    before = security.current().tls
    assert security.current().tls is not before


def test_a_file_that_is_missing_for_a_moment(file: Path) -> None:
    _write(file, {"basic_auth_users": {"alice": HASH}})
    security = Security(file)
    before = security.current()
    file.rename(file.parent / "away")
    assert security.current() is before
    _write(file, {"basic_auth_users": {"alice": HASH, "bob": HASH}})
    assert security.current().admits(_login("bob", PASSWORD))


def test_whatever_goes_wrong_the_running_configuration_stays(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _write(file, {"basic_auth_users": {"alice": HASH}})
    security = Security(file)

    def fail(path: Path) -> None:
        raise TypeError("a bug")

    monkeypatch.setattr(webfile, "load", fail)
    _write(file, {"basic_auth_users": {"alice": HASH, "bob": HASH}})
    assert security.current().admits(_login("alice", PASSWORD))
    [record] = caplog.records
    assert str(file) in record.message and "a bug" in record.message


def test_ciphers_that_the_host_forbids(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(webfile._CIPHERS, "TLS_FORBIDDEN", "NO-SUCH-CIPHER")
    message = _error_of(file, {"tls_server_config": {**TLS, "cipher_suites": ["TLS_FORBIDDEN"]}})
    assert message.startswith("tls_server_config.cipher_suites: OpenSSL refuses them: ")


def test_no_file_means_no_protection() -> None:
    config = Security(None).current()
    assert config.tls is None and config.admits("")
