# SPDX-License-Identifier: Apache-2.0
"""Which requests come from a web site of somebody else, through the browser of a user of this host.

Such a site cannot connect to the loopback itself, but the browser can.  By *DNS rebinding*, the site's own
name comes to mean 127.0.0.1, so that the browser takes the agent for a part of the site and lets it read the
responses.  The name stays in the Host header.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from typing import Any
from urllib.parse import urlsplit

__all__ = ["is_accepted_host", "is_cross_site", "is_loopback"]

_HOST = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::[0-9]{0,5})?")


def is_accepted_host(host: str, names: Collection[str]) -> bool:
    """Whether a Host header has an IP address, ``localhost``, this host's name or one of names.

    host: "" if there is none, as no browser sends it.  names: in lower case.
    """
    if not host:
        return True
    match = _HOST.fullmatch(host)
    if match is None:
        return False
    name = (match[1] or match[2]).lower()
    if _is_address(name):
        return True
    own = socket.gethostname().lower()
    return name.removesuffix(".") in {"localhost", own, own.partition(".")[0], *names}


def is_cross_site(environ: Mapping[str, Any]) -> bool:
    """Whether a browser sends this request for a page of another origin, other than to follow a link.

    environ: of WSGI.  See https://developer.mozilla.org/docs/Web/HTTP/Headers/Sec-Fetch-Site.
    """
    origin = environ.get("HTTP_ORIGIN")
    if origin is not None and not _has_host(origin, environ.get("HTTP_HOST", "")):
        return True
    follows_link = (
        environ.get("HTTP_SEC_FETCH_MODE") == "navigate" and environ.get("HTTP_SEC_FETCH_DEST") == "document"
    )
    return environ.get("HTTP_SEC_FETCH_SITE") in ("cross-site", "same-site") and not follows_link


def is_loopback(address: str) -> bool:
    """Whether only this host can connect to an IP address."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None)
    return (mapped or found).is_loopback


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _has_host(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower() != ""
    except ValueError:
        return False
