#!/bin/sh
# Installs what the agent needs on this machine, or with `dev` what its tests need too:
#
#     config/setup.sh run|dev
#
# Safe to repeat, and quick when nothing is left to do. Exit status 2: something that only the
# operator can put right, said in one line.
set -eu

. "$(dirname "$0")/packages.sh"

# bcc belongs to the distribution's Python; another one on PATH does not see it.
python=/usr/bin/python3
tracefs=/sys/kernel/tracing

by_dnf() { dnf -q -y --setopt=install_weak_deps=False install "$@"; }

# No kernel headers anywhere: probes/shim is all that bcc needs of them.
packages() {
    if distribution_is debian || distribution_is ubuntu; then
        set -- python3-bpfcc python3-venv
        [ "$mode" = run ] || set -- "$@" gcc libc6-dev openssl
        debian_packages "$@"
    elif distribution_is rhel || distribution_is fedora || distribution_is centos; then
        set -- python3 python3-bcc python3-pip
        [ "$mode" = run ] || set -- "$@" gcc glibc-devel openssl
        for package; do
            shift
            rpm -q --quiet "$package" || set -- "$@" "$package"
        done
        install_by by_dnf "$@"
    else
        $python -c 'import sys
from importlib.util import find_spec
sys.exit(not (find_spec("bcc") and find_spec("ensurepip")))' 2>/dev/null ||
            die "unknown distribution '$ID': install bcc (iovisor) and venv for $python, then run this again"
    fi
}

# The virtual environment, renewed when the project's needs, its packages (an editable install lists
# them), this script, the place or Python differ.
environment() {
    place="$PWD $(readlink -f $python)"
    wanted="$place $({ cat pyproject.toml config/setup.sh config/requirements*.txt; echo */__init__.py; } | cksum)"
    if [ "$(cat ".venv/.setup-$mode" 2>/dev/null)" = "$wanted" ]; then return 0; fi

    $python -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
        die "$python is older than 3.9: a newer distribution is needed, as bcc comes with its Python"
    if [ "$(cat .venv/.setup-place 2>/dev/null)" != "$place" ]; then
        say "making .venv"
        $python -m venv --clear --system-site-packages .venv
        echo "$place" >.venv/.setup-place
    fi
    pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install -qq"
    rm -f .venv/.setup-run .venv/.setup-dev
    locked=config/requirements.txt
    [ "$mode" = run ] || locked=config/requirements-dev.txt
    say "installing the project and what $locked lists into .venv"
    $pip --require-hashes -r $locked
    $pip --no-deps --no-build-isolation --editable .
    [ "$mode" = run ] || echo "$wanted" >.venv/.setup-dev
    echo "$wanted" >.venv/.setup-run
}

# Every time: a reboot unmounts it.
mount_tracefs() {
    if grep -q " $tracefs tracefs " /proc/self/mounts; then return 0; fi
    [ "$(id -u)" = 0 ] || die "tracefs is not mounted: as root, mount -t tracefs tracefs $tracefs"
    error=$(mount -t tracefs tracefs $tracefs 2>&1) ||
        die "cannot mount tracefs at $tracefs (in a container, pass the host's in): $(echo "$error" | head -n 1)"
}

mode=${1:-}
case $mode in run | dev) ;; *) die "usage: config/setup.sh run|dev" ;; esac
cd "$(dirname "$0")/.."
# One at a time in a checkout.
if [ "${SETUP_LOCKED:-}" != "$PWD" ]; then
    exec env SETUP_LOCKED="$PWD" flock --close config/setup.sh sh config/setup.sh "$mode" </dev/null
fi

packages
environment
if [ "$mode" = run ]; then
    mount_tracefs
else
    (mount_tracefs) || say "so live tests cannot run"
fi
