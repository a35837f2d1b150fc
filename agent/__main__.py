# SPDX-License-Identifier: Apache-2.0
"""Runs ``trace-popen`` as ``python -m agent``."""

from agent.cli.main import main

if __name__ == "__main__":
    main()
