# SPDX-License-Identifier: Apache-2.0
"""Escapes names that processes choose for themselves.

The function is in ``snapshot.py``, which is copied to hosts as a single file and imports nothing of ours.
"""

from __future__ import annotations

from agent.snapshot import printable

__all__ = ["printable"]
