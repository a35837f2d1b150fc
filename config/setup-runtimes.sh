#!/bin/sh
# Installs the runtimes whose spawns tests/live/test_runtimes.py traces, from the distribution, to /usr/bin:
#
#     config/setup-runtimes.sh
#
# Safe to repeat, and quick when nothing is left to do. A runtime that is there already, from whatever
# package of that name, stays as it is. Exit status 2: something that only the operator can put right.
set -eu

say() { echo "setup-runtimes: $*" >&2; }
die() { say "$*"; exit 2; }

# gcc and libc6-dev link what go and rustc compile; python3-gi calls GLib's g_spawn.
set -- bash default-jdk-headless gcc git golang-go libc6-dev nodejs perl python3-gi ruby rustc tcl

ID='' ID_LIKE=''
if [ -r /etc/os-release ]; then . /etc/os-release; fi
case " $ID $ID_LIKE " in
*" debian "*) ;;
*) die "'$ID' is not Debian or its like: tests of other runtimes need Debian's packages $*" ;;
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
