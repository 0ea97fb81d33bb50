# SPDX-License-Identifier: MIT
"""brim.tier: one limit for several segments, and what waits for the store holds nobody up.

Method: a real redis-server, child of the test. Two segments in two processes share one limit: with
exchanges now and then, and strictly, where the sum is exact. A server that is stopped (SIGSTOP)
keeps a strict call waiting: other threads and the event loop go on meanwhile, and a limiter that
is closed by one of them stays mapped until the call ends. Skipped without redis-server.
"""
import asyncio
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import unittest

import brim
import brim.tier
from brim.keys import WsgiRequest
from brim.rules import Rule, Rules
from segment import SegmentTest, unique_name

sys.path.append(str(pathlib.Path(os.environ['BRIM_ROOT'], 'tests', 'tier')))
try:
    import redis_servers
except ImportError:
    redis_servers = None
HAS_REDIS = redis_servers is not None and shutil.which('redis-server') is not None

STRICT = '20/365d scope cluster strict'
SHARED = '20/365d scope cluster'
NOWHERE = 'redis://127.0.0.1:1'
LONG = 20  # seconds: a strict call waits for less, whatever the load


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        if time.monotonic() > end:
            raise AssertionError('it did not come true in two minutes')
        time.sleep(0.005)


def ask_strictly(name, url, prefix, asks):
    """In a process of its own: how many were admitted, and what else was said."""
    limiter = brim.open(name, policies={'p': STRICT})
    brim.tier.answer_strict(limiter, url, timeout=LONG, prefix=prefix)
    with brim.tier.TierThread(name, url, prefix=prefix, timeout=LONG):
        wait_until(lambda: brim.tier.status(name).up)
        got = [limiter.policy('p').try_acquire('k') for _ in range(asks)]
    return sum(one.admitted for one in got), {one.reason for one in got}


def ask_and_exchange(name, url, prefix):
    """Admits until the cluster's limit holds it up; how many."""
    limiter = brim.open(name, policies={'p': SHARED})
    policy, admitted = limiter.policy('p'), 0
    with brim.tier.TierThread(name, url, prefix=prefix, interval=0.02, timeout=LONG), \
            redis_servers.redis.Redis.from_url(url) as client:

        def meet(where):  # the other process
            client.incr(f'{prefix}-{where}')
            wait_until(lambda: client.get(f'{prefix}-{where}') == b'2')

        wait_until(lambda: brim.tier.status(name).up)
        meet('begin')
        while policy.try_acquire('k'):
            admitted += 1
            time.sleep(0.02)
        meet('end')
    return admitted


class Calls(SegmentTest):
    """Nobody listens."""

    def test_room_and_scope(self):
        limiter = self.open(n='1/d')
        self.assertFalse(brim.tier.status(self.name).kept)
        self.assertRaises(brim.Error, limiter.define, 'c', SHARED)
        with self.assertRaisesRegex(brim.Unfit, 'cluster_not_kept'):
            brim.tier.answer_strict(limiter, NOWHERE)
        brim.resize(self.name, cluster=True)
        self.assertTrue(brim.tier.status(self.name).kept)
        self.assertEqual([limiter.policy('n').scope, limiter.define('c', SHARED).scope,
                          limiter.define('s', STRICT).scope], ['node', 'cluster', 'strict'])
        name = unique_name()
        self.addCleanup(self.remove, name)
        brim.Limiter.create(name, cluster=True)
        self.assertTrue(brim.tier.status(name).kept)
        self.assertRaises(brim.NotFound, brim.tier.status, name + '-not')

    def test_wrong_arguments(self):
        limiter = self.open(s=STRICT)
        for wrong in [{'interval': 0}, {'timeout': -1}, {'share': 0}, {'share': 1.5},
                      {'forget': float('nan')}, {'url': 'http://127.0.0.1'}, {'secret': 'x'}]:
            with self.assertRaises(ValueError, msg=str(wrong)):
                brim.tier.TierThread(self.name, **{'url': NOWHERE, **wrong})
        self.assertRaises(TypeError, brim.tier.TierThread, self.name, NOWHERE, say=1)
        self.assertRaises(TypeError, brim._brim._decide_by, self.name, object())
        self.assertRaises(ValueError, brim.tier.answer_strict, limiter, 'http://127.0.0.1')
        self.assertRaises(ValueError, brim._brim._decide_by, limiter, object())
        limiter.close()
        self.assertRaises(brim.Unfit, brim.tier.answer_strict, limiter, NOWHERE)

    def test_thread(self):
        self.open(c=SHARED)
        told = []
        thread = brim.tier.TierThread(self.name, NOWHERE, interval=0.01, timeout=0.1,
                                      password='hunter2', say=lambda *what: told.append(what))
        with thread:
            wait_until(lambda: brim.tier.status(self.name).error and told)
        thread.stop()
        status = brim.tier.status(self.name)
        self.assertEqual((status.up, status.agent_pid), (False, os.getpid()))
        self.assertIn('127.0.0.1', status.store)
        self.assertNotIn('hunter2', repr([told, status]))
        self.assertRaises(brim.Error, brim.tier.nodes, self.name, NOWHERE)
        self.assertRaises(brim.Error, brim.tier.remove_node, '0' * 32, NOWHERE)

    def test_unavailable(self):
        """By on-unavailable: of a decision, and of a request (503)."""
        for what, admitted, status in [('allow', True, 200), ('deny', False, 503)]:
            self.remove(self.name)
            limiter = self.open(r=f'{STRICT} on-unavailable {what}')
            brim.tier.answer_strict(limiter, NOWHERE)
            decision = limiter.policy('r').try_acquire('a')
            self.assertEqual((decision.verdict, decision.reason, decision.admitted),
                             (brim.Verdict.UNAVAILABLE, brim.Reason.TIER_UNAVAILABLE, admitted))
            rules = Rules(limiter, [Rule('r')])
            environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': '/', 'REMOTE_ADDR': '10.0.0.1'}
            outcome = rules.decide_now(WsgiRequest(environ))
            self.assertEqual((outcome.admitted, outcome.status), (admitted, status))
            self.assertEqual(dict(outcome.fields), {} if admitted else {'Retry-After': '1'})
            self.assertEqual(asyncio.run(rules.decide(WsgiRequest(environ))).status, status)

    def test_only_who_asks_loads_it(self):
        """Neither the package nor snapshots need what Redis needs."""
        script = textwrap.dedent('''
            import brim, brim.rules, brim.asgi, brim.snapshot
            loaded = lambda: 'libhiredis' in open('/proc/self/maps').read()
            before = loaded()
            import brim.tier
            print(before, loaded())
        ''')
        out = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                             check=True).stdout
        self.assertEqual(out, 'False True\n')


@unittest.skipUnless(HAS_REDIS, 'redis-server or python3-redis is not installed')
class WithRedis(SegmentTest):

    @classmethod
    def setUpClass(cls):
        cls.server = redis_servers.Server().start()
        cls.addClassCleanup(cls.server.__exit__, None, None, None)

    def setUp(self):
        super().setUp()
        self.prefix = self.name  # each test has keys of its own
        self.other = unique_name('other')
        self.addCleanup(self.remove, self.other)

    def in_two_processes(self, function, *arguments):
        with multiprocessing.get_context('spawn').Pool(2) as pool:
            return pool.starmap(function, [(name, self.server.url(), self.prefix, *arguments)
                                           for name in (self.name, self.other)])

    def stopped(self):
        """The server does not answer until the test is over, or resume()."""
        self.server.pause()
        self.addCleanup(self.server.resume)

    def strict(self, **policies):
        limiter = self.open(p=STRICT, **policies)
        brim.tier.answer_strict(limiter, self.server.url(), timeout=LONG, prefix=self.prefix)
        with brim.tier.TierThread(self.name, self.server.url(), prefix=self.prefix, timeout=LONG):
            wait_until(lambda: brim.tier.status(self.name).up)  # the nodes' secret is known
        self.assertEqual(limiter.policy('p').try_acquire('first').reason, brim.Reason.NONE)
        return limiter

    def test_strict_is_exact(self):
        got = self.in_two_processes(ask_strictly, 30)
        self.assertEqual(sum(admitted for admitted, _ in got), 20, got)
        self.assertEqual(set().union(*(reasons for _, reasons in got)), {brim.Reason.NONE})

    def test_two_nodes_share(self):
        got = self.in_two_processes(ask_and_exchange)
        # (N - 1)(b + r(interval + delay)) above the limit at most; and none goes short.
        self.assertTrue(20 <= sum(got) <= 40, got)

    def test_nodes(self):
        self.open(p=SHARED)
        url = self.server.url()
        with brim.tier.TierThread(self.name, url, prefix=self.prefix, node_name='here'):
            wait_until(lambda: brim.tier.status(self.name).up)
            wait_until(lambda: brim.tier.nodes(self.name, url, prefix=self.prefix))
            node, = brim.tier.nodes(self.name, url, prefix=self.prefix)
            self.assertEqual((node.name, node.self), ('here', True))
            self.assertGreaterEqual(node.seen_ago, 0)
        brim.tier.remove_node(node.uuid, url, prefix=self.prefix)
        self.assertEqual(brim.tier.nodes(self.name, url, prefix=self.prefix), [])

    def test_threads_go_on(self):
        limiter = self.strict()
        policy, got = limiter.policy('p'), []
        self.stopped()
        thread = threading.Thread(target=lambda: got.append(policy.try_acquire('k')))
        thread.start()
        for _ in range(50):  # if it kept the GIL, the first of these would last until the end
            time.sleep(0.002)
        waiting = not got
        limiter.close()  # by another thread, in the middle of a call
        self.server.resume()
        thread.join()
        self.assertTrue(waiting)
        self.assertEqual((got[0].admitted, got[0].reason), (True, brim.Reason.NONE))
        self.assertRaises(brim.Unfit, policy.try_acquire, 'k')

    def test_the_loop_goes_on(self):
        policy = self.strict().policy('p')

        async def both():
            self.stopped()
            asked = asyncio.create_task(policy.acquire('k', timeout=0))
            for _ in range(50):
                await asyncio.sleep(0.002)
            waiting = not asked.done()
            self.server.resume()
            return waiting, await asked

        waiting, decision = asyncio.run(both())
        self.assertTrue(waiting)
        self.assertTrue(decision.admitted)

    def test_cancelled_gives_back(self):
        policy = self.strict().policy('p')

        async def cancelled():
            self.stopped()
            asked = asyncio.create_task(policy.acquire('k', 20, timeout=0))
            await asyncio.sleep(0.05)
            asked.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await asked
            self.server.resume()
            while policy.peek('k').remaining != 20:
                await asyncio.sleep(0.01)
            # It was taken, and given back in the store too.
            while not await policy.acquire('k', 20, timeout=0):
                await asyncio.sleep(0.01)

        asyncio.run(asyncio.wait_for(cancelled(), 120))

    def test_rules_go_on(self):
        """A strict rule beside others: asked last, in a thread; a refusal gives the others back."""
        limiter = self.strict(n='5/365d')
        rules = Rules(limiter, [Rule('p', cost=15), Rule('n')], key=lambda request: 'k')
        environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': '/', 'REMOTE_ADDR': '10.0.0.1'}

        async def both():
            self.stopped()
            asked = asyncio.create_task(rules.decide(WsgiRequest(environ)))
            for _ in range(50):
                await asyncio.sleep(0.002)
            waiting = not asked.done()
            self.server.resume()
            return waiting, await asked

        waiting, outcome = asyncio.run(both())
        self.assertTrue(waiting)
        self.assertTrue(outcome.admitted)
        self.assertEqual(limiter.policy('n').peek('k').remaining, 4)
        outcome = rules.decide_now(WsgiRequest(environ))
        self.assertEqual((outcome.status, outcome.violated), (429, ['p']))
        self.assertEqual(limiter.policy('n').peek('k').remaining, 4)


if __name__ == '__main__':
    unittest.main()
