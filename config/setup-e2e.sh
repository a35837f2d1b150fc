#!/bin/sh
# Installs what tests/e2e runs, from the distribution: Prometheus, promtool, Alertmanager and
# Chromium.
#
#     config/setup-e2e.sh
#
# Safe to repeat, and quick when nothing is left to do. The tests start servers of their own on free
# ports; where systemd runs, the packages start theirs on 9090 and 9093 too (`systemctl disable --now
# prometheus prometheus-alertmanager` stops them). Exit status 2: something that only the operator can
# put right.
set -eu

. "$(dirname "$0")/packages.sh"

# Chromium draws the page; without a font it has no text.
set -- chromium fonts-dejavu-core prometheus prometheus-alertmanager
distribution_is debian || die "'$ID' is not Debian or its like: the end-to-end tests need Debian's packages $*"
debian_packages "$@"
