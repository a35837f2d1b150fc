#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts ``trace-popen`` and the pytest plugin with the packages beside this file.

``agent`` and ``probes`` are common names.  A package of that name in PYTHONPATH, in the current folder or in
another site-packages must not be imported in place of ours, nor ours in place of that of a pytest.
"""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

__all__ = ["main"]


def __getattr__(name: str) -> ModuleType:
    """The module ``pytestplugin``, the entry point for pytest, which asks for it as an attribute."""
    if name != "pytestplugin":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    path = Path(__file__).resolve().parent / "agent" / "pytestplugin.py"
    spec = importlib.util.spec_from_file_location("spawnstall_pytestplugin", path)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    globals()[name] = module
    return module


def main() -> None:
    """Run trace-popen and exit."""
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from agent.cli.main import main

    main()


if __name__ == "__main__":
    main()
