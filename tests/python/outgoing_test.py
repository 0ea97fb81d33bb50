#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: requests that go out through brim.httpx and brim.requests start when the policy lets them,
whichever process and library sends them, and never sooner.

Method: an HTTP server on a loopback port notes when each request comes. A request can come late,
never early: so by any time t after the first call, no more may have come than the policy admits
from idle by t. That bound holds however slow the machine is.
"""
import asyncio
import email.utils
import http.server
import math
import multiprocessing
import os
import pickle
import threading
import time
import unittest

import httpx
import requests

import brim
import brim.httpx
import brim.requests
from brim._outgoing import Throttle, retry_after_seconds

SEGMENT = f"outgoing-test-{os.getpid()}"
RATE, BURST, EACH = 60, 5, 15
DEADLINE_S = 120


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):  # the name is http.server's
        self.server.arrivals.append((time.monotonic(), self.path))
        status, fields = self.server.answers.get(self.path, (200, {}))
        self.send_response(status)
        for name, value in {"Content-Length": "0", **fields}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_):
        pass


def send_httpx(segment, url):
    with brim.Limiter.attach(segment) as limiter:
        with httpx.Client(transport=brim.httpx.Transport(limiter.policy("api"))) as client:
            yield time.monotonic()
            yield [client.get(url).status_code for _ in range(EACH)]


def send_httpx_async(segment, url):
    async def main():
        transport = brim.httpx.AsyncTransport(limiter.policy("api"))
        async with httpx.AsyncClient(transport=transport, timeout=DEADLINE_S) as client:
            answers = await asyncio.gather(*(client.get(url) for _ in range(EACH)))
            return [answer.status_code for answer in answers]
    with brim.Limiter.attach(segment) as limiter:
        yield time.monotonic()
        yield asyncio.run(main())


def send_requests(segment, url):
    with brim.Limiter.attach(segment) as limiter, requests.Session() as session:
        session.mount("http://", brim.requests.Adapter(limiter.policy("api")))
        yield time.monotonic()
        yield [session.get(url).status_code for _ in range(EACH)]


def child(send, segment, url, pipe):
    for result in send(segment, url):
        pipe.send(result)


class OutgoingTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        cls.server.daemon_threads = True
        cls.port = cls.server.server_address[1]
        cls.url = f"http://127.0.0.1:{cls.port}"
        cls.thread = threading.Thread(target=cls.server.serve_forever, args=(0.05,), daemon=True)
        cls.thread.start()

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()
        cls.thread.join()
        cls.server.server_close()

    def setUp(self):
        self.server.arrivals, self.server.answers = [], {}

    def policy(self, text):
        limiter = brim.Limiter.create(SEGMENT, policies={"api": text})
        self.addCleanup(limiter.close)
        self.addCleanup(brim.Limiter.unlink, SEGMENT)
        return limiter.policy("api")

    def session(self, policy, **options):
        session = requests.Session()
        session.mount("http://", brim.requests.Adapter(policy, **options))
        self.addCleanup(session.close)
        return session

    def client(self, policy, **options):
        client = httpx.Client(transport=brim.httpx.Transport(policy, **options))
        self.addCleanup(client.close)
        return client

    def test_four_processes_send_no_more_than_the_policy(self):
        self.policy(f"{RATE}/s burst {BURST}")
        spawn = multiprocessing.get_context("spawn")
        pipes, workers = [], []
        try:
            for send in (send_httpx, send_httpx_async, send_requests, send_requests):
                mine, theirs = spawn.Pipe(duplex=False)
                worker = spawn.Process(target=child, args=(send, SEGMENT, self.url, theirs))
                worker.start()
                theirs.close()
                pipes.append(mine)
                workers.append(worker)
            began = min(pipe.recv() for pipe in pipes)
            for pipe in pipes:
                self.assertEqual(pipe.recv(), [200] * EACH)
        finally:
            for worker in workers:
                worker.join(DEADLINE_S)
                worker.kill()
        arrivals = sorted(at for at, _ in self.server.arrivals)
        self.assertEqual(len(arrivals), 4 * EACH)  # all waited, none was refused
        for count, at in enumerate(arrivals, 1):
            self.assertLessEqual(count, BURST + RATE * (at - began))

    def test_a_wait_longer_than_the_timeout_is_an_error_at_once(self):
        policy = self.policy("2/h burst 2")
        self.assertEqual(self.session(policy, timeout=60).get(self.url).status_code, 200)
        self.assertEqual(self.client(policy, timeout=60).get(self.url).status_code, 200)
        with self.assertRaisesRegex(brim.requests.Throttled, "'api' lets no request") as caught:
            self.session(policy, timeout=60).get(self.url)
        self.assertIsInstance(caught.exception, requests.Timeout)
        self.assertGreater(caught.exception.decision.retry_after, 60)
        self.assertIsNotNone(caught.exception.request)
        with self.assertRaises(brim.httpx.Throttled) as caught:
            self.client(policy, timeout=0).get(self.url)
        self.assertIsInstance(caught.exception, httpx.TimeoutException)
        self.assertGreater(caught.exception.decision.retry_after, 60)

        async def async_client():
            transport = brim.httpx.AsyncTransport(policy, timeout=1)
            async with httpx.AsyncClient(transport=transport) as client:
                await client.get(self.url)
        with self.assertRaises(brim.httpx.Throttled):
            asyncio.run(async_client())
        self.assertEqual(len(self.server.arrivals), 2)

    def test_what_can_never_start_is_an_error_without_a_timeout(self):
        client = self.client(self.policy("2/h burst 2"), cost=3)
        with self.assertRaisesRegex(brim.httpx.Throttled, "never lets") as caught:
            client.get(self.url)
        self.assertEqual(caught.exception.decision.retry_after, math.inf)

    def test_key_and_cost(self):
        policy = self.policy("6/h burst 6")
        session = self.session(policy, timeout=0, key=lambda request: request.headers["Account"],
                               cost=lambda request: 3 if "big" in request.url else 1)
        for key, path, remaining in (("a", "/big", 3), ("a", "/", 2), ("b", "/big", 3)):
            session.get(self.url + path, headers={"Account": key})
            self.assertEqual(policy.peek(key).remaining, remaining)
        with self.assertRaises(brim.requests.Throttled):
            session.get(self.url + "/big", headers={"Account": "a"})

    def test_both_libraries_name_a_host_alike(self):
        for url, key in (("http://Example.org/a?b", "example.org"),
                         ("https://example.org:443/", "example.org"),
                         ("http://u:p@example.org:8080/", "example.org:8080"),
                         ("http://[::1]:8080/", "[::1]:8080")):
            with self.subTest(url):
                self.assertEqual(brim.httpx.host(httpx.Request("GET", url)), key)
                self.assertEqual(brim.requests.host(requests.Request("GET", url).prepare()), key)

    def test_each_hop_of_a_redirect_counts(self):
        policy = self.policy("10/h burst 10")
        self.server.answers["/old"] = (302, {"Location": "/new"})
        self.session(policy, key=lambda _: "a").get(self.url + "/old")
        self.client(policy, key=lambda _: "b").get(self.url + "/old", follow_redirects=True)
        self.assertEqual([policy.peek(key).remaining for key in "ab"], [8, 8])

    def test_retry_after_holds_the_key_back_everywhere(self):
        policy = self.policy("10/h burst 10")
        self.server.answers["/busy"] = (429, {"Retry-After": "1"})
        self.client(policy).get(self.url + "/busy")  # does not look
        self.assertTrue(policy.peek(f"127.0.0.1:{self.port}", 1))
        busy = self.client(policy, hold=60)
        for send in (self.client(policy).get, self.session(policy).get, self.get_async(policy)):
            before = time.monotonic()
            self.assertEqual(busy.get(self.url + "/busy").status_code, 429)
            self.assertEqual(send(self.url).status_code, 200)
            self.assertGreaterEqual(self.server.arrivals[-1][0] - before, 1)

    def get_async(self, policy):
        async def get(url):
            transport = brim.httpx.AsyncTransport(policy, hold=1)
            async with httpx.AsyncClient(transport=transport) as client:
                return await client.get(url)
        return lambda url: asyncio.run(get(url))

    def test_no_more_of_retry_after_than_hold(self):
        policy = self.policy("10/h burst 10")
        self.server.answers["/busy"] = (503, {"Retry-After": "86400"})
        self.session(policy, hold=3600).get(self.url + "/busy")
        self.assertGreater(policy.peek(f"127.0.0.1:{self.port}", 1).retry_after, 90.1)
        self.assertRaises(brim.requests.Throttled, self.session(policy, timeout=60).get, self.url)
        self.assertRaises(brim.httpx.Throttled, self.client(policy, timeout=60).get, self.url)
        self.assertEqual(len(self.server.arrivals), 1)
        policy.limiter.unban("api", f"127.0.0.1:{self.port}")
        self.session(policy, hold=90).get(self.url + "/busy")
        self.assertLessEqual(policy.peek(f"127.0.0.1:{self.port}", 1).retry_after, 90.1)
        self.assertGreater(policy.peek(f"127.0.0.1:{self.port}", 1).retry_after, 1)

    def test_a_longer_ban_is_not_shortened(self):
        policy = self.policy("10/h burst 10")
        key = "a"
        throttle = Throttle(policy, lambda _: key, 1, None, 3600)
        policy.limiter.ban("api", key, 600)  # an operator's
        throttle.answered(None, 429, "5")
        self.assertGreater(policy.peek(key).retry_after, 500)
        throttle.answered(None, 429, "7200")
        self.assertGreater(policy.peek(key).retry_after, 3000)
        throttle.answered(None, 503, "1")  # another, late answer
        self.assertGreater(policy.peek(key).retry_after, 3000)
        policy.limiter.ban("api", key, brim.NEVER)
        throttle.answered(None, 429, "7200")
        self.assertEqual(policy.peek(key).retry_after, brim.NEVER)

    def test_dates_without_a_zone_are_utc(self):
        self.addCleanup(time.tzset)
        before = os.environ.get("TZ")
        self.addCleanup(lambda: os.environ.pop("TZ") if before is None
                        else os.environ.update(TZ=before))
        for zone in ("America/New_York", "Asia/Tokyo", "UTC"):
            os.environ["TZ"] = zone
            time.tzset()
            later = time.gmtime(time.time() + 3600)
            for shape in ("%a, %d %b %Y %H:%M:%S GMT", "%a, %d %b %Y %H:%M:%S -0000",
                          "%a, %d %b %Y %H:%M:%S", "%a %b %d %H:%M:%S %Y"):
                text = time.strftime(shape, later)
                self.assertTrue(0 < retry_after_seconds(text) <= 3600, (zone, text))

    def test_retry_after_as_it_may_be_written(self):
        self.assertEqual(retry_after_seconds("120"), 120)
        for text in (None, "", "soon", "-1", "1.5", "\u0661", "Wed, 99 Foo 2015 07:28:00 GMT",
                     "Wed, 21 Oct 2015 07:28:00 GMT"):
            self.assertEqual(retry_after_seconds(text), 0, text)
        later = email.utils.formatdate(time.time() + 3600, usegmt=True)
        self.assertTrue(0 < retry_after_seconds(later) <= 3600)

    def test_a_session_can_be_pickled(self):
        policy = self.policy("2/h burst 2")
        session = pickle.loads(pickle.dumps(self.session(policy, timeout=0)))
        self.addCleanup(session.close)
        session.get(self.url)
        session.get(self.url)
        with self.assertRaises(brim.requests.Throttled):
            session.get(self.url)

    def test_wrapped(self):
        policy = self.policy("2/h burst 2")
        inner = httpx.MockTransport(lambda request: httpx.Response(204))
        with httpx.Client(transport=brim.httpx.Transport(policy, wrapped=inner)) as client:
            self.assertEqual(client.get("https://example.org/").status_code, 204)
        self.assertEqual(policy.peek("example.org").remaining, 1)

    def test_wrong_arguments_show_at_once(self):
        policy = self.policy("2/h")
        for make in (brim.httpx.Transport, brim.httpx.AsyncTransport, brim.requests.Adapter):
            self.assertRaises(TypeError, make, "2/h")
            self.assertRaises(ValueError, make, policy, timeout=-1)
            self.assertRaises(ValueError, make, policy, hold=-1)


if __name__ == "__main__":
    unittest.main()
