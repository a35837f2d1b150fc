# SPDX-License-Identifier: Apache-2.0
"""Draw the generated dashboards with Grafana's own panel components, and save a picture of each.

    config/setup.sh preview
    .venv/bin/python -m dashboards.preview.preview

A Prometheus is back-filled with a simulated fleet (simulate.py) and the recording rules; a headless Chromium
draws dashboards/generated/*.json from it to dashboards/*.png. The heatmaps only resemble Grafana's.
"""

from __future__ import annotations

import json
import math
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from dashboards.preview.servers import prometheus
from dashboards.preview.simulate import STALLING_HOST, openmetrics

_FOLDER = Path(__file__).parent
_ROOT = _FOLDER.parent.parent
_SECONDS = 3 * 3600
_WIDTH, _ROW = 1600, 36
_RULE_PASSES = 4  # the depth of rules that read rules: ratios, slow spawns, all spawns, buckets


def main() -> None:
    """Draw both pictures."""
    until = math.floor(time.time()) // 60 * 60
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _bundle(folder)
        _fill(folder, until)
        with prometheus(folder, {}) as port:
            for file in sorted((_ROOT / "dashboards" / "generated").glob("*.json")):
                board = json.loads(file.read_text())
                _draw(folder, board, port, until, _ROOT / "dashboards" / f"{file.stem}.png")


def _bundle(folder: Path) -> None:
    loaders = [f"--loader:.{kind}=dataurl" for kind in ("svg", "ttf", "woff2")]
    command = [
        "node_modules/.bin/esbuild",
        "page.jsx",
        "--bundle",
        f"--outfile={folder / 'page.js'}",
        *loaders,
    ]
    command.append("--alias:react-custom-scrollbars-2=./scrollbars.js")
    subprocess.run([*command, '--define:process.env.NODE_ENV="production"'], cwd=_FOLDER, check=True)


def _fill(folder: Path, until: int) -> None:
    """Add the raw samples, then the recording rules; each pass reads what the pass before recorded."""
    text, data = folder / "fleet.txt", folder / "prometheus"
    since = until - _SECONDS
    with text.open("w") as out:
        out.writelines(f"{line}\n" for line in openmetrics(since, until))
    backfill = ["promtool", "tsdb", "create-blocks-from"]
    _quietly([*backfill, "openmetrics", str(text), str(data)])
    rules = str(_ROOT / "config" / "prometheus" / "recording.yaml")
    for _ in range(_RULE_PASSES):
        with prometheus(folder, {}) as port:
            span = [f"--start={since}", f"--end={until}", "--eval-interval=60s"]
            url = f"--url=http://127.0.0.1:{port}"
            _quietly([*backfill, "rules", *span, url, f"--output-dir={data}", rules])


def _draw(folder: Path, board: dict[str, Any], port: int, until: int, picture: Path) -> None:
    instance = ".*" if board["uid"] == "spawnstall-fleet" else STALLING_HOST
    preview = {
        "dashboard": board,
        "prometheus": f"http://127.0.0.1:{port}",
        "variables": {
            "cluster": ".*",
            "job": "spawnstall",
            "instance": instance,
            "__rate_interval": "5m",
            "__range": "3h",
        },
        "from": until - _SECONDS,
        "to": until,
        "step": 60,
        "width": _WIDTH,
    }
    page = folder / f"{picture.stem}.html"
    page.write_text(
        '<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="page.css">'
        '<style>* { box-sizing: border-box }</style><div id="page" '
        'style="padding: 0 8px"></div>'
        f'<script>window.PREVIEW = {json.dumps(preview)}</script><script src="page.js"></script>'
    )
    rows = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
    chromium = "chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync"
    quiet = "--disable-background-networking --disable-component-update --hide-scrollbars"
    _quietly(
        [
            *chromium.split(),
            *quiet.split(),
            "--virtual-time-budget=60000",
            f"--user-data-dir={folder / 'chromium'}",
            f"--window-size={_WIDTH + 16},{rows * _ROW + 56}",
            f"--screenshot={picture}",
            page.as_uri(),
        ]
    )
    _quietly(["pngquant", "--force", f"--output={picture}", "64", str(picture)])


def _quietly(command: list[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=600)


if __name__ == "__main__":
    main()
