"""These use the fixtures of the live tests; they are not part of `make test` yet (see README.md)."""

from __future__ import annotations

from tests.live.conftest import lab, native_storm, python27

__all__ = ["lab", "native_storm", "python27"]
