"""TLS, client certificates and users of the web server, in the schema of Prometheus' exporter-toolkit.

https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md.  What Python's ssl
cannot do is an error, never ignored.  As there, a change of the file or of a certificate counts from the next
connection on.
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
from pathlib import Path
from typing import Any, NoReturn, Optional

from pydantic import Field

from agent.settings.yamlfile import ConfigError, Section, check, read

__all__ = ["Security", "WebConfig", "WebConfigError", "load"]

_log = logging.getLogger(__name__)


class WebConfigError(ConfigError):
    """The file cannot be used: one line that names file and key.  No secret is in it."""


class _Tls(Section):
    cert_file: str = ""
    key_file: str = ""
    client_auth_type: str = ""
    client_ca_file: str = ""
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: list[str] = Field(default_factory=list)
    prefer_server_cipher_suites: bool = True
    # Known, and refused by name.
    cert: Any = None
    key: Any = None
    client_ca: Any = None
    client_allowed_sans: Any = None
    curve_preferences: Any = None


class _Http(Section):
    http2: bool = False
    headers: dict[str, str] = Field(default_factory=dict)


class _File(Section):
    tls_server_config: _Tls = _Tls()
    http_server_config: _Http = _Http()
    basic_auth_users: dict[str, Any] = Field(default_factory=dict)
    rate_limit: Any = None


_REFUSED = {
    "cert": "not supported here: write it to a file, and name that in cert_file",
    "key": "not supported here: write it to a file, and name that in key_file",
    "client_ca": "not supported here: write it to a file, and name that in client_ca_file",
    "client_allowed_sans": "not supported here: use a CA of its own for those clients",
    "curve_preferences": "not supported here: OpenSSL's own are used",
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
# Each with what its value has to be, for the error message.
_HEADERS = {
    "Content-Security-Policy": None,
    "X-Frame-Options": ("deny", "sameorigin"),
    "X-Content-Type-Options": ("nosniff",),
    "X-XSS-Protection": None,
    "Strict-Transport-Security": None,
}
_BCRYPT = re.compile(r"\$2[aby]\$(0[4-9]|[12]\d|3[01])\$[./A-Za-z0-9]{53}")
_BCRYPT_BYTES = 72  # bcrypt takes no more of a password into account
_REMEMBERED_LOGINS = 100


class WebConfig:
    """A file that was found right.

    tls: the context for new connections, None: plain HTTP.  headers: to be set in every answer.
    files: what it was read from, itself first.
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
        self._checking = threading.Lock()
        self._secret = os.urandom(32)
        self._known: set[bytes] = set()

    def admits(self, authorization: str) -> bool:
        """Whether an Authorization header is that of a user; always, when there are no users.

        Takes a bcrypt check, also for an unknown user; logins that were right are remembered.
        """
        if not self._users:
            return True
        kind, _, encoded = authorization.partition(" ")
        try:
            login = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            return False
        name, colon, password = login.partition(b":")
        if kind.lower() != "basic" or not colon:
            return False
        import bcrypt  # only where there are users

        known = self._users.get(name.decode("utf-8", "replace"))
        digest = hmac.digest(self._secret, login, hashlib.sha256)
        if digest in self._known:
            return True
        with self._checking:  # one at a time: guessing must not take every CPU
            # An unknown user takes as long as the first one.
            hashed = next(iter(self._users.values())) if known is None else known
            right = bcrypt.checkpw(password[:_BCRYPT_BYTES], hashed)
            if not right or known is None:
                return False
            if len(self._known) >= _REMEMBERED_LOGINS:
                self._known.clear()
            self._known.add(digest)
            return True


def load(path: Path) -> WebConfig:
    """Reads and checks a web configuration file and the files that it names; raises ConfigError."""
    file = check(read(path, _File), _File, path)
    if file.rate_limit is not None:
        _refuse(path, "rate_limit", "not supported here: remove it")
    if file.http_server_config.http2:
        _refuse(path, "http_server_config.http2", "HTTP/2 is not spoken here: remove it, or set it to false")
    _check_headers(path, file.http_server_config.headers)
    users = _users(path, file.basic_auth_users)
    tls = file.tls_server_config
    named = tuple(path.parent / name for name in (tls.cert_file, tls.key_file, tls.client_ca_file) if name)
    return WebConfig(_context(path, tls), file.http_server_config.headers, users, (path, *named))


class Security:
    """The web configuration as it is now; ``load`` is done again when one of its files has changed.

    A file that has become wrong, or that would take TLS or the users away, is an error in the log, and the
    configuration before it stays.  Raises ConfigError when it is wrong from the start.
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
                self._seen = seen  # from before the load: a change during it is another one
                try:
                    self._replace(load(self._path))
                except ConfigError as error:
                    _log.error("%s; the web configuration before stays", error)
            return self._current

    def _replace(self, fresh: WebConfig) -> None:
        for before, now, what in (
            (self._current.tls, fresh.tls, "tls_server_config"),
            (self._current.has_users, fresh.has_users, "basic_auth_users"),
        ):
            if before and not now:
                raise WebConfigError(f"{self._path}: {what}: cannot be taken away without a restart")
        self._current = fresh
        _log.info("%s: read again", self._path)


def _refuse(path: Path, key: str, why: str) -> NoReturn:
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
            _refuse(path, key, f"unknown header; {expected}")
        allowed = _HEADERS[name]
        if allowed and value.lower() not in allowed:
            _refuse(path, key, f"{value!r}: expected {' or '.join(allowed)}")
        if not value.isprintable() or not value.isascii():
            _refuse(path, key, f"{value!r}: expected one line of ASCII text")


def _users(path: Path, users: dict[str, Any]) -> dict[str, bytes]:
    found = {}
    for name, hashed in users.items():
        key = f"basic_auth_users.{name}"
        if not name or ":" in name or not name.isprintable():
            _refuse(path, f"basic_auth_users: {name!r}", "expected a name without colon")
        if not isinstance(hashed, str) or not _BCRYPT.fullmatch(hashed):
            _refuse(path, key, 'expected a bcrypt hash, as htpasswd -nBC 10 "" prints it')
        found[name] = hashed.encode()
    if found:
        try:
            import bcrypt  # noqa: F401
        except ImportError:
            _refuse(path, "basic_auth_users", "the Python package bcrypt is not installed")
    return found


def _context(path: Path, tls: _Tls) -> Optional[ssl.SSLContext]:
    """None when TLS is not asked for."""
    section = "tls_server_config"
    for name, why in _REFUSED.items():
        if getattr(tls, name):
            _refuse(path, f"{section}.{name}", why)
    if not tls.model_fields_set - set(_REFUSED):
        return None
    for name in ("cert_file", "key_file"):
        if not getattr(tls, name):
            _refuse(path, f"{section}.{name}", "missing: TLS needs cert_file and key_file")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _version(path, f"{section}.min_version", tls.min_version)
    context.maximum_version = _version(path, f"{section}.max_version", tls.max_version)
    if context.minimum_version > context.maximum_version:
        _refuse(path, f"{section}.max_version", f"{tls.max_version} is older than min_version")
    if tls.cipher_suites:
        context.set_ciphers(":".join(_cipher(path, name) for name in tls.cipher_suites))
    if not tls.prefer_server_cipher_suites:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    certificate, key = path.parent / tls.cert_file, path.parent / tls.key_file
    _readable(path, f"{section}.cert_file", certificate)
    _readable(path, f"{section}.key_file", key)
    try:
        # A password is not asked for on the terminal: an encrypted key is an error.
        context.load_cert_chain(certificate, key, password=lambda: b"")
    except (OSError, ValueError) as error:
        _refuse(path, f"{section}.cert_file", f"{certificate} and {key} are no pair in PEM: {_reason(error)}")
    _set_client_auth(path, tls, context)
    return context


def _set_client_auth(path: Path, tls: _Tls, context: ssl.SSLContext) -> None:
    auth_key, ca_key = "tls_server_config.client_auth_type", "tls_server_config.client_ca_file"
    if tls.client_auth_type in _UNVERIFIED:
        _refuse(
            path, auth_key, f"{tls.client_auth_type} is not supported here: use RequireAndVerifyClientCert"
        )
    if tls.client_auth_type not in _CLIENT_AUTH:
        expected = ", ".join(name for name in _CLIENT_AUTH if name)
        _refuse(path, auth_key, f"{tls.client_auth_type!r}: expected one of {expected}")
    verify = _CLIENT_AUTH[tls.client_auth_type]
    if verify is ssl.CERT_NONE:
        if tls.client_ca_file:
            _refuse(path, ca_key, "has no effect without client_auth_type: RequireAndVerifyClientCert")
        return
    if not tls.client_ca_file:
        _refuse(path, ca_key, f"missing: client_auth_type {tls.client_auth_type} needs it")
    authority = path.parent / tls.client_ca_file
    _readable(path, ca_key, authority)
    try:
        context.load_verify_locations(authority)
    except OSError as error:
        _refuse(path, ca_key, f"{authority} has no certificate in PEM: {_reason(error)}")
    context.verify_mode = verify


def _version(path: Path, key: str, name: str) -> ssl.TLSVersion:
    if name in _OLD_VERSIONS:
        _refuse(path, key, f"{name} is not supported here: it is broken; use TLS12 or TLS13")
    if name not in _VERSIONS:
        _refuse(path, key, f"{name!r}: expected {' or '.join(_VERSIONS)}")
    return _VERSIONS[name]


def _cipher(path: Path, name: str) -> str:
    key = "tls_server_config.cipher_suites"
    if name in _TLS13_CIPHERS:
        _refuse(path, key, f"{name}: those of TLS 1.3 cannot be chosen, all of them are on; remove it")
    if name not in _CIPHERS:
        near = difflib.get_close_matches(name, _CIPHERS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(_CIPHERS)}"
        _refuse(path, key, f"unknown cipher {name!r}; {hint}")
    return _CIPHERS[name]


def _readable(path: Path, key: str, file: Path) -> None:
    try:
        file.open("rb").close()
    except OSError as error:
        _refuse(path, key, f"{file}: {error.strerror}")
    except ValueError as error:  # a name with a NUL
        _refuse(path, key, f"{file}: {error}")


def _reason(error: Exception) -> str:
    return getattr(error, "reason", None) or str(error)
