# SPDX-License-Identifier: Apache-2.0
"""TLS, client certificates and users of the web server, in the schema of Prometheus's exporter-toolkit.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.  An option that Python's
ssl does not support is an error.  As in the toolkit, a change to the file or to a certificate applies from
the next connection on.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import hashlib
import hmac
import logging
import os
import re
import ssl
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, Optional

from agent.settings.yamlfile import ConfigError, check, read

__all__ = ["Security", "TooManyLogins", "WebConfig", "WebConfigError", "load"]

_log = logging.getLogger(__name__)


class WebConfigError(ConfigError):
    """The file is invalid; one line names file and key, and contains no secret."""


class TooManyLogins(Exception):
    """So many passwords wait to be checked that this one was not."""


@dataclass(frozen=True)
class _Tls:
    cert_file: str = ""
    key_file: str = ""
    client_auth_type: str = ""
    client_ca_file: str = ""
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: list[str] = field(default_factory=list)
    prefer_server_cipher_suites: bool = True
    # Known but not supported: _UNSUPPORTED has the error messages.
    cert: Any = None
    key: Any = None
    client_ca: Any = None
    client_allowed_sans: Any = None
    curve_preferences: Any = None


@dataclass(frozen=True)
class _Http:
    http2: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class _File:
    tls_server_config: _Tls = field(default_factory=_Tls)
    http_server_config: _Http = field(default_factory=_Http)
    basic_auth_users: dict[str, Any] = field(default_factory=dict)
    rate_limit: Any = None


_UNSUPPORTED = {
    "cert": "not supported: write it to a file and set cert_file",
    "key": "not supported: write it to a file and set key_file",
    "client_ca": "not supported: write it to a file and set client_ca_file",
    "client_allowed_sans": "not supported: use a separate CA for these clients",
    "curve_preferences": "not supported: OpenSSL's defaults are used",
}
_CLIENT_AUTH = {
    "": ssl.CERT_NONE,
    "NoClientCert": ssl.CERT_NONE,
    "VerifyClientCertIfGiven": ssl.CERT_OPTIONAL,
    "RequireAndVerifyClientCert": ssl.CERT_REQUIRED,
}
_UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_OLD_VERSIONS = ("TLS10", "TLS11")
_CIPHERS = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
_TLS13_CIPHERS = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
# Allowed headers and, if restricted, their values.
_HEADERS = {
    "Content-Security-Policy": None,
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": None,
    "Strict-Transport-Security": None,
}
# The last character of the salt has 2 bits: bcrypt 5 raises ValueError at each login for any other one.
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_BCRYPT_BYTES = 72  # bcrypt ignores the rest of a longer password
_MAX_CACHED_LOGINS = 100
_MAX_CHECKS = 8  # one at a time, and the rest wait
_PAUSE_PER_CHECK = 3  # after a wrong password: guessing takes at most a quarter of a core


class WebConfig:
    """A validated web configuration.

    tls: the context for new connections, None for plain HTTP.  headers: set in every response.
    files: the configuration file and the files that it names.
    """

    def __init__(
        self,
        tls: Optional[ssl.SSLContext],
        headers: dict[str, str],
        users: dict[str, bytes],
        files: tuple[Path, ...],
    ) -> None:
        self.tls = tls
        self.headers = headers
        self.has_users = bool(users)
        self.files = files
        self._users = users
        self._room = threading.Semaphore(_MAX_CHECKS)
        self._checking = threading.Lock()
        self._secret = os.urandom(32)
        self._admitted: set[bytes] = set()

    def admits(self, authorization: str) -> bool:
        """Whether an Authorization header authenticates a user; always True if no users are configured.

        Takes one bcrypt check, for unknown users too; successful logins are cached.  Raises TooManyLogins.
        """
        if not self._users:
            return True
        kind, _, encoded = authorization.partition(" ")
        try:
            login = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        name, colon, password = login.partition(b":")
        # bcrypt 3 raises ValueError for a NUL.
        if kind.lower() != "basic" or not colon or b"\0" in password:
            return False
        known = self._users.get(name.decode("utf-8", "replace"))
        digest = hmac.digest(self._secret, login, hashlib.sha256)
        if digest in self._admitted:
            return True
        if not self._room.acquire(blocking=False):
            raise TooManyLogins
        try:
            return self._matches(password, known, digest)
        finally:
            self._room.release()

    def _matches(self, password: bytes, known: Optional[bytes], digest: bytes) -> bool:
        import bcrypt  # needed only if users are configured

        with self._checking:
            # Check a hash for an unknown user too, so that timing does not reveal user names.
            hashed = next(iter(self._users.values())) if known is None else known
            began = time.thread_time()
            matches = bcrypt.checkpw(password[:_BCRYPT_BYTES], hashed)
            if not matches or known is None:
                time.sleep(_PAUSE_PER_CHECK * (time.thread_time() - began))
                return False
            if len(self._admitted) >= _MAX_CACHED_LOGINS:
                self._admitted.clear()
            self._admitted.add(digest)
            return True


def load(path: Path) -> WebConfig:
    """Read and validate a web configuration file and the files that it names; raises ConfigError."""
    document = read(path, _File)
    file = check(document, _File, path)
    if file.rate_limit is not None:
        _reject(path, "rate_limit", "not supported: remove it")
    if file.http_server_config.http2:
        _reject(path, "http_server_config.http2", "not supported: remove it or set it to false")
    _check_headers(path, file.http_server_config.headers)
    users = _users(path, file.basic_auth_users)
    tls = file.tls_server_config
    named = tuple(path.parent / name for name in (tls.cert_file, tls.key_file, tls.client_ca_file) if name)
    context = _context(path, tls, document.get("tls_server_config", ()))
    return WebConfig(context, file.http_server_config.headers, users, (path, *named))


class Security:
    """The current web configuration, reloaded when one of its files changes.

    A changed file that is invalid, or that removes TLS or all users, is rejected: the running configuration
    stays, and the error is logged.  The constructor raises ConfigError if the file is invalid.
    """

    def __init__(self, path: Optional[Path]) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._current = WebConfig(None, {}, {}, ()) if path is None else load(path)
        self._seen = _signature(self._current.files)

    def current(self) -> WebConfig:
        """The configuration for the next connection or request."""
        with self._lock:
            seen = _signature(self._current.files)
            if self._path is not None and seen != self._seen:
                self._seen = seen  # read before the load, so that a change during it is noticed
                try:
                    self._replace(load(self._path))
                except ConfigError as error:
                    _log.error("%s; the running web configuration stays", error)
                except Exception as error:  # a bug, but the server need not end
                    _log.error("%s: %r; the running web configuration stays", self._path, error)
            return self._current

    def _replace(self, fresh: WebConfig) -> None:
        for before, now, what in (
            (self._current.tls, fresh.tls, "tls_server_config"),
            (self._current.has_users, fresh.has_users, "basic_auth_users"),
        ):
            if before and not now:
                raise WebConfigError(f"{self._path}: {what}: cannot be removed without a restart")
        self._current = fresh
        _log.info("%s: reloaded", self._path)


def _reject(path: Path, key: str, why: str) -> NoReturn:
    raise WebConfigError(f"{path}: {key}: {why}")


def _signature(files: tuple[Path, ...]) -> tuple[Optional[tuple[int, ...]], ...]:
    found: list[Optional[tuple[int, ...]]] = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            found.append(None)
        else:
            found.append((stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))
    return tuple(found)


def _check_headers(path: Path, headers: dict[str, str]) -> None:
    for name, value in headers.items():
        key = f"http_server_config.headers.{name}"
        if name not in _HEADERS:
            near = difflib.get_close_matches(name, _HEADERS, n=1)
            expected = f"did you mean '{near[0]}'?" if near else f"expected one of {', '.join(_HEADERS)}"
            _reject(path, key, f"unknown header; {expected}")
        allowed = _HEADERS[name]
        if allowed and value.lower() not in allowed:
            _reject(path, key, f"{value!r}: expected {' or '.join(allowed)}")
        if not value.isprintable() or not value.isascii():
            _reject(path, key, f"{value!r}: expected one line of ASCII text")


def _users(path: Path, users: dict[str, Any]) -> dict[str, bytes]:
    found = {}
    for name, hashed in users.items():
        key = f"basic_auth_users.{name}"
        if not name or ":" in name or not name.isprintable():
            _reject(path, f"basic_auth_users: {name!r}", "expected a name without a colon")
        if not isinstance(hashed, str) or not _BCRYPT.fullmatch(hashed):
            _reject(path, key, 'expected a bcrypt hash, as htpasswd -nBC 10 "" prints it')
        found[name] = hashed.encode()
    if found:
        try:
            import bcrypt  # noqa: F401
        except ImportError:
            _reject(path, "basic_auth_users", "the Python package bcrypt is not installed")
    return found


def _context(path: Path, tls: _Tls, written: Iterable[str]) -> Optional[ssl.SSLContext]:
    """The TLS context, or None if TLS is not configured; written: the keys that the file has."""
    section = "tls_server_config"
    for name, why in _UNSUPPORTED.items():
        if getattr(tls, name):
            _reject(path, f"{section}.{name}", why)
    if set(written) <= set(_UNSUPPORTED):
        return None
    for name in ("cert_file", "key_file"):
        if not getattr(tls, name):
            _reject(path, f"{section}.{name}", "missing: TLS needs cert_file and key_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _version(path, f"{section}.min_version", tls.min_version)
    context.maximum_version = _version(path, f"{section}.max_version", tls.max_version)
    if context.minimum_version > context.maximum_version:
        _reject(path, f"{section}.max_version", f"{tls.max_version} is older than min_version")
    if tls.cipher_suites:
        ciphers = ":".join(_cipher(path, name) for name in tls.cipher_suites)
        try:
            context.set_ciphers(ciphers)
        except ssl.SSLError as error:  # the host's policy allows none of them
            _reject(path, f"{section}.cipher_suites", f"OpenSSL refuses them: {_reason(error)}")
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    certificate, key = path.parent / tls.cert_file, path.parent / tls.key_file
    _readable(path, f"{section}.cert_file", certificate)
    _readable(path, f"{section}.key_file", key)
    try:
        # An encrypted key is an error: do not ask for its password on the terminal.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        _reject(
            path,
            f"{section}.cert_file",
            f"{certificate} and {key} are not a certificate and its key in PEM: {_reason(error)}",
        )
    _set_client_auth(path, tls, context)
    return context


def _set_client_auth(path: Path, tls: _Tls, context: ssl.SSLContext) -> None:
    auth_key, ca_key = "tls_server_config.client_auth_type", "tls_server_config.client_ca_file"
    if tls.client_auth_type in _UNVERIFIED:
        _reject(path, auth_key, f"{tls.client_auth_type} is not supported: use RequireAndVerifyClientCert")
    if tls.client_auth_type not in _CLIENT_AUTH:
        expected = ", ".join(name for name in _CLIENT_AUTH if name)
        _reject(path, auth_key, f"{tls.client_auth_type!r}: expected one of {expected}")
    verify = _CLIENT_AUTH[tls.client_auth_type]
    if verify is ssl.CERT_NONE:
        if tls.client_ca_file:
            _reject(path, ca_key, "has no effect without client_auth_type: RequireAndVerifyClientCert")
        return
    if not tls.client_ca_file:
        _reject(path, ca_key, f"missing: client_auth_type {tls.client_auth_type} needs it")
    authority = path.parent / tls.client_ca_file
    _readable(path, ca_key, authority)
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        _reject(path, ca_key, f"{authority} does not contain a certificate in PEM: {_reason(error)}")
    context.verify_mode = verify


def _version(path: Path, key: str, name: str) -> ssl.TLSVersion:
    if name in _OLD_VERSIONS:
        _reject(path, key, f"{name} is insecure and not supported: use TLS12 or TLS13")
    if name not in _VERSIONS:
        _reject(path, key, f"{name!r}: expected {' or '.join(_VERSIONS)}")
    return _VERSIONS[name]


def _cipher(path: Path, name: str) -> str:
    key = "tls_server_config.cipher_suites"
    if name in _TLS13_CIPHERS:
        _reject(path, key, f"{name}: the cipher suites of TLS 1.3 are always enabled; remove it")
    if name not in _CIPHERS:
        near = difflib.get_close_matches(name, _CIPHERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(_CIPHERS)}"
        _reject(path, key, f"unknown cipher {name!r}; {hint}")
    return _CIPHERS[name]


def _readable(path: Path, key: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        _reject(path, key, f"{file}: {error.strerror}")
    except ValueError as error:  # a path with a NUL
        _reject(path, key, f"{file}: {error}")


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
