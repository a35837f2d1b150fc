#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Regenerates config/requirements.txt and config/requirements-dev.txt: the dependencies in pyproject.toml and
# theirs, with the hashes of all their files, for every Python and machine. Locked versions stay, unless
# pyproject.toml or an option asks for another one:
#
#     config/lock.sh [--upgrade | --upgrade-package NAME]
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
set -- -q pip compile --universal --generate-hashes --no-annotate "$@" pyproject.toml --group install
$uv "$@" --python-version 3.9 --extra stacks -o config/requirements.txt
$uv "$@" --python-version 3.11 --extra stacks --extra dev -c config/requirements.txt -o config/requirements-dev.txt
