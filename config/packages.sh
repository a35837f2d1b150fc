# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Shell functions that the scripts beside it source: messages, and the distribution's packages.

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
