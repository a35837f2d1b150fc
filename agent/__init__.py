# SPDX-License-Identifier: Apache-2.0
"""The user-space side: diagnosis, reports, the agent and ``trace-popen``."""

__all__ = ["__version__"]

__version__ = "0.2.0"
