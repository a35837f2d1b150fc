#!/bin/sh
# Installs the peers that tests/bench measures beside, from the distribution (Debian): bpftrace, execsnoop of bcc
# and of libbpf-tools, strace and perf.
#
#     config/setup-bench.sh
#
# Safe to repeat, and quick when nothing is left to do. Exit status 2: something that only the operator can
# put right.
set -eu

. "$(dirname "$0")/packages.sh"

set -- bpftrace bpfcc-tools libbpf-tools strace linux-perf
distribution_is debian || die "'$ID' is not Debian or its like: the benchmarks' peers are Debian's packages $*"
debian_packages "$@"
