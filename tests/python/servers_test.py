#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: over the workers of real servers, exactly what the policy admits is admitted, whoever of
them answers, also when one is killed; and every answer says so.

Method: each kind of server starts once, as a child with four workers on a free loopback port, for
all of its checks. Policies open a window of a day at the first request of a key, so 200s can be
counted. Requests are concurrent and never repeated. A worker killed with -9 may take with it
requests that it had charged: each shows as a connection that broke, so of `most` there are between
most - broken and most answers 200, never more.
BRIM_TEST_SLOW=1 sends ten times as much.
"""
import asyncio
import collections
import os
import pathlib
import random
import signal
import sys
import unittest

import websockets

sys.path.insert(0, os.path.dirname(__file__))
import brim
import sf
from serving import KINDS, Load, Server, by_key, key_of, wait_until

APPS = pathlib.Path(__file__).parent / "apps"
MOST = 1000 if os.environ.get("BRIM_TEST_SLOW") == "1" else 100
KEYS = 3
DAY_S = 86400


class ServersTest:
    """The checks that every kind of server gets."""
    app = "fast:app"
    paths = ("/middleware", "/dependency", "/decorator")

    @classmethod
    def setUpClass(cls):
        cls.segment = f"servers-test-{os.getpid()}-{cls.kind}"
        cls.addClassCleanup(cls.unlink)
        cls.server = Server([*KINDS[cls.kind], cls.app], APPS,
                            {"SEGMENT": cls.segment, "MOST": str(MOST)})
        cls.addClassCleanup(cls.server.stop)
        cls.port = cls.server.ready(workers=4)

    @classmethod
    def unlink(cls):
        try:
            brim.Limiter.unlink(cls.segment)
        except brim.NotFound:  # the checks before have failed
            pass

    def load(self, jobs):
        load = Load(self.port)
        load.run(jobs)
        return load

    def workers(self, answers):
        found = {int(answer.headers["x-worker"]) for answer in answers
                 if "x-worker" in answer.headers}
        self.server.workers |= found
        return found

    def check_fields(self, answer, most):
        """Every answer's fields parse, and agree with one another and the status."""
        self.assertEqual(len(sf.parse_list(answer.headers["ratelimit-policy"])), 1)
        [(name, values)] = sf.parse_list(answer.headers["ratelimit-policy"])
        self.assertEqual((name, values), (answer.job[0].strip("/"), {"q": most, "w": DAY_S}))
        [(told, values)] = sf.parse_list(answer.headers["ratelimit"])
        self.assertEqual(told, name)
        self.assertIn(values["t"], range(1, DAY_S + 2))  # rounded up
        if answer.status == 200:
            self.assertNotIn("retry-after", answer.headers)
            return values["r"]
        self.assertEqual(answer.status, 429)
        self.assertEqual(values["r"], 0)
        self.assertGreaterEqual(int(answer.headers["retry-after"]), values["t"])
        return None

    def test_exactly_the_limit_over_all_workers(self):
        jobs = [(path, {"X-Key": f"k{key}"}) for path in self.paths for key in range(KEYS)
                for _ in range(MOST * 2)]
        random.shuffle(jobs)
        load = self.load(jobs)
        self.assertFalse(load.broken)
        self.assertEqual(by_key(load.answers), {
            (path, f"k{key}"): {200: MOST, 429: MOST}
            for path in self.paths for key in range(KEYS)})
        left = collections.defaultdict(list)
        for answer in load.answers:
            remaining = self.check_fields(answer, MOST)
            if remaining is not None:
                left[key_of(answer.job)].append(remaining)
        for key, told in left.items():  # each permit was told to one client
            self.assertEqual(sorted(told), list(range(MOST)), key)
        # On a busy machine one worker may be there for all of them: the others are asked, too.
        found = self.workers(load.answers)

        def others():
            found.update(self.workers(self.load([(self.paths[0], {"X-Key": "late"})] * 48).answers))
            return len(found) > 1
        wait_until(lambda: len(found) > 1 or others(), "another worker answers")
        self.assertGreater(len(found), 1)

    def test_killed_workers_lose_at_most_what_they_had_in_hand(self):
        most = 4 * MOST
        jobs = [("/kill", {"X-Key": "k"})] * (2 * most)
        load = Load(self.port)
        killed = []

        async def kill():
            for share in (0.2, 0.5):
                while len(load.answers) < share * most:
                    await asyncio.sleep(0.001)
                pid = int(load.answers[-1].headers["x-worker"])
                if pid not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

        async def main():
            killer = asyncio.create_task(kill())
            await load.main(jobs)
            killer.cancel()

        asyncio.run(main())
        self.workers(load.answers)
        broken = sum(load.broken.values())
        counts = by_key(load.answers)["/kill", "k"]
        self.assertEqual(sum(counts.values()) + broken, len(jobs))
        self.assertEqual(set(counts), {200, 429})
        self.assertLessEqual(counts[200], most)
        self.assertGreaterEqual(counts[200], most - broken)
        self.assertTrue(killed)
        for answer in load.answers:
            self.check_fields(answer, most)
        with brim.Limiter.attach(self.segment) as limiter:  # all were charged, none twice
            self.assertEqual(limiter.policy("kill").peek("x-key=k").remaining, 0)


class WebSockets:
    """For the kinds that have them."""

    def test_connects_and_messages(self):
        answers = collections.Counter()
        pids = set()

        async def client(number):
            uri = f"ws://127.0.0.1:{self.port}/chat"
            headers = {"X-Key": f"ws{number % 2}"}
            try:
                async with websockets.connect(uri, extra_headers=headers) as socket:
                    pids.add(int(await socket.recv()))
                    answers[number % 2, "connected"] += 1
                    await talk(socket, number % 2)
            except websockets.InvalidStatusCode as refused:
                answers[number % 2, refused.status_code] += 1

        async def talk(socket, key):
            try:
                for _ in range(8):
                    await socket.send("hello")
                    text = await socket.recv()
                    answers[key, text if text == "hello" else "limit"] += 1
            except websockets.ConnectionClosed as closed:
                answers[key, closed.code] += 1

        async def main():
            for first in range(0, count, 30):
                await asyncio.gather(*(client(first + i) for i in range(30)))

        count = -(-2 * (MOST + 20) // 30) * 30
        asyncio.run(main())
        self.server.workers |= pids
        for key in (0, 1):
            self.assertEqual(answers[key, "connected"], MOST)
            self.assertEqual(answers[key, 403], count // 2 - MOST)
            self.assertEqual(answers[key, "hello"], MOST)
            # From then on every connection is told three times, and closed.
            self.assertGreater(answers[key, 1013], MOST / 2)
        self.assertGreater(len(pids), 1)


class GunicornUvicorn(ServersTest, WebSockets, unittest.TestCase):
    kind = "gunicorn-uvicorn"


class GunicornUvicornPreload(ServersTest, unittest.TestCase):
    kind = "gunicorn-uvicorn-preload"


class UvicornSpawn(ServersTest, unittest.TestCase):
    kind = "uvicorn-spawn"


class GunicornSync(ServersTest, unittest.TestCase):
    kind = "gunicorn-sync"
    app = "plain:app"
    paths = ("/middleware",)


if __name__ == "__main__":
    unittest.main()
