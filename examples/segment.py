#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the demo asks of a segment, read from the JSON of `brim dump` and `brim info`.

usage: segment.py BRIM SEGMENT keys POLICY           KEY REMAINING, one line for each key
       segment.py BRIM SEGMENT taken POLICY KEY...   permits these keys have used
       segment.py BRIM SEGMENT wait-taken POLICY N KEY...   the same, once it is N or more
       segment.py BRIM SEGMENT counter POLICY NAME   a counter of the policy
"""

import json
import subprocess
import sys
import time

WAIT_S = 60


def ask(brim, command, segment):
    return json.loads(subprocess.run([brim, command, segment, "--format", "json"], check=True,
                                     stdout=subprocess.PIPE).stdout)


def dump(brim, segment, policy):
    return [key for key in ask(brim, "dump", segment)["keys"] if key["policy"] == policy]


def taken(brim, segment, policy, names):
    return sum(key["burst"] - key["remaining"] for key in dump(brim, segment, policy)
               if key["key"] in names)


def wait_taken(brim, segment, policy, goal, names):
    deadline = time.monotonic() + WAIT_S
    while (now := taken(brim, segment, policy, names)) < goal:
        if time.monotonic() > deadline:
            sys.exit(f"only {now} of {goal} permits were taken in {WAIT_S} s")
        time.sleep(0.01)
    return now


def main():
    if len(sys.argv) < 5:
        sys.exit(__doc__)
    brim, segment, command, policy, *rest = sys.argv[1:]
    if command == "keys":
        for key in dump(brim, segment, policy):
            print(key["key"], key["remaining"])
    elif command == "taken":
        print(taken(brim, segment, policy, rest))
    elif command == "wait-taken":
        print(wait_taken(brim, segment, policy, int(rest[0]), rest[1:]))
    elif command == "counter":
        print(next(one["counters"][rest[0]] for one in ask(brim, "info", segment)["policies"]
                   if one["name"] == policy))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
