# SPDX-License-Identifier: Apache-2.0
"""``python -m dashboards``: write the generated files, or a mixin."""

from __future__ import annotations

import argparse
from pathlib import Path

from dashboards.files import generated_files
from dashboards.mixin import DEFAULT_CLUSTER_LABEL, DEFAULT_SELECTOR, mixin_files
from dashboards.runbook import DEFAULT_BASE


def main() -> None:
    """Write the generated files into the project, or a mixin into a folder."""
    parser = argparse.ArgumentParser(
        prog="python -m dashboards", description="Write the generated files, or a mixin."
    )
    parser.add_argument(
        "--runbooks", default=DEFAULT_BASE, metavar="URL", help="the folder with the runbooks"
    )
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="the project's folder")
    mixin = parser.add_argument_group("mixin")
    mixin.add_argument("--mixin", type=Path, metavar="DIR", help="write only a mixin, into DIR")
    mixin.add_argument(
        "--selector",
        default=DEFAULT_SELECTOR,
        metavar="MATCHERS",
        help="label matchers that select the agents and no other target (default: %(default)s)",
    )
    mixin.add_argument(
        "--cluster-label",
        default=DEFAULT_CLUSTER_LABEL,
        metavar="LABEL",
        help="the label that tells clusters apart (default: %(default)s)",
    )
    options = parser.parse_args()
    if options.mixin is None:
        folder, files = options.out, generated_files(options.runbooks)
    else:
        folder = options.mixin
        try:
            files = mixin_files(options.runbooks, options.selector, options.cluster_label)
        except ValueError as error:
            parser.error(str(error))
    for path, text in files.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


if __name__ == "__main__":
    main()
