# SPDX-License-Identifier: Apache-2.0
"""Check that a running agent traces: ``python -m agent.serve.health [CONFIG]``, a container HEALTHCHECK.

CONFIG and the environment select the address, as for the agent.  Exits with status 0 if the agent traces, or
with status 1 and one line if it does not or does not answer.
"""

from __future__ import annotations

import http.client
import logging
import os
import socket
import ssl
import sys
from pathlib import Path
from typing import Optional

from agent.settings import agentfile, webfile

__all__ = ["main", "why_unhealthy"]

_SECONDS = 5.0
_HEALTHY = (200, 401)  # 401: users are configured; the port closes when tracing ends


def why_unhealthy(web: agentfile.Web) -> Optional[str]:
    """One line if the agent does not answer or does not trace, else None.  Raises ConfigError."""
    connection = http.client.HTTPConnection(web.host, web.port, timeout=_SECONDS)
    where, can_refuse = web.listen, False
    if not web.host:
        connection, where = _UnixConnection(web.socket), web.socket
    elif web.config_file and webfile.load(Path(web.config_file)).tls is not None:
        context = ssl.create_default_context()
        context.check_hostname = False  # check whether it answers, not who it is
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(web.host, web.port, timeout=_SECONDS, context=context)
    try:
        connection.connect()
        # A server that asks for a client certificate closes the connection after the handshake.
        can_refuse = isinstance(connection, http.client.HTTPSConnection)
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except ssl.SSLError:
        return None
    except (OSError, http.client.HTTPException) as error:
        if can_refuse and isinstance(error, ConnectionError):
            return None
        return f"{where} does not answer: {error}"
    finally:
        connection.close()
    return None if status in _HEALTHY else f"{where} answers {status}: the agent does not trace"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(_SECONDS)
        self.sock.connect(self._path)


def main() -> None:
    """Run as a program."""
    logging.disable(logging.WARNING)  # the agent has logged the warnings about its configuration
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    try:
        failure = why_unhealthy(agentfile.load(path, os.environ).web)
    except agentfile.ConfigError as error:
        failure = str(error)
    if failure is not None:
        sys.exit(f"agent.serve.health: {failure}")


if __name__ == "__main__":
    main()
