# SPDX-License-Identifier: MIT
"""brim.snapshot: what keys owe comes back from the file; and the database is loaded by nobody else.

Method: a segment is saved, removed and made again from the file; the thread is watched through the
file that it writes, in this process, in several, and at the end of an interpreter.
"""
import concurrent.futures
import logging
import multiprocessing
import os
import pathlib
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import unittest

import brim
import brim.snapshot
from segment import SegmentTest


def wait_until(condition):
    end = time.monotonic() + 120
    while not condition():
        if time.monotonic() > end:
            raise AssertionError('it did not come true in two minutes')
        time.sleep(0.005)


def write_and_ask(name, file, asks):
    with brim.snapshot.Snapshots(name, file, interval=0.05):
        policy = brim.Limiter.attach(name).policy('p')
        return sum(bool(policy.try_acquire('a')) for _ in range(asks))


class Snapshots(SegmentTest):

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.file = pathlib.Path(folder.name, 'brim.db')

    def test_there_and_back(self):
        self.open(p='5/365d').try_acquire('p', 'a', 3)
        report = brim.snapshot.once(self.name, self.file)
        self.assertEqual((report['generation'], report['rows'], report['full']), (1, 1, 1))
        self.assertEqual(brim.info(self.name)['snapshot_generation'], 1)
        self.assertEqual(self.file.stat().st_mode & 0o777, 0o600)
        brim.Limiter.unlink(self.name)
        limiter = brim.snapshot.open_restored(self.name, self.file)
        self.assertEqual(limiter.policy('p').peek('a').remaining, 2)
        limiter.policy('p').reset('a')
        self.assertEqual(brim.snapshot.restore(self.name, str(self.file))['merged'], 1)
        self.assertEqual(limiter.policy('p').peek('a').remaining, 2)

    def test_without_a_file(self):
        limiter = brim.snapshot.open_restored(self.name, self.file, policies={'p': '5/d'},
                                              capacity=64)
        self.assertTrue(limiter.try_acquire('p', 'a'))
        self.assertRaises(brim.NotFound, brim.snapshot.restore, self.name, self.file)

    def test_damaged_file(self):
        self.file.write_bytes(b'no database' * 1000)
        with self.assertLogs('brim.snapshot', logging.WARNING):
            brim.snapshot.open_restored(self.name, self.file, policies={'p': '5/d'})
        self.assertEqual(len(list(self.file.parent.glob('*.corrupt-*'))), 1)

    def test_thread(self):
        limiter = self.open(p='5/365d')
        said = []
        threads = []

        def say(level, what):
            threads.append(threading.get_ident())
            said.append((level, what))
        with brim.snapshot.Snapshots(self.name, self.file, interval=0.02, say=say):
            limiter.try_acquire('p', 'a')
            wait_until(lambda: brim.info(self.name)['snapshot_rows'] == 1)
            limiter.try_acquire('p', 'b')
        self.assertEqual(brim.info(self.name)['snapshot_rows'], 2)  # the last one
        self.assertTrue(said)
        self.assertTrue(set(threads) - {threading.get_ident()})
        self.assertTrue(all(level in (3, 4, 6) and what for level, what in said), said)

    def test_a_say_that_raises(self):
        self.open(p='5/d')
        raised = []
        old, sys.unraisablehook = sys.unraisablehook, raised.append
        try:
            with brim.snapshot.Snapshots(self.name, self.file, interval=0.02, say=lambda: None):
                wait_until(lambda: brim.info(self.name)['snapshot_generation'] > 0)
        finally:
            sys.unraisablehook = old
        self.assertIs(raised[0].exc_type, TypeError)

    def test_many_workers(self):
        """One writes at a time; what all did is in the file at the end."""
        self.open(p='1000/365d')
        context = multiprocessing.get_context('spawn')
        with concurrent.futures.ProcessPoolExecutor(3, mp_context=context) as pool:
            got = list(pool.map(write_and_ask, [self.name] * 3, [str(self.file)] * 3, [600] * 3))
        self.assertEqual(sum(got), 1000)
        brim.snapshot.once(self.name, self.file)
        brim.Limiter.unlink(self.name)
        limiter = brim.snapshot.open_restored(self.name, self.file)
        self.assertEqual(limiter.policy('p').peek('a').remaining, 0)

    def test_forked(self):
        """A child has no thread; ending it there does nothing to the parent's."""
        self.open(p='5/d')
        with brim.snapshot.Snapshots(self.name, self.file, interval=0.02) as snapshots:
            wait_until(lambda: brim.info(self.name)['snapshot_generation'] > 0)
            pid = os.fork()
            if pid == 0:
                snapshots.stop()
                os._exit(0)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            before = brim.info(self.name)['snapshot_generation']
            wait_until(lambda: brim.info(self.name)['snapshot_generation'] > before)

    def test_end_of_the_interpreter(self):
        """A thread that nobody stopped takes its last snapshot and does not hold the exit up."""
        script = textwrap.dedent('''
            import ctypes, sys, brim, brim.snapshot
            limiter = brim.open(sys.argv[1], policies={'p': '5/365d'})
            kept = brim.snapshot.Snapshots(sys.argv[1], sys.argv[2], interval=3600)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))  # no module's end frees it
            limiter.try_acquire('p', 'a', 3)
        ''')
        done = subprocess.run([sys.executable, '-c', script, self.name, self.file], timeout=120,
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stdout), (0, ''), done.stderr)
        brim.Limiter.unlink(self.name)
        limiter = brim.snapshot.open_restored(self.name, self.file)
        self.assertEqual(limiter.policy('p').peek('a').remaining, 2)

    def test_wrong_arguments(self):
        self.open(p='5/d')
        for error, options in [(brim.InvalidArgument, {'interval': -1}),
                               (brim.InvalidArgument, {'synchronous': 'soon'}),
                               (brim.InvalidArgument, {'keep': -1}),
                               (TypeError, {'interval': 'x'}), (TypeError, {'say': 5}),
                               (TypeError, {'group': 5}), (TypeError, {'file': 5}),
                               (TypeError, {'colour': 5})]:
            with self.subTest(options), self.assertRaises(error):
                brim.snapshot.Snapshots(**{'name': self.name, 'file': self.file, **options})
        self.assertRaises(brim.NotFound, brim.snapshot.once, 'none-such', self.file)
        with self.assertRaises(brim.Error):
            brim.snapshot.once(self.name, '/nowhere/at/all.db')

    def test_only_this_module_loads_a_database(self):
        script = 'import brim, brim._aio, sys; print(open("/proc/self/maps").read())'
        maps = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True,
                              check=True).stdout
        self.assertIn('_brim.abi3.so', maps)
        self.assertNotIn('sqlite', maps)
        self.assertIn('sqlite', pathlib.Path('/proc/self/maps').read_text())


class Tools(SegmentTest):
    """info, dump, list_segments, verify and resize: read-only views of a segment in use."""

    def test_info(self):
        limiter = self.open(p='5/d')
        limiter.try_acquire('p', 'a')
        limiter.set_override('p', b'\xff', 'deny')
        limiter.record('a test')
        info = brim.info(self.name)
        self.assertEqual((info['name'], info['capacity'], info['linked'], info['hash']),
                         (self.name, 4096, True, 'siphash'))
        policy, = info['policies']
        self.assertEqual((policy['name'], policy['text'], policy['factor_ppm']),
                         ('p', '5/d', 1000000))
        self.assertEqual({c['name']: c['value'] for c in policy['counters']}['allowed'], 1)
        self.assertTrue(all(c['description'] for c in info['counters']))
        self.assertEqual([a['pid'] for a in info['attached']], [os.getpid()])
        self.assertEqual([(o['key'], o['use']) for o in info['overrides']], [(b'\xff', 'deny')])
        self.assertIn('a test', [a['what'] for a in info['audit']])
        self.assertEqual(info['occupancy']['live'], 1)

    def test_dump(self):
        limiter = self.open(p='5/d', q='6/d')
        keys = {f'k{i}'.encode() for i in range(500)}
        for key in keys:
            limiter.try_acquire('p', key)
        limiter.try_acquire('q', 'one')
        rows = []
        brim.dump(self.name, rows.append)
        self.assertEqual({r['key'] for r in rows if r['policy'] == 'p'}, keys)
        self.assertEqual({r['key'] for r in rows if r['policy'] == 'q'}, {b'one'})
        self.assertTrue(all(r['decision'].remaining in (4, 5) and r['state'] == 'live'
                            for r in rows))
        few = []

        def three(row):
            few.append(row)
            return len(few) < 3
        brim.dump(self.name, three)
        self.assertEqual(len(few), 3)
        with self.assertRaises(ZeroDivisionError):
            brim.dump(self.name, lambda row: 1 / 0)

    def test_visits_may_do_anything(self):
        """They use the segment that is walked, and other threads run meanwhile."""
        limiter = self.open(p='50000/d')
        for i in range(200):
            limiter.try_acquire('p', f'k{i}')
        turns = []
        stop = threading.Event()

        def turn():
            while not stop.is_set():
                turns.append(1)
                time.sleep(0.0005)
        thread = threading.Thread(target=turn)
        thread.start()
        brim.dump(self.name, lambda row: (limiter.try_acquire('p', row['key']),
                                          brim.info(self.name), limiter.define('q', '1/d')))
        stop.set()
        thread.join()
        self.assertGreater(len(turns), 3)

    def test_list_verify_resize(self):
        limiter = self.open(p='5/365d')
        limiter.try_acquire('p', 'a', 2)
        found, = [s for s in brim.list_segments() if s['name'] == self.name]
        self.assertEqual((found['message'], found['attached']), ('', 1))
        findings = []
        report = brim.verify(self.name, visit=findings.append)
        self.assertEqual((report['errors'], report['used'], len(findings)), (0, 1, 0))
        report = brim.resize(self.name, capacity=20000)
        self.assertEqual((report['keys'], report['generation']), (1, 1))
        self.assertEqual(brim.info(self.name)['capacity'], 20000)
        self.assertEqual(limiter.try_acquire('p', 'a').remaining, 2)

    def test_findings(self):
        limiter = self.open(p='5/d')
        limiter.try_acquire('p', 'a')
        rows = []
        brim.dump(self.name, rows.append)
        path = pathlib.Path('/dev/shm', self.name)
        data = path.read_bytes()
        # The slot's word and fingerprint, wherever they are: all bits but those of the name.
        at = data.rindex(b'a\0')
        damaged = bytearray(data)
        damaged[at - 8:at] = b'\xff' * 8
        path.write_bytes(damaged)
        findings = []
        report = brim.verify(self.name, visit=findings.append)
        self.assertEqual(len(findings) > 0, report['errors'] + report['warnings'] +
                         report['notes'] > 0)
        for finding in findings:
            self.assertIn(finding['severity'], ('note', 'warning', 'error'))
            self.assertTrue(finding['name'] and finding['remedy'])

    def test_wrong_arguments(self):
        self.open(p='5/d')
        for call in [lambda: brim.info(5), lambda: brim.dump(self.name, 5),
                     lambda: brim.dump(self.name), lambda: brim.verify(self.name, visit=5),
                     lambda: brim.resize(self.name, 5), lambda: brim.info(self.name, group=5)]:
            self.assertRaises(TypeError, call)
        for call in [lambda: brim.info('none-such'), lambda: brim.dump('none-such', print),
                     lambda: brim.verify('none-such'), lambda: brim.resize('none-such')]:
            self.assertRaises(brim.NotFound, call)
        self.assertRaises(brim.InvalidArgument, brim.resize, self.name, capacity=-1)
        with self.assertRaises(brim.Error) as caught:
            brim.resize(self.name, capacity=2**60)
        self.assertTrue(caught.exception.name)


if __name__ == '__main__':
    unittest.main()
