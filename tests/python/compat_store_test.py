# SPDX-License-Identifier: MIT
"""The store beside a segment: values, counters and locks that processes share."""
import asyncio
import contextlib
import os
import random
import select
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
import unittest
from unittest import mock

from brim.compat import _gate, _store

NAME = f'compat-store-{os.getpid()}'


@contextlib.contextmanager
def child(function):
    """A forked process that runs function(write end of a pipe); gives (pid, read end)."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(read)
            function(write)
        finally:
            os._exit(0)
    os.close(write)
    try:
        yield pid, read
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(read)


def finish(pid, read):
    """Waits for the child without reaping it, and reads what it said."""
    said = b''
    while part := os.read(read, 65536):
        said += part
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    return said


class StoreTest(unittest.TestCase):
    def setUp(self):
        self.store = _store.Store(NAME, 'space')
        self.addCleanup(_store.Store.remove, NAME)
        self.addCleanup(self.store.close)

    def do(self, function):
        return self.store.transact(function)

    def test_values(self):
        for value in ['text', '', b'\x00\xff', 7, -2**63]:
            self.do(lambda rows: rows.set('k\0\udcff', value))
            self.assertEqual(self.do(lambda rows: rows.get('k\0\udcff')), value)
        self.assertIsNone(self.do(lambda rows: rows.get('other')))
        self.assertTrue(self.do(lambda rows: rows.delete('k\0\udcff')))
        self.assertFalse(self.do(lambda rows: rows.delete('k\0\udcff')))
        self.assertFalse(self.do(lambda rows: rows.expire('k', 1)))
        self.assertEqual(self.do(lambda rows: rows.increment('n', 3)), 3)
        self.do(lambda rows: rows.set('n', '40'))
        self.assertEqual(self.do(lambda rows: rows.increment('n', 2)), 42)
        self.do(lambda rows: rows.set('n', 'many'))
        with self.assertRaises(ValueError):
            self.do(lambda rows: rows.increment('n'))

    def test_spaces_are_apart(self):
        other = _store.Store(NAME, 'other')
        self.addCleanup(other.close)
        self.do(lambda rows: rows.set('k', 1))
        other.transact(lambda rows: (rows.set('k', 2), rows.clear()))
        self.assertEqual(self.do(lambda rows: rows.get('k')), 1)

    def test_time_to_live(self):
        with mock.patch.object(_store, 'time') as clock:
            clock.monotonic.return_value = 100.0
            self.do(lambda rows: (rows.set('k', 'v', 10), rows.increment('n', 1, 10)))
            clock.monotonic.return_value = 105.0
            self.assertEqual(self.do(lambda rows: rows.increment('n', 1, 10)), 2)
            self.assertTrue(self.do(lambda rows: rows.expire('k', 20)))
            clock.monotonic.return_value = 110.0  # 10 s old has gone
            self.assertEqual(self.do(lambda rows: rows.increment('n', 1, 10)), 1)
            self.assertEqual(self.do(lambda rows: rows.get('k')), 'v')
            self.do(lambda rows: (rows.set('m', 1), rows.increment('m', 1, 10)))
            clock.monotonic.return_value = 125.0
            self.assertIsNone(self.do(lambda rows: rows.get('k')))
            self.assertIsNone(self.do(lambda rows: rows.get('m')))

    def test_expired_rows_leave(self):
        with mock.patch.object(_store, 'time') as clock:
            clock.monotonic.return_value = 0.0
            self.do(lambda rows: [rows.set(f'k{i}', i, 1) for i in range(500)])
            clock.monotonic.return_value = 2.0
            for i in range(500 // _store.PURGE + 1):
                self.do(lambda rows: rows.set('live', i))
        count = self.do(lambda rows: rows._sql.execute('SELECT COUNT(*) FROM kv').fetchone()[0])
        self.assertEqual(count, 1)

    def test_all_or_nothing(self):
        def broken(rows):
            rows.set('k', 1)
            raise KeyError
        with self.assertRaises(KeyError):
            self.do(broken)
        self.assertIsNone(self.do(lambda rows: rows.get('k')))

    def test_bounded(self):
        with mock.patch.object(_store, 'MAX_PAGES', 64):
            with self.assertRaises(sqlite3.OperationalError):
                self.do(lambda rows: rows.set('k', b'x' * 300_000))
            self.assertIsNone(self.do(lambda rows: rows.get('k')))
            self.do(lambda rows: rows.set('k', b'x' * 100_000))

    def test_files_are_private(self):
        self.do(lambda rows: rows.set('k', 1))
        directory = self.store.directory
        self.assertEqual(stat.S_IMODE(os.stat(directory).st_mode), 0o700)
        for file in os.listdir(directory):
            mode = os.stat(os.path.join(directory, file)).st_mode
            self.assertEqual(stat.S_IMODE(mode), 0o600, file)
        os.chmod(directory, 0o755)
        other = _store.Store(NAME, 'space')
        self.addCleanup(other.close)
        with self.assertRaises(PermissionError):
            other.transact(lambda rows: None)
        os.chmod(directory, 0o700)

    def test_a_link_is_refused(self):
        target = self.store.directory + '.target'
        os.mkdir(target, 0o700)
        self.addCleanup(os.rmdir, target)
        os.symlink(target, self.store.directory)
        try:
            with self.assertRaises(PermissionError):
                self.do(lambda rows: None)
        finally:
            os.unlink(self.store.directory)

    def test_names(self):
        self.assertEqual(_store.directory_of('/api'), '/dev/shm/api.store')
        self.assertEqual(_store.directory_of('/run/app/api'), '/run/app/api.store')
        for name in ['', '.x', 'a b', '../x', 'x' * 201]:
            with self.assertRaises(ValueError):
                _store.directory_of(name)

    def test_removed_while_open(self):
        other = _store.Store(NAME, 'space')
        self.addCleanup(other.close)
        self.do(lambda rows: rows.set('k', 1))
        other.transact(lambda rows: None)
        _store.Store.remove(NAME)
        self.assertIsNone(self.do(lambda rows: rows.get('k')))
        self.do(lambda rows: rows.set('k', 2))
        self.assertEqual(other.transact(lambda rows: rows.get('k')), 2)

    def test_damaged(self):
        self.do(lambda rows: None)
        self.store.close()
        with open(os.path.join(self.store.directory, 'kv'), 'r+b') as file:
            file.write(b'\xff' * 4096)
        for _ in range(2):  # and no gate stays shut
            with self.assertRaises(sqlite3.DatabaseError):
                self.do(lambda rows: rows.get('k'))
        _store.Store.remove(NAME)
        self.do(lambda rows: rows.set('k', 1))

    def test_exact_in_processes_and_threads(self):
        self.do(lambda rows: rows.set('n', 0))  # open in the parent while it forks
        stop = threading.Event()

        def busy():
            while not stop.is_set():
                self.do(lambda rows: rows.increment('mine'))
        thread = threading.Thread(target=busy)
        thread.start()

        def count(_):
            for _ in range(300):
                self.store.transact(lambda rows: rows.increment('n'))
        try:
            with contextlib.ExitStack() as stack:
                for pid, read in [stack.enter_context(child(count)) for _ in range(4)]:
                    finish(pid, read)
        finally:
            stop.set()
            thread.join()
        self.assertEqual(self.do(lambda rows: rows.get('n')), 1200)
        self.assertGreater(self.do(lambda rows: rows.get('mine')), 0)

    def test_a_child_inherits_nothing(self):
        """Neither SQLite's files, which do not survive a fork, nor the gate."""
        async def use():
            await self.store.run(lambda rows: rows.set('k', 1))
            await _store.Lock(self.store, 'l').acquire()

        def look(write):
            links = []
            for file in os.listdir('/proc/self/fd'):
                with contextlib.suppress(OSError):
                    links.append(os.readlink(f'/proc/self/fd/{file}'))
            os.write(write, repr([one for one in links if NAME in one]).encode())
            value = asyncio.run(self.store.run(lambda rows: rows.get('k')))
            os.write(write, repr(value).encode())
        asyncio.run(use())
        self.addCleanup(lambda: [lock.drop() for lock in list(_store._held)])
        with child(look) as (pid, read):
            self.assertEqual(finish(pid, read), b'[]1')
        self.assertEqual(self.do(lambda rows: rows.get('k')), 1)

    def test_killed_in_the_middle(self):
        """Both rows of a transaction or none; what was acknowledged stays; nobody waits."""
        def count(write):
            while True:
                self.store.transact(lambda rows: (rows.increment('a'), rows.increment('b')))
                os.write(write, b'.')
        acknowledged = 0
        rounds = 25
        for _ in range(rounds):
            with child(count) as (pid, read):
                self.assertTrue(select.select([read], [], [], 60)[0])
                time.sleep(random.uniform(0, 0.004))
                os.kill(pid, signal.SIGKILL)
                acknowledged += len(finish(pid, read))
            a, b = self.do(lambda rows: (rows.get('a'), rows.get('b')))
            self.assertEqual(a, b)
        self.assertGreaterEqual(a, acknowledged)
        self.assertLessEqual(a, acknowledged + rounds)

    def test_async_goes_on(self):
        """The event loop is free while another process holds the gate."""
        def hold(write):
            gate = _store.make_gate(self.store.directory)
            _store.fcntl.flock(gate, _store.fcntl.LOCK_EX)
            os.write(write, b'.')
            time.sleep(600)

        async def main(pid):
            work = asyncio.ensure_future(self.store.run(lambda rows: rows.increment('n')))
            for _ in range(50):
                await asyncio.sleep(0.001)
            self.assertFalse(work.done())
            os.kill(pid, signal.SIGKILL)
            return await work
        self.do(lambda rows: None)
        with child(hold) as (pid, read):
            os.read(read, 1)
            self.assertEqual(asyncio.run(main(pid)), 1)


class FaultTest(unittest.TestCase):
    def setUp(self):
        self.store = _store.Store(NAME, 'space')
        self.addCleanup(_store.Store.remove, NAME)
        self.addCleanup(self.store.close)

    def do(self, function):
        return self.store.transact(function)

    def says(self, function, expected):
        """What function(write) says in a child, which would hang if the fault were there."""
        with child(function) as (_, read):
            said = b''
            while select.select([read], [], [], 60)[0] and (part := os.read(read, 65536)):
                said += part
            self.assertEqual(said, expected)

    def test_forks_in_many_threads(self):
        def fork():
            for _ in range(5):
                if (pid := os.fork()) == 0:
                    os._exit(0)
                os.waitpid(pid, 0)

        def run(write):
            stop = threading.Event()
            stores = [_store.Store(NAME, str(number)) for number in range(4)]

            def use(store):
                while not stop.is_set():
                    store.transact(lambda rows: time.sleep(0.001))
            users = [threading.Thread(target=use, args=(store,)) for store in stores]
            forkers = [threading.Thread(target=fork) for _ in range(3)]
            for thread in (*users, *forkers):
                thread.start()
            for thread in forkers:
                thread.join()
            stop.set()
            for thread in users:
                thread.join()
            os.write(write, b'done')
        self.says(run, b'done')

    def test_fork_inside_of_a_transaction(self):
        """The parent's goes on; the child can use no store, and ends nothing of the parent's."""
        def fork(rows):
            rows.set('k', 1)
            if (pid := os.fork()) == 0:
                try:
                    return _store.Store(NAME, 'other').transact(lambda rows: None)
                finally:
                    os._exit(7 if self.store._connection is None else 8)
            status = os.waitpid(pid, 0)[1]
            rows.increment('k', os.waitstatus_to_exitcode(status))

        def leave(rows):
            rows.set('l', 1)
            if (pid := os.fork()) == 0:
                return None
            os.waitpid(pid, 0)
            rows.set('l', 2)

        def run(write):
            first = os.getpid()
            try:
                self.do(fork)
                self.do(leave)
            except RuntimeError:
                os.write(write, b'refused, ')
            if os.getpid() == first:
                value = self.do(lambda rows: (rows.get('k'), rows.get('l')))
                os.write(write, repr(value).encode())
        self.says(run, b'refused, (8, 2)')

    def test_a_full_store_recovers(self):
        with (mock.patch.object(_store, 'MAX_PAGES', 64),
              mock.patch.object(_store, 'time') as clock):
            clock.monotonic.return_value = 100.0
            with self.assertRaises(sqlite3.OperationalError):
                for number in range(1000):
                    self.do(lambda rows: rows.set(f'k{number}', b'x' * 3000, 10))
            with self.assertRaises(sqlite3.OperationalError):  # nothing of it has expired
                self.do(lambda rows: rows.set('new', b'x' * 3000))
            clock.monotonic.return_value = 1000.0
            for number in range(number):
                self.do(lambda rows: rows.set(f'n{number}', b'x' * 3000, 10))

    def hold(self, write):
        self.do(lambda rows: (os.write(write, b'.'), time.sleep(600)))

    def test_a_stopped_holder(self):
        """Nobody waits for ever, and nobody who only forks waits at all."""
        self.do(lambda rows: None)
        with child(self.hold) as (pid, read):
            os.read(read, 1)
            os.kill(pid, signal.SIGSTOP)
            with mock.patch.object(_gate, 'PATIENCE', 0.01):
                with self.assertRaises(TimeoutError):
                    self.do(lambda rows: None)
                with self.assertRaises(TimeoutError):
                    _store.Store.remove(NAME)
            with mock.patch.object(_gate, 'PATIENCE', 600):
                waiter = threading.Thread(target=self.do, args=(lambda rows: None,))
                waiter.start()
                while self.store._gate < 0:
                    time.sleep(0.001)
                for _ in range(3):
                    with child(lambda write: None) as one:
                        finish(*one)
                self.assertTrue(waiter.is_alive())
                os.kill(pid, signal.SIGKILL)
                waiter.join()

    def test_removed_without_the_gate(self):
        """File by file, as `rm -r` does, while the store is in use."""
        others = [_store.Store(NAME, 'space') for _ in range(2)]
        for one in others:
            self.addCleanup(one.close)
        for store in (self.store, others[0]):
            store.transact(lambda rows: rows.increment('n'))
        os.unlink(os.path.join(self.store.directory, 'gate'))
        self.do(lambda rows: rows.increment('n'))
        for file in ('kv', 'kv-wal', 'kv-shm'):
            os.unlink(os.path.join(self.store.directory, file))
        for store in (self.store, *others):
            store.transact(lambda rows: rows.increment('n'))
        self.assertEqual(self.do(lambda rows: rows.get('n')), 3)
        shutil.rmtree(self.store.directory)
        self.assertEqual(others[0].transact(lambda rows: rows.increment('n')), 1)

    def test_close_in_another_thread(self):
        """Just before run() gives its thread the work."""
        class Executor(_store.ThreadPoolExecutor):
            closed = 0

            def submit(executor, *args):
                Executor.closed += 1
                if Executor.closed <= 2:
                    self.store.close()
                return super().submit(*args)
        with mock.patch.object(_store, 'ThreadPoolExecutor', Executor):
            value = asyncio.run(self.store.run(lambda rows: rows.increment('n')))
        self.assertEqual((value, Executor.closed), (1, 3))

    def test_two_stores_of_a_process(self):
        """To open the second leaves the first one's locks: SQLite's last connection to close, in
        another process, would take away the log that the first writes to."""
        other = _store.Store(NAME, 'other')
        self.addCleanup(other.close)
        self.do(lambda rows: rows.increment('n'))
        other.transact(lambda rows: None)
        # Not forked by this process, which would open its stores anew.
        code = ('import sys; sys.path[:0] = sys.argv[2:]; from brim.compat._store import Store;'
                's = Store(sys.argv[1], "space");'
                'print(s.transact(lambda rows: rows.increment("n"))); s.close()')
        for number in range(2, 6, 2):
            said = subprocess.run([sys.executable, '-c', code, NAME, *sys.path], check=True,
                                  stdout=subprocess.PIPE).stdout
            self.assertEqual(int(said), number)
            self.assertEqual(self.do(lambda rows: rows.increment('n')), number + 1)


class LockTest(unittest.TestCase):
    def setUp(self):
        self.store = _store.Store(NAME, 'space')
        self.addCleanup(_store.Store.remove, NAME)
        self.addCleanup(self.store.close)

    def lock(self, name='l'):
        return _store.Lock(self.store, name)

    def test_one_holder(self):
        async def main():
            first, second, other = self.lock(), self.lock(), self.lock('other')
            self.assertTrue(await first.acquire())
            self.assertTrue(await other.acquire(blocking=False))
            self.assertFalse(await second.acquire(blocking=False))
            self.assertFalse(await second.acquire(timeout=0.01))
            first.drop()
            first.drop()
            self.assertTrue(await second.acquire(timeout=60))
            second.drop()
            other.drop()
        asyncio.run(main())

    def test_ends_by_itself(self):
        async def main():
            first, second = self.lock(), self.lock()
            self.assertTrue(await first.acquire(ttl=0.02))
            self.assertTrue(await second.acquire(timeout=60))
            first.drop()  # no longer its own
            self.assertFalse(await self.lock().acquire(blocking=False))
            second.drop()
        asyncio.run(main())

    def test_excludes_processes(self):
        self.store.transact(lambda rows: rows.set('n', 0))

        async def add():
            for _ in range(40):
                lock = self.lock()
                await lock.acquire()
                value = await self.store.run(lambda rows: rows.get('n'))
                await asyncio.sleep(0)
                await self.store.run(lambda rows: rows.set('n', value + 1))
                lock.drop()
        with contextlib.ExitStack() as stack:
            for one in [stack.enter_context(child(lambda _: asyncio.run(add())))
                        for _ in range(4)]:
                finish(*one)
        self.assertEqual(self.store.transact(lambda rows: rows.get('n')), 160)

    def test_dead_holder(self):
        """It is free at once, even if a child of the holder lives."""
        def hold(write):
            asyncio.run(self.lock().acquire())
            pid = os.fork()
            if pid == 0:
                os.write(write, b'%d\n' % os.getpid())
                time.sleep(600)
                os._exit(0)
            time.sleep(600)
        with child(hold) as (pid, read):
            grandchild = int(os.read(read, 100))
            try:
                self.assertFalse(asyncio.run(self.lock().acquire(blocking=False)))
                os.kill(pid, signal.SIGKILL)
                lock = self.lock()
                self.assertTrue(asyncio.run(lock.acquire(timeout=60)))
                lock.drop()
            finally:
                os.kill(grandchild, signal.SIGKILL)


if __name__ == '__main__':
    unittest.main()
