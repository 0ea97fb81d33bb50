#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim.compat.pyrate: the contract of PyrateLimiter's buckets and limiter, in threads, coroutines
and processes. Method: rates of days where nothing shall expire. Where it shall, every call is kept
with a time before and one after it, and the rule is checked against both: whatever the machine's
load, what was admitted must have been allowed at some time of the call, and what was refused must
have been refusable."""
import asyncio
import contextlib
import itertools
import multiprocessing
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import warnings

import brim
from brim.compat.pyrate import (AbstractBucket, BrimBucket, BucketFactory, BucketFullException,
                                Duration, Limiter, LimiterDelayException, Rate, RateItem,
                                SingleBucketFactory, validate_rate_list)

NUMBERS = itertools.count()
DAY = Duration.DAY


class PyrateTest(unittest.TestCase):
    def setUp(self):
        self.segment = f'brim-pyrate-{os.getpid()}-{next(NUMBERS)}'
        self.addCleanup(self.unlink)

    def unlink(self):
        with contextlib.suppress(brim.NotFound):
            brim.Limiter.unlink(self.segment)

    def bucket(self, *rates, name='b'):
        return BrimBucket([Rate(*rate) for rate in rates], name, self.segment)

    def limiter(self, *rates, name='b', **options):
        return Limiter(self.bucket(*rates, name=name), **options)

    def put(self, bucket, weight=1):
        return bucket.put(RateItem('item', bucket.now(), weight))


class Types(PyrateTest):
    def test_durations(self):
        self.assertEqual([int(one) for one in Duration],
                         [1000, 60_000, 3_600_000, 86_400_000, 604_800_000])
        self.assertEqual(Duration.MINUTE * 5, 300_000)
        self.assertEqual(Duration.SECOND + Duration.MINUTE, 61_000)
        self.assertEqual(Duration.readable(90_000), '1.5m')
        self.assertEqual(Duration.readable(999), '999ms')
        self.assertEqual(str(Rate(5, Duration.MINUTE)), 'limit=5/1.0m')
        self.assertEqual((Rate(5, Duration.DAY).limit, Rate(5, DAY).interval), (5, 86_400_000))
        self.assertIn('weight=2', str(RateItem('a', 7, 2)))

    def test_rates_that_can_not_bind(self):
        good = ([(1, 10)], [(5, 10), (6, 20)], [(20, 200), (10, 100)], [(5, 10), (10, 20)])
        bad = ([], [(5, 10), (5, 20)], [(5, 10), (4, 20)], [(5, 10), (6, 10)], [(5, 10), (11, 20)])
        for rates in good:
            self.bucket(*rates)
        for rates in bad:
            with self.subTest(rates=rates), self.assertRaises(ValueError):
                self.bucket(*rates)
        self.assertFalse(validate_rate_list([Rate(20, 200), Rate(10, 100)]))
        for rate in ((0, 10), (10, 0), (-1, 10)):
            with self.assertRaises(ValueError):
                Rate(*rate)


class Contract(PyrateTest):
    def test_put_and_count(self):
        bucket = self.bucket((20, DAY))
        self.assertTrue(self.put(bucket))
        self.assertTrue(self.put(bucket, 10))
        self.assertEqual(bucket.count(), 11)
        self.assertFalse(self.put(bucket, 20))
        self.assertIs(bucket.failing_rate, bucket.rates[0])
        self.assertTrue(self.put(bucket, 9))
        self.assertIsNone(bucket.failing_rate)
        self.assertFalse(self.put(bucket))
        self.assertTrue(self.put(bucket, 0))
        self.assertEqual(bucket.count(), 20)
        self.assertEqual(bucket.leak(bucket.now()), 0)
        bucket.flush()
        self.assertEqual((bucket.count(), bucket.failing_rate), (0, None))
        self.assertTrue(self.put(bucket, 20))
        self.assertIsNone(bucket.limiter_lock())

    def test_edge_of_an_interval_counts(self):
        bucket = self.bucket((3, 1000))
        limiter = brim.Limiter.attach(self.segment)
        self.assertEqual(limiter.policy(limiter.policy_names()[0]).text,
                         'sliding-log 3/s inclusive')
        self.assertTrue(self.put(bucket))

    def test_all_rates_or_none(self):
        for large in (1, 40):  # limits of one log, and of several
            with self.subTest(times=large):
                bucket = self.bucket((3 * large, 1_000_000), (5 * large, DAY), name=f'b{large}')
                self.assertTrue(self.put(bucket, 3 * large))
                self.assertFalse(self.put(bucket, 2 * large))
                self.assertIs(bucket.failing_rate, bucket.rates[0])
                other = self.bucket((5 * large, DAY), name=f'b{large}')
                self.assertEqual((bucket.count(), other.count()), (3 * large, 3 * large))
                self.assertTrue(self.put(other, 2 * large))
                self.assertEqual(bucket.count(), 5 * large)
                bucket.flush()
                self.assertTrue(self.put(other, 4 * large))
                self.assertFalse(self.put(bucket, 2 * large))
                self.assertIs(bucket.failing_rate, bucket.rates[1])
                self.assertEqual(self.bucket((3 * large, 1_000_000), name=f'b{large}').count(), 0)
                self.assertTrue(self.put(bucket, large))

    def test_waiting(self):
        bucket = self.bucket((3, 1_000_000), (5, DAY))
        item = RateItem('item', 0, 2)
        self.assertEqual(bucket.waiting(item), 0)
        before = bucket.now()
        self.assertTrue(bucket.put(item))
        self.assertFalse(bucket.put(item))
        wait = bucket.waiting(item)
        self.assertLessEqual(before + 1_000_000, bucket.now() + wait + 1)
        self.assertLessEqual(wait, 1_000_001)
        self.assertFalse(self.put(bucket, 4))
        self.assertEqual(bucket.waiting(RateItem('item', 0, 4)), -1)
        self.assertTrue(self.put(bucket))
        self.assertEqual(bucket.waiting(item), 0)

    def test_waiting_is_enough(self):
        for rates in ([(3, 150)], [(2, 100), (3, 250)], [(100, 200)]):
            with self.subTest(rates=rates):
                bucket = self.bucket(*rates)
                done = refused = 0
                while done < 3 * rates[0][0]:
                    item = RateItem('item', bucket.now(), 1 + done % 2)
                    if not bucket.put(item):
                        refused += 1
                        wait = bucket.waiting(item)
                        self.assertGreaterEqual(wait, 0)
                        time.sleep(wait / 1000)
                        self.assertTrue(bucket.put(item))
                    done += item.weight
                self.assertGreater(refused, 0)

    def test_peek(self):
        for limit in (5, 200):
            with self.subTest(limit=limit):
                bucket = self.bucket((limit, DAY), name=f'b{limit}')
                self.assertIsNone(bucket.peek(0))
                times = []
                for weight in (1, 2, 1):
                    before = bucket.now()
                    self.assertTrue(self.put(bucket, weight))
                    times += [(before, bucket.now())] * weight
                    time.sleep(0.003)
                for index, (before, after) in enumerate(reversed(times)):
                    item = bucket.peek(index)
                    self.assertEqual((item.name, item.weight), (bucket.name, 1))
                    self.assertTrue(before - 1 <= item.timestamp <= after + 1)
                self.assertIsNone(bucket.peek(4))
                self.assertIsNone(bucket.peek(-1))

    def test_same_name_is_the_same_bucket(self):
        one, two = self.bucket((2, DAY)), self.bucket((2, DAY))
        other = self.bucket((2, DAY), name='c')
        self.assertTrue(self.put(one, 2))
        self.assertFalse(self.put(two))
        self.assertTrue(self.put(other))
        copy = pickle.loads(pickle.dumps(one))
        self.assertFalse(self.put(copy))
        copy.close()
        self.assertFalse(self.put(one))

    def test_failing_rate_is_of_the_own_thread(self):
        bucket = self.bucket((1, DAY))
        self.put(bucket)
        self.assertFalse(self.put(bucket))
        thread = threading.Thread(target=lambda: self.put(bucket, 0))
        thread.start()
        thread.join()
        self.assertIs(bucket.failing_rate, bucket.rates[0])

    def test_limits_of_several_logs(self):
        bucket = self.bucket((300, 1_000_000), (1000, DAY))
        random.seed(5)
        left = 300
        while left:
            weight = random.randint(1, 50)
            self.assertEqual(self.put(bucket, weight), weight <= left)
            left -= weight if weight <= left else 0
        self.assertFalse(self.put(bucket))
        self.assertEqual(bucket.count(), 300)


class Rule(PyrateTest):
    def test_calls_of_random_weights_and_pauses(self):
        """Two rates; the calls of a thousandth of a second up to some tenths."""
        for rates in ([(3, 40), (7, 150)], [(80, 60), (150, 200)]):
            with self.subTest(rates=rates):
                random.seed(7)
                bucket, admitted, refused = self.bucket(*rates, name=f'r{rates[0][0]}'), [], 0
                end = time.monotonic() + 1.5
                while time.monotonic() < end:
                    weight = random.randint(1, max(1, rates[0][0] // 3))
                    before = time.monotonic_ns()
                    answer = self.put(bucket, weight)
                    after = time.monotonic_ns()
                    if answer:
                        admitted += [(before, after)] * weight
                    else:
                        refused += 1
                        self.assertTrue(any(self.may_be_full(admitted, before, weight, *rate)
                                            for rate in rates))
                    time.sleep(random.choice((0, 0.001, 0.01)))
                self.assertGreater(refused, 10)
                for limit, interval in rates:
                    for first, last in zip(admitted, admitted[limit:]):
                        self.assertGreaterEqual(last[1] - first[0], interval * 10**6)

    def may_be_full(self, admitted, before, weight, limit, interval):
        alive = sum(1 for _, after in admitted if after >= before - interval * 10**6 - 10**6)
        return alive + weight > limit


class LimiterCalls(PyrateTest):
    def test_waits(self):
        limiter = self.limiter((1, 150), buffer_ms=0)
        start = time.monotonic()
        self.assertTrue(limiter.try_acquire('a'))
        self.assertTrue(limiter.try_acquire('b'))
        self.assertGreaterEqual(time.monotonic() - start, 0.15)

    def test_waits_the_buffer_more(self):
        limiter = self.limiter((1, 100), buffer_ms=100)
        start = time.monotonic()
        self.assertTrue(limiter.try_acquire() and limiter.try_acquire())
        self.assertGreaterEqual(time.monotonic() - start, 0.2)

    def test_refuses(self):
        limiter = self.limiter((2, DAY))
        self.assertTrue(limiter.try_acquire('a', 0))
        self.assertTrue(limiter.try_acquire('a', blocking=False))
        self.assertFalse(limiter.try_acquire('a', 2, blocking=False))
        self.assertTrue(limiter.try_acquire('a', timeout=0))
        self.assertFalse(limiter.try_acquire('a', timeout=0))
        self.assertFalse(limiter.try_acquire('a', timeout=86_000))  # at once
        self.assertFalse(limiter.try_acquire('a', 3))
        self.assertTrue(limiter.try_acquire('a', 0, blocking=False))
        with self.assertRaises(ValueError):
            limiter.try_acquire('a', timeout=-2)
        with self.assertRaises(RuntimeError):
            limiter.try_acquire('a', blocking=False, timeout=1)

    def test_with_exceptions(self):
        limiter = self.limiter((2, DAY), raise_when_fail=True, max_delay=100)
        self.assertTrue(limiter.try_acquire('a', 2))
        with self.assertRaises(LimiterDelayException) as caught:
            limiter.try_acquire('a')
        self.assertEqual(caught.exception.meta_info['name'], 'a')
        self.assertGreater(caught.exception.meta_info['remaining_time'], 0.1)
        self.assertIs(caught.exception.rate, limiter.buckets()[0].rates[0])
        with self.assertRaises(BucketFullException) as caught:
            limiter.try_acquire('a', 3)
        self.assertNotIsInstance(caught.exception, LimiterDelayException)

    def test_coroutines(self):
        async def run():
            limiter = self.limiter((1, 150), buffer_ms=0)
            start = time.monotonic()
            self.assertTrue(await limiter.try_acquire_async('a', 0, blocking=False, timeout=5))
            others = 0  # turns that the loop had for other work

            async def other_work():
                nonlocal others
                while True:
                    await asyncio.sleep(0.001)
                    others += 1
            other = asyncio.create_task(other_work())
            got = await asyncio.gather(*(limiter.try_acquire_async('a') for _ in range(3)))
            self.assertEqual(got, [True] * 3)
            self.assertGreaterEqual(time.monotonic() - start, 0.3)
            self.assertGreaterEqual(others, 2)
            other.cancel()
            day = self.limiter((2, DAY), name='day')
            self.assertTrue(await day.try_acquire_async('a', blocking=False))
            self.assertTrue(await day.try_acquire_async('a', timeout=0))
            self.assertFalse(await day.try_acquire_async('a', timeout=0))
            self.assertFalse(await day.try_acquire_async('a', blocking=False))
            self.assertFalse(await day.try_acquire_async('a', 3))
            self.assertFalse(await day.try_acquire_async('a', timeout=86_000))
            with self.assertRaises(ValueError):
                await day.try_acquire_async('a', timeout=-2)
            with self.assertRaises(RuntimeError):
                await day.try_acquire_async('a', blocking=False, timeout=1)
        asyncio.run(run())

    def test_decorators(self):
        limiter = self.limiter((1, 100), buffer_ms=0)

        @limiter.as_decorator(name='f')
        def now(x):
            """Says x."""
            return x

        @limiter.as_decorator(name='f', weight=1)
        async def later(x):
            return x
        start = time.monotonic()
        self.assertEqual((now(1), asyncio.run(later(2)), now.__doc__), (1, 2, 'Says x.'))
        self.assertGreaterEqual(time.monotonic() - start, 0.1)

    def test_rates_alone(self):
        limiters = [Limiter([Rate(2, DAY)], segment=self.segment)]
        limiters += [Limiter(Rate(2, DAY), segment=self.segment) for _ in range(2)]
        limiters += [Limiter(Rate(2, DAY), bucket='mine', segment=self.segment)]
        for limiter in limiters:
            self.assertTrue(limiter.try_acquire('x', 2, blocking=False))
        names = [limiter.buckets()[0].name for limiter in limiters]
        self.assertRegex(names[0], r'^compat_pyrate_test.py:\d+:[0-9a-f]{12}$')
        self.assertRegex(names[1], r'^compat_pyrate_test.py:\d+:[0-9a-f]{12}$')
        self.assertEqual(names[2:], [f'{names[1]}#2', 'mine'])
        for wrong in (7, None, 'rates'):
            with self.assertRaises(TypeError):
                Limiter(wrong)
        with self.assertRaises(ValueError):
            Limiter([], segment=self.segment)

    def test_close(self):
        with self.limiter((2, DAY)) as limiter:
            self.assertTrue(limiter.try_acquire())
        with self.assertRaises(brim.Error):
            limiter.try_acquire()


class Factories(PyrateTest):
    def factory(self, wait):
        test = self

        class Each(BucketFactory):
            def __init__(self):
                self.known = {}

            def wrap_item(self, name, weight=1):
                return self.answer(RateItem(name, 0, weight))

            def get(self, item):
                if item.name not in self.known:
                    self.known[item.name] = self.create(BrimBucket, [Rate(2, DAY)], item.name,
                                                        test.segment)
                return self.answer(self.known[item.name])

            def answer(self, thing):
                async def later():
                    return thing
                return later() if wait else thing
        return Each()

    def test_bucket_for_each_name(self):
        factory = self.factory(wait=False)
        limiter = Limiter(factory)
        for name in ('a', 'b'):
            self.assertTrue(limiter.try_acquire(name, 2))
            self.assertFalse(limiter.try_acquire(name, blocking=False))
        self.assertEqual([one.name for one in limiter.buckets()], ['a', 'b'])
        bucket = limiter.buckets()[0]
        self.assertTrue(limiter.dispose(bucket))
        self.assertFalse(limiter.dispose(bucket))
        self.assertTrue(limiter.dispose(id(limiter.buckets()[0])))
        self.assertEqual(limiter.buckets(), [])

    def test_factory_of_coroutines(self):
        limiter = Limiter(self.factory(wait=True))

        async def run():
            self.assertTrue(await limiter.try_acquire('a'))
            self.assertTrue(await limiter.try_acquire_async('a'))
            self.assertFalse(await limiter.try_acquire('a', blocking=False))
            self.assertFalse(await limiter.try_acquire_async('a', timeout=1))
        asyncio.run(run())
        with warnings.catch_warnings(), self.assertRaises(RuntimeError):
            warnings.simplefilter('ignore')  # of the item that nobody awaits
            limiter.as_decorator()(print)()

    def test_bucket_of_coroutines(self):
        inner = self.bucket((1, DAY))

        class Later(AbstractBucket):
            rates = inner.rates

            async def put(self, item):
                return inner.put(item)

            async def waiting(self, item):
                return inner.waiting(item)

            async def now(self):
                return inner.now()

            leak = flush = count = peek = None
        limiter = Limiter(SingleBucketFactory(Later()))

        async def run():
            self.assertTrue(await limiter.try_acquire('a'))
            self.assertFalse(await limiter.try_acquire('a', timeout=1))
            self.assertFalse(await limiter.try_acquire_async('a', timeout=1))
        asyncio.run(run())

    def test_base_classes_of_the_library_if_it_is_there(self):
        """Method: a package of that name in the path of another interpreter."""
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, 'pyrate_limiter.py'), 'w', encoding='utf-8') as file:
                file.write('from brim.compat.pyrate_types import *\n'
                           'class AbstractBucket(AbstractBucket): theirs = True\n')
            script = ('from pyrate_limiter import AbstractBucket, Rate\n'
                      'from brim.compat.pyrate import BrimBucket, Rate as Ours\n'
                      'assert issubclass(BrimBucket, AbstractBucket) and BrimBucket.theirs\n'
                      'assert Rate is Ours\n')
            path = os.pathsep.join([folder, *sys.path])
            subprocess.run([sys.executable, '-c', script], check=True,
                           env={**os.environ, 'PYTHONPATH': path})


def hammer(limiter, queue, tries, weights):
    queue.put(sum(weight for weight in weights * tries
                  if limiter.try_acquire('x', weight, blocking=False)))


class Processes(PyrateTest):
    def test_exact(self):
        for method, rates in itertools.product(
                ('fork', 'spawn'), ([(50, DAY)], [(120, 1_000_000), (400, DAY)])):
            with self.subTest(start=method, rates=rates):
                limiter = self.limiter(*rates, name=f'{method}{len(rates)}')
                context = multiprocessing.get_context(method)
                queue = context.SimpleQueue()
                children = [context.Process(target=hammer, args=(limiter, queue, 60, (2, 1)))
                            for _ in range(4)]
                for child in children:
                    child.start()
                total = sum(queue.get() for _ in children)
                for child in children:
                    child.join()
                self.assertEqual(total, rates[0][0])
                self.assertEqual(limiter.buckets()[0].count(), rates[0][0])

    def test_killed_in_the_middle(self):
        """What was answered is never lost; of what was under way at most one call is counted."""
        bucket = self.bucket((100, 1_000_000), (200, DAY))
        answered, killed, parent = 0, 0, os.getpid()
        while answered < 60:
            reader, writer = os.pipe()
            pids = []
            for _ in range(2):
                pid = os.fork()
                if pid == 0:
                    while os.getppid() == parent:
                        if self.put(bucket):
                            os.write(writer, b'x')
                        time.sleep(0.0005)
                    os._exit(1)
                pids.append(pid)
            os.close(writer)
            answered += len(os.read(reader, 10))
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            killed += 2
            while more := os.read(reader, 1000):
                answered += len(more)
            os.close(reader)
        self.assertLessEqual(answered, bucket.count())
        self.assertLessEqual(bucket.count(), answered + killed)

    def test_threads(self):
        limiter, got = self.limiter((120, 1_000_000), (400, DAY)), []

        def work():
            got.extend(limiter.try_acquire('x', blocking=False) for _ in range(60))
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sum(got), 120)


if __name__ == '__main__':
    unittest.main()
