# SPDX-License-Identifier: MIT
"""Waiting in the event loop: `await policy.acquire(...)`.

Goal: a wait sleeps in the loop and nowhere else, takes no more than it is given, and gives its
place back when it is cancelled. Method: policies of few ms for what must come true, of days for
what must not; thousands of waiters at once; cancellation at every step of a booking.
"""
import asyncio
import math
import time
import unittest

import brim
from brim import Reason
from segment import SegmentTest


class Acquire(SegmentTest):

    def run_in_loop(self, coroutine):
        return asyncio.run(coroutine)

    def test_waits(self):
        limiter = self.open(p='100/s burst 1', log='sliding-log 1/10ms', q='queue 100/s burst 50')

        async def main():
            for name in ['p', 'log', 'q']:
                start = time.monotonic()
                for _ in range(4):
                    decision = await limiter.acquire(name, 'a')
                    self.assertTrue(decision)
                    self.assertEqual(decision.delay_ns, 0)
                self.assertGreaterEqual(time.monotonic() - start, 0.03 - 1e-6)
        self.run_in_loop(main())

    def test_refuses_at_once(self):
        """No sleep for a wait that would be longer than the timeout."""
        limiter = self.open(p='1/d burst 1', log='sliding-log 1/d', ahead='1/d burst 1 ahead 30d')

        async def main():
            for name in ['p', 'log', 'ahead']:
                policy = limiter.policy(name)
                self.assertTrue(await policy.acquire('a', timeout=0))
                for timeout in [0, 0.001, 3600]:
                    self.assertFalse(await policy.acquire('a', 1, timeout))
                never = await policy.acquire('a', 2)
                self.assertEqual((bool(never), never.retry_after), (False, math.inf))
                self.assertEqual(policy.peek('a').remaining, 0)
        self.run_in_loop(main())

    def test_further_than_the_policy_books(self):
        """The policy's `ahead` is no reason to refuse somebody who has the time."""
        limiter = self.open(p='20/s burst 1 ahead 10ms', none='20/s burst 1 ahead 0s')

        async def main():
            for name in ['p', 'none']:
                start = time.monotonic()
                got = await asyncio.gather(*[limiter.acquire(name, 'a') for _ in range(5)])
                self.assertTrue(all(got))
                self.assertGreaterEqual(time.monotonic() - start, 0.2 - 1e-6)
                self.assertTrue(limiter.wait(name, 'a'))
                self.assertFalse(limiter.wait(name, 'a', 1, 0.001))
        self.run_in_loop(main())

    def test_arguments(self):
        limiter = self.open(p='5/d')
        policy = limiter.policy('p')

        async def main():
            for error, bad in [(TypeError, (5,)), (TypeError, ('a', 'x')),
                               (brim.InvalidArgument, ('a', -1)),
                               (brim.InvalidArgument, ('a', 1, math.nan)),
                               (brim.InvalidArgument, ('a', 1, -1)),
                               (UnicodeEncodeError, ('\ud800',))]:
                with self.subTest(bad), self.assertRaises(error):
                    await policy.acquire(*bad)
            with self.assertRaises(brim.NotFound):
                await limiter.acquire('q', 'a')
            self.assertTrue(await policy.acquire(cost=2, key='a', timeout=None))
            self.assertTrue(await limiter.acquire(key=b'a', policy='p'))
            self.assertEqual(policy.peek('a').remaining, 2)
            limiter.close()
            with self.assertRaises(brim.Unfit):
                await policy.acquire('a')
        self.run_in_loop(main())

    def test_thousands_of_waiters(self):
        """All come through, in the time that the rate gives them, and the loop stays free."""
        limiter = self.open(p='10000/s burst 1')
        policy = limiter.policy('p')

        async def main():
            turns = 0

            async def tick():
                nonlocal turns
                while True:
                    turns += 1
                    await asyncio.sleep(0.005)
            ticker = asyncio.create_task(tick())
            start = time.monotonic()
            got = await asyncio.gather(*[policy.acquire('a') for _ in range(3000)])
            took = time.monotonic() - start
            ticker.cancel()
            self.assertTrue(all(got))
            self.assertGreaterEqual(took, 2999 / 10000 - 1e-6)
            self.assertGreater(turns, 2)
        self.run_in_loop(main())

    def test_first_come_first_served(self):
        policy = self.open(p='500/s burst 1').policy('p')
        order = []

        async def one(number):
            await policy.acquire('a')
            order.append(number)

        async def main():
            await asyncio.gather(*[one(i) for i in range(20)])
        self.run_in_loop(main())
        self.assertEqual(order, list(range(20)))

    def test_cancelled_gives_its_place_back(self):
        policy = self.open(p='1/h burst 1 ahead 30d').policy('p')

        async def main():
            await policy.acquire('a')
            before = policy.peek('a', 1).retry_after
            tasks = [asyncio.create_task(policy.acquire('a')) for _ in range(100)]
            await asyncio.sleep(0)
            self.assertGreater(policy.peek('a', 1).retry_after, before + 3600 * 99)
            for task in reversed(tasks):
                task.cancel()
            for task in tasks:
                with self.assertRaises(asyncio.CancelledError):
                    await task
            self.assertLessEqual(policy.peek('a', 1).retry_after, before)
            with self.assertRaises(asyncio.TimeoutError):
                await asyncio.wait_for(policy.acquire('a'), 0.01)
            self.assertLessEqual(policy.peek('a', 1).retry_after, before)
        self.run_in_loop(main())

    def test_cancelled_after_closing(self):
        """CancelledError, not the error of a limiter that was closed."""
        limiter = self.open(p='1/h burst 1 ahead 30d')
        policy = limiter.policy('p')

        async def main():
            await policy.acquire('a')
            task = asyncio.create_task(policy.acquire('a'))
            await asyncio.sleep(0)
            limiter.close()
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
        self.run_in_loop(main())

    def test_cancelled_while_trying_holds_nothing(self):
        policy = self.open(p='sliding-log 2/h').policy('p')

        async def main():
            await policy.acquire('a')
            await policy.acquire('a')
            task = asyncio.create_task(policy.acquire('a'))
            await asyncio.sleep(0.01)
            task.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await task
            policy.reset('a')
            self.assertEqual(policy.peek('a').remaining, 2)
        self.run_in_loop(main())

    def test_unavailable_is_answered(self):
        self.open(p='1/h').close()
        reader = brim.Limiter.attach_read_only(self.name)
        decision = self.run_in_loop(self.await_it(reader))
        self.assertEqual(decision.reason, Reason.READ_ONLY)

    @staticmethod
    async def await_it(limiter):
        return await limiter.acquire('p', 'a')

    def test_an_awaitable_that_nobody_awaits(self):
        """It takes nothing."""
        policy = self.open(p='5/d').policy('p')
        policy.acquire('a').close()
        self.assertEqual(policy.peek('a').remaining, 5)


if __name__ == '__main__':
    unittest.main()
