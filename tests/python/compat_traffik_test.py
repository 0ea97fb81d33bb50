# SPDX-License-Identifier: MIT
"""traffik's rates, strategies and backend over brim. FAR: windows that do not end in a test."""
import asyncio
import contextlib
import math
import os
import random
import select
import signal
import time
import unittest
from unittest import mock

import brim
from brim.compat import _policies, _store
from brim.compat import traffik_custom as custom
from brim.compat import traffik_strategies as native
from brim.compat.traffik_backend import BrimBackend
from brim.compat.traffik_rate import BackendError, LockTimeout, Rate

NAME = f'compat-traffik-{os.getpid()}'
FAR = 1000 * 86400 * 1000  # ms


def far(limit):
    return Rate(limit=limit, milliseconds=FAR)


class RateTest(unittest.TestCase):
    def test_texts(self):
        for text, limit, expire in [
                ('100/m', 100, 60_000), ('5/10s', 5, 10_000), ('1000/500ms', 1000, 500),
                ('10 per minute', 10, 60_000), ('10 per 2 minutes', 10, 120_000),
                ('2 persecond', 2, 1000), (' 10/30 Seconds ', 10, 30_000), ('1/d', 1, 86_400_000),
                ('1000/30days', 1000, 2_592_000_000), ('7/hr', 7, 3_600_000),
                ('1_000/h', 1000, 3_600_000), ('0/0', 0, 0)]:
            self.assertEqual(Rate.parse(text), Rate(limit=limit, milliseconds=expire), text)
        for text in ['', '5', '5/', '/m', '5/0s', '5/m/s', '-5/m', '5.5/m', '5/fortnight', '0/s',
                     '5/m x', 'five/m', '5/1.5s']:
            with self.assertRaises(ValueError, msg=text):
                Rate.parse(text)

    def test_values(self):
        rate = Rate(limit=30, seconds=1, minutes=1, milliseconds=500)
        self.assertEqual((rate.limit, rate.expire, rate.is_subsecond), (30, 61_500, False))
        self.assertEqual(Rate(limit=6, minutes=1).rph, 360)
        self.assertEqual(len({Rate.parse('1/m'), Rate.parse('1/60s')}), 1)
        self.assertTrue(Rate().unlimited and Rate().rps == math.inf)
        with self.assertRaises(AttributeError):
            rate.limit = 3
        for bad in [{'limit': -1}, {'limit': 1}, {'seconds': 1}]:
            with self.assertRaises(ValueError):
                Rate(**bad)


class Case(unittest.IsolatedAsyncioTestCase):
    options = {}

    def setUp(self):
        self.backend = BrimBackend(NAME, capacity=4096, **self.options)
        self.addCleanup(_store.Store.remove, NAME)
        self.addCleanup(self.backend.store.close)
        self.addCleanup(brim.Limiter.unlink, NAME)
        self.backend.policies.limiter

    async def asyncSetUp(self):
        asyncio.get_running_loop().set_debug(False)  # it would tell of every blocking read

    def names(self):
        return [name for name in self.backend.policies.limiter.policy_names()
                if not name.endswith('.resets')]

    async def passed(self, strategy, rate, calls, key='k', cost=1):
        return [await strategy(key, rate, self.backend, cost) for _ in range(calls)].count(0.0)


# Each strategy, and how many calls of cost 1 pass of a rate of 10 from idle.
FROM_IDLE = [
    (native.FixedWindow(), 10), (native.SlidingWindowLog(), 10),
    (native.SlidingWindowCounter(), 10), (native.TokenBucket(), 10),
    (native.TokenBucket(burst_size=15), 15), (native.TokenBucket(burst_size=0), 0),
    (native.TokenBucketWithDebt(max_debt=3), 13),
    (native.TokenBucketWithDebt(burst_size=0, max_debt=3), 3),
    (native.TokenBucketWithDebt(burst_size=0), 0), (native.LeakyBucket(), 10),
    (native.LeakyBucketWithQueue(), 10), (native.GCRA(), 1),
    (native.GCRA(burst_tolerance_ms=FAR * 0.45), 5),  # cut to 4 intervals
    (native.TieredRate(), 10), (custom.AdaptiveThrottle(), 8), (custom.QuotaWithRollover(), 10),
    (custom.TimeOfDay(time_windows=[(0, 24, 1.5)]), 15), (custom.CostBasedTokenBucket(), 10),
    (custom.PriorityQueue(), 10)]


class StrategyTest(Case):
    async def test_from_idle(self):
        for number, (strategy, expected) in enumerate(FROM_IDLE):
            key = f'k{number}'
            self.assertEqual(await self.passed(strategy, far(10), 20, key), expected, strategy)
            self.assertGreater(await strategy(key, far(10), self.backend), 0, strategy)
            stat = await strategy.get_stat(key, far(10), self.backend)
            self.assertEqual(stat.hits_remaining, 0, strategy)
            self.assertGreater(stat.wait_ms, 0, strategy)
            self.assertEqual(await strategy(key, Rate(), self.backend, 99), 0.0)
            self.assertEqual(await self.passed(strategy, far(10), 20, key + ' other'), expected)

    async def test_a_stat_takes_nothing(self):
        for number, (strategy, expected) in enumerate(FROM_IDLE):
            for _ in range(3):
                stat = await strategy.get_stat(f'k{number}', far(10), self.backend)
            self.assertEqual(stat.wait_ms == 0, expected > 0, strategy)
            self.assertEqual(await self.passed(strategy, far(10), 20, f'k{number}'), expected)

    async def test_costs(self):
        """Against what each must pass at one instant; a refused call counts nothing, and a cost
        beyond all there is has no wait."""
        rng = random.Random(5)
        capacity = {'gcra': math.inf, 'adaptive': None}
        for number, (strategy, most) in enumerate(FROM_IDLE):
            most = capacity.get(strategy.kind, most)
            if most is None:
                continue
            used = 0
            for _ in range(40):
                cost = rng.choice([1, 1, 2, 3, 7, 30])
                wait = await strategy(f'c{number}', far(10), self.backend, cost)
                if strategy.kind == 'gcra':
                    early = 4 if strategy.burst_tolerance_ms else 0
                    fits = used <= early
                else:
                    fits = used + cost <= most
                self.assertEqual(wait == 0.0, fits, (strategy, used, cost, wait))
                if fits:
                    used += cost
                elif cost > most:
                    self.assertEqual(wait, math.inf, strategy)

    async def test_the_wait_is_true(self):
        """After it the same call passes."""
        rate = Rate.parse('4/600ms')
        end = time.monotonic() + 60

        async def one(strategy, key):
            wait = 0.0
            while not wait:
                self.assertLess(time.monotonic(), end)
                wait = await strategy(key, rate, self.backend, 2)
            self.assertLess(wait, 1300, strategy)
            await asyncio.sleep(wait / 1000)
            self.assertEqual(await strategy(key, rate, self.backend, 2), 0.0, strategy)
        await asyncio.gather(*(
            one(strategy, f'w{number}') for number, (strategy, passes) in enumerate(FROM_IDLE)
            if strategy.kind != 'adaptive' and passes not in (0, 3, 5)))

    async def test_tiers(self):
        strategy = native.TieredRate()
        for key, expected in [('tier:free:user:1', 3), ('a:tier:premium:user:1', 15),
                              ('tier:enterprise', 30), ('tier:gold:user:1', 3), ('user:1', 3)]:
            self.assertEqual(await self.passed(strategy, far(3), 40, key), expected, key)
        with self.assertRaises(ValueError):
            native.TieredRate(default_tier='none')

    async def test_one_policy_for_a_strategy_and_rate(self):
        for _ in range(2):
            other = BrimBackend(NAME)
            await native.FixedWindow()('k', far(3), other)
            await native.FixedWindow()('k2', far(3), other)
            await native.TokenBucket(burst_size=7)('k', far(3), other)
        names = self.names()
        self.assertEqual(len(names), 2)
        self.assertTrue(all(len(name) <= 47 for name in names), names)
        self.assertIn('.fixed-window-3-1000d', names[0])

    async def test_an_operators_text_stays(self):
        await native.FixedWindow()('k', far(3), self.backend)
        name, = self.names()
        self.backend.policies.limiter.change(name, 'fixed-window 5/1000d')
        again = BrimBackend(NAME)
        waits = [await native.FixedWindow()('new', far(3), again) for _ in range(9)]
        self.assertEqual(waits.count(0.0), 5)

    async def test_a_strategy_of_ones_own(self):
        """The adaptive one that traffik's manual shows, written anew: 80 of 100 pass."""
        async def adaptive(key, rate, backend, cost=1):
            window, into = divmod(time.time() * 1000, rate.expire)
            name = backend.get_key(key, int(window))
            count = await backend.increment_with_ttl(name, cost, ttl=60)
            limit = rate.limit if count / rate.limit <= 0.8 else rate.limit * 0.5
            return rate.expire - into if count > limit else 0.0
        self.assertEqual(await self.passed(adaptive, far(100), 120), 80)


class LogCellsTest(Case):
    options = {'cells_per_key': 16}

    async def test_in_brim_and_in_the_store(self):
        log = native.SlidingWindowLog()
        self.assertEqual(await self.passed(log, far(16), 40), 16)
        self.assertEqual(len(self.names()), 1)
        self.assertEqual(await self.passed(log, far(17), 40, 'more'), 17)
        self.assertEqual(await self.passed(log, far(300), 320, 'many'), 300)
        self.assertEqual(len(self.names()), 1)


class ModelTest(Case):
    """Strategies with a state of their own against the rules, worked out from the whole history
    at every call, over random times and costs."""

    def run_model(self, strategy, model, rate, keys=('k',), costs=(1, 1, 1, 2, 3)):
        rng = random.Random(repr(strategy))
        for _ in range(6):
            history = []
            now = 10**18 + rng.randrange(10**14)  # any hour of a day
            self.backend.store.transact(lambda rows: rows.clear())
            for number in range(120):
                if number % 10 == 0:
                    pace = rng.choice([0, 1, 1, 8])
                now += rng.choice([0, 10**7, 10**8, 10**9, 3 * 10**9]) * pace
                if history and rng.random() < 0.2:  # exactly a period after a call
                    now = max(now, rng.choice(history[-10:])[0] + rate.expire * 10**6)
                key, cost = rng.choice(keys), rng.choice(costs)
                wait, _ = self.backend.store.transact(
                    lambda rows: strategy.step(rows, key, rate, cost, now))
                expected = model(history, key, rate, cost, now)
                self.assertEqual(wait == 0, expected, (strategy, cost, now, wait))
                history.append((now, key, cost, wait == 0))
                if 0 < wait < math.inf:
                    # The wait is the least one, to the ns (floats: nearly).
                    later = math.ceil(wait * 1e6)
                    self.assertTrue(model(history, key, rate, cost, now + later + 1000))
                    if strategy.kind in ('priority', 'time_of_day', 'adaptive'):
                        self.assertFalse(model(history, key, rate, cost, now + later - 1000))
                elif wait:  # it passes at a time that it was told, or never
                    passes = any(model(history, key, rate, cost, now + later * 10**9)
                                 for later in (10, 20, 1000, *range(3600, 90_000, 3600)))
                    self.assertEqual(passes, wait < math.inf, (strategy, cost))

    def test_priority(self):
        def model(history, key, rate, cost, now):
            level = int(key[9])
            return cost + sum(c for t, k, c, ok in history if ok and int(k[9]) >= level
                              and t > now - rate.expire * 10**6) <= rate.limit
        self.run_model(custom.PriorityQueue(), model, Rate.parse('5/10s'),
                       [f'priority:{n}:user' for n in (1, 2, 3, 4)])

    def test_priority_of_a_key(self):
        levels = [custom.PriorityQueue().priority(key)[0] for key in (
            'priority:4:u', 'a:priority:1', 'priority:9:u', 'priority:x', 'u')]
        self.assertEqual(levels, [4, 1, 2, 2, 2])

    def test_quota(self):
        def model(history, key, rate, cost, now):
            period = rate.expire * 10**6
            used = {}
            for t, _, c, ok in history:
                if ok:
                    used[t // period] = used.get(t // period, 0) + c
            before = used.get(now // period - 1)
            rollover = 0 if before is None else min(4, max(0, rate.limit - before) // 2)
            return used.get(now // period, 0) + cost <= rate.limit + rollover
        self.run_model(custom.QuotaWithRollover(max_rollover=4), model, Rate.parse('12/10s'),
                       costs=(1, 1, 2, 3, 13, 15, 16, 17))

    def test_time_of_day(self):
        strategy = custom.TimeOfDay(  # the last hour is in no span
            time_windows=[(h, h + 1, (h % 3 + 1) / 2) for h in range(23)], timezone_offset=-4)

        def model(history, key, rate, cost, now):
            period = rate.expire * 10**6
            hour = time.gmtime(now // 10**9 - 4 * 3600).tm_hour
            limit = rate.limit if hour == 23 else rate.limit * (hour % 3 + 1) // 2
            return cost + sum(c for t, _, c, ok in history
                              if ok and t // period == now // period) <= limit
        self.run_model(strategy, model, Rate.parse('10/10s'), costs=(1, 2, 3, 9, 12, 16))
        self.run_model(strategy, model, Rate.parse('10/3h'), costs=(1, 2, 3, 9, 12, 16))

    def test_adaptive(self):
        strategy = custom.AdaptiveThrottle()

        def model(history, key, rate, cost, now):
            period = rate.expire * 10**6
            limits, counts = {}, {}
            for t, c in [(t, c) for t, _, c, _ in history] + [(now, cost)]:
                w = t // period
                if w not in limits:
                    before = limits.get(w - 1)
                    limits[w] = float(rate.limit) if before is None else min(
                        rate.limit, before + rate.limit * 0.1)
                counts[w] = counts.get(w, 0) + c
                if counts[w] / limits[w] > 0.8:
                    limits[w] = max(rate.limit * 0.3, limits[w] * 0.6)
            return counts[now // period] <= limits[now // period]
        self.run_model(strategy, model, Rate.parse('10/10s'), costs=(1, 1, 1, 2, 3, 8, 9))

    def test_cost_bucket(self):
        strategy = custom.CostBasedTokenBucket(burst_size=8, cost_window=5)

        def model(history, key, rate, cost, now):
            tokens, last, costs = 8.0, None, []
            for t, c, ok in [(t, c, ok) for t, _, c, ok in history] + [(now, cost, None)]:
                if ok is False:
                    continue
                if last is not None:
                    speed = rate.limit / rate.expire / 1e6
                    speed *= max(0.5, 1 / (sum(costs) / len(costs)))
                    tokens = min(8.0, tokens + (t - last) * speed)
                if ok is None:
                    return tokens >= c - 1e-9
                tokens, last, costs = tokens - c, t, [*costs, c][-5:]
        self.run_model(strategy, model, Rate.parse('5/10s'), costs=(1, 1, 2, 7))

    def test_log(self):
        for events in (1, 2, 256):  # of a row
            with mock.patch.object(_policies, 'CHUNK', events):
                self.log()

    def log(self):
        limit = _policies.Limit('sliding-log', 5, 10**10)
        rng = random.Random(3)
        self.backend.store.transact(lambda rows: rows.clear())
        now, history = 10**18, []
        for _ in range(500):
            now += rng.choice([0, 1, 10**8, 10**9, 10**10 - 1])
            cost = rng.choice([0, 1, 1, 2, 5, 6])
            answer = self.backend.store.transact(
                lambda rows: _policies.log(rows, limit, 'k', cost, True, lambda: now))
            used = sum(c for t, c in history if t > now - 10**10)
            fits = used + cost <= 5
            self.assertEqual(answer.admitted, fits)
            self.assertEqual(answer.remaining, 5 - used - (cost if fits else 0))
            if not fits and cost <= 5:
                least = min(t + 10**10 - now for t, _ in history if t > now - 10**10 and cost + sum(
                    c for u, c in history if u > t) <= 5)
                self.assertAlmostEqual(answer.retry_after * 1e9, least, delta=10)
            elif not fits:
                self.assertEqual(answer.retry_after, math.inf)
            elif cost:
                history.append((now, cost))

    def test_a_long_log_writes_little(self):
        limit = _policies.Limit('sliding-log', 10**6, 10**15)
        written = []

        class Rows(_store.Rows):
            def set(self, key, value, ttl=None):
                written.append(len(value))
                super().set(key, value, ttl)

        def many(rows):
            rows = Rows(rows._sql, rows._space, rows._now)
            for now in range(2000):
                answer = _policies.log(rows, limit, 'k', 3, True, lambda: now)
                self.assertEqual(answer.remaining, 10**6 - 3 * (now + 1))
        self.backend.store.transact(many)
        self.assertLess(sum(written[-2:]), 5000)

    def test_another_period(self):
        """A window's number is of its period: the state of one says nothing of the other's."""
        for strategy in [custom.AdaptiveThrottle(), custom.QuotaWithRollover(),
                         custom.TimeOfDay(time_windows=[(0, 24, 1)])]:
            for rate in map(Rate.parse, ('5/s', '5/h', '5/s')):
                waits = [self.backend.store.transact(
                    lambda rows: strategy.step(rows, 'k', rate, 1, 10**18))[0] for _ in range(6)]
                self.assertLessEqual(max(waits), rate.expire, strategy)
                if rate.expire > 1000:
                    self.assertEqual(waits[0], 0, strategy)

    def test_a_clock_that_is_set_back(self):
        rate = Rate.parse('2/10s')
        for strategy in [custom.QuotaWithRollover(), custom.TimeOfDay(time_windows=[(0, 24, 1)])]:
            def step(now):
                return self.backend.store.transact(
                    lambda rows: strategy.step(rows, 'k', rate, 1, now))[0]
            waits = [step(10**18), step(10**18 - 10**11), step(10**18 - 10**11), step(10**18)]
            self.assertEqual([wait == 0 for wait in waits], [True, True, False, False])


def hits(strategy, rate, calls, write):
    """In a child: calls the strategy, and says so for each call that passed."""
    async def main():
        backend = BrimBackend(NAME)
        for _ in range(calls):
            if await strategy('k', rate, backend) == 0.0:
                os.write(write, b'.')
    asyncio.run(main())


@contextlib.contextmanager
def child(function, *args):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            function(*args, write)
        finally:
            os._exit(0)
    os.close(write)
    try:
        yield pid, read
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)


class ProcessTest(Case):
    def count(self, read):
        total = 0
        while part := os.read(read, 65536):
            total += len(part)
        return total

    async def test_exact_in_processes(self):
        """4 processes, one key: exactly what the rate says."""
        for strategy, expected in [
                (native.FixedWindow(), 100), (native.SlidingWindowLog(), 100),
                (native.SlidingWindowCounter(), 100), (native.TokenBucketWithDebt(max_debt=9), 109),
                (custom.AdaptiveThrottle(), 80),
                (custom.QuotaWithRollover(), 100), (custom.PriorityQueue(), 100)]:
            with contextlib.ExitStack() as stack:
                reads = [stack.enter_context(child(hits, strategy, far(100), 30))[1]
                         for _ in range(4)]
                self.assertEqual(sum(map(self.count, reads)), expected, strategy)
            await self.backend.reset()

    async def test_killed_in_the_middle(self):
        """A killed process loses at most the call it was in, and nobody waits for it."""
        for strategy in [native.TokenBucket(), custom.QuotaWithRollover()]:
            rate, kills, passed = far(60), 0, 0
            while passed < 60:
                with child(hits, strategy, rate, 10**6) as (pid, read):
                    all_taken = not select.select([read], [], [], 0.5)[0]
                    time.sleep(random.uniform(0, 0.002))
                    os.kill(pid, signal.SIGKILL)
                    kills += 1
                    passed += self.count(read)
                if all_taken:
                    break
            left = (await strategy.get_stat('k', rate, self.backend)).hits_remaining
            self.assertLessEqual(passed + left, 60)
            self.assertGreaterEqual(passed + left, 60 - kills)


class BackendTest(Case):
    async def test_values(self):
        backend = self.backend
        key = backend.get_key('user', 7, part='x')
        self.assertEqual(key, 'traffik:user:7:part=x')
        await backend.set(key, 5)
        self.assertEqual(await backend.get(key), '5')
        self.assertEqual(await backend.increment(key, 2), 7)
        self.assertEqual(await backend.decrement(key), 6)
        self.assertEqual(await backend.increment_with_ttl('n', 3, ttl=100), 3)
        self.assertTrue(await backend.expire('n', 0))
        for _ in range(2):
            self.assertEqual(await backend.increment_with_ttl('soon', 3, ttl=0), 3)
        await backend.multi_set({'a': 'x', 'b': 2.5}, expire=100)
        self.assertEqual(await backend.multi_get('a', 'b', 'n', 'none'), ['x', '2.5', None, None])
        self.assertTrue(await backend.delete('a'))
        self.assertFalse(await backend.delete('a'))

    async def test_what_a_counter_is(self):
        """A ttl is for a value without one, and what is no number counts as none."""
        backend = self.backend
        await backend.increment('n')
        self.assertEqual(await backend.increment_with_ttl('n', 1, ttl=0), 2)
        self.assertIsNone(await backend.get('n'))
        await backend.set('t', 'text')
        self.assertEqual(await backend.increment('t', 3), 3)
        self.assertEqual(await backend.increment_with_ttl('t', 3, ttl=100), 6)

    async def test_errors(self):
        await self.backend.increment('n', 2**63 - 1)
        with self.assertRaises(BackendError):
            await self.backend.increment('n')
        with mock.patch.object(_store, 'MAX_PAGES', 16):
            await self.backend.close()
            with self.assertRaises(BackendError):
                await self.backend.set('k', 'x' * 300_000)
        await self.backend.close()
        self.backend.remove_store()
        self.assertFalse(os.path.exists(self.backend.store.directory))
        self.assertIsNone(await self.backend.get('n'))
        os.chmod(self.backend.store.directory, 0o755)
        await self.backend.close()
        with self.assertRaises(BackendError):
            await self.backend.get('k')
        with self.assertRaises(BackendError):
            await custom.PriorityQueue()('k', far(1), self.backend)
        with self.assertRaises(BackendError):
            async with self.backend.lock('l'):
                self.fail('no lock')
        os.chmod(self.backend.store.directory, 0o700)

    async def test_reset_needs_no_store(self):
        for mode in (None, 0o755):  # none, and one that is not ours to use
            if mode:
                os.mkdir(self.backend.store.directory, mode)
            self.assertEqual(await self.passed_by(self.backend), 1)
            await self.backend.reset()
            self.assertEqual(await self.passed_by(self.backend), 1)
            await self.backend.reset()
            self.assertEqual(os.path.exists(self.backend.store.directory), mode is not None)
        os.rmdir(self.backend.store.directory)

    async def test_a_reset_that_fails_is_none(self):
        self.assertEqual(await self.passed_by(self.backend), 1)
        await self.backend.set('k', 'v')
        await self.backend.close()
        with open(os.path.join(self.backend.store.directory, 'kv'), 'r+b') as file:
            file.write(b'\xff' * 4096)
        with self.assertRaises(BackendError):
            await self.backend.reset()
        self.assertEqual(await self.passed_by(self.backend), 0)

    async def test_a_reset_is_not_forgotten(self):
        """Whatever keys come, and are evicted."""
        name = NAME + '-small'
        backend = BrimBackend(name, capacity=64)
        self.addCleanup(brim.Limiter.unlink, name)
        self.assertEqual(await self.passed_by(backend), 1)
        await backend.reset()
        called = backend.policies._name('k')
        self.assertNotEqual(called, b'k')
        for number in range(1000):
            await native.FixedWindow()(f'k{number}', far(1), backend)
        self.assertEqual(backend.policies._name('k'), called)
        self.assertEqual(BrimBackend(name).policies._name('k'), called)
        await BrimBackend(name).reset()
        self.assertNotIn(backend.policies._name('k'), (called, b'k'))

    async def test_reset_is_for_a_namespace(self):
        other = BrimBackend(NAME, namespace='another namespace, with a long name')
        self.addCleanup(other.store.close)
        for backend in (self.backend, other):
            await backend.set('k', 'v')
            self.assertEqual(await native.FixedWindow()('k', far(1), backend), 0.0)
        for _ in range(3):
            await self.backend.reset()
            self.assertIsNone(await self.backend.get('k'))
            for strategy, passes in FROM_IDLE:
                wait = await strategy('k', far(9), self.backend)
                self.assertEqual(wait == 0, passes > 0, strategy)
                while not await strategy('k', far(9), self.backend):
                    pass
            self.assertEqual(await native.FixedWindow()('k', far(1), self.backend), 0.0)
        self.assertEqual(await other.get('k'), 'v')
        self.assertGreater(await native.FixedWindow()('k', far(1), other), 0)

    async def test_namespaces_that_look_alike(self):
        for namespace in ['a b', 'a-b', 'a:b', 'long namespace 1', 'long namespace 12']:
            backend = BrimBackend(NAME, namespace=namespace)
            self.addCleanup(backend.store.close)
            self.assertEqual(await self.passed_by(backend), 1, namespace)

    async def passed_by(self, backend):
        return [await native.FixedWindow()('k', far(1), backend) for _ in range(3)].count(0.0)

    async def test_lock(self):
        total = 0

        async def add():
            nonlocal total
            async with self.backend.lock('l', blocking_timeout=60):
                before = total
                await asyncio.sleep(0)
                total = before + 1
        await asyncio.gather(*(add() for _ in range(20)))
        self.assertEqual(total, 20)
        async with self.backend.lock('l', reentrant=True):
            async with self.backend.lock('l', reentrant=True):
                pass
            with self.assertRaises(LockTimeout):
                async with self.backend.lock('l', blocking=False):
                    self.fail('held twice')
            with self.assertRaises(LockTimeout):
                async with self.backend.lock('l', blocking_timeout=0.01):
                    self.fail('held twice')
        async with self.backend.lock('l', ttl=0.01):
            async with self.backend.lock('l', blocking_timeout=60):
                pass

    async def test_a_reentrant_lock_whose_time_is_over(self):
        async with self.backend.lock('l', ttl=0.01, reentrant=True):
            other = _store.Lock(self.backend.store, 'l')
            self.assertTrue(await other.acquire(timeout=60))
            with self.assertRaises(LockTimeout):
                async with self.backend.lock('l', reentrant=True, blocking=False):
                    self.fail('held twice')
            other.drop()

    async def test_context(self):
        async with self.backend(persistent=False) as backend:
            await backend.set('k', 'v')
        self.assertIsNone(await self.backend.get('k'))
        async with self.backend():
            await self.backend.set('k', 'v')
        self.assertEqual(await self.backend.get('k'), 'v')


if __name__ == '__main__':
    unittest.main()
