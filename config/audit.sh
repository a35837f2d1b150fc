#!/bin/sh
# Asks PyPI for known vulnerabilities of everything that is locked (pip-audit). Exit status 1: there are some;
# 0, and a line that says so: PyPI's advisories cannot be reached.
#
#     config/audit.sh
set -eu

. "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")/.."

audit=.cache/audit/bin/pip-audit
version=2.10.1
if ! /usr/bin/python3 -c 'import urllib.request
urllib.request.urlopen("https://pypi.org/pypi/pip/26.0.1/json", timeout=20).close()' 2>/dev/null; then
    say "not done: the advisories of https://pypi.org cannot be reached from here"
    exit 0
fi
if ! $audit --version 2>/dev/null | grep -qF " $version"; then
    say "installing pip-audit into .cache"
    /usr/bin/python3 -m venv --clear .cache/audit
    .cache/audit/bin/pip install -qq --disable-pip-version-check "pip-audit==$version" ||
        die "could not install pip-audit: see above"
fi
exec $audit --strict --disable-pip --require-hashes -r config/requirements.txt -r config/requirements-dev.txt
