#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The own child is killed in its preexec_fn; a worker that was forked meanwhile blocks the parent.

Prints the spawn, with "worker".
"""

from __future__ import annotations

import os
import signal
import threading
import time
from typing import Any

from _spawns import TRUE, HookedEnv, done, spawn

_KEEP = 1.5


def main() -> None:
    fields: dict[str, Any] = {}

    def fork() -> None:
        pid = os.fork()
        if pid == 0:
            time.sleep(_KEEP)
            os._exit(0)
        fields["worker"] = pid

    def hook() -> None:
        thread = threading.Thread(target=fork)
        thread.start()
        thread.join()

    def die() -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    spawn(TRUE, fields, env=HookedEnv(hook), preexec_fn=die)
    done()


if __name__ == "__main__":
    main()
