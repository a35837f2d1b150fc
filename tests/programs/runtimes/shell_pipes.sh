#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Job control: each pipeline has a pgrp pipe, which the child reads and the parent closes. No errpipe.
set -m
for ((n = 0; n < 5; n++)); do
    /bin/true | /bin/true | /bin/cat
    value=$(/bin/echo hi)
done
echo "{\"kind\": \"done\", \"value\": \"$value\"}"
