#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Lays out the files of the RPM and the deb below a folder, from the current source:
#
#     config/layout.sh ROOT
#
# Run by config/rpm/spawnstall.spec and config/deb/rules. Needs only a shell and coreutils, so that the packages can
# be built where setuptools is too old for the wheel (RHEL 9). ZSH: where zsh looks for completions.
set -eu
umask 022

[ $# = 1 ] || { echo "usage: config/layout.sh ROOT" >&2; exit 2; }
root=$(realpath -m "$1")
zsh=${ZSH:-/usr/share/zsh/site-functions}
cd "$(dirname "$0")/.."

# Copies the files "$@" to the folder $1 of the package, with their paths.
copy_paths() {
    folder=$root$1
    shift
    for path; do install -D -m 644 -p "$path" "$folder/$path"; done
}

# A folder that no other program imports from.
private=/usr/lib/spawnstall
find agent probes -name __pycache__ -prune -o -type f ! -name '*.md' -print | LC_ALL=C sort | while read -r path; do
    copy_paths $private "$path"
done
copy_paths $private spawnstall.py
install -D -m 755 -p config/launcher.py "$root/usr/bin/trace-popen"

install -D -m 644 -p config/agent.yaml "$root/etc/spawnstall/agent.yaml"
unit=$root/usr/lib/systemd/system/spawnstall.service
mkdir -p "${unit%/*}"
sed 's|/opt/spawnstall/bin/|/usr/bin/|' config/systemd/spawnstall.service >"$unit"

for page in config/manual/*.[1-9]; do
    install -D -m 644 -p -t "$root/usr/share/man/man${page##*.}" "$page"
done
for completion in config/manual/*.bash; do
    name=$(basename "$completion" .bash)
    install -D -m 644 -p "$completion" "$root/usr/share/bash-completion/completions/$name"
done
install -D -m 644 -p -t "$root$zsh" config/manual/_*

share=$root/usr/share/spawnstall
install -D -m 644 -p -t "$share" config/snapshot/snapshot.py
install -D -m 644 -p -t "$share/seccomp" config/seccomp/*
install -D -m 644 -p -t "$share/prometheus" config/prometheus/*
install -D -m 644 -p -t "$share/dashboards" dashboards/generated/*.json
for folder in dashboards/provisioning/*; do
    install -D -m 644 -p -t "$share/provisioning/${folder##*/}" "$folder"/*
done

copy_paths /usr/share/doc/spawnstall README.md CHANGELOG.md agent/cli/TRACE-POPEN.md agent/reports/JSON.md \
    agent/serve/HTTP.md agent/serve/METRICS.md config/SIZING.md probes/LIMITS.md dashboards/runbooks/*.md
