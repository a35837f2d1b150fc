#!/bin/sh
# Installs what dashboards/preview needs to draw the dashboards (Debian): Prometheus, Chromium, pngquant, npm,
# and the packages of dashboards/preview/package.json.
#
#     config/setup-preview.sh
#
# Exit status 2: something that only the operator can put right.
set -eu

. "$(dirname "$0")/packages.sh"

set -- chromium fonts-inter pngquant prometheus
command -v npm >/dev/null || set -- "$@" npm # or one that came with another Node
distribution_is debian || die "'$ID' is not Debian or its like: the preview needs Debian's packages $*"
debian_packages "$@"
cd "$(dirname "$0")/../dashboards/preview"
npm install --silent --legacy-peer-deps --no-audit --no-fund --no-package-lock || die "npm could not install: see above"
