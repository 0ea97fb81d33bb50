#!/bin/bash
# SPDX-License-Identifier: MIT
# Goal: README's example runs and limits. Method: 25 calls on a fresh segment, then 25 of a second
# process at once: 20 pass, and of the second's only what has refilled (one in 0.6 s).
# usage: minimal_test.sh MINIMAL
set -euo pipefail

segment="minimal-test-$$"
trap 'rm -f "/dev/shm/${segment}"' EXIT
first=$("$1" "${segment}" | grep -c ' allowed')
start=${SECONDS}
second=$("$1" "${segment}" | grep -c ' allowed' || true)
bound=$(((SECONDS - start + 2) * 2))
echo "first process: ${first} of 25 allowed; second: ${second}, at most ${bound}"
((first >= 20 && first <= 22 && second <= bound))
