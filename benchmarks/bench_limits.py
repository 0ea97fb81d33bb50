#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a hit costs with the package limits, by strategy: storage shm://, its memory storage and,
if redis-server is installed, Redis at a Unix socket. ns a call: the least of several runs; of
processor time, but for Redis, whose answer is waited for.

    PYTHONPATH=build/python /usr/bin/python3 benchmarks/bench_limits.py [RUNS]
"""
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import timeit

import brim
import brim.compat.limits
from limits import parse
from limits.storage import storage_from_string
from limits.strategies import STRATEGIES

LIMITS = {"admitted": "1000000/day", "refused": "60/day"}


@contextlib.contextmanager
def redis():
    """The URI of a Redis of our own; None if there is none."""
    program = shutil.which("redis-server")
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", f"{folder}/s", "--save", "", "--appendonly",
             "no", "--dir", folder], stdout=subprocess.DEVNULL)
        try:
            while not os.path.exists(f"{folder}/s"):
                time.sleep(0.01)
            yield f"redis+unix://{folder}/s"
        finally:
            server.terminate()
            server.wait()


def ns(call, runs, waits):
    number = 200 if waits else 2000
    timer = time.perf_counter if waits else time.process_time
    return min(timeit.repeat(call, number=number, repeat=runs, timer=timer)) / number * 1e9


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    name = f"bench-limits-{os.getpid()}"
    with redis() as uri:
        storages = {"shm": f"shm://{name}", "memory": "memory://", "redis": uri}
        storages = {kind: storage_from_string(uri) for kind, uri in storages.items() if uri}
        try:
            print("strategy", "call", *storages, sep="\t")
            for strategy, made in STRATEGIES.items():
                for what, text in LIMITS.items():
                    if strategy == "moving-window" and what == "admitted":
                        continue  # nobody keeps a log of a million
                    item = parse(text)
                    times = []
                    for kind, storage in storages.items():
                        limiter = made(storage)
                        times.append(ns(lambda: limiter.hit(item, strategy), runs, kind == "redis"))
                    print(strategy, what, *(f"{time:.0f}" for time in times), sep="\t")
        finally:
            brim.Limiter.unlink(name)


if __name__ == "__main__":
    main()
