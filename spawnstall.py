#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts ``trace-popen`` with the packages beside this file.

``agent`` and ``probes`` are common names.  A package of that name in PYTHONPATH, in the current folder or in
another site-packages must not be imported in place of ours.
"""

import sys
from pathlib import Path

__all__ = ["main"]


def main() -> None:
    """Run trace-popen and exit."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from agent.cli.main import main

    main()


if __name__ == "__main__":
    main()
