#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim.compat.limits and .pyrate where something is in the way: full, paused, resized and changed
segments, logs of several parts that others overtake, and odd keys. Method: rates of days, so that
nothing expires; a race is played by a function that is called between the look and the taking."""
import asyncio
import itertools
import os
import sys
import types
import unittest
import unittest.mock

import brim
import brim.compat.limits
from brim.compat import _log
from brim.compat.limits import UNCOUNTED
from brim.compat.pyrate import BrimBucket, Duration, Limiter, Rate, RateItem
from limits.storage import storage_from_string
from segment import SegmentTest

DAY = 86400


class EdgeTest(SegmentTest):
    def storage(self, options='capacity=4096', scheme='shm'):
        return storage_from_string(f'{scheme}://{self.name}?{options}')

    def bucket(self, *rates, name='b'):
        return BrimBucket([Rate(*rate) for rate in rates], name, self.name)

    def put(self, bucket, weight):
        return bucket.put(RateItem('item', 0, weight))

    def fill(self, storage):
        """With keys, until a new one is refused (on_full=deny)."""
        keys = (f'k{i}' for i in itertools.count())
        self.assertEqual(next(n for n in (storage.incr(key, DAY) for key in keys) if n != 1),
                         UNCOUNTED)


class Full(EdgeTest):
    def test_elastic_hit_without_room_does_not_wait(self):
        storage = self.storage('capacity=64&on_full=deny')
        self.fill(storage)
        with unittest.mock.patch('time.sleep', side_effect=AssertionError('waits')):
            self.assertEqual(storage.incr('new', DAY, True), UNCOUNTED)
            self.assertEqual([storage.incr('k0', DAY, True) for _ in range(3)], [2, 3, 4])
        self.assertEqual((storage.get('new'), storage.get('k0')), (0, 4))

    def test_hit_is_allowed_whatever_the_parts(self):
        storage = self.storage('capacity=64&on_full=allow')
        for i, cost in itertools.product(range(100), (1, 3)):
            self.assertTrue(storage.acquire_entry(f'k{i}', 100, DAY, cost))
        self.assertEqual(storage.get_moving_window('new', 100, DAY)[1], 0)

    def test_hit_is_denied_whatever_the_parts(self):
        storage = self.storage('capacity=64&on_full=deny')
        self.fill(storage)
        for cost in (1, 3):
            self.assertFalse(storage.acquire_entry('new', 100, DAY, cost))


class Elastic(EdgeTest):
    def test_event_loop_runs_while_another_hit_is_under_way(self):
        storage = self.storage(scheme='async+shm')
        done = []

        async def run():
            self.assertEqual(await storage.incr('k', DAY, True), 1)
            lease = brim.Limiter.attach(self.name).policy('limits.lock').acquire_lease('k', 1)

            async def hit():
                done.append(await storage.incr('k', DAY, True))

            async def release():
                done.append('released')
                lease.release()
            await asyncio.gather(hit(), release())
        with unittest.mock.patch('brim.compat.limits.PATIENCE', 1000):
            asyncio.run(run())
        self.assertEqual(done, ['released', 2])

    def test_no_count_is_lost_to_a_hit_that_waits_too_long(self):
        storage = self.storage()
        self.assertEqual(storage.incr('k', DAY, True), 1)
        policy = brim.Limiter.attach(self.name).policy('limits.lock')
        while refused := policy.acquire_lease('k'):
            pass
        storage._leases = types.SimpleNamespace(acquire_lease=lambda key: refused)
        with unittest.mock.patch('brim.compat.limits.PATIENCE', -1):
            self.assertEqual(storage.incr('k', DAY, True), UNCOUNTED)
        self.assertEqual(storage.get('k'), 1)


class Operator(EdgeTest):
    def test_paused(self):
        storage, bucket = self.storage(), self.bucket((100, Duration.DAY))
        self.assertEqual([storage.incr('k', DAY, True) for _ in range(2)], [1, 2])
        self.assertTrue(storage.acquire_entry('k', 100, DAY, 70))
        self.assertTrue(self.put(bucket, 70))
        limiter = brim.Limiter.attach(self.name)
        limiter.pause()
        for _ in range(3):
            self.assertEqual((storage.incr('k', DAY, True), storage.incr('k', DAY)), (0, 0))
            self.assertEqual(storage.get('k'), 0)
            self.assertTrue(storage.acquire_entry('k', 100, DAY, 70))
            self.assertEqual(storage.get_moving_window('k', 100, DAY)[1], 0)
            self.assertTrue(self.put(bucket, 70))
            self.assertEqual((bucket.count(), bucket.peek(0)), (0, None))
        limiter.resume()
        self.assertEqual(storage.get('k'), 2)
        self.assertEqual(storage.get_moving_window('k', 100, DAY)[1], 70)
        self.assertEqual(bucket.count(), 70)

    def test_ban_of_an_elastic_window(self):
        storage = self.storage('capacity=64&overrides=64')
        for _ in range(2):  # the count is in either place
            self.assertNotEqual(storage.incr('k', DAY, True), UNCOUNTED)
            limiter = brim.Limiter.attach(self.name)
            limiter.ban('limits.fw.86400s', 'k', DAY)
            self.assertEqual((storage.incr('k', DAY, True), storage.get('k')), (UNCOUNTED,) * 2)
            limiter.unban('limits.fw.86400s', 'k')

    def test_resized_with_other_cells(self):
        storage = self.storage()
        for _ in range(5):
            self.assertTrue(storage.acquire_entry('k', 100, DAY))
        brim.resize(self.name, cells_per_key=256)
        other = self.storage()
        self.assertEqual(other.get_moving_window('k', 100, DAY)[1], 5)
        took = sum(one.acquire_entry('k', 100, DAY) for _ in range(60) for one in (storage, other))
        self.assertEqual(took, 95)

    def test_other_texts(self):
        """What an operator changed holds in processes of before and after."""
        before = self.storage()
        before.incr('k', DAY)
        before.acquire_entry('k', 5, DAY)
        before.acquire_entry('k', 100, DAY)
        before.acquire_sliding_window_entry('k', 2, DAY)
        limiter = brim.Limiter.attach(self.name)
        limiter.change('limits.fw.86400s', 'fixed-window 3/86400s first-hit')
        limiter.change('limits.mw.5.86400s', 'sliding-log 10/86400s inclusive')
        limiter.change('limits.sw.2.86400s', 'sliding-counter 4/36500d')
        names = limiter.policy_names()
        after = self.storage()
        self.assertEqual(after.get('k'), before.get('k'))
        self.assertEqual((after.incr('n', DAY), before.incr('n', DAY), after.incr('n', DAY)),
                         (1, 2, 3))
        self.assertEqual((after.get('n'), before.incr('n', DAY)), (3, UNCOUNTED))
        both = [one for _ in range(10) for one in (before, after)]
        self.assertEqual(sum(one.acquire_entry('n', 5, DAY) for one in both), 10)
        self.assertEqual(sum(one.acquire_sliding_window_entry('n', 2, DAY) for one in both), 4)
        for one in (before, after):
            self.assertEqual(one.get_moving_window('n', 5, DAY)[1], 5)
        self.assertEqual(limiter.policy_names(), names)
        after.clear('n')
        self.assertEqual(before.incr('n', DAY), 1)

    def test_learning_defines_nothing(self):
        storage = self.storage()
        for i in range(3):
            storage.acquire_entry('k', 99 + i, DAY)
        limiter = brim.Limiter.attach(self.name)
        names = limiter.policy_names()
        limiter.remove_policy(next(name for name in names if name.endswith('.r')))
        names = limiter.policy_names()
        other = self.storage()
        other.clear('k')
        self.assertEqual((other.get('k'), limiter.policy_names()), (0, names))

    def test_never_is_no_wait(self):
        bucket = self.bucket((5, Duration.DAY))
        brim.Limiter.attach(self.name).set_factor(f'pyrate.5.{int(Duration.DAY)}', 0)
        self.assertEqual(bucket.waiting(RateItem('item', 0, 5)), 0)
        self.assertFalse(Limiter(bucket).try_acquire('x'))


class Overtaken(EdgeTest):
    def between(self, act):
        """Calls act() once, after the look at the last log."""
        real, todo = _log.Log.free, [act]

        def free(log, key, cost):
            found = real(log, key, cost)
            if todo and log.limit >= 100:
                todo.pop()()
            return found
        patch = unittest.mock.patch.object(_log.Log, 'free', free)
        patch.start()
        self.addCleanup(patch.stop)

    def test_one_log_refuses_and_the_other_has_lost_nothing(self):
        bucket = self.bucket((60, Duration.DAY), (100, 2 * Duration.DAY))
        first, second = (self.bucket((one.limit, one.interval)) for one in bucket.rates)
        self.between(lambda: self.assertTrue(self.put(second, 98)))
        self.assertFalse(self.put(bucket, 5))
        self.assertIs(bucket.failing_rate, bucket.rates[1])
        self.assertEqual((first.count(), second.count()), (0, 98))

    def test_another_try_if_there_is_enough_left(self):
        log = _log.open_log(_log.open_segment(self.name, {'capacity': 4096}), 'log', 100, '1d')
        self.between(lambda: [self.assertTrue(policy.try_acquire(key, 20))
                              for policy, key in zip(log.parts, (b'k', b'k\0' b'1'))])
        self.assertTrue(log.take(b'k', 60))  # first 50 and 10, then 30 and 30
        self.assertEqual(log.room(b'k'), 0)

    def log_with_a_permit_in_each_part(self):
        log = _log.open_log(_log.open_segment(self.name, {'capacity': 4096}), 'log', 700, '1d')
        for i, policy in enumerate(log.parts):
            key = b'k\0%d' % i if i else b'k'
            self.assertTrue(policy.try_acquire(key, policy.peek(key).remaining - 1))
        self.assertGreater(len(log.parts), 8)
        return log

    def test_more_parts_than_a_call_decides(self):
        log = self.log_with_a_permit_in_each_part()
        self.assertFalse(log.take(b'k', len(log.parts) + 1))
        self.assertEqual(log.room(b'k'), len(log.parts))
        self.assertTrue(log.take(b'k', len(log.parts)))
        self.assertEqual(log.room(b'k'), 0)

    def test_nothing_is_given_back_that_may_be_of_others(self):
        log = self.log_with_a_permit_in_each_part()
        last = (log._turn + len(log.parts)) % len(log.parts)  # of the look's turns
        self.between(lambda: self.assertTrue(
            log.parts[last].try_acquire(b'k\0%d' % last if last else b'k', 1)))
        self.assertFalse(log.take(b'k', len(log.parts)))
        self.assertEqual(log.room(b'k'), len(log.parts) - 8 - 1)
        self.assertEqual(len(log.leaves_ns(b'k', 700)), 700 - log.room(b'k'))


class Keys(EdgeTest):
    ODD = ('\udcff', '', '\0', 'é' * 10)

    def test_any_text(self):
        storage = self.storage()
        for i, key in enumerate(self.ODD):
            with self.subTest(key=ascii(key)):
                self.assertEqual(storage.incr(key, DAY), 1)
                self.assertEqual(storage.incr(key, DAY, True), 2)
                self.assertEqual(storage.get(key), 2)
                self.assertGreater(storage.get_expiry(key), 0)
                for limit in (5, 300):
                    self.assertTrue(storage.acquire_entry(key, limit, DAY, 5))
                    self.assertEqual(storage.get_moving_window(key, limit, DAY)[1], 5)
                self.assertTrue(storage.acquire_sliding_window_entry(key, 1, DAY))
                self.assertEqual(storage.get_sliding_window(key, DAY)[2], 1)
                storage.clear_sliding_window(key, DAY)
                storage.clear(key)
                self.assertEqual(storage.get(key), 0)
                for limit in (5, 300):
                    bucket = self.bucket((limit, Duration.DAY), name=key)
                    self.assertTrue(self.put(bucket, 5))
                    self.assertEqual((bucket.count(), bucket.peek(0).name), (5, key))
                    bucket.flush()
                    self.assertEqual(bucket.count(), 0)

    def test_reset_of_all_parts(self):
        storage, keys = self.storage(), ['k' * size for size in (5, 108, 109)] + ['é' * 54]
        for key in keys:
            for cost in (1, 1, 1, 699, 1):
                storage.acquire_entry(key, 750, DAY, cost)
            for _ in range(20):
                self.assertTrue(storage.acquire_entry(key, 700, DAY))
        for size in (110, 111, 112):  # all parts have some, so part 0, whose key is whole, has
            keys.append('k' * size)
            self.assertTrue(storage.acquire_entry(keys[-1], 700, DAY, 700))
        storage.reset()
        for key, limit in itertools.product(keys, (700, 750)):
            self.assertEqual(storage.get_moving_window(key, limit, DAY)[1], 0, (key, limit))


class Buckets(EdgeTest):
    def test_many_rates(self):
        for limit in range(1, 121):
            self.assertTrue(self.put(self.bucket((limit, Duration.DAY)), 1))

    def name_of(self, path, source, **names):
        module = types.SimpleNamespace(Limiter=Limiter, rate=Rate(2, Duration.DAY),
                                       segment=self.name, **names)
        exec(compile(source, path, 'exec'), module.__dict__)
        return module.made.bucket_factory.bucket.name

    def test_programs_of_one_name(self):
        source = 'made = Limiter(rate, segment=segment)\n'
        paths = '/somewhere/one/client.py', '/somewhere/two/client.py', '/elsewhere/client.py'
        found = [self.name_of(path, source) for path in paths]
        self.assertEqual(len(set(found)), 3)
        for name in found:
            self.assertRegex(name, r'^client\.py:1:[0-9a-f]{12}$')
        self.assertEqual(self.name_of(paths[0], source), f'{found[0]}#2')
        for what in (['python3', '-c', 'a'], ['python3', '-c', 'b']):
            with unittest.mock.patch.object(sys, 'orig_argv', what):
                found.append(self.name_of('<string>', source))
        self.assertEqual(len(set(found)), 5)

    def test_limiters_of_a_subclass_have_the_line_that_makes_them(self):
        source = ('class Mine(Limiter):\n'
                  '    def __init__(self):\n'
                  '        super().__init__(rate, segment=segment)\n'
                  'class More(Mine):\n'
                  '    def __init__(self):\n'
                  '        super().__init__()\n'
                  'made = Mine()\n')
        path = '/somewhere/subclass.py'
        self.assertRegex(self.name_of(path, source), r'^subclass\.py:7:[0-9a-f]{12}$')
        source = source.replace('= Mine', '= More') + '\nmade = More()\n'
        self.assertRegex(self.name_of(path, source), r'^subclass\.py:9:[0-9a-f]{12}$')


if __name__ == '__main__':
    unittest.main()
