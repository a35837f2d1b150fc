# Shell functions for installing distribution packages. Sourced by the setup scripts beside it.

say() { echo "$(basename "$0" .sh): $*" >&2; }
die() { say "$*"; exit 2; }

ID='' ID_LIKE=''
if [ -r /etc/os-release ]; then . /etc/os-release; fi
# Of the family that $1 names (debian, rhel, ...)?
distribution_is() { case " $ID $ID_LIKE " in *" $1 "*) ;; *) return 1 ;; esac; }

# Installs "$@" as root by the given shell function, or says what to do.
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
    apt-get -qq update || say "apt-get update failed, going on with the package lists that are here"
    apt-get -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 install "$@"
}

# Installs those of "$@" that are not there, on Debian and its like.
debian_packages() {
    there=$(dpkg-query -W -f ' ${Package}=${db:Status-Status}' "$@" 2>/dev/null) || :
    for package; do
        shift
        case "$there " in
        *" $package=installed "*) ;;
        *) set -- "$@" "$package" ;;
        esac
    done
    install_by by_apt "$@"
}
