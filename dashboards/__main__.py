# SPDX-License-Identifier: Apache-2.0
"""``python -m dashboards``: write the generated files."""

from __future__ import annotations

import argparse
from pathlib import Path

from dashboards.files import generated_files
from dashboards.runbook import DEFAULT_BASE


def main() -> None:
    """Write them into the project, or elsewhere."""
    parser = argparse.ArgumentParser(prog="python -m dashboards", description="Write the generated files.")
    parser.add_argument(
        "--runbooks", default=DEFAULT_BASE, metavar="URL", help="the folder with the runbooks"
    )
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    options = parser.parse_args()
    for path, text in generated_files(options.runbooks).items():
        file = options.out / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    main()
