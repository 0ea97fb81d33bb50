#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the prefork example limits exactly over all workers, says so in well-formed fields,
survives kills of its workers, and leaves no process behind.

Method: run the real server on a free loopback port with a segment of its own, talk HTTP to it
over plain sockets that never retry, and compare what the clients saw with what the policy allows.

usage: prefork_test.py PREFORK_SERVER [unittest arguments]
"""

import json
import os
import random
import re
import signal
import socket
import sys
import threading
import time
import unittest

sys.dont_write_bytecode = True  # the source tree stays clean
from server import Connection, Server, alive, unlink_segment, wait_until

BINARY = ""
# An RFC 9651 list whose members are strings with integer parameters.
MEMBER = re.compile(r'"(?P<name>[ !#-\[\]-~]*)"'
                    r'(?P<parameters>(;[a-z*][a-z0-9_.*-]*=-?[0-9]{1,15})*)')


def parse_field(text):
    match = MEMBER.fullmatch(text)
    assert match, f"not a structured field: {text}"
    pairs = [pair.split("=") for pair in match["parameters"].split(";")[1:]]
    assert len({name for name, _ in pairs}) == len(pairs), text
    return match["name"], {name: int(value) for name, value in pairs}


class PreforkTest(unittest.TestCase):
    def setUp(self):
        self.segment = f"prefork-test-{os.getpid()}-{random.randrange(10**9)}"
        self.addCleanup(unlink_segment, self.segment)

    def serve(self, policy, **options):
        server = Server(BINARY, self.segment, policy, **options)
        self.addCleanup(server.__exit__)
        self.assertIsNotNone(server.port, server.log)
        return server

    def connect(self, server):
        connection = Connection(server.port)
        self.addCleanup(connection.close)
        return connection


class Fields(PreforkTest):
    def test_allowed_then_denied(self):
        connection = self.connect(self.serve("per_key=2/60s burst 2"))
        for left in (1, 0):
            status, headers, body = connection.get("alice")
            self.assertEqual((status, body), (200, b"ok\n"))
            self.assertEqual(parse_field(headers["ratelimit-policy"]),
                             ("per_key", {"q": 2, "w": 60}))
            name, values = parse_field(headers["ratelimit"])
            self.assertEqual((name, values["r"]), ("per_key", left))
            self.assertIn(60 - 30 * left - values["t"], range(10))  # a slow machine takes time
            self.assertNotIn("retry-after", headers)
        status, headers, body = connection.get("alice")
        self.assertEqual(status, 429)
        self.assertEqual(headers["content-type"], "application/problem+json")
        problem = json.loads(body)
        self.assertEqual(problem["status"], 429)
        self.assertEqual(problem["violated-policies"], ["per_key"])
        self.assertTrue(problem["type"].endswith("#quota-exceeded"))
        retry_after = int(headers["retry-after"])
        self.assertIn(retry_after, range(20, 31))
        self.assertEqual(parse_field(headers["ratelimit-policy"]), ("per_key", {"q": 2, "w": 60}))
        self.assertEqual(parse_field(headers["ratelimit"]),
                         ("per_key", {"r": 0, "t": retry_after}))
        self.assertEqual(connection.get("bob")[0], 200)  # another key has its own permits

    def test_window_below_a_second_is_not_said(self):
        _, headers, _ = self.connect(self.serve("fast=50/500ms")).get("alice")
        self.assertEqual(parse_field(headers["ratelimit-policy"]), ("fast", {"q": 50}))

    def test_admitted_after_retry_after(self):
        connection = self.connect(self.serve("slow=1/3s"))
        self.assertEqual(connection.get("alice")[0], 200)
        status, headers, _ = connection.get("alice")
        self.assertEqual(status, 429)
        time.sleep(int(headers["retry-after"]))
        self.assertEqual(connection.get("alice")[0], 200)

    def test_other_requests(self):
        server = self.serve("per_key=1/h burst 3")
        connection = self.connect(server)
        self.assertEqual(connection.get()[0], 400)  # no key
        self.assertEqual(connection.get("")[0], 400)
        self.assertEqual(connection.get("alice", path="/nothing")[0], 404)
        self.assertIn(int(connection.get(path="/pid")[2]), server.started())
        status, headers, body = connection.get("alice", method="HEAD")
        self.assertEqual((status, body), (200, b""))
        self.assertEqual(parse_field(headers["ratelimit"])[1]["r"], 2)
        self.assertIn(connection.get("alice", method="DELETE")[0], (405, 501))

    def test_counted_by_address(self):
        server = self.serve("per_ip=1/h burst 5", key="addr")
        codes = [self.connect(server).get(f"key-{i}")[0] for i in range(8)]
        self.assertEqual(codes, [200] * 5 + [429] * 3)

    def test_keys_of_any_bytes(self):
        connection = self.connect(self.serve("per_key=1/h burst 1"))
        for key in ("x" * 4000, "\u00e9\u00e8", "a b;c=\"d\""):
            self.assertEqual([connection.get(key)[0] for _ in range(2)], [200, 429], key)


class Life(PreforkTest):
    def check_gone(self, server, pids):
        wait_until(lambda: not any(alive(pid) for pid in pids), "the workers end", 10)
        with self.assertRaises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)

    def test_sigterm_leaves_no_child(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server = self.serve("p=1/h burst 10")
            wait_until(lambda: len(server.started()) == 4, "four workers in the log", 10)
            pids = server.started()
            self.connect(server).get("alice")  # one connection stays open
            server.process.send_signal(number)
            self.assertEqual(server.wait(), 0, server.log)
            self.check_gone(server, pids)

    def test_sigkill_of_the_parent_ends_the_workers(self):
        server = self.serve("p=1/h burst 10")
        wait_until(lambda: len(server.started()) == 4, "four workers in the log", 10)
        pids = server.started()
        server.process.kill()
        self.assertEqual(server.wait(), -signal.SIGKILL)
        self.check_gone(server, pids)

    def test_limiter_that_can_not_open(self):
        with Server(BINARY, self.segment, "p=nonsense", workers=3) as server:
            self.assertIsNone(server.port)
            self.assertEqual(server.wait(), 1)
        self.assertLessEqual(len(server.started()), 3)  # nobody is started again
        self.assertTrue(any("can not open the limiter" in line for line in server.log), server.log)

    def test_a_policy_that_the_segment_has_otherwise(self):
        self.serve("p=1/h burst 10")
        with Server(BINARY, self.segment, "p=2/h burst 10") as other:
            self.assertIsNone(other.port)
            self.assertEqual(other.wait(), 1)
        self.assertTrue(any("config_mismatch" in line for line in other.log), other.log)

    def test_usage(self):
        for arguments in (["--workers", "0"], ["--port", "99999"], ["--key", "cookie"], ["--no"],
                          ["extra"], ["--policy", "=1/s"]):
            code = os.spawnv(os.P_WAIT, "/bin/sh", ["sh", "-c", 'exec "$@" >/dev/null 2>&1', "sh",
                                                    BINARY, "--segment", self.segment,
                                                    "--policy", "p=1/s", *arguments])
            self.assertEqual(code, 2, arguments)


class Client(threading.Thread):
    """Asks for one key until it has been denied `enough` times in a row. A call that breaks after
    the connection was made may have been charged; it is counted, not repeated."""

    def __init__(self, port, key, enough=20):
        super().__init__(daemon=True)
        self.port, self.key, self.enough = port, key, enough
        self.admitted = self.denied = self.broken = self.other = 0

    def run(self):
        connection, in_a_row, deadline = None, 0, time.monotonic() + 60
        while in_a_row < self.enough and time.monotonic() < deadline:
            if connection is None:
                try:
                    connection = Connection(self.port)
                except OSError:
                    time.sleep(0.01)
                    continue
            try:
                status = connection.get(self.key)[0]
            except OSError:
                self.broken += 1
                connection.close()
                connection = None
                continue
            self.admitted += status == 200
            self.denied += status == 429
            self.other += status not in (200, 429)
            in_a_row = in_a_row + 1 if status == 429 else 0
        if connection is not None:
            connection.close()


class Kills(PreforkTest):
    def test_exact_over_ten_kills(self):
        """4 keys, 3 clients each; every tenth of the way one worker is killed."""
        keys, burst, kills = ["alice", "bob", "carol", "dave"], 1500, 10
        server = self.serve(f"per_key=1/h burst {burst}")
        clients = [Client(server.port, key) for key in keys for _ in range(3)]
        for client in clients:
            client.start()
        killed = []
        for i in range(kills):
            goal = (i + 1) * len(keys) * burst // (kills + 1)
            wait_until(lambda: sum(c.admitted for c in clients) >= goal, "progress")
            victim = random.choice(server.live())
            os.kill(victim, signal.SIGKILL)
            killed.append(victim)
            wait_until(lambda: f"worker {victim} ended (signal 9)" in server.log, "end in the log")
        for client in clients:
            client.join(timeout=90)
            self.assertFalse(client.is_alive())
        wait_until(lambda: len(server.live()) == 4, "replacements", 10)
        self.assertEqual(len(server.started()), 4 + kills)
        self.assertEqual(len([line for line in server.log if " replaced by " in line]), kills)
        for key in keys:
            own = [client for client in clients if client.key == key]
            admitted, broken = sum(c.admitted for c in own), sum(c.broken for c in own)
            print(f"{key}: {admitted} of {burst} admitted, {broken} calls broken")
            self.assertEqual(sum(c.other for c in own), 0)
            self.assertLessEqual(admitted, burst, key)
            self.assertGreaterEqual(admitted, burst - broken, key)
            self.assertEqual(self.connect(server).get(key)[0], 429)  # nothing came back
        self.assertEqual(server.stop(), 0)
        self.assertFalse(any(alive(pid) for pid in server.started()))


if __name__ == "__main__":
    BINARY = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2)
