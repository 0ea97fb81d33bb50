# SPDX-License-Identifier: MIT
"""What ends at the wrong moment: handles, threads, interpreters, memory, bans and their waits.

Goal: none of it ends the process, leaves memory in use that was freed, or is forgotten. Method:
programs that would abort or crash run as processes of their own; collectors are made to run at each
allocation, allocations are made to fail one after the other.
"""
import asyncio
import gc
import os
import pathlib
import pickle
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest
import weakref

import brim
import brim.snapshot
from segment import SegmentTest

try:
    from _testcapi import remove_mem_hooks, set_nomemory
except ImportError:  # not installed with every Python
    set_nomemory = None


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        if time.monotonic() > end:
            raise AssertionError('it did not come true in two minutes')
        time.sleep(0.005)


class Programs(SegmentTest):

    def run_program(self, program, *arguments):
        done = subprocess.run([sys.executable, '-X', 'faulthandler', '-c',
                               'import brim, gc, sys, threading, time\n' + textwrap.dedent(program),
                               self.name, *arguments], capture_output=True, text=True, timeout=120)
        self.assertEqual((done.returncode, done.stderr), (0, ''))
        return done.stdout

    def test_closed_while_a_lease_is_made(self):
        self.open(c='concurrency 5 ttl 1h')
        said = self.run_program('''
            limiter = brim.Limiter.attach(sys.argv[1])
            policy = limiter.policy('c')
            class Closer:
                def __init__(self): self.me = self
                def __del__(self): limiter.close()
            gc.collect()
            gc.disable()
            Closer()
            gc.set_threshold(1, 1, 1)
            gc.enable()
            try:
                policy.acquire_lease('k')
            except brim.Unfit:
                print('closed')
            ''')
        self.assertEqual(said, 'closed\n')

    def test_interpreter_ends_while_threads_look(self):
        """Each sleeps in a visit, or waits for the GIL after it, when there is none any more."""
        limiter = self.open(p='5/d')
        for i in range(300):
            limiter.try_acquire('p', f'k{i}')
        for call in ['info(name)', 'list_segments()', 'verify(name, visit=print)',
                     'dump(name, lambda row: time.sleep(0.0005))']:
            with self.subTest(call):
                self.run_program('''
                    name = sys.argv[1]
                    def look():
                        while True:
                            eval('brim.' + sys.argv[2])
                    for _ in range(3):
                        threading.Thread(target=look, daemon=True).start()
                    time.sleep(0.1)
                    ''', call)

    def test_snapshots_stopped_from_within(self):
        """By what they tell something to, and by the collector in their own thread."""
        self.open(p='5/d').try_acquire('p', 'a')
        with tempfile.TemporaryDirectory() as folder:
            for end in ['snapshots.stop()', 'globals().pop("snapshots", None)',
                        'globals().pop("holder", None); gc.collect()']:
                with self.subTest(end):
                    said = self.run_program('''
                        import brim.snapshot
                        gc.disable()
                        said = threading.Semaphore(0)
                        ready = threading.Event()
                        def say(level, text):
                            ready.wait()
                            exec(sys.argv[3])
                            said.release()
                        class Holder: pass
                        limiter = brim.Limiter.attach(sys.argv[1])
                        snapshots = brim.snapshot.Snapshots(sys.argv[1], sys.argv[2], interval=0.01,
                                                            say=say)
                        if 'holder' in sys.argv[3]:
                            holder = Holder()
                            holder.me, holder.snapshots = holder, snapshots
                            del snapshots
                        limiter.try_acquire('p', 'b')
                        ready.set()
                        said.acquire()
                        while len(__import__('os').listdir('/proc/self/task')) > 1:
                            time.sleep(0.002)
                        print('told', 1 + said.acquire(timeout=0.05))
                        ''', folder + '/x.db', end)
                    self.assertEqual(said, 'told 1\n')


class Snapshots(SegmentTest):

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name, 'brim.db')

    def test_collected_with_their_owner(self):
        self.open(p='5/d').try_acquire('p', 'a')
        told = []

        class App:
            def __init__(self, name, file):
                self.told = told
                self.snapshots = brim.snapshot.Snapshots(name, file, interval=3600, say=self.say)

            def say(self, level, text):
                self.told.append(text)
        app = App(self.name, self.file)
        wait_until(lambda: told)
        gone = weakref.ref(app)
        threads = len(os.listdir('/proc/self/task'))
        brim.Limiter.attach(self.name).try_acquire('p', 'b')
        del app
        gc.collect()
        self.assertIsNone(gone())
        self.assertEqual(len(os.listdir('/proc/self/task')), threads - 1)
        self.assertGreater(len(told), 1, 'the last snapshot, told by all that it needs')

    def test_zero_seconds(self):
        self.open(p='5/d').try_acquire('p', 'a')
        brim.snapshot.once(self.name, self.file)
        self.assertRaises(brim.InvalidArgument, brim.snapshot.Snapshots, self.name, self.file,
                          interval=0)
        # Whoever waits the default of 5 s outlives the lock.
        other = sqlite3.connect(self.file, isolation_level=None, check_same_thread=False)
        other.execute('begin exclusive')
        release = threading.Timer(3, other.rollback)
        release.start()
        with self.assertRaises(brim.Error):
            brim.snapshot.once(self.name, self.file, busy_timeout=0.0)
        release.cancel()
        release.join()
        other.close()


class Waits(SegmentTest):

    def test_waits_out_a_ban(self):
        limiter = self.open(p='1000/s', w='fixed-window 1000/s')
        for name in 'pw':
            policy = limiter.policy(name)
            for wait in [policy.wait, lambda *args: asyncio.run(policy.acquire(*args))]:
                limiter.ban(name, 'k', 0.1)
                self.assertTrue(wait('k'), name)
                limiter.ban(name, 'k', 86400)
                refused = wait('k', 1, 3600)
                self.assertEqual(refused.reason, brim.Reason.BARRED)
                limiter.ban(name, 'k', brim.NEVER)
                self.assertFalse(wait('k'))
                limiter.unban(name, 'k')

    def test_child_closes_what_another_thread_waits_with(self):
        limiter = self.open(w='fixed-window 1/365d')
        limiter.try_acquire('w', 'k')
        policy = limiter.policy('w')
        limiter.ban('w', 'k', 1)
        begun = threading.Event()
        thread = threading.Thread(target=lambda: (begun.set(), policy.wait('k', timeout=2)))
        thread.start()
        begun.wait()
        time.sleep(0.05)
        child = os.fork()
        if child == 0:
            limiter.close()
            os._exit(self.name in pathlib.Path('/proc/self/maps').read_text())
        self.assertEqual(os.waitpid(child, 0)[1], 0)
        thread.join()


class Trust(SegmentTest):

    def test_pickled_with_its_mode(self):
        limiter = brim.Limiter.create(self.name, mode=0o660, policies={'p': '5/d'})
        limiter.try_acquire('p', 'a')
        data = pickle.dumps(limiter)
        limiter.close()
        again = pickle.loads(data)
        self.assertEqual(again.policy('p').peek('a').remaining, 4)
        again.close()
        brim.verify(self.name, True, mode=0o660)
        brim.info(self.name, mode=0o660)
        brim.dump(self.name, id, mode=0o660)
        with tempfile.TemporaryDirectory() as folder:
            file = folder + '/x.db'
            brim.snapshot.once(self.name, file, mode=0o660)
            brim.snapshot.restore(self.name, file, mode=0o660)
            said = []
            with brim.snapshot.Snapshots(self.name, file, mode=0o660,
                                         say=lambda level, text: said.append((level, text))):
                pass
            self.assertEqual([text for level, text in said if level < 6], [])
        brim.resize(self.name, capacity=100000, mode=0o660)


class Policies(SegmentTest):

    def test_one_that_is_not_found_again(self):
        """As when it is removed while info() looks; here its name is none that can be asked for."""
        self.open(p='5/d', victim='6/d')
        path = pathlib.Path('/dev/shm', self.name)
        path.write_bytes(path.read_bytes().replace(b'victim', b'\xff' * 6))
        counts = {p['name']: len(p['counters']) for p in brim.info(self.name)['policies']}
        self.assertGreater(counts.pop('p'), 0)
        self.assertEqual(list(counts.values()), [0])


@unittest.skipIf(set_nomemory is None, '_testcapi is not installed')
class Memory(SegmentTest):

    def test_each_allocation_fails_once(self):
        """Whatever fails, the call ends with an exception or well, never with none set."""
        limiter = self.open(p='5/d', c='concurrency 5 ttl 1h')
        policy, leases = limiter.policy('p'), limiter.policy('c')
        policy.try_acquire('a')
        closed = brim.Limiter.attach(self.name, accept_stored=True)
        gone = closed.policy('p')
        closed.close()
        calls = [lambda: brim.info(self.name), lambda: brim.dump(self.name, id),
                 lambda: brim.list_segments(), lambda: brim.verify(self.name, visit=id),
                 lambda: limiter.policy('none'), lambda: gone.try_acquire('a'),
                 lambda: policy.try_acquire('a', -1), lambda: leases.acquire_lease('a'),
                 lambda: policy.rates, lambda: policy.try_acquire_batch(['a', 'b'])]
        gc.disable()
        self.addCleanup(gc.enable)
        for number, call in enumerate(calls):
            for which in range(120):
                caught = None
                try:
                    set_nomemory(which, which + 1)
                    call()
                except BaseException as error:
                    caught = error
                finally:
                    remove_mem_hooks()
                self.assertNotIsInstance(caught, SystemError, f'call {number}, {which}: {caught}')


if __name__ == '__main__':
    unittest.main()
