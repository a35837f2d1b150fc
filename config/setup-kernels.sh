#!/bin/sh
# Installs what tests/kernels boots other kernels with, from the distribution: QEMU and busybox.
#
#     config/setup-kernels.sh
#
# Safe to repeat, and quick when nothing is left to do. The kernels themselves are fetched by the tests, to
# .cache/kernels. Exit status 2: something that only the operator can put right.
set -eu

. "$(dirname "$0")/packages.sh"

set -- qemu-system-x86 busybox-static
distribution_is debian || die "'$ID' is not Debian or its like: tests of other kernels need Debian's packages $*"
debian_packages "$@"
