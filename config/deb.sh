#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the deb into a folder, from the files that git knows:
#
#     config/deb.sh [FOLDER]    # default: dist
#
# The same files and debhelper make the same bytes, whoever builds it and where; times are SOURCE_DATE_EPOCH, by
# default that of the latest commit. Needs debhelper and dh-python (make setup-packages).
set -eu
umask 022

# shellcheck source=config/packages.sh
. "$(dirname "$0")/packages.sh"
mkdir -p "${1:-dist}"
built=$(realpath "${1:-dist}")
cd "$(dirname "$0")/.."
command -v dh_python3 >/dev/null || die "no debhelper: install debhelper and dh-python"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
copy_source "$folder/source"
cd "$folder/source"
cp -r config/deb debian
chmod +x debian/rules
cat >debian/changelog <<EOF
spawnstall ($(version_of .)) unstable; urgency=medium

  * See /usr/share/doc/spawnstall/CHANGELOG.md.

 -- $(sed -n 's/^Maintainer: //p' debian/control)  $(date -u -R -d "@$SOURCE_DATE_EPOCH")
EOF
dpkg-buildpackage --build=binary --no-sign >"$folder/log" 2>&1 || { cat "$folder/log" >&2; die "could not build the deb: see above"; }
mv "$folder"/*.deb "$built"
