#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the RPM into a folder, from the files that git knows:
#
#     config/rpm.sh [FOLDER]    # default: dist
#
# The same files and rpm make the same bytes, whoever builds it and where; times are SOURCE_DATE_EPOCH, by default
# that of the latest commit. Needs rpmbuild: the package rpm of Debian (make setup-packages), rpm-build of RHEL.
set -eu
umask 022

# shellcheck source=config/packages.sh
. "$(dirname "$0")/packages.sh"
mkdir -p "${1:-dist}"
built=$(realpath "${1:-dist}")
cd "$(dirname "$0")/.."
command -v rpmbuild >/dev/null || die "no rpmbuild: install rpm (Debian) or rpm-build (RHEL)"

version=$(version_of .)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
copy_source "$folder/spawnstall-$version"
tar -c -C "$folder" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" "spawnstall-$version" |
    gzip -n >"$folder/spawnstall-$version.tar.gz"
# --nodeps: Debian's rpm knows none of Debian's packages.
nodeps=''
if distribution_is debian; then nodeps=--nodeps; fi
log=$folder/log
rpmbuild -bb --quiet $nodeps --define "_topdir $folder/rpmbuild" --define "_sourcedir $folder" \
    --define "_rpmdir $folder/rpms" --define "_rpmfilename %%{NAME}-%%{VERSION}-%%{RELEASE}.%%{ARCH}.rpm" \
    "$folder/spawnstall-$version/config/rpm/spawnstall.spec" >"$log" 2>&1 || { cat "$log" >&2; die "could not build the RPM: see above"; }
mv "$folder"/rpms/*.rpm "$built"
