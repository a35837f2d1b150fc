#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# git_spawn.sh --count COUNT --program PROGRAM: git runs PROGRAM for an alias. Only the child sets
# close-on-exec on the errpipe.
#
# git does not report how long its spawn took: "seconds" is the whole life of git, and "pid" is git's.
# PRELOAD is git's LD_PRELOAD; this shell has its own pipes.
[ "$1 $3" = "--count --program" ] || exit 2
count=$2 program=$4 n=0
while [ "$n" -lt "$count" ]; do
    start=$(date +%s%N)
    LD_PRELOAD=${PRELOAD:-} /usr/bin/git -c "alias.spawn=!$program" spawn 2>/dev/null &
    pid=$!
    failed=false
    wait $pid || failed=true
    end=$(date +%s%N)
    us=$(((end - start) / 1000))
    printf '{"kind": "spawn", "pid": %d, "child": null, "seconds": %d.%06d, "failed": %s}\n' \
        $pid $((us / 1000000)) $((us % 1000000)) $failed
    n=$((n + 1))
done
echo "{\"kind\": \"done\", \"spawns\": $count}"
