#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks every locked package for known vulnerabilities (pip-audit, with PyPI's advisories). Exit status 1 if it
# finds one. If PyPI cannot be reached, prints a line and exits with status 0.
#
#     config/audit.sh
set -eu

# shellcheck source=config/packages.sh
. "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")/.."

audit=.cache/audit/bin/pip-audit
version=2.10.1
if ! /usr/bin/python3 -c 'import urllib.request
urllib.request.urlopen("https://pypi.org/pypi/pip/26.0.1/json", timeout=20).close()' 2>/dev/null; then
    say "skipped: cannot reach https://pypi.org"
    exit 0
fi
if ! $audit --version 2>/dev/null | grep -qF " $version"; then
    say "installing pip-audit into .cache"
    /usr/bin/python3 -m venv --clear .cache/audit
    .cache/audit/bin/pip install -qq --disable-pip-version-check "pip-audit==$version" ||
        die "could not install pip-audit: see above"
fi
exec $audit --strict --disable-pip --require-hashes -r config/requirements.txt -r config/requirements-dev.txt
