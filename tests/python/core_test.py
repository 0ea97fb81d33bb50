# SPDX-License-Identifier: MIT
"""The package's contract: what each call returns, and what it says of wrong arguments.

Goal: what python/brim/_brim.pyi promises, and that no argument whatever crashes the process or
takes a permit. Method: every method against a segment of the test's own; then each with values of
wrong types, out of range, with surrogates and zero bytes, on closed and read-only handles, and on
a damaged segment.
"""
import gc
import inspect
import math
import os
import pathlib
import pickle
import threading
import time
import unittest

import brim
from brim import Priority, Reason, Verdict
from segment import SegmentTest, unique_name

KEYS = ['a', '', 'k' * 100_000, 'ключ', '\U0001f600', 'a\0b', b'\xff\0\xfe']


class Decisions(SegmentTest):

    def test_counts_down_and_refuses(self):
        policy = self.open(p='5/d burst 3').policy('p')
        got = [policy.try_acquire('a') for _ in range(4)]
        self.assertEqual([bool(d) for d in got], [True, True, True, False])
        self.assertEqual([d.remaining for d in got], [2, 1, 0, 0])
        self.assertEqual([d.granted for d in got], [1, 1, 1, 0])
        self.assertEqual([d.verdict for d in got], [Verdict.ALLOWED] * 3 + [Verdict.DENIED])
        refused = got[3]
        self.assertIs(refused.admitted, False)
        self.assertTrue(0 < refused.retry_after <= 86400 / 5)
        self.assertEqual(refused.retry_after, refused.retry_after_ns / 1e9)
        self.assertEqual(refused.reset_after, refused.reset_after_ns / 1e9)
        self.assertEqual((refused.delay, refused.delay_ns, refused.part), (0.0, 0, 0))
        self.assertIn('refused', repr(refused))

    def test_never_is_infinite(self):
        policy = self.open(p='5/d burst 3').policy('p')
        never = policy.try_acquire('a', 4)
        self.assertEqual((never.retry_after, never.retry_after_ns), (math.inf, brim.NEVER_NS))
        self.assertEqual(never.reason, Reason.COST_ABOVE_BURST)
        self.assertEqual(brim.NEVER, math.inf)

    def test_keys_are_their_bytes(self):
        """str and bytes of the same UTF-8 are one key; all others are different."""
        policy = self.open(p='2/d').policy('p')
        for key in KEYS:
            self.assertTrue(policy.try_acquire(key), key[:20])
        for key in KEYS:
            decision = policy.try_acquire(key.encode() if isinstance(key, str) else key)
            self.assertEqual((bool(decision), decision.remaining), (True, 0), key[:20])

    def test_arguments_by_name(self):
        policy = self.open(p='9/d').policy('p')
        self.assertEqual(policy.try_acquire(key='a').remaining, 8)
        self.assertEqual(policy.try_acquire('a', cost=2).remaining, 6)
        self.assertEqual(policy.try_acquire(priority=Priority.HIGH, cost=0, key='a').remaining, 6)

        class Index:
            def __index__(self):
                return 3
        self.assertEqual(policy.try_acquire('a', Index()).remaining, 3)

    def test_priority(self):
        policy = self.open(p='10/d classes 50 80 100').policy('p')
        for _ in range(5):
            self.assertTrue(policy.try_acquire('a', 1, Priority.LOW))
        self.assertFalse(policy.try_acquire('a', 1, Priority.LOW))
        self.assertTrue(policy.try_acquire('a', 1, Priority.CRITICAL))

    def test_other_ways_to_ask(self):
        limiter = self.open(p='5/d', q='3/d')
        p, q = limiter.policy('p'), limiter.policy('q')
        self.assertEqual(p.try_acquire_at(time.monotonic_ns(), 'a').remaining, 4)
        self.assertEqual(p.try_acquire_up_to('a', 1, 9).granted, 4)
        self.assertFalse(p.try_acquire_up_to('a', 1, 9))
        self.assertEqual([d.remaining for d in q.try_acquire_batch(['b', b'c'])], [2, 2])
        self.assertEqual([d.remaining for d in q.try_acquire_batch(('c', b'b', 'c'))], [1, 1, 0])
        self.assertEqual(len(q.try_acquire_batch([f'k{i}' for i in range(300)])), 300)
        self.assertEqual(q.try_acquire_batch(()), [])
        self.assertEqual(q.peek('b').remaining, 1)
        self.assertFalse(q.peek('b', 2))
        self.assertEqual(limiter.try_acquire('q', 'b').remaining, 0)
        self.assertTrue(limiter.try_acquire_all([(p, 'x'), (q, 'x', 2)]))
        refused = limiter.try_acquire_all([(p, 'x'), (q, 'x', 2)])
        self.assertEqual((bool(refused), refused.part), (False, 1))
        self.assertEqual(p.peek('x').remaining, 4)

    def test_settling(self):
        policy = self.open(p='10/d').policy('p')
        policy.try_acquire('a', 5)
        self.assertTrue(policy.commit('a', 5, 3))
        self.assertEqual(policy.peek('a').remaining, 7)
        self.assertTrue(policy.refund('a', 3))
        self.assertFalse(policy.refund('a'))
        policy.try_acquire('a', 5)
        self.assertTrue(policy.reset('a'))
        self.assertFalse(policy.reset('a'))
        self.assertEqual(policy.peek('a').remaining, 10)

    def test_booking(self):
        policy = self.open(p='1/d burst 1 ahead 10d', log='sliding-log 1/d').policy('p')
        self.assertEqual(policy.reserve('a').decision.delay, 0.0)
        ticket = policy.reserve('a', 1, 1e6)
        self.assertTrue(ticket)
        self.assertTrue(86000 < ticket.decision.delay <= 86400)
        self.assertEqual(ticket.cost, 1)
        self.assertTrue(policy.cancel('a', ticket))
        self.assertFalse(policy.cancel('a', ticket))
        late = policy.reserve('a', max_delay=1)
        self.assertEqual((bool(late), late.decision.reason), (False, Reason.TOO_LATE))
        self.assertFalse(policy.cancel('a', late))
        other = policy.limiter.policy('log').reserve('a')
        self.assertEqual(other.decision.reason, Reason.UNSUPPORTED)

    def test_leases(self):
        policy = self.open(p='concurrency 2 ttl 1000s').policy('p')
        with policy.acquire_lease('a') as one:
            two = policy.acquire_lease('a', 100)
            self.assertTrue(one and two)
            self.assertNotEqual(one.fence, two.fence)
            left = two.expires_ns - time.monotonic_ns()
            self.assertTrue(left <= 100e9)
            self.assertTrue(two.renew(2000) or two.renew())
            refused = policy.acquire_lease('a')
            self.assertFalse(refused)
            self.assertFalse(refused.release() or refused.renew())
        self.assertFalse(one.release())
        self.assertTrue(two.release())
        self.assertTrue(policy.acquire_lease('a'))
        unfit = self.open(q='5/d').policy('q').acquire_lease('a')
        self.assertEqual(unfit.decision.reason, Reason.UNSUPPORTED)

    def test_waiting(self):
        limiter = self.open(p='50/s burst 1', log='sliding-log 1/20ms', slow='1/d')
        for name in ['p', 'log']:
            start = time.monotonic()
            for _ in range(4):
                decision = limiter.wait(name, 'a')
                self.assertTrue(decision)
                self.assertEqual(decision.delay_ns, 0)
            self.assertGreaterEqual(time.monotonic() - start, 0.06 - 1e-6)
        slow = limiter.policy('slow')
        self.assertTrue(slow.wait('a', timeout=0))
        for timeout in [0, 0.5, 60]:
            self.assertFalse(slow.wait('a', timeout=timeout))
        self.assertEqual(slow.wait('a', 2).retry_after, math.inf)


class Administration(SegmentTest):

    def test_opening(self):
        with self.assertRaises(brim.NotFound) as caught:
            brim.Limiter.attach(self.name)
        self.assertEqual(caught.exception.name, 'segment_not_found')
        self.assertIsInstance(caught.exception, LookupError)
        limiter = self.open(p='5/d')
        self.assertEqual((limiter.name, limiter.linked, limiter.paused), (self.name, True, False))
        self.assertEqual(limiter.policy_names(), ['p'])
        with self.assertRaises(brim.AlreadyExists):
            brim.Limiter.create(self.name)
        with self.assertRaises(brim.Error) as caught:
            brim.open(self.name, policies={'p': '6/d'})
        self.assertEqual(caught.exception.name, 'config_mismatch')
        brim.open(self.name, policies={'p': '6/d'}, accept_stored=True)
        self.assertEqual(brim.Limiter.create(self.name, replace=True).policy_names(), [])
        self.assertIs(limiter.linked, False)

    def test_all_options(self):
        limiter = brim.Limiter.create(
            self.name, policies={'p': '1/d'}, capacity=100, name_bytes=0, max_policies=3,
            cells_per_key=8, overrides=4, probe_limit=8, hash='xxh3', on_full='deny',
            clock='monotonic', huge_pages=True, mode=0o640, owner_uid=None, group=None)
        self.assertEqual(os.stat(f'/dev/shm/{self.name}').st_mode & 0o777, 0o640)
        limiter.define('q', '2/d')
        limiter.define('r', '2/d')
        with self.assertRaises(brim.Full):
            limiter.define('s', '2/d')

    def test_two_openings(self):
        """They share the mapping; each ends by itself."""
        one, two = self.open(p='5/d'), brim.Limiter.attach(self.name)
        maps = pathlib.Path('/proc/self/maps').read_text
        mapped = maps().count(self.name)
        three = brim.Limiter.attach(self.name)
        self.assertEqual(maps().count(self.name), mapped)
        policy = two.policy('p')
        one.close()
        three.close()
        self.assertTrue(policy.try_acquire('a'))
        two.close()
        self.assertEqual(maps().count(self.name), 0)

    def test_policies(self):
        limiter = self.open(p='100/m burst 20')
        policy = limiter.policy('p')
        self.assertEqual(policy.text, '100/m burst 20')
        rate, = policy.rates
        self.assertEqual((rate.algorithm, rate.limit, rate.period_ns, rate.burst, rate.calendar),
                         ('gcra', 100, 60_000_000_000, 20, ''))
        limiter.change('p', '10/d', on_change='reset')
        self.assertEqual(policy.text, '10/d')
        limiter.set_factor('p', 0.5)
        limiter.set_factor('p', 1)
        self.assertEqual(limiter.define('p', '10/d').name, 'p')
        with self.assertRaises(brim.AlreadyExists):
            limiter.define('p', '11/d')
        policy.try_acquire('a', 10)
        limiter.reset_policy('p')
        self.assertTrue(policy.try_acquire('a', 10))
        limiter.remove_policy('p')
        with self.assertRaises(brim.NotFound):
            limiter.policy('p')
        with self.assertRaises(brim.NotFound):
            limiter.try_acquire('p', 'a')

    def test_overrides_and_bans(self):
        limiter = self.open(p='1/d', q='3/d')
        policy = limiter.policy('p')
        limiter.set_override('p', 'a', 'q')
        self.assertEqual(policy.peek('a').remaining, 3)
        limiter.clear_override('p', 'a')
        self.assertEqual(policy.peek('a').remaining, 1)
        limiter.set_network_override('*', '10.0.0.0/8', 'deny')
        self.assertEqual(policy.try_acquire('10.1.2.3').reason, Reason.BLOCKED)
        limiter.clear_network_override('*', '10.0.0.0/8')
        limiter.ban('p', 'b', 1000)
        self.assertTrue(900 < policy.try_acquire('b').retry_after < 1001)
        limiter.unban('p', 'b')
        limiter.ban_network('p', '192.0.2.0/24', math.inf)
        self.assertEqual(policy.try_acquire('192.0.2.1').reason, Reason.BARRED)
        limiter.unban_network('p', '192.0.2.0/24')
        for call in [lambda: limiter.unban('p', 'b'), lambda: limiter.clear_override('p', 'a')]:
            self.assertRaises(brim.NotFound, call)

    def test_the_rest(self):
        limiter = self.open(p='1/d')
        limiter.pause()
        self.assertTrue(limiter.paused)
        self.assertEqual(limiter.try_acquire('p', 'a').reason, Reason.PAUSED)
        limiter.resume()
        limiter.record('a test was here')
        self.assertEqual(limiter.sweep(1), 0)

    def test_texts(self):
        text, rates = brim.parse_policy('10/s; 1000/h')
        self.assertEqual((text, len(rates)), ('10/s; 1000/h', 2))
        self.assertEqual(brim.address_key('::ffff:192.0.2.1'), '192.0.2.1')
        self.assertEqual(brim.address_key('2001:db8::1', v6_prefix=128), '2001:db8::1')
        self.assertIsNone(brim.address_key('nobody'))
        self.assertTrue(brim.network_contains('10.0.0.0/8', '10.0.0.1'))
        self.assertFalse(brim.network_contains('10.0.0.0/8', '11.0.0.1'))
        for bad in [('10.0.0.0/99', '10.0.0.1'), ('10.0.0.0/8', 'nobody')]:
            self.assertRaises(brim.InvalidArgument, brim.network_contains, *bad)

    def test_everything_has_a_docstring(self):
        for owner in [brim.Limiter, brim.Policy, brim.Decision, brim.Ticket, brim.Lease, brim.Rate]:
            self.assertTrue(owner.__doc__)
            for name, member in vars(owner).items():
                if not name.startswith('_'):
                    self.assertTrue(member.__doc__, f'{owner.__name__}.{name}')
                    if callable(member):
                        inspect.signature(getattr(owner, name))
        for error in [brim.Error, *brim.Error.__subclasses__()]:
            self.assertTrue(error.__doc__)


class WrongArguments(SegmentTest):

    def refused(self, error, call, *args, **named):
        with self.assertRaises(error) as caught:
            call(*args, **named)
        self.assertTrue(str(caught.exception))
        return caught.exception

    def test_types(self):
        limiter = self.open(p='5/d')
        policy = limiter.policy('p')
        for key in [None, 1, 1.5, object(), bytearray(b'a'), memoryview(b'a'), ['a']]:
            for call in [policy.try_acquire, policy.peek, policy.wait, policy.reserve,
                         policy.refund, policy.reset, policy.acquire_lease]:
                self.refused(TypeError, call, key)
            self.refused(TypeError, policy.try_acquire_batch, ['a', key])
            self.refused(TypeError, limiter.ban, 'p', key, 1)
        for cost in [None, 'x', 1.5, b'1']:
            for call in [policy.try_acquire, policy.peek, policy.wait, policy.reserve,
                         policy.refund]:
                self.refused(TypeError, call, 'a', cost)
        for call, bad in [(policy.try_acquire, ()), (policy.try_acquire, ('a', 1, 1, 1)),
                          (policy.cancel, ('a', 1)), (policy.try_acquire_batch, ('abc',)),
                          (policy.try_acquire_batch, (3,)), (limiter.policy, (b'p',)),
                          (limiter.try_acquire_all, ([('p', 'a')],)),
                          (limiter.try_acquire_all, ([(policy,)],)),
                          (limiter.try_acquire_all, ([3],)), (limiter.define, ('q', 5)),
                          (brim.open, ()), (brim.open, (self.name, 5)), (brim.open, (5,)),
                          (brim.parse_policy, (None,)), (policy.wait, ('a', 1, 'long')),
                          (brim.Decision, ()), (brim.Policy, ()), (brim.Limiter, ()),
                          (brim.Ticket, ()), (brim.Lease, ()), (brim.Rate, ())]:
            self.refused(TypeError, call, *bad)
        self.refused(TypeError, policy.try_acquire, 'a', key='a')
        self.refused(TypeError, policy.try_acquire, 'a', price=1)
        self.refused(TypeError, brim.open, self.name, policies=['p'])
        self.refused(TypeError, brim.open, self.name, policies={'p': 5})
        self.refused(TypeError, brim.open, self.name, replace=True)
        self.assertEqual(policy.peek('a').remaining, 5)

    def test_ranges(self):
        limiter = self.open(p='5/d')
        policy = limiter.policy('p')
        for cost in [-1, 2**31 + 1, 2**32, 2**64, -2**64, 10**400]:
            for call in [policy.try_acquire, policy.peek, policy.wait, policy.reserve,
                         policy.refund]:
                error = self.refused(brim.InvalidArgument, call, 'a', cost)
                self.assertEqual((error.name, error.code), ('invalid_argument', -1))
                self.assertIsInstance(error, ValueError)
            self.refused(brim.InvalidArgument, policy.commit, 'a', 1, cost)
            self.refused(brim.InvalidArgument, policy.try_acquire_up_to, 'a', cost, cost)
        self.refused(brim.InvalidArgument, policy.try_acquire_up_to, 'a', 3, 2)
        for priority in [-1, 4, 2**70]:
            self.refused(brim.InvalidArgument, policy.try_acquire, 'a', 1, priority)
        for seconds in [-1, -1e-9, math.nan, -math.inf, 10**400]:
            self.refused(brim.InvalidArgument, policy.wait, 'a', 1, seconds)
            self.refused(brim.InvalidArgument, policy.reserve, 'a', 1, seconds)
            self.refused(brim.InvalidArgument, policy.acquire_lease, 'a', seconds)
            self.refused(brim.InvalidArgument, limiter.ban, 'p', 'a', seconds)
            self.refused(brim.InvalidArgument, limiter.sweep, seconds)
        for factor in [-1, math.nan, math.inf, 5000]:
            self.refused(brim.InvalidArgument, limiter.set_factor, 'p', factor)
        self.refused(brim.InvalidArgument, limiter.try_acquire_all, [(policy, 'a')] * 9)
        self.assertEqual(policy.try_acquire('a', 2**31).reason, Reason.COST_ABOVE_BURST)
        self.assertTrue(policy.wait('b', 1, math.inf))
        self.assertTrue(policy.wait('b', 1, 1e300))
        self.assertEqual(policy.peek('a').remaining, 5)

    def test_surrogates_and_zero_bytes(self):
        limiter = self.open(p='5/d')
        policy = limiter.policy('p')
        for bad in ['\ud800', 'a\udfffb']:
            for call in [policy.try_acquire, policy.peek, policy.wait, limiter.policy]:
                self.refused(UnicodeEncodeError, call, bad)
        self.refused(UnicodeEncodeError, policy.try_acquire_batch, ['a', '\ud800'])
        self.refused(brim.InvalidArgument, limiter.policy, 'p\0')
        self.refused(brim.InvalidArgument, limiter.try_acquire, 'p\0', 'a')
        self.refused(brim.InvalidArgument, brim.open, self.name + '\0')
        self.refused(brim.InvalidArgument, brim.open, self.name, policies={'p\0': '5/d'})
        self.refused(brim.InvalidArgument, brim.open, self.name, group='a\0')
        self.assertEqual(policy.peek('a').remaining, 5)

    def test_words(self):
        limiter = self.open(p='5/d')
        for name, word in [('hash', 'md5'), ('on_full', 'explode'), ('clock', 'manual')]:
            self.refused(brim.InvalidArgument, brim.open, self.name, **{name: word})
        self.refused(brim.InvalidArgument, limiter.change, 'p', '6/d', 'gently')
        for number in ['capacity', 'max_policies', 'mode', 'owner_uid', 'name_bytes']:
            for bad in [-1, 2**64]:
                self.refused(brim.InvalidArgument, brim.open, self.name, **{number: bad})
        for text in ['', 'x', '5/', '5/d; ' * 20, 'ü' * 500]:
            self.refused(brim.InvalidArgument, limiter.define, 'q', text)
            self.refused(brim.InvalidArgument, brim.parse_policy, text)

    def test_names(self):
        for name in ['', '.', '..', 'a/b', '/', 'x' * 300, '/dev/null', 'ü']:
            self.refused(brim.Error, brim.open, name)

    def test_arguments_that_run_code(self):
        """An __index__ that closes the limiter meets the check, not a segment that is gone."""
        limiter = self.open(p='5/d')
        policy = limiter.policy('p')

        class Close:
            def __index__(self):
                limiter.close()
                return 1

            def __float__(self):
                limiter.close()
                return 1.0
        self.refused(brim.Unfit, policy.try_acquire, 'a', Close())
        limiter = self.open()
        self.refused(brim.Unfit, limiter.policy('p').wait, 'a', 1, Close())

        class Raises:
            def __index__(self):
                raise KeyError('mine')
        self.refused(KeyError, self.open().policy('p').try_acquire, 'a', Raises())

    def test_attributes_are_fixed(self):
        limiter = self.open(p='5/d')
        decision = limiter.try_acquire('p', 'a')
        for thing, name in [(decision, 'admitted'), (decision, 'remaining'), (limiter, 'name'),
                            (limiter.policy('p'), 'name'), (limiter.policy('p'), 'limiter')]:
            with self.assertRaises(AttributeError):
                setattr(thing, name, 1)
        with self.assertRaises(TypeError):
            brim.Policy.try_acquire = None
        with self.assertRaises(TypeError):
            pickle.dumps(decision)


class Unusable(SegmentTest):
    """Handles and segments that can not serve raise or answer; nothing crashes."""

    def test_closed(self):
        limiter = self.open(p='5/d', c='concurrency 2 ttl 9s')
        policy = limiter.policy('p')
        lease = limiter.policy('c').acquire_lease('a')
        ticket = policy.reserve('a')
        limiter.close()
        limiter.close()
        self.assertEqual(limiter.name, self.name)
        self.assertIn('closed', repr(limiter))
        calls = [lambda: policy.try_acquire('a'), lambda: policy.try_acquire_at(0, 'a'),
                 lambda: policy.try_acquire_up_to('a', 1, 2), lambda: policy.peek('a'),
                 lambda: policy.try_acquire_batch(['a']), lambda: policy.try_acquire_batch([]),
                 lambda: policy.wait('a'), lambda: policy.reserve('a'), lambda: policy.text,
                 lambda: policy.cancel('a', ticket), lambda: policy.commit('a', 1, 1),
                 lambda: policy.refund('a'), lambda: policy.reset('a'), lambda: policy.rates,
                 lambda: policy.acquire_lease('a'), lease.renew, lease.release,
                 lambda: limiter.policy('p'), lambda: limiter.define('q', '5/d'),
                 limiter.policy_names, lambda: limiter.try_acquire('p', 'a'),
                 lambda: limiter.try_acquire_all([(policy, 'a')]), lambda: limiter.wait('p', 'a'),
                 lambda: limiter.acquire('p', 'a'), lambda: limiter.change('p', '6/d'),
                 lambda: limiter.set_factor('p', 1), lambda: limiter.remove_policy('p'),
                 lambda: limiter.reset_policy('p'), lambda: limiter.set_override('p', 'a', 'deny'),
                 lambda: limiter.set_network_override('p', '10.0.0.0/8', 'deny'),
                 lambda: limiter.clear_override('p', 'a'), lambda: limiter.unban('p', 'a'),
                 lambda: limiter.clear_network_override('p', '10.0.0.0/8'),
                 lambda: limiter.ban('p', 'a', 1), lambda: limiter.ban_network('p', '::/8', 1),
                 lambda: limiter.unban_network('p', '::/8'), limiter.pause, limiter.resume,
                 lambda: limiter.record('x'), lambda: limiter.sweep(1), lambda: limiter.linked,
                 lambda: limiter.paused, limiter.__enter__, lambda: pickle.dumps(policy)]
        for number, call in enumerate(calls):
            with self.subTest(number), self.assertRaises(brim.Unfit) as caught:
                call()
            self.assertEqual(caught.exception.name, 'not_open')

    def test_policy_keeps_the_segment(self):
        policy = self.open(p='5/d').policy('p')
        gc.collect()
        self.assertEqual(policy.try_acquire('a').remaining, 4)

    def test_subclass(self):
        class Mine(brim.Limiter):
            pass
        limiter = Mine.open(self.name, policies={'p': '5/d'})
        self.assertIsInstance(limiter, Mine)
        limiter.kept = limiter.policy('p')  # a cycle
        before = pathlib.Path('/proc/self/maps').read_text().count(self.name)
        self.assertGreater(before, 0)
        del limiter
        gc.collect()
        self.assertEqual(pathlib.Path('/proc/self/maps').read_text().count(self.name), 0)

    def test_read_only(self):
        writer = self.open(p='5/d')
        writer.try_acquire('p', 'a', 2)
        writer.close()
        reader = brim.Limiter.attach_read_only(self.name)
        policy = reader.policy('p')
        self.assertEqual(policy.peek('a').remaining, 3)
        self.assertEqual(policy.try_acquire('a').reason, Reason.READ_ONLY)
        for call in [lambda: reader.define('q', '5/d'), reader.pause,
                     lambda: reader.ban('p', 'a', 1), lambda: reader.change('p', '6/d')]:
            with self.assertRaises(brim.Unfit) as caught:
                call()
            self.assertEqual(caught.exception.name, 'read_only')
        self.assertEqual(pickle.loads(pickle.dumps(reader)).try_acquire('p', 'a').reason,
                         Reason.READ_ONLY)

    def test_damaged(self):
        self.open(p='5/d').close()
        path = pathlib.Path('/dev/shm', self.name)
        path.write_bytes(b'\0' * path.stat().st_size)
        with self.assertRaises(brim.Error) as caught:
            brim.Limiter.attach(self.name)
        self.assertIsInstance(caught.exception, (brim.Damaged, brim.Unfit))
        path.write_bytes(b'short')
        self.assertRaises(brim.Damaged, brim.Limiter.attach, self.name)
        brim.Limiter.create(self.name, replace=True)

    def test_foreign(self):
        if os.geteuid() != 0:
            self.skipTest('only root can make another user\'s file')
        self.open(p='5/d').close()
        os.chown(f'/dev/shm/{self.name}', 12345, 12345)
        with self.assertRaises(brim.PermissionDenied) as caught:
            brim.Limiter.attach(self.name)
        self.assertIsInstance(caught.exception, PermissionError)
        self.assertEqual(caught.exception.name, 'segment_foreign_owner')
        trusting = brim.Limiter.attach(self.name, owner_uid=12345)
        again = pickle.loads(pickle.dumps(trusting.policy('p')))
        self.assertTrue(again.try_acquire('a'))

    def test_errors_pickle(self):
        with self.assertRaises(brim.NotFound) as caught:
            brim.Limiter.attach(unique_name())
        again = pickle.loads(pickle.dumps(caught.exception))
        self.assertIs(type(again), brim.NotFound)
        self.assertEqual((str(again), again.name, again.code),
                         (str(caught.exception), 'segment_not_found', -2))


class Threads(SegmentTest):

    def test_exact_count(self):
        """Eight threads on one key, each by its own handle."""
        limiter = self.open(p='1000/365d')
        counts = []

        def hammer(policy):
            counts.append(sum(bool(policy.try_acquire('a')) for _ in range(500)))
        threads = [threading.Thread(target=hammer, args=[limiter.policy('p')]) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(counts), 1000)

    def test_closed_while_another_waits(self):
        """A wait keeps the segment mapped until it is over: one that booked, and one that tries."""
        for text in ['5/s burst 1', 'sliding-log 1/200ms']:
            limiter = brim.Limiter.create(self.name, policies={'p': text}, replace=True)
            policy = limiter.policy('p')
            self.assertTrue(policy.try_acquire('a'))
            got = []

            def wait():
                try:
                    got.append(policy.wait('a', timeout=60))
                except brim.Unfit:  # on a machine so busy that it came too late
                    pass
            thread = threading.Thread(target=wait)
            thread.start()
            time.sleep(0.02)  # it sleeps by now, or meets the closed limiter
            limiter.close()
            with self.assertRaises(brim.Unfit):
                policy.try_acquire('a')
            thread.join()
            self.assertTrue(not got or got[0])
            self.assertEqual(pathlib.Path('/proc/self/maps').read_text().count(self.name), 0)

    def test_waiting_gives_up_the_gil(self):
        policy = self.open(p='2/s burst 1').policy('p')
        policy.try_acquire('a')
        done = threading.Event()
        thread = threading.Thread(target=lambda: (policy.wait('a'), done.set()))
        thread.start()
        turns = 0
        while not done.is_set():
            turns += 1
            time.sleep(0.001)
        thread.join()
        self.assertGreater(turns, 3)

    def test_deciding_keeps_the_gil(self):
        """The file that decides can not give it up: what asks a store does so in strict.c."""
        source = pathlib.Path(os.environ['BRIM_ROOT'], 'python/src/decide.c').read_text()
        for word in ['Py_BEGIN_ALLOW_THREADS', 'PyEval_SaveThread', 'WITHOUT_GIL']:
            self.assertNotIn(word, source)
        wait = pathlib.Path(os.environ['BRIM_ROOT'], 'python/src/wait.c').read_text()
        self.assertIn('Py_BEGIN_ALLOW_THREADS', wait)


if __name__ == '__main__':
    unittest.main()
