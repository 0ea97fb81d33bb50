# SPDX-License-Identifier: MIT
"""Several processes on one segment: exact counts however they were started, and however they end.

Goal: a limiter made before fork() works in the child, one that is pickled works under spawn and
forkserver, a worker that is killed takes nothing with it, and signals end a wait. Method: a limit
of N permits a year and workers that together ask for more: exactly N are admitted.
"""
import concurrent.futures
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
import unittest

import brim
from segment import SegmentTest

ASKS = 3000


def ask(policy):
    return sum(bool(policy.try_acquire('a')) for _ in range(ASKS))


def ask_by_name(name):
    limiter = brim.Limiter.attach(name)
    return ask(limiter.policy('p'))


def ask_for_ever(policy, ready):
    policy.try_acquire('b')
    ready.set()
    while True:
        policy.try_acquire('a')


class Processes(SegmentTest):

    def counted(self, method, call, argument):
        context = multiprocessing.get_context(method)
        with concurrent.futures.ProcessPoolExecutor(4, mp_context=context) as pool:
            return sum(pool.map(call, [argument] * 4))

    def test_pickled(self):
        """The policy is an argument: attached again by its name in the other process."""
        for method in ['fork', 'spawn', 'forkserver']:
            with self.subTest(method):
                limiter = brim.Limiter.create(self.name, policies={'p': '7000/365d'}, replace=True)
                self.assertEqual(self.counted(method, ask, limiter.policy('p')), 7000)
                self.assertFalse(limiter.try_acquire('p', 'a'))

    def test_by_name(self):
        self.open(p='7000/365d')
        self.assertEqual(self.counted('spawn', ask_by_name, self.name), 7000)

    def test_inherited(self):
        """Made before fork(), as with gunicorn --preload; the child uses the very object."""
        limiter = self.open(p='7000/365d')
        policy = limiter.policy('p')
        readers = []
        for _ in range(4):
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    os.write(writer, b'%d' % ask(policy))
                    status = 0
                finally:
                    os._exit(status)
            os.close(writer)
            readers.append((pid, reader))
        total = 0
        for pid, reader in readers:
            total += int(os.read(reader, 100))
            os.close(reader)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(total, 7000)
        self.assertFalse(policy.try_acquire('a'))

    def test_closed_in_the_child(self):
        """What the child closes, the parent keeps."""
        limiter = self.open(p='5/d')
        pid = os.fork()
        if pid == 0:
            limiter.close()
            os._exit(0)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertEqual(limiter.try_acquire('p', 'a').remaining, 4)

    def test_forked_while_threads_decide(self):
        """The child of a busy process opens, looks up and decides: no lock was left behind."""
        limiter = self.open(p='1000000/365d')
        policy = limiter.policy('p')
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                policy.try_acquire('a')
                brim.Limiter.attach(self.name).policy('p')
        threads = [threading.Thread(target=busy) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(20):
                pid = os.fork()
                if pid == 0:
                    status = 1
                    try:
                        again = brim.Limiter.attach(self.name)
                        again.define('q', '5/d')
                        status = 0 if again.try_acquire('p', 'b') else 2
                    finally:
                        os._exit(status)
                self.assertEqual(os.waitpid(pid, 0)[1], 0)
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def test_killed(self):
        """kill -9 in the middle of the calls, again and again: the count stays exact."""
        limiter = self.open(p='100000/365d')
        policy = limiter.policy('p')
        context = multiprocessing.get_context('fork')
        for round_number in range(12):
            ready = context.Event()
            worker = context.Process(target=ask_for_ever, args=(policy, ready))
            worker.start()
            ready.wait()
            time.sleep(0.002 * (round_number % 4))
            worker.kill()
            worker.join()
            self.assertEqual(worker.exitcode, -signal.SIGKILL)
        # What the dead took is taken, no more and no less: together it is the limit.
        left = policy.peek('a').remaining
        self.assertEqual(sum(bool(policy.try_acquire('a')) for _ in range(left + 100)), left)
        self.assertFalse(policy.try_acquire('a'))
        self.assertLessEqual(policy.peek('b').remaining, 100000 - 12)

    def test_a_dead_holder_loses_its_lease(self):
        policy = self.open(p='concurrency 1 ttl 1h').policy('p')
        context = multiprocessing.get_context('fork')
        worker = context.Process(target=policy.acquire_lease, args=('a',))
        worker.start()
        worker.join()
        self.assertTrue(policy.acquire_lease('a'))
        self.assertFalse(policy.acquire_lease('a'))

    def test_removed_name(self):
        limiter = self.open(p='5/d')
        brim.Limiter.unlink(self.name)
        self.assertFalse(limiter.linked)
        self.assertTrue(limiter.try_acquire('p', 'a'))
        with self.assertRaises(brim.NotFound):
            pickle.loads(pickle.dumps(limiter.policy('p')))


class Signals(SegmentTest):
    """Ctrl-C ends a wait, and gives the booked place back."""

    SCRIPT = textwrap.dedent('''
        import sys, brim
        limiter = brim.Limiter.attach(sys.argv[1])
        print('waiting', flush=True)
        try:
            limiter.wait(sys.argv[2], 'a')
        except KeyboardInterrupt:
            print('interrupted', flush=True)
    ''')

    def interrupted(self, policy, booked):
        before = policy.peek('a', 1).retry_after
        child = subprocess.Popen([sys.executable, '-c', self.SCRIPT, self.name, policy.name],
                                 stdout=subprocess.PIPE, text=True)
        try:
            self.assertEqual(child.stdout.readline(), 'waiting\n')
            end = time.monotonic() + 60
            if booked:
                while policy.peek('a', 1).retry_after < before + 1800 and time.monotonic() < end:
                    time.sleep(0.001)
            else:  # until it sleeps
                while time.monotonic() < end and 'hrtimer' not in pathlib.Path(
                        f'/proc/{child.pid}/wchan').read_text() and pathlib.Path(
                            f'/proc/{child.pid}/stat').read_text().split(')')[1][1] != 'S':
                    time.sleep(0.001)
            child.send_signal(signal.SIGINT)
            self.assertEqual(child.communicate(timeout=60)[0], 'interrupted\n')
            self.assertEqual(child.returncode, 0)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()

    def test_booked(self):
        policy = self.open(p='1/h burst 1 ahead 30d').policy('p')
        policy.try_acquire('a')
        before = policy.peek('a', 1).retry_after
        self.interrupted(policy, True)
        self.assertLessEqual(policy.peek('a', 1).retry_after, before)

    def test_trying(self):
        policy = self.open(p='sliding-log 1/h').policy('p')
        policy.try_acquire('a')
        self.interrupted(policy, False)

    def test_a_handler_that_returns(self):
        """The wait goes on, to its end."""
        policy = self.open(p='2/s burst 1').policy('p')
        policy.try_acquire('a')
        calls = []
        old = signal.signal(signal.SIGALRM, lambda *_: calls.append(1))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            start = time.monotonic()
            self.assertTrue(policy.wait('a'))
            self.assertGreater(time.monotonic() - start, 0.3)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)
        self.assertGreater(len(calls), 2)


class Interpreters(SegmentTest):

    def test_subinterpreter(self):
        """One that shares the GIL has a module of its own, on the same mapping."""
        try:
            import _xxsubinterpreters as interpreters
        except ImportError:
            self.skipTest('this CPython has no such module')
        policy = self.open(p='5/d').policy('p')
        other = interpreters.create()
        try:
            interpreters.run_string(other, textwrap.dedent(f'''
                import sys
                sys.path[:] = {sys.path!r}
                import brim
                limiter = brim.Limiter.attach({self.name!r})
                assert limiter.try_acquire('p', 'a').remaining == 4
                try:
                    limiter.policy('q')
                except brim.NotFound:
                    pass
            '''))
        finally:
            interpreters.destroy(other)
        self.assertEqual(policy.try_acquire('a').remaining, 3)


if __name__ == '__main__':
    unittest.main()
