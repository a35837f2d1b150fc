#!/bin/sh
# Installs what tests/e2e and tests/unit/test_fleet_files.py run, from the distribution: Prometheus, promtool,
# Alertmanager, Chromium, podman, debootstrap, docker-compose and systemd-analyze; and podman's quadlet from
# Debian 13, as .cache/quadlet (Debian 12 has none).
#
#     config/setup-e2e.sh
#
# Safe to repeat, and quick when nothing is left to do. The tests start servers of their own on free
# ports; where systemd runs, the packages start theirs on 9090 and 9093 too (`systemctl disable --now
# prometheus prometheus-alertmanager` stops them). Exit status 2: something that only the operator can
# put right.
set -eu

. "$(dirname "$0")/packages.sh"

# Chromium draws the page; without a font it has no text.
set -- chromium fonts-dejavu-core prometheus prometheus-alertmanager
# uidmap and what follows it: podman without its recommended network.
set -- "$@" podman runc debootstrap uidmap conmon catatonit docker-compose systemd
distribution_is debian || die "'$ID' is not Debian or its like: the end-to-end tests need Debian's packages $*"
debian_packages "$@"

cd "$(dirname "$0")/.."
[ ! -x .cache/quadlet ] || exit 0
say "getting quadlet from Debian 13"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p .cache "$folder/lists/partial" "$folder/archives/partial"
signed_by=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [signed-by=$signed_by] http://deb.debian.org/debian trixie main" >"$folder/sources.list"
# Package lists of its own: those of the machine stay as they are.
(
    cache=$PWD/.cache
    cd "$folder"
    set -- -qq -o Dir::State::Lists="$folder/lists" -o Dir::Cache::archives="$folder/archives" \
        -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root \
        -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null
    apt-get "$@" update && apt-get "$@" download podman >/dev/null && dpkg-deb -x podman_*.deb podman &&
        mv podman/usr/libexec/podman/quadlet "$cache/quadlet"
) || die "could not get quadlet: see above"
