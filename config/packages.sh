# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Shell functions that the scripts beside it source: messages, the distribution's packages, and what is built.

say() { echo "$(basename "$0" .sh): $*" >&2; }
die() { say "$*"; exit 2; }

ID='' ID_LIKE=''
# shellcheck source=/dev/null
if [ -r /etc/os-release ]; then . /etc/os-release; fi
# Does the distribution belong to the family $1 (debian, rhel, ...)?
distribution_is() { case " $ID $ID_LIKE " in *" $1 "*) ;; *) return 1 ;; esac; }

# Installs the packages "$@" with the shell function $1. Dies if this is not root.
install_by() {
    installer=$1
    shift
    [ $# -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "not root: run this as root, or have these packages installed: $*"
    say "installing $*"
    "$installer" "$@" >/dev/null || die "could not install $*: see above"
}

by_apt() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq update || say "apt-get update failed, continuing with the existing package lists"
    apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"
}

by_dnf() { dnf -q -y --setopt=install_weak_deps=False install "$@"; }

# Installs those of the packages "$@" that are missing. For Debian and its derivatives.
debian_packages() {
    present=$(dpkg-query -W -f ' ${Package}=${db:Status-Status}' "$@" 2>/dev/null) || :
    for package; do
        shift
        case "$present " in
        *" $package=installed "*) ;;
        *) set -- "$@" "$package" ;;
        esac
    done
    install_by by_apt "$@"
}

# The same for RHEL, CentOS and Fedora.
rpm_packages() {
    for package; do
        shift
        rpm -q --quiet "$package" || set -- "$@" "$package"
    done
    install_by by_dnf "$@"
}

# Copies the files that git knows from the current folder to $1, with modes and times that do not depend on the
# checkout. Sets SOURCE_DATE_EPOCH, by default to the time of the latest commit.
copy_source() {
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)} || die "not a git checkout: set SOURCE_DATE_EPOCH"
    export SOURCE_DATE_EPOCH
    mkdir -p "$1"
    git ls-files -z | tar -c --null -T - --mode=u=rwX,go=rX --mtime="@$SOURCE_DATE_EPOCH" |
        tar -x -C "$1" --no-same-owner
}

# Prints the project's version, from the folder $1.
version_of() { sed -n 's/^version = "\(.*\)"$/\1/p' "$1/pyproject.toml"; }
