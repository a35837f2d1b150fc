#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Look-alikes: the everyday work of shells. Command substitutions, pipelines and background jobs
# create pipes and fork, and the shell blocks in read on *data* pipes; none of these is an errpipe. Runs
# in sh, and then in bash if it is installed, there also with process substitution and job control
# (whose pipelines have a pipe that the *child* reads).
#
#     shell_loop.sh [--loops 3] [--sleep 0.2]
#
# Prints JSON lines: one {"kind": "shell", ...} per shell, then done.

loops=3
sleep=0.2
inner=
while [ $# -gt 0 ]; do
    case $1 in
    --loops) loops=$2; shift 2 ;;
    --sleep) sleep=$2; shift 2 ;;
    --inner) inner=1; shift ;;
    *) echo "usage: $0 [--loops N] [--sleep SECONDS]" >&2; exit 2 ;;
    esac
done

once() {
    x=$(sleep "$sleep"; echo hi)
    [ "$x" = hi ] || exit 1
    last=$(seq 100 | sort | tail -1)
    [ "$last" = 99 ] || exit 1
    seq 100 | sort | tail -1 >/dev/null
    sleep "$sleep" &
    (sleep "$sleep"; exit 0) &
    wait
    x=$(
        cat <<END
here
END
    )
    [ "$x" = here ] || exit 1
}

count=0
while [ "$count" -lt "$loops" ]; do
    once
    if [ -n "$inner" ]; then
        bash -c 'set -m; seq 100 | sort | tail -1 >/dev/null' || exit 1
        bash -c 'read -r x < <(echo hi); [ "$x" = hi ]' || exit 1
    fi
    count=$((count + 1))
done

shell='sh'
[ -z "$inner" ] || shell=bash
echo "{\"kind\": \"shell\", \"shell\": \"$shell\", \"pid\": $$, \"loops\": $count}"
if [ -z "$inner" ]; then
    if command -v bash >/dev/null; then
        bash "$0" --inner --loops "$loops" --sleep "$sleep" || exit 1
    fi
    echo '{"kind": "done", "spawns": 0}'
fi
