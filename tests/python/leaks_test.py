# SPDX-License-Identifier: MIT
"""No call leaks, whatever it returns or raises.

Goal: a worker that makes billions of calls stays as it is. Method: every method, with good and
with wrong arguments, a few thousand times; then the interpreter has as many blocks of memory as
before (sys.getallocatedblocks counts each object and buffer). With BRIM_TEST_SLOW a million times,
and then the process may not have grown either, which counts what the core allocates; the hot call
always does that, and the openings are looked at in the list of mappings.
"""
import asyncio
import gc
import os
import pathlib
import pickle
import sys
import time
import unittest

import brim
from segment import SegmentTest, unique_name

CALLS = 1_000_000 if os.environ.get('BRIM_TEST_SLOW') else 4000
TYPES = [brim.Decision, brim.Ticket, brim.Lease, brim.Rate, brim.Policy, brim.Limiter,
         brim.InvalidArgument, brim.NotFound]
SLACK = 200  # blocks that the interpreter keeps for itself; a leak is a block for each call


def resident():
    return int(pathlib.Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE')


def held():
    """Blocks of memory, and references to the types, which make none."""
    return sys.getallocatedblocks() + sum(sys.getrefcount(one) for one in TYPES)


class Leaks(SegmentTest):

    def leaks(self, call, calls=CALLS):
        """Blocks more after so many calls than before: the least of three looks, since the
        interpreter fills caches of its own now and then."""
        least = sys.maxsize
        for _ in range(3):
            gc.collect()
            before = held()
            for _ in range(calls):
                self.once(call)
            gc.collect()
            least = min(least, held() - before)
            if least < SLACK:
                break
        return least

    @staticmethod
    def once(call):
        try:
            call()
        except Exception:  # of every kind: the error is what is tried
            pass

    def calls(self, limiter):
        policy = limiter.policy('p')
        small = limiter.policy('small')
        ticket = limiter.policy('far').reserve('a')
        lease = limiter.policy('c').acquire_lease('kept')
        key = 'some key'
        good = {
            'try_acquire': lambda: policy.try_acquire(key, 1),
            'refused': lambda: small.try_acquire(key, 2),
            'keywords': lambda: policy.try_acquire(key=key, cost=1, priority=2),
            'other string': lambda: policy.try_acquire('ключ' + key),
            'bytes': lambda: policy.try_acquire(b'bytes'),
            'at': lambda: policy.try_acquire_at(time.monotonic_ns(), key),
            'up_to': lambda: policy.try_acquire_up_to(key, 0, 2),
            'batch': lambda: policy.try_acquire_batch([key, b'x', 'y'] * 30),
            'peek': lambda: policy.peek(key),
            'wait': lambda: policy.wait(key, timeout=1),
            'refused wait': lambda: small.wait(key, 2, timeout=1),
            'reserve': lambda: policy.reserve(key, 1, 60),
            'cancel': lambda: limiter.policy('far').cancel('a', ticket),
            'commit': lambda: policy.commit(key, 1, 0),
            'refund': lambda: policy.refund(key),
            'reset': lambda: policy.reset(key),
            'lease': lambda: limiter.policy('c').acquire_lease(key).release(),
            'renew': lambda: lease.renew(5),
            'fields': lambda: [getattr(policy.try_acquire(key), name) for name in
                               ['admitted', 'remaining', 'retry_after', 'reset_after', 'delay',
                                'retry_after_ns', 'verdict', 'reason', 'granted', 'part']],
            'repr': lambda: repr([policy.try_acquire(key), policy, limiter]),
            'text': lambda: policy.text,
            'rates': lambda: [(r.algorithm, r.calendar, r.burst) for r in policy.rates],
            'names': limiter.policy_names,
            'linked': lambda: (limiter.linked, limiter.paused),
            'define': lambda: limiter.define('p', '1000000/s'),
            'by name': lambda: limiter.try_acquire('p', key),
            'all': lambda: limiter.try_acquire_all([(policy, key), (small, key, 1)]),
            'change': lambda: limiter.change('changed', '7/d'),
            'factor': lambda: limiter.set_factor('changed', 1.0),
            'override': lambda: (limiter.set_override('p', 'o', 'deny'),
                                 limiter.clear_override('p', 'o')),
            'network': lambda: (limiter.set_network_override('p', '10.0.0.0/8', 'deny'),
                                limiter.clear_network_override('p', '10.0.0.0/8')),
            'ban': lambda: (limiter.ban('p', 'o', 9), limiter.unban('p', 'o')),
            'parse': lambda: brim.parse_policy('10/s; 1000/h'),
            'address': lambda: brim.address_key('2001:db8::1'),
            'contains': lambda: brim.network_contains('10.0.0.0/8', '10.0.0.1'),
            'with': limiter.__enter__,
            'pickle': lambda: pickle.dumps(policy),
        }
        wrong = {
            'key type': lambda: policy.try_acquire(1),
            'surrogate': lambda: policy.try_acquire('\ud800'),
            'cost type': lambda: policy.try_acquire(key, 'x'),
            'cost range': lambda: policy.try_acquire(key, -1),
            'huge cost': lambda: policy.try_acquire(key, 10**400),
            'priority': lambda: policy.try_acquire(key, 1, 9),
            'missing': lambda: policy.try_acquire(),
            'unknown word': lambda: policy.try_acquire(key, price=3),
            'twice': lambda: policy.try_acquire(key, key=key),
            'batch key': lambda: policy.try_acquire_batch([key, 3]),
            'batch': lambda: policy.try_acquire_batch(3),
            'asks': lambda: limiter.try_acquire_all([(policy, key), (policy, 3)]),
            'ask': lambda: limiter.try_acquire_all([5]),
            'many asks': lambda: limiter.try_acquire_all([(policy, key)] * 9),
            'seconds': lambda: policy.wait(key, 1, float('nan')),
            'seconds type': lambda: policy.wait(key, 1, 'x'),
            'reserve': lambda: policy.reserve(key, 1, -1),
            'unsupported': lambda: small.reserve(key),
            'cancel': lambda: policy.cancel(key, 5),
            'lease': lambda: policy.acquire_lease(key),
            'ttl': lambda: limiter.policy('c').acquire_lease(key, 0),
            'no policy': lambda: limiter.policy('none'),
            'no policy named': lambda: limiter.try_acquire('none', key),
            'mismatch': lambda: limiter.define('p', '5/d'),
            'bad text': lambda: limiter.define('bad', '5'),
            'no override': lambda: limiter.clear_override('p', 'none'),
            'factor': lambda: limiter.set_factor('p', -1),
            'how': lambda: limiter.change('p', '5/d', 'gently'),
            'attach': lambda: brim.Limiter.attach('none-such'),
            'options': lambda: brim.open(self.name, policies={'p': 5}),
            'option': lambda: brim.open(self.name, policies={'p': '1000000/s'}, mode=-1),
            'unknown option': lambda: brim.open(self.name, size=3),
            'parse': lambda: brim.parse_policy('x'),
            'instance': brim.Decision,
        }
        return {**good, **{'wrong: ' + name: call for name, call in wrong.items()}}

    def test_every_call(self):
        limiter = self.open(p='1000000/s', small='sliding-log 1/d', far='1/d burst 1 ahead 30d',
                            c='concurrency 2 ttl 10s', changed='7/d')
        for name, call in self.calls(limiter).items():
            with self.subTest(name):
                before = resident()
                self.assertLess(self.leaks(call), SLACK)
                self.assertLess(resident() - before, 8 << 20)  # 8 bytes of a million calls

    def test_openings(self):
        """Their memory, their mapping and their descriptors."""
        self.keep = self.open(p='5/d')
        self.assertLess(self.leaks(lambda: brim.Limiter.attach(self.name).policy('p'), 500), SLACK)
        self.assertLess(self.leaks(lambda: pickle.loads(pickle.dumps(self.keep)), 500), SLACK)
        self.keep.close()

        def whole():
            name = unique_name()
            brim.open(name, policies={'p': '5/d'}, capacity=64, group=None).try_acquire('p', 'a')
            brim.Limiter.unlink(name)
        self.assertLess(self.leaks(whole, 200), SLACK)
        self.assertEqual(pathlib.Path('/proc/self/maps').read_text().count('python-test-'), 0)
        before = len(os.listdir('/proc/self/fd'))
        whole()
        self.assertEqual(len(os.listdir('/proc/self/fd')), before)

    def test_waiting_in_the_loop(self):
        policy = self.open(p='1000000/s', far='1/d burst 1').policy('p')

        async def some():
            for _ in range(200):
                await policy.acquire('a')
            task = asyncio.create_task(policy.limiter.acquire('far', 'a', 1))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self.assertLess(self.leaks(lambda: asyncio.run(some()), 20), SLACK)

    def test_a_million(self):
        """The hot call: the process does not grow."""
        policy = self.open(p='1000000/s').policy('p')
        call = policy.try_acquire
        for _ in range(10_000):
            call('a')
        before = resident()
        for _ in range(1_000_000):
            call('a')
        self.assertLess(resident() - before, 4 << 20)

    def test_a_leak_is_seen(self):
        kept = []
        self.assertGreaterEqual(self.leaks(lambda: kept.append(object())), CALLS)


if __name__ == '__main__':
    unittest.main()
