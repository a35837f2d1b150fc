#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""An OpenSSH server, with a client that has not logged in yet, a command, and one on a terminal.

For each connection the server forks a child that executes the server again and keeps the write end of a pipe
until the client has logged in; the server polls the read end.  Prints what the commands print.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SSHD = "/usr/sbin/sshd"


def _key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _connection(port: int) -> socket.socket:
    deadline = time.monotonic() + 10
    while True:
        with contextlib.suppress(OSError):
            return socket.create_connection(("127.0.0.1", port), timeout=10)
        if time.monotonic() > deadline:
            raise TimeoutError("sshd does not listen")
        time.sleep(0.02)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", default="1.6", help="how long each command takes")
    options = parser.parse_args()
    Path("/run/sshd").mkdir(exist_ok=True)  # systemd makes it when it starts the service
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        host, user, port = _key(folder / "host"), _key(folder / "user"), _free_port()
        settings = {
            "ListenAddress": f"127.0.0.1:{port}",
            "AuthorizedKeysFile": f"{user}.pub",
            "PermitRootLogin": "yes",
            "StrictModes": "no",
            "UsePAM": "no",
            "PidFile": "none",
        }
        set_ = [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]
        server = subprocess.Popen([SSHD, "-D", "-f", "/dev/null", "-h", str(host), *set_])
        try:
            with _connection(port) as waiting:
                waiting.recv(100)  # the server's greeting
                client = ["ssh", "-F", "none", "-i", str(user), "-p", str(port), "-o", "LogLevel=ERROR"]
                client += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
                client += [f"{getpass.getuser()}@127.0.0.1"]
                command = f"sleep {options.seconds}; echo done"
                logins = [
                    subprocess.Popen([*client, *pty, command], stdin=subprocess.DEVNULL)
                    for pty in ([], ["-tt"])
                ]
                status = [login.wait(60) for login in logins]
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(10)
    sys.exit(any(status))


if __name__ == "__main__":
    main()
