#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checks every locked package for known vulnerabilities (pip-audit, with PyPI's advisories). Exit status 1 if it
# finds one, 2 if it could not ask: then nothing is known, and one line says so.
#
#     config/audit.sh
set -eu

# shellcheck source=config/packages.sh
. "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")/.."

audit=.cache/audit/bin/pip-audit
version=2.10.1
advisories=https://pypi.org/pypi/pip/26.1/json
/usr/bin/python3 -c 'import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=20).close()' $advisories 2>/dev/null ||
    die "nothing was checked: cannot ask PyPI for advisories ($advisories)"
if ! $audit --version 2>/dev/null | grep -qF " $version"; then
    say "installing pip-audit into .cache"
    /usr/bin/python3 -m venv --clear .cache/audit
    .cache/audit/bin/pip install -qq --disable-pip-version-check "pip-audit==$version" ||
        die "nothing was checked: could not install pip-audit, see above"
fi
exec $audit --strict --disable-pip --require-hashes -r config/requirements.txt -r config/requirements-dev.txt \
    -r config/requirements-ansible.txt
