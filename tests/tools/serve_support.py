# SPDX-License-Identifier: MIT
"""What the tests of brim serve share: the server on a port that is free, requests, and traffic."""
import http.client
import itertools
import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time

from support import BRIM, FILL, packed

SKIP = 77


def need(*programs):
    """Ends the test with a visible line if there is no brim-serve, or one of these (program,
    Debian package) is not installed."""
    if not os.path.exists(os.path.join(os.path.dirname(BRIM), 'brim-serve')):
        print('SKIP: brim-serve is not built (Debian package libcpp-httplib-dev)')
        sys.exit(SKIP)
    for program, package in programs:
        if shutil.which(program) is None:
            print(f'SKIP: {program} is not installed (Debian package {package})')
            sys.exit(SKIP)


class Server:
    """`brim serve` as a child that ends with the test."""

    def __init__(self, test, *args):
        self.process = subprocess.Popen([BRIM, 'serve', *args, '--listen', '127.0.0.1:0'],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        test.addCleanup(self.process.stdout.close)
        test.addCleanup(self.process.stderr.close)
        test.addCleanup(self.end)
        first = self.process.stdout.readline().decode()
        self.url = first.removeprefix('serving ').strip()
        test.assertRegex(first, r'\Aserving http://127\.0\.0\.1:\d+/(metrics)?\n\Z')
        self.port = int(self.url.split(':')[2].split('/')[0])

    def end(self):
        if self.process.poll() is None:
            self.process.terminate()
        return self.process.wait(60)

    def ask(self, path, method='GET', headers=None, body=None):
        """Status, headers and body; `headers` may have another Host."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        try:
            connection.request(method, path, headers=headers or {}, body=body)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()
        finally:
            connection.close()

    def json(self, path):
        status, _, body = self.ask(path)
        if status != 200:
            raise AssertionError((path, status, body))
        return json.loads(body)


class Load:
    """Traffic of a worker: each key is drawn from `keys`, the first ones most often."""

    def __init__(self, test, name, policy, keys, seconds=60):
        self.worker = subprocess.Popen([FILL, name, policy], stdin=subprocess.PIPE,
                                       stdout=subprocess.DEVNULL)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.run, args=(keys, time.monotonic() + seconds))
        self.thread.start()
        test.addCleanup(self.end)

    def run(self, keys, until):
        draw = random.Random(1)
        weights = list(itertools.accumulate(1 / (rank + 1) for rank in range(len(keys))))
        while not self.ending.is_set() and time.monotonic() < until:
            self.worker.stdin.write(packed(draw.choices(keys, cum_weights=weights, k=200)))
            self.worker.stdin.flush()
            time.sleep(0.02)

    def end(self):
        self.ending.set()
        self.thread.join()
        self.worker.stdin.close()
        self.worker.wait()


def wait_for(what, seconds=60):
    """Until what() is true, looked at often; False if that never came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.05)
    return False
