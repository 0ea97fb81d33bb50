#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: WebSocketThrottle refuses connects in the way the server can say it, and messages with a
text, a wait or a close.

Method: apps in this process: with Starlette's test client, and for what that does not offer by
speaking ASGI to the app. Over the workers of a real server: servers_test.py.
"""
import asyncio
import contextlib
import json
import os
import time
import unittest

from fastapi import FastAPI, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocketDisconnect

import brim
import sf
from brim.keys import UNLIMITED, by_header
from brim.rules import Rule
from brim.websocket import WebSocketThrottle

SEGMENT = f"websocket-test-{os.getpid()}"


class WebSocketTest(unittest.TestCase):
    def setUp(self):
        self.limiter = brim.Limiter.create(SEGMENT)
        self.addCleanup(brim.Limiter.unlink, SEGMENT)
        self.addCleanup(self.limiter.close)

    def throttle(self, text="2/h burst 2", cost=1, **options):
        key = by_header("x-key")
        rule = Rule("talk", text, cost=cost,
                    key=lambda r: UNLIMITED if r.header("x-root") else key(r))
        return WebSocketThrottle(self.limiter, rule, **options)

    def app(self, connects=None, messages=None):
        async def talk(websocket: WebSocket):
            if connects is not None and not await connects.connect(websocket):
                return
            await websocket.accept()
            async for text in websocket.iter_text():
                if messages is None or await messages(websocket):
                    await websocket.send_text(text)

        fast = FastAPI()
        fast.websocket("/")(talk)
        return fast, Starlette(routes=[WebSocketRoute("/", talk)])

    def test_connects(self):
        for number, app in enumerate(self.app(connects=self.throttle())):
            headers = {"x-key": str(number)}
            client = TestClient(app)
            for _ in range(2):
                with client.websocket_connect("/", headers=headers) as socket:
                    socket.send_text("a")
                    self.assertEqual(socket.receive_text(), "a")
            with self.assertRaises(WebSocketDisconnect) as caught:
                client.websocket_connect("/", headers=headers).__enter__()
            self.assertEqual(caught.exception.code, 1013)
            with client.websocket_connect("/", headers={"x-key": f"{number} more"}):
                pass
            with client.websocket_connect("/", headers={**headers, "x-root": "1"}):
                pass

    def speak(self, app, extensions):
        """What the app sends to a client that connects."""
        sent = []

        async def receive():
            return {"type": "websocket.connect"}

        async def send(message):
            sent.append(message)

        asyncio.run(app({"type": "websocket", "asgi": {"version": "3.0"}, "http_version": "1.1",
                         "scheme": "ws", "path": "/", "raw_path": b"/", "query_string": b"",
                         "root_path": "", "headers": [(b"x-key", b"a")], "subprotocols": [],
                         "client": ("192.0.2.1", 1), "server": ("192.0.2.2", 80),
                         "extensions": extensions}, receive, send))
        return sent

    def test_a_refused_connect_gets_an_http_response_where_the_server_can(self):
        self.limiter.define("talk", "2/h burst 2").try_acquire("x-key=a", 2)
        for app in self.app(connects=self.throttle()):
            start, body = self.speak(app, {"websocket.http.response": {}})
            self.assertEqual((start["type"], start["status"]),
                             ("websocket.http.response.start", 429))
            headers = dict(start["headers"])
            self.assertEqual(len(headers), len(start["headers"]))
            self.assertEqual(headers[b"content-type"], b"application/problem+json")
            self.assertEqual(int(headers[b"content-length"]), len(body["body"]))
            [(name, values)] = sf.parse_list(headers[b"ratelimit"])
            self.assertEqual((name, values["r"]), ("talk", 0))
            self.assertGreaterEqual(int(headers[b"retry-after"]), values["t"])
            self.assertEqual(body["type"], "websocket.http.response.body")
            self.assertEqual(json.loads(body["body"])["violated-policies"], ["talk"])
            for none in ({}, None):
                self.assertEqual([one["type"] for one in self.speak(app, none)],
                                 ["websocket.close"])

    def test_messages(self):
        for number, app in enumerate(self.app(messages=self.throttle())):
            with TestClient(app).websocket_connect("/", headers={"x-key": str(number)}) as socket:
                for _ in range(2):
                    socket.send_text("a")
                    self.assertEqual(socket.receive_text(), "a")
                for _ in range(5):
                    socket.send_text("a")
                    told = socket.receive_json()
                    self.assertEqual(told.pop("type"), "rate_limit")
                    self.assertTrue(1700 < told.pop("retry_after") <= 1800)
                    self.assertEqual(told, {"title": "Too many requests", "status": 429,
                                            "violated-policies": ["talk"]})
                self.limiter.policy("talk").reset(f"x-key={number}")
                socket.send_text("b")
                self.assertEqual(socket.receive_text(), "b")

    def test_no_wait_will_help(self):
        [app, _] = self.app(messages=self.throttle(cost=3, wait=60))
        with TestClient(app).websocket_connect("/", headers={"x-key": "a"}) as socket:
            socket.send_text("a")
            told = socket.receive_json()
            self.assertEqual((told["retry_after"], told["status"]), (None, 413))

    def test_what_could_not_be_decided_is_not_waited_for(self):
        self.limiter.define("talk", "2/h on-unavailable deny")

        def nothing():
            raise OSError("no segment")

        for segment, least in ((lambda: brim.Limiter.attach_read_only(SEGMENT), 0), (nothing, 7)):
            asked = []
            rule = Rule("talk", key=lambda r: asked.append(r) or "a")
            throttle = WebSocketThrottle(segment, rule, wait=3600, fail_closed=True,
                                         least_retry_after=least)
            [app, _] = self.app(messages=throttle)
            logs = self.assertLogs("brim") if least else contextlib.nullcontext()
            with logs, TestClient(app).websocket_connect("/") as socket:
                socket.send_text("a")
                told = socket.receive_json()
            self.assertEqual((told["retry_after"], told["status"]), (max(1, least), 503))
            self.assertEqual(len(asked), 1)

    def test_refusals_in_a_row_close(self):
        apps = self.app(messages=self.throttle(close_after=2))
        for number, app in enumerate(apps):
            with TestClient(app).websocket_connect("/", headers={"x-key": str(number)}) as socket:
                for text in ("a", "a", "rate_limit"):
                    socket.send_text("a")
                    self.assertIn(text, socket.receive_text())
                policy = self.limiter.policy("talk")
                policy.reset(f"x-key={number}")  # an admitted message begins a new row
                for text in ("a", "a", "rate_limit", "rate_limit"):
                    socket.send_text("a")
                    self.assertIn(text, socket.receive_text())
                with self.assertRaises(WebSocketDisconnect) as caught:
                    socket.receive_text()
                self.assertEqual(caught.exception.code, 1013)

    def test_messages_that_wait(self):
        [app, _] = self.app(messages=self.throttle("20/s burst 1", wait=3600, close_after=1))
        with TestClient(app).websocket_connect("/", headers={"x-key": "a"}) as socket:
            began = time.monotonic()
            for count in range(5):
                socket.send_text("a")
                self.assertEqual(socket.receive_text(), "a")
                # 1 from idle and 20 a second: an answer can come late, never early.
                self.assertGreaterEqual(time.monotonic() - began, count / 20)

    def test_a_longer_wait_is_refused_at_once(self):
        [app, _] = self.app(messages=self.throttle("1/h burst 1", wait=60))
        with TestClient(app).websocket_connect("/", headers={"x-key": "a"}) as socket:
            for text in ("a", "rate_limit"):
                socket.send_text("a")
                self.assertIn(text, socket.receive_text())

    def test_two_throttles_count_their_own_refusals(self):
        first = self.throttle(close_after=2)
        second = WebSocketThrottle(self.limiter, Rule("other", "1/h burst 1"), close_after=2)

        async def talk(websocket: WebSocket):
            await websocket.accept()
            async for _ in websocket.iter_text():
                await first(websocket)
                await second(websocket)
                await websocket.send_text("end")

        app = FastAPI()
        app.websocket("/")(talk)
        self.limiter.define("talk", "2/h burst 2").try_acquire("x-key=a", 2)
        with TestClient(app).websocket_connect("/", headers={"x-key": "a"}) as socket:
            socket.send_text("a")
            self.assertIn("rate_limit", socket.receive_text())
            self.assertEqual(socket.receive_text(), "end")
            socket.send_text("a")
            self.assertIn("rate_limit", socket.receive_text())
            with self.assertRaises(WebSocketDisconnect):
                socket.receive_text()


if __name__ == "__main__":
    unittest.main()
