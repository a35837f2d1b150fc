#!/bin/sh
# Installs what tests/e2e drives, from the distribution, to /usr/bin:
#
#     config/setup-e2e.sh
#
# Safe to repeat, and quick when nothing is left to do. Exit status 2: something that only the operator can
# put right.
set -eu

say() { echo "setup-e2e: $*" >&2; }
die() { say "$*"; exit 2; }

# Chromium draws the page; without a font it has no text.
set -- chromium fonts-dejavu-core

ID='' ID_LIKE=''
if [ -r /etc/os-release ]; then . /etc/os-release; fi
case " $ID $ID_LIKE " in
*" debian "*) ;;
*) die "'$ID' is not Debian or its like: end-to-end tests need Debian's packages $*" ;;
esac

there=$(dpkg-query -W -f ' ${Package}=${db:Status-Status}' "$@" 2>/dev/null) || :
for package; do
    shift
    case "$there " in
    *" $package=installed "*) ;;
    *) set -- "$@" "$package" ;;
    esac
done
[ $# -gt 0 ] || exit 0

[ "$(id -u)" = 0 ] || die "not root: run this as root, or have these packages installed: $*"
say "installing $*"
export DEBIAN_FRONTEND=noninteractive
apt-get -qq update || say "apt-get update failed, going on with the package lists that are here"
apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@" >/dev/null ||
    die "could not install $*: see above"
