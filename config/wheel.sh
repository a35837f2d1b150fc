#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the wheel into a folder, from the files that git knows:
#
#     config/wheel.sh [FOLDER]    # default: dist
#
# The same files, Python and setuptools make the same bytes, whoever builds it and where: names are sorted, modes
# do not depend on the checkout, and times are SOURCE_DATE_EPOCH, by default that of the latest commit.
set -eu
umask 022

# shellcheck source=config/packages.sh
. "$(dirname "$0")/packages.sh"
wheels=$(realpath -m "${1:-dist}")
cd "$(dirname "$0")/.."
python=$(realpath -s "${PYTHON:-.venv/bin/python}")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
copy_source "$folder"
cd "$folder"
$python -m pip wheel -q --disable-pip-version-check --no-index --no-deps --no-build-isolation --wheel-dir "$wheels" . ||
    die "could not build the wheel: see above"
