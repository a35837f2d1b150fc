"""``python -m agent.serve.health [CONFIG]`` asks a running agent whether it traces: a container HEALTHCHECK.

CONFIG and the environment say where it serves, as they do for the agent.  Exit status 0: it traces; 1: it
does not, or does not answer, said in one line.
"""

from __future__ import annotations

import http.client
import os
import ssl
import sys
from pathlib import Path
from typing import Optional

from agent.settings import agentfile, webfile

__all__ = ["main", "why_unhealthy"]

_SECONDS = 5.0
_WELL = (200, 401)  # 401: it has users, and serves them; it serves nobody once its tracing has ended


def why_unhealthy(web: agentfile.Web) -> Optional[str]:
    """None when the agent that serves there says that it traces, else one line.  Raises ConfigError."""
    connection = http.client.HTTPConnection(web.host, web.port, timeout=_SECONDS)
    if web.config_file and webfile.load(Path(web.config_file)).tls is not None:
        context = ssl.create_default_context()
        context.check_hostname = False  # the question is whether it answers, not who it is
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(web.host, web.port, timeout=_SECONDS, context=context)
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except ssl.SSLError:
        return None  # it wants a client's certificate: there is somebody who does
    except (OSError, http.client.HTTPException) as error:
        return f"{web.listen} does not answer: {error}"
    finally:
        connection.close()
    return None if status in _WELL else f"{web.listen} answers {status}: it does not trace"


def main() -> None:
    """Runs as a program, and exits."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    try:
        wrong = why_unhealthy(agentfile.load(path, os.environ).web)
    except agentfile.ConfigError as error:
        wrong = str(error)
    if wrong is not None:
        sys.exit(f"agent.serve.health: {wrong}")


if __name__ == "__main__":
    main()
