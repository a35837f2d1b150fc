#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Regenerates config/requirements*.txt: the dependencies in pyproject.toml and theirs, with the hashes of all their
# files, for every machine. Locked versions stay, unless pyproject.toml or an option asks for another one:
#
#     config/lock.sh [--upgrade | --upgrade-package NAME]
#
#     requirements.txt         the image and the checkout, Python 3.9 and later
#     requirements-dev.txt     these and the tests, Python 3.11 and later
#     requirements-ansible.txt Ansible and its linter, Python 3.11 and later
#     requirements-oldest.txt  the unit tests on Python 3.9, with the oldest versions that pyproject.toml allows
#     requirements-newest.txt  the unit tests on the newest Python, with the versions of requirements-dev.txt
set -eu

# shellcheck source=config/packages.sh
. "$(dirname "$0")/packages.sh"
cd "$(dirname "$0")/.."

uv=.cache/uv/bin/uv
version=0.13.8
if ! $uv --version 2>/dev/null | grep -qF " $version "; then
    say "installing uv into .cache"
    /usr/bin/python3 -m venv --clear .cache/uv
    .cache/uv/bin/pip install -qq --disable-pip-version-check "uv==$version" || die "could not install uv: see above"
fi
export UV_CUSTOM_COMPILE_COMMAND='make lock'
set -- -q pip compile --universal --generate-hashes --no-annotate "$@" pyproject.toml
$uv "$@" --python-version 3.9 --extra stacks --group install -o config/requirements.txt
$uv "$@" --python-version 3.11 --extra stacks --group install --group dev -c config/requirements.txt \
    -o config/requirements-dev.txt
$uv "$@" --python-version 3.11 --group ansible -c config/requirements-dev.txt \
    -o config/requirements-ansible.txt
$uv "$@" --python-version 3.9 --group unit-oldest --resolution lowest-direct -o config/requirements-oldest.txt
$uv "$@" --python-version 3.12 --group unit-newest -c config/requirements-dev.txt -o config/requirements-newest.txt
