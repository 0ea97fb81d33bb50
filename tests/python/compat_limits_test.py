#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim.compat.limits under the real package limits: every strategy that it has, beside its memory
storage on the same calls, in four processes, with processes killed in the middle, with async, and
under Flask-Limiter. Method: limits of days, so that nothing expires while a busy machine lets a
test wait; where something has to expire, only lower bounds of time and loops until it has."""
import asyncio
import itertools
import mmap
import os
import pathlib
import random
import re
import shutil
import signal
import tempfile
import time
import traceback
import unittest
import unittest.mock

import brim
import brim.compat.limits
import limits.aio.strategies
from brim.compat.limits import MOST, UNCOUNTED
from limits import parse
from limits.errors import ConfigurationError
from limits.storage import storage_from_string
from limits.strategies import STRATEGIES

AIO_STRATEGIES = limits.aio.strategies.STRATEGIES
CENTURY = 36500 * 86400  # seconds; a window of the clock that no test sees the end of
NUMBERS = itertools.count()


class StorageTest(unittest.TestCase):
    def setUp(self):
        self.segment = f'brim-limits-{os.getpid()}-{next(NUMBERS)}'
        self.addCleanup(brim.Limiter.unlink, self.segment)
        self.storage = self.open()

    def open(self, scheme='shm', **options):
        return storage_from_string(f'{scheme}://{self.segment}?capacity=4096', **options)

    def fork(self, count, work):
        """Runs work(i) in `count` children; their pids."""
        pids = []
        for i in range(count):
            pid = os.fork()
            if pid == 0:
                try:
                    work(i)
                    os._exit(0)
                except BaseException:
                    traceback.print_exc()
                finally:
                    os._exit(1)
            pids.append(pid)
        return pids

    def join(self, pids, status=0):
        for pid in pids:
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), status)


class Shared:
    """A number for each process, that outlives it."""

    def __init__(self):
        # Written by one store: a process that is killed leaves the old number or the new one.
        self.numbers = memoryview(mmap.mmap(-1, 8 * 64)).cast('q')

    def add(self, i, amount):
        self.numbers[i] += amount

    def total(self):
        return sum(self.numbers)


class SameAsMemory(StorageTest):
    def test_every_strategy(self):
        memory = storage_from_string('memory://')
        for (name, strategy), text in itertools.product(
                STRATEGIES.items(), ('1/day', '7 per 3 hours', '50/month', '150/year')):
            with self.subTest(strategy=name, limit=text):
                self.compare(strategy(self.storage), strategy(memory), parse(text), name)

    def compare(self, ours, theirs, item, name):
        random.seed(text := f'{name} {item}')
        cost, started = 1, 0.0
        for _ in range(item.amount + 20):
            before = time.time()
            admitted = ours.hit(item, text, cost=cost)
            started = started or before
            self.assertEqual(admitted, theirs.hit(item, text, cost=cost))
            self.assertEqual(ours.test(item, text), theirs.test(item, text))
            reset, remaining = ours.get_window_stats(item, text)
            self.assertEqual(remaining, theirs.get_window_stats(item, text)[1])
            self.assertIs(type(reset), type(theirs.get_window_stats(item, text)[0]))
            self.assertGreaterEqual(reset, int(started + item.get_expiry()))
            self.assertLessEqual(reset, time.time() + item.get_expiry() + 1)
            cost = random.randint(1, min(3, item.amount))
        self.assertFalse(ours.hit(item, text, cost=item.amount))
        for strategy in (ours, theirs):
            strategy.clear(item, text)
        self.assertEqual(ours.get_window_stats(item, text)[1], item.amount)
        self.assertTrue(ours.hit(item, text, cost=item.amount))
        self.assertTrue(theirs.hit(item, text, cost=item.amount))

    def test_a_key_never_seen(self):
        for name, strategy in STRATEGIES.items():
            with self.subTest(strategy=name):
                ours, item = strategy(self.storage), parse('5/hour')
                self.assertTrue(ours.test(item, 'new'))
                before = int(time.time())
                reset, remaining = ours.get_window_stats(item, 'new')
                self.assertEqual(remaining, 5)
                self.assertLessEqual(before, reset)

    def test_limit_of_nothing(self):
        for name, strategy in STRATEGIES.items():
            with self.subTest(strategy=name):
                self.assertFalse(strategy(self.storage).hit(parse('0/hour'), 'k'))

    def test_storage_by_itself(self):
        memory = storage_from_string('memory://')
        for storage in (self.storage, memory):
            with self.subTest(storage=type(storage).__name__):
                self.assertTrue(storage.check())
                self.assertEqual(storage.get('k'), 0)
                self.assertEqual(storage.incr('k', 3600), 1)
                self.assertEqual(storage.incr('k', 3600, amount=5), 6)
                self.assertEqual(storage.incr('k', 3600, True, 2), 8)
                self.assertEqual(storage.incr('k', 3600, True), 9)
                self.assertEqual(storage.get('k'), 9)
                self.assertEqual(storage.incr('other', 60), 1)
                storage.clear('k')
                self.assertEqual((storage.get('k'), storage.get('other')), (0, 1))
                self.assertTrue(storage.acquire_entry('m', 2, 3600, 2))
                self.assertFalse(storage.acquire_entry('m', 2, 3600))
                storage.reset()
                self.assertEqual((storage.get('k'), storage.get('other')), (0, 0))
                self.assertTrue(storage.acquire_entry('m', 2, 3600, 2))


    def test_reset_of_a_key_that_is_cut(self):
        self.storage.incr('k' * 300, 3600)
        self.storage.reset()
        self.assertEqual(self.storage.get('k' * 300), 0)

    def test_what_another_process_has_begun(self):
        """Windows and limits that this storage has not met; method: a second storage."""
        other = self.open()
        for i in range(1, 4):
            self.assertEqual(self.storage.get('k'), i - 1)
            other.incr('k', 1000 * i, amount=i)
            self.assertEqual(self.storage.get('k'), i)
            self.assertGreater(self.storage.get_expiry('k'), time.time() + 100)
        other.acquire_entry('k', 100, 5000, 100)
        other.acquire_sliding_window_entry('k', 1, CENTURY)
        self.assertEqual(self.storage.get_sliding_window('k', CENTURY)[2], 1)
        self.storage.clear('k')
        self.assertEqual(other.get('k'), 0)
        self.assertTrue(other.acquire_entry('k', 100, 5000, 100))
        self.assertTrue(other.acquire_sliding_window_entry('k', 1, CENTURY))


class Expiry(StorageTest):
    def admitted_again(self, strategy, item):
        """Seconds from the hit that fills the limit to the next that is admitted."""
        before = time.monotonic()
        self.assertTrue(strategy.hit(item, 'k'))
        while not strategy.hit(item, 'k'):
            time.sleep(0.01)
        return time.monotonic() - before

    def test_windows_end(self):
        for name in ('fixed-window', 'moving-window'):
            with self.subTest(strategy=name):
                strategy = STRATEGIES[name](self.storage)
                self.assertGreaterEqual(self.admitted_again(strategy, parse('1/second')), 1)

    def test_elastic_window_ends_after_a_pause_only(self):
        if 'fixed-window-elastic-expiry' not in STRATEGIES:
            self.skipTest('this release of limits has no elastic expiry')
        strategy = STRATEGIES['fixed-window-elastic-expiry'](self.storage)
        item = parse('1/second')
        start = last = time.monotonic()
        self.assertTrue(strategy.hit(item, 'k'))
        while last - start < 1.5:
            before = time.monotonic()
            self.assertTrue(not strategy.hit(item, 'k') or time.monotonic() - last >= 1)
            last = before
        while not strategy.test(item, 'k'):
            time.sleep(0.01)
        self.assertGreaterEqual(time.monotonic() - last, 1)


class Processes(StorageTest):
    def test_exact_in_four_processes(self):
        for name, text in itertools.product(STRATEGIES, ('60/day', '500/day')):
            with self.subTest(strategy=name, limit=text):
                item, admitted = parse(text), Shared()

                def work(i):
                    storage = self.storage if i % 2 else self.open()
                    strategy = STRATEGIES[name](storage)
                    for _ in range(item.amount):
                        admitted.add(i, strategy.hit(item, 'k', name))
                self.join(self.fork(4, work))
                self.assertEqual(admitted.total(), item.amount)
                stats = STRATEGIES[name](self.storage).get_window_stats(item, 'k', name)
                self.assertEqual(stats[1], 0)

    def test_calls_of_several_permits(self):
        item, admitted = parse('500/day'), Shared()

        def work(i):
            strategy = STRATEGIES['moving-window'](self.storage)
            for cost in (7, 3, 2, 1) * 60:
                admitted.add(i, cost * strategy.hit(item, 'k', cost=cost))
        self.join(self.fork(4, work))
        self.assertEqual(admitted.total(), 500)

    def test_killed_in_the_middle(self):
        """No hit that was answered is lost, and at most the one that was under way is counted."""
        item, parent = parse('4000/day'), os.getpid()  # the moving window has several logs
        for name in STRATEGIES:
            with self.subTest(strategy=name):
                answered = Shared()

                def work(i):
                    strategy = STRATEGIES[name](self.storage)
                    while os.getppid() == parent:
                        answered.add(i, strategy.hit(item, 'k'))
                killed = 0
                while killed < 12:
                    before = answered.total()
                    pids = self.fork(3, lambda i: work(killed + i))
                    while answered.total() < before + 30:
                        time.sleep(0.001)
                    for pid in pids:
                        os.kill(pid, signal.SIGKILL)
                    self.join(pids, -signal.SIGKILL)
                    killed += len(pids)
                strategy = STRATEGIES[name](self.storage)
                counted = item.amount - strategy.get_window_stats(item, 'k')[1]
                total = answered.total()
                self.assertLessEqual(total, counted)
                self.assertLessEqual(counted, min(total + killed, item.amount))
                while strategy.hit(item, 'k'):
                    counted += 1
                self.assertEqual(counted, item.amount)
                strategy.clear(item, 'k')


class Dies:
    """A policy whose user dies at its n-th call."""

    def __init__(self, policy, n):
        self.policy, self.left = policy, n

    def __getattr__(self, name):
        self.left -= 1
        if self.left == 0:
            raise InterruptedError
        return getattr(self.policy, name)


class ElasticSteps(StorageTest):
    def test_no_step_of_a_hit_loses_any(self):
        policy = brim.Limiter.attach(self.segment)
        self.assertEqual([self.storage.incr('k', 86400, True) for _ in range(3)], [1, 2, 3])
        window, count, died = policy.policy('limits.fw.86400s'), 3, 0
        for first, step in itertools.product((False, True), range(1, 9)):
            if first:  # the count is in the other place
                count = self.storage.incr('k', 86400, True)
            try:
                next(self.storage.prolong(Dies(window, step), b'k', 1))
            except InterruptedError:
                died += 1
            except StopIteration:
                pass
            now = self.storage.get('k')
            self.assertIn(now, (count, count + 1))
            count = now
            self.assertEqual(self.storage.incr('k', 86400, True), count + 1)
            count += 1
        self.assertGreaterEqual(died, 8)


class Async(StorageTest):
    def test_every_strategy_together_with_the_other_storage(self):
        storage = self.open('async+shm')

        async def run(name, text):
            ours, sync = AIO_STRATEGIES[name](storage), STRATEGIES[name](self.storage)
            item = parse(text)
            hits = await asyncio.gather(*(ours.hit(item, name) for _ in range(item.amount - 1)))
            self.assertEqual(hits, [True] * (item.amount - 1))
            self.assertTrue(await ours.test(item, name))
            self.assertTrue(sync.hit(item, name))
            self.assertFalse(await ours.hit(item, name))
            reset, remaining = await ours.get_window_stats(item, name)
            self.assertEqual(remaining, 0)
            self.assertGreaterEqual(reset, int(time.time()))
            await ours.clear(item, name)
            self.assertTrue(sync.hit(item, name, cost=item.amount))
        for name, text in itertools.product(AIO_STRATEGIES, ('5/day', '300/day')):
            with self.subTest(strategy=name, limit=text):
                asyncio.run(run(name, text))

    def test_storage_by_itself(self):
        storage = self.open('async+shm')

        async def run():
            self.assertTrue(await storage.check())
            self.assertEqual(await storage.incr('k', 60, amount=2), 2)
            self.assertEqual(await storage.get('k'), 2)
            self.assertGreater(await storage.get_expiry('k'), time.time() - 1)
            self.assertTrue(await storage.acquire_sliding_window_entry('k', 1, CENTURY))
            self.assertEqual((await storage.get_sliding_window('k', CENTURY))[2], 1)
            await storage.clear_sliding_window('k', CENTURY)
            self.assertEqual((await storage.get_sliding_window('k', CENTURY))[2], 0)
            await storage.reset()
            self.assertEqual(await storage.get('k'), 0)
        asyncio.run(run())


class SlidingWindow(StorageTest):
    """The strategy of limits 4.1 and later, by what it calls and what it makes of the answers."""

    def weight(self, expiry):
        before, before_left, now, _ = self.storage.get_sliding_window('k', expiry)
        return before * before_left / expiry + now

    def test_counts(self):
        for taken in range(10):
            self.assertEqual(self.weight(CENTURY), taken)
            self.assertTrue(self.storage.acquire_sliding_window_entry('k', 10, CENTURY))
        self.assertFalse(self.storage.acquire_sliding_window_entry('k', 10, CENTURY))
        self.assertEqual(self.weight(CENTURY), 10)
        left = self.storage.get_sliding_window('k', CENTURY)[3]
        self.assertTrue(0 < left <= CENTURY, left)
        self.storage.clear_sliding_window('k', CENTURY)
        self.assertEqual(self.weight(CENTURY), 0)
        self.assertTrue(self.storage.acquire_sliding_window_entry('k', 10, CENTURY, 10))
        self.storage.clear('k')
        self.assertEqual(self.weight(CENTURY), 0)
        self.assertFalse(self.storage.acquire_sliding_window_entry('k', 0, CENTURY))
        limiter = brim.Limiter.attach(self.segment)
        self.assertEqual(limiter.policy(limiter.policy_names()[0]).text,
                         'sliding-counter 10/100y floor')

    def test_fades(self):
        self.assertTrue(self.storage.acquire_sliding_window_entry('k', 2, 1, 2))
        while self.weight(1) != 0:
            time.sleep(0.01)
        self.assertTrue(self.storage.acquire_sliding_window_entry('k', 2, 1, 2))


class Options(StorageTest):
    def test_uri_and_keywords(self):
        name = f'{self.segment}-b'
        self.addCleanup(brim.Limiter.unlink, name)
        storage_from_string(f'shm://{name}?mode=0640&on_full=deny', capacity=1000,
                            wrap_exceptions=False)
        self.assertEqual(os.stat(f'/dev/shm/{name}').st_mode & 0o777, 0o640)

    def test_path(self):
        folder = tempfile.mkdtemp(dir='/dev/shm')
        self.addCleanup(shutil.rmtree, folder)
        storage = storage_from_string(f'shm://{folder}/limits?capacity=64')
        self.assertEqual(storage.incr('k', 60), 1)
        self.assertTrue(os.path.exists(f'{folder}/limits'))

    def test_unknown_option(self):
        with self.assertRaisesRegex(ConfigurationError, "no option 'capacty'"):
            storage_from_string(f'shm://{self.segment}?capacty=5')

    def test_segment_made_by_others(self):
        for cells in (16, 0):
            name = f'{self.segment}-{cells}'
            brim.Limiter.create(name, capacity=64, cells_per_key=cells).close()
            self.addCleanup(brim.Limiter.unlink, name)
            storage = storage_from_string(f'shm://{name}')
            self.assertEqual(storage.incr('k', 60), 1)
            if cells == 0:
                with self.assertRaisesRegex(ValueError, 'a log of 100 permits does not fit'):
                    storage.acquire_entry('k', 100, 86400)
            else:
                taken = [storage.acquire_entry('k', 100, 86400) for _ in range(150)]
                self.assertEqual(taken, [True] * 100 + [False] * 50)

    def test_segment_removed(self):
        name = f'{self.segment}-c'
        storage = storage_from_string(f'shm://{name}?capacity=64')
        self.assertTrue(storage.check())
        brim.Limiter.unlink(name)
        self.assertFalse(storage.check())


class Edges(StorageTest):
    def test_full_counter_refuses_every_limit(self):
        self.assertEqual(self.storage.incr('k', 60, amount=MOST - 1), MOST - 1)
        self.assertEqual(self.storage.incr('k', 60), UNCOUNTED)
        self.assertEqual(self.storage.get('k'), UNCOUNTED)
        self.assertEqual(self.storage.incr('j', 60, amount=MOST + 1), UNCOUNTED)
        self.assertEqual(self.storage.get('j'), 0)

    def test_operator_bans_and_pauses(self):
        strategy, item = STRATEGIES['fixed-window'](self.storage), parse('5/hour')
        self.assertTrue(strategy.hit(item, 'k'))
        limiter = brim.Limiter.attach(self.segment)
        limiter.ban('*', item.key_for('k'), 3600)
        self.assertFalse(strategy.hit(item, 'k'))
        self.assertTrue(strategy.hit(item, 'other'))
        limiter.pause()
        self.assertTrue(all(strategy.hit(item, 'other') for _ in range(9)))
        limiter.resume()

    def test_no_room_for_a_key(self):
        for on_full in ('allow', 'deny'):
            name = f'{self.segment}-{on_full}'
            storage = storage_from_string(f'shm://{name}?capacity=64&on_full={on_full}')
            self.addCleanup(brim.Limiter.unlink, name)
            strategy = STRATEGIES['fixed-window'](storage)
            good = sum(strategy.hit(parse('1/day'), f'k{i}') for i in range(2000))
            self.assertEqual(good == 2000, on_full == 'allow')

    def test_moving_window_too_large(self):
        for cells, most in ((64, 64 * 64), (256, 256 * 64)):
            name = f'{self.segment}-{cells}'
            storage = storage_from_string(f'shm://{name}?capacity=64&cells_per_key={cells}')
            self.addCleanup(brim.Limiter.unlink, name)
            self.assertFalse(storage.acquire_entry('k', most, 86400, most + 1))
            with self.assertRaisesRegex(ValueError, 'create that with more'):
                storage.acquire_entry('k', most + 1, 86400)


class FlaskLimiter(StorageTest):
    def setUp(self):
        super().setUp()
        try:
            import flask_limiter
        except ImportError as error:
            self.skipTest(f'Flask-Limiter is not installed: {error}')
        self.flask_limiter = flask_limiter

    def good_answers(self, app, users):
        """Of 15 requests in each of four processes."""
        good = Shared()

        def work(i):
            with app.test_client() as client:
                for n in range(15):
                    answer = client.get('/', headers={'X-User': f'u{n % users}'})
                    self.assertIn(answer.status_code, (200, 429))
                    good.add(i, answer.status_code == 200)
        self.join(self.fork(4, work))
        return good.total()

    def test_every_strategy(self):
        import flask
        for name in STRATEGIES:
            with self.subTest(strategy=name):
                app = flask.Flask(name)
                limiter = self.flask_limiter.Limiter(
                    lambda: flask.request.headers['X-User'], app=app, strategy=name,
                    storage_uri=f'shm://{self.segment}', headers_enabled=True)
                app.add_url_rule('/', name, limiter.limit('10/day')(lambda: 'hello'))
                self.assertEqual(self.good_answers(app, users=2), 20)
                answer = app.test_client().get('/', headers={'X-User': 'u0'})
                self.assertEqual(answer.headers['X-RateLimit-Remaining'], '0')
                self.assertGreater(int(answer.headers['Retry-After']), 0)
                limiter.reset()
                answer = app.test_client().get('/', headers={'X-User': 'u0'})
                self.assertEqual(answer.status_code, 200)

    def test_the_guide(self):
        root = pathlib.Path(os.environ['BRIM_ROOT'])
        text = (root / 'docs' / 'guides' / 'migrate-limits.md').read_text(encoding='utf-8')
        block = next(one for one in re.findall(r'^```python\n(.*?)^```$', text, re.M | re.S)
                     if 'flask_limiter' in one)
        names = {'__name__': '__main__'}
        exec(block.replace('shm://shop', f'shm://{self.segment}'), names)
        self.assertEqual(self.good_answers(names['app'], users=1), 5)


if __name__ == '__main__':
    unittest.main()
