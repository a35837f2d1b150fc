#!/bin/sh
# Installs the runtimes whose spawns tests/live/test_runtimes.py traces, from the distribution, to /usr/bin:
#
#     config/setup-runtimes.sh
#
# Safe to repeat, and quick when nothing is left to do. A runtime that is there already, from whatever
# package of that name, stays as it is. Exit status 2: something that only the operator can put right.
set -eu

. "$(dirname "$0")/packages.sh"

# gcc and libc6-dev link what go and rustc compile; python3-gi calls GLib's g_spawn.
set -- bash default-jdk-headless gcc git golang-go libc6-dev nodejs perl python3-gi ruby rustc tcl

distribution_is debian ||
    die "'$ID' is not Debian or its like: tests of other runtimes need Debian's packages $*"
debian_packages "$@"
