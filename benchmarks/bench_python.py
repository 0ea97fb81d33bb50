#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a call costs in Python, beside what people use today, in one run.

    PYTHONPATH=build-release/python /usr/bin/python3 benchmarks/bench_python.py [--seconds S]

Each row is the best of five rounds: the machine's other work makes calls slower, never faster.
Peers are python-limits with its memory storage (which counts in one process only), one command of
redis-py over a unix socket, and python-limits with its Redis storage; a peer that is not installed
is left out with a line. The last column is the row's time in calls of Policy.try_acquire.
"""
import argparse
import os
import pathlib
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import brim

ROUNDS = 5
KEY = '192.0.2.17'


def timed(run: Callable[[int], object], seconds: float) -> float:
    """ns per call of run(n), which makes n calls."""
    # Threads take longer to start than a few calls take.
    count = 200_000 if run.__name__ == 'all_of_them' else 16
    while True:
        start = time.perf_counter_ns()
        run(count)
        took = time.perf_counter_ns() - start
        if took > seconds * 1e9 / 4:
            break
        count *= 2
    count = max(int(count * seconds * 1e9 / took), 1)
    rounds = []
    for _ in range(ROUNDS):
        start = time.perf_counter_ns()
        run(count)
        rounds.append((time.perf_counter_ns() - start) / count)
    return min(rounds)


def loop(code: str, **names: Any) -> Callable[[int], object]:
    """A function that runs the code n times: the call itself and a for loop, no lambda."""
    scope: dict[str, Any] = names
    exec(f'def run(n):\n    for i in range(n):\n        {code}', scope)
    function: Callable[[int], object] = scope['run']
    return function


def in_threads(run: Callable[[int], object], threads: int) -> Callable[[int], object]:
    """Together they make n calls."""
    def all_of_them(count: int) -> None:
        workers = [threading.Thread(target=run, args=[count // threads]) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    return all_of_them


@contextmanager
def redis_server() -> Iterator[str | None]:
    """The socket of a server that ends with the block; None if there is no Redis here."""
    program = shutil.which('redis-server')
    if program is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as folder:
        socket = f'{folder}/redis.sock'
        child = subprocess.Popen([program, '--port', '0', '--unixsocket', socket, '--save', '',
                                  '--appendonly', 'no', '--dir', folder],
                                 stdout=subprocess.DEVNULL)
        try:
            end = time.monotonic() + 30
            while not pathlib.Path(socket).exists() and time.monotonic() < end:
                time.sleep(0.01)
            yield socket
        finally:
            child.terminate()
            child.wait()


def brim_rows(limiter: brim.Limiter) -> Iterator[tuple[str, Callable[[int], object]]]:
    policy, small = limiter.policy('large'), limiter.policy('small')
    keys = [f'198.51.{i // 256}.{i % 256}' for i in range(10_000)]
    yield 'an empty loop', loop('pass')
    yield 'a C method that does nothing: {}.get(key)', loop('get(KEY)', get={}.get, KEY=KEY)
    call = policy.try_acquire
    yield 'Policy.try_acquire(key)', loop('call(KEY)', call=call, KEY=KEY)
    yield '  10,000 keys in turn', loop('call(keys[i % 10000])', call=call, keys=keys)
    yield '  refused', loop('call(KEY)', call=small.try_acquire, KEY=KEY)
    yield '  key=, cost=', loop('call(key=KEY, cost=1)', call=call, KEY=KEY)
    yield '  and .retry_after of it', loop('call(KEY).retry_after', call=call, KEY=KEY)
    yield '  four threads', in_threads(loop('call(KEY)', call=call, KEY=KEY), 4)
    yield 'Policy.peek(key)', loop('call(KEY)', call=policy.peek, KEY=KEY)
    yield 'Policy.reserve(key)', loop('call(KEY)', call=policy.reserve, KEY=KEY)
    yield 'Policy.wait(key), no wait', loop('call(KEY)', call=policy.wait, KEY=KEY)
    yield 'Limiter.try_acquire(name, key)', loop('call("large", KEY)', call=limiter.try_acquire,
                                                 KEY=KEY)


def limits_rows(socket: str | None) -> Iterator[tuple[str, Callable[[int], object]]]:
    try:
        import limits
        import limits.storage
        import limits.strategies
    except ImportError:
        print('python-limits is not installed: left out')
        return
    item = limits.parse('1000000/second')
    memory = limits.storage.MemoryStorage()
    fixed = limits.strategies.FixedWindowRateLimiter(memory)
    yield 'limits, memory, fixed window', loop('hit(item, KEY)', hit=fixed.hit, item=item, KEY=KEY)
    yield '  four threads', in_threads(loop('hit(item, KEY)', hit=fixed.hit, item=item, KEY=KEY), 4)
    moving = limits.strategies.MovingWindowRateLimiter(limits.storage.MemoryStorage())
    hundred = limits.parse('100/second')
    yield 'limits, memory, moving window of 100', loop('hit(item, KEY)', hit=moving.hit,
                                                      item=hundred, KEY=KEY)
    if socket is not None:
        stored = limits.storage.storage_from_string(f'redis+unix://{socket}')
        far = limits.strategies.FixedWindowRateLimiter(stored)
        yield 'limits, Redis, fixed window', loop('hit(item, KEY)', hit=far.hit, item=item, KEY=KEY)


def redis_rows(socket: str | None) -> Iterator[tuple[str, Callable[[int], object]]]:
    try:
        import redis
    except ImportError:
        socket = None
    if socket is None:
        print('redis-server or python3-redis is not installed: left out')
        return
    client = redis.Redis(unix_socket_path=socket)
    yield 'redis-py INCR, unix socket', loop('incr("k")', incr=client.incr)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=0.4, help='of each round')
    seconds = parser.parse_args().seconds
    name = f'bench-python-{os.getpid()}'
    limiter = brim.Limiter.create(
        name, policies={'large': '1000000000/s burst 1000000000', 'small': '1/365d burst 1'})
    try:
        limiter.try_acquire('small', KEY)
        with redis_server() as socket:
            rows: list[tuple[str, float]] = []
            for group in [brim_rows(limiter), limits_rows(socket), redis_rows(socket)]:
                rows += [(what, timed(run, seconds)) for what, run in group]
        one = dict(rows)['Policy.try_acquire(key)']
        print(f'brim {brim.__version__}; 1 minute load {os.getloadavg()[0]:.1f}')
        print(f'{"ns a call":>10} {"calls of brim":>14}')
        for what, ns in rows:
            print(f'{ns:10.0f} {ns / one:14.2f}  {what}')
    finally:
        brim.Limiter.unlink(name)


if __name__ == '__main__':
    main()
