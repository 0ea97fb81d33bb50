# SPDX-License-Identifier: MIT
"""Values with a time to live, and locks, that all processes of a host share.

The backends of other limiters promise get, set, increment and a lock, which brim has no use for
itself: its own decisions need none of this. They are kept by SQLite (WAL) in a directory of mode
0700 beside the segment, `/dev/shm/NAME.store`, which is made on first use.

 - One transaction at a time: a gate (flock) is asked for every half millisecond or less, because
   SQLite's own waiting was seen to take half a second among four processes. Whoever does not get
   it in PATIENCE seconds, for its holder is stopped, gets a TimeoutError.
 - A process killed anywhere loses its open transaction; the kernel opens its gate and its locks.
 - Fork: no connection and no gate is open while the process forks, in any thread; a fork waits for
   transactions, not for threads that wait at the gate. A function that forks inside of its own
   transaction is the exception: that child can use no store (RuntimeError).
 - Bounded: every transaction drops some rows that have expired, all of them if there is no room,
   and the file ends at 64 MiB (sqlite3.OperationalError: database or disk is full).
"""
from __future__ import annotations

import asyncio
import ctypes
import fcntl
import hashlib
import os
import sqlite3
import stat
import struct
import threading
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ._gate import deadline, directory_of, lock, make_gate, open_gate, pause

Value = str | bytes | int
T = TypeVar('T')

MAX_PAGES = 16384  # of 4 KiB
PURGE = 16  # expired rows dropped by a transaction: more than it can add
PURGE_FULL = 10_000  # and when the store is full
SCHEMA = '''
CREATE TABLE IF NOT EXISTS kv
  (space TEXT, key BLOB, value, expires REAL, PRIMARY KEY (space, key)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS kv_expires ON kv (expires) WHERE expires IS NOT NULL;
'''


class Rows:
    """One open transaction on the rows of one space. Durations are seconds."""

    def __init__(self, connection: sqlite3.Connection, space: str, now: float) -> None:
        self._sql = connection
        self._space = space
        self._now = now

    def _row(self, key: str) -> tuple[str, bytes]:
        return self._space, key.encode('utf-8', 'surrogatepass')

    def _find(self, key: str) -> tuple[Value, float | None] | None:
        found: tuple[Value, float | None] | None = self._sql.execute(
            'SELECT value, expires FROM kv WHERE space = ? AND key = ?'
            ' AND (expires IS NULL OR expires > ?)', (*self._row(key), self._now)).fetchone()
        return found

    def get(self, key: str) -> Value | None:
        found = self._find(key)
        return found[0] if found else None

    def set(self, key: str, value: Value, ttl: float | None = None) -> None:
        """Without `ttl` the value stays until it is deleted."""
        self._put(key, value, None if ttl is None else self._now + ttl)

    def _put(self, key: str, value: Value, expires: float | None) -> None:
        self._sql.execute('INSERT OR REPLACE INTO kv VALUES (?, ?, ?, ?)',
                          (*self._row(key), value, expires))

    def delete(self, key: str) -> bool:
        there = self._find(key) is not None
        self._sql.execute('DELETE FROM kv WHERE space = ? AND key = ?', self._row(key))
        return there

    def increment(self, key: str, amount: int = 1, ttl: float | None = None) -> int:
        """The new value; a missing one counts as 0. `ttl` is for a value that has none yet.
        Raises ValueError if the value is no whole number."""
        found = self._find(key)
        if found is None:
            self.set(key, amount, ttl)
            return amount
        value = int(found[0]) + amount
        if found[1] is None:
            self.set(key, value, ttl)
        else:
            self._put(key, value, found[1])
        return value

    def expire(self, key: str, ttl: float) -> bool:
        found = self._find(key)
        if found is not None:
            self.set(key, found[0], ttl)
        return found is not None

    def clear(self) -> None:
        self._sql.execute('DELETE FROM kv WHERE space = ?', (self._space,))

    def purge(self, most: int = PURGE) -> int:
        return self._sql.execute(
            'DELETE FROM kv WHERE (space, key) IN'
            ' (SELECT space, key FROM kv WHERE expires <= ? LIMIT ?)', (self._now, most)).rowcount


class Store:
    """The values of one `space` of a segment's store. Safe in any thread and after fork()."""

    def __init__(self, name: str, space: str = '') -> None:
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)
        self._gate = -1
        self._mutex = threading.Lock()
        self.directory = directory_of(name)
        self.space = space
        self._worker: ThreadPoolExecutor | None = None
        _stores[id(self)] = self

    def transact(self, function: Callable[[Rows], T]) -> T:
        """function(rows) in one transaction: all of it happens, or, if it raises, nothing. It is
        called once more if the store is full and expired rows can make room.
        Blocks while other processes have their turn; TimeoutError after PATIENCE seconds."""
        end = deadline()
        while True:
            with self._mutex:  # not while it waits: another thread may fork
                connection = self._enter()
                if connection is not None:
                    try:
                        return self._with_room(connection, function)
                    finally:
                        if self._gate >= 0:
                            fcntl.flock(self._gate, fcntl.LOCK_UN)
            pause(end)

    def _with_room(self, connection: sqlite3.Connection, function: Callable[[Rows], T]) -> T:
        try:
            return self._once(connection, function)
        except sqlite3.OperationalError as error:
            if getattr(error, 'sqlite_errorcode', 0) != sqlite3.SQLITE_FULL or not self._once(
                    connection, lambda rows: rows.purge(PURGE_FULL)):
                raise
        return self._once(connection, function)

    def _once(self, connection: sqlite3.Connection, function: Callable[[Rows], T]) -> T:
        _inside.depth = _depth() + 1
        try:
            connection.execute('BEGIN IMMEDIATE')
            rows = Rows(connection, self.space, time.monotonic())
            result = function(rows)
            _refuse_lost()
            rows.purge()
            connection.execute('COMMIT')
        except BaseException:
            if not _lost and connection.in_transaction:
                connection.execute('ROLLBACK')
            raise
        finally:
            _inside.depth -= 1
        return result

    async def run(self, function: Callable[[Rows], T]) -> T:
        """transact() in a thread of its own: the event loop goes on."""
        while True:
            worker = self._worker
            if worker is None:
                worker = self._worker = ThreadPoolExecutor(1, 'brim-store')
            try:
                work = asyncio.get_running_loop().run_in_executor(
                    worker, lambda: self.transact(function))
            except RuntimeError:
                if self._worker is worker:
                    raise
                continue  # close() in another thread was quicker
            return await work

    def close(self) -> None:
        """Ends the connection; the next use opens it again."""
        with self._mutex:
            self._shut()
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.shutdown(wait=False)

    @staticmethod
    def remove(name: str) -> None:
        """Removes the store of a segment; processes that use it begin a new one."""
        directory = directory_of(name)
        try:
            gate = open_gate(directory)
        except FileNotFoundError:
            return
        try:
            end = deadline()
            while not lock(gate):
                pause(end)
            for file in ('kv-wal', 'kv-shm', 'kv', 'gate'):  # the gate last: see _enter()
                try:
                    os.unlink(os.path.join(directory, file))
                except FileNotFoundError:
                    pass
            os.rmdir(directory)
        finally:
            os.close(gate)

    def _enter(self) -> sqlite3.Connection | None:
        """Through the gate of the store that has the name now; None if it is shut."""
        _refuse_lost()
        while True:
            if self._gate < 0:
                self._gate = make_gate(self.directory)
            locked = lock(self._gate)
            if os.fstat(self._gate).st_nlink:
                break
            self._shut()  # it was removed
        if not locked:
            return None
        try:
            if self._connection is not None and self._file != self._identity():
                self._connection.close()  # the file was removed without the gate
                self._connection = None
            if self._connection is None:
                self._connection = self._connect()
                self._file = self._identity()
        except BaseException:
            self._shut()
            raise
        return self._connection

    def _identity(self) -> tuple[int, int]:
        try:
            found = os.lstat(os.path.join(self.directory, 'kv'))
        except FileNotFoundError:
            return 0, 0
        return found.st_dev, found.st_ino

    def _connect(self) -> sqlite3.Connection:
        path = os.path.join(self.directory, 'kv')
        try:
            # A file that is there is left alone: to close it would end SQLite's locks on it, which
            # are the process's, and with them those of this process's other stores.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except FileExistsError:
            if stat.S_ISLNK(os.lstat(path).st_mode):
                raise PermissionError(f'{path} is a link') from None
        connection = sqlite3.connect(path, timeout=10, isolation_level=None,
                                     check_same_thread=False)
        try:
            connection.execute('PRAGMA journal_mode = WAL')
            # What is lost when the machine stops was in memory anyway.
            connection.execute('PRAGMA synchronous = OFF')
            connection.execute(f'PRAGMA max_page_count = {MAX_PAGES}')
            connection.executescript(SCHEMA)
        except BaseException:
            connection.close()
            raise
        return connection

    def __del__(self) -> None:
        self._shut()

    def _shut(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._gate >= 0:
            os.close(self._gate)
            self._gate = -1


class Lock:
    """One holder among all tasks, threads and processes: an open file description's lock on the
    one byte of the gate file that the name's hash says. Not a queue: waiting is polling."""

    def __init__(self, store: Store, name: str) -> None:
        self._directory = store.directory
        digest = hashlib.sha256(f'{store.space}\0{name}'.encode('utf-8', 'surrogatepass')).digest()
        self._byte = int.from_bytes(digest[:8], 'little') >> 2
        self._file = -1
        self._timer: asyncio.TimerHandle | None = None

    @property
    def held(self) -> bool:
        return self._file >= 0

    def _try(self) -> bool:
        file = make_gate(self._directory)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK,
                        struct.pack('hhqqi0q', fcntl.F_WRLCK, os.SEEK_SET, self._byte, 1, 0))
            if not os.fstat(file).st_nlink:
                raise BlockingIOError  # removed: try the one that has the name now
        except (BlockingIOError, PermissionError):
            os.close(file)
            return False
        except BaseException:
            os.close(file)
            raise
        self._file = file
        _held.add(self)
        return True

    async def acquire(self, blocking: bool = True, timeout: float | None = None,
                      ttl: float | None = None) -> bool:
        """False if it was not free (in `timeout` seconds). After `ttl` seconds it is free again,
        whatever its holder does."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.0005
        while not self._try():
            if not blocking or (end is not None and time.monotonic() >= end):
                return False
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.02)
        if ttl is not None:
            self._timer = asyncio.get_running_loop().call_later(ttl, self.drop)
        return True

    def drop(self) -> None:
        """Gives it up; nothing if it is not held."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._file >= 0:
            fcntl.fcntl(self._file, fcntl.F_OFD_SETLK,
                        struct.pack('hhqqi0q', fcntl.F_UNLCK, os.SEEK_SET, self._byte, 1, 0))
            self.forget()

    def forget(self) -> None:
        """Closes the file only: in a child after fork() the lock stays its parent's."""
        os.close(self._file)
        self._file = -1
        _held.discard(self)


_stores: weakref.WeakValueDictionary[int, Store] = weakref.WeakValueDictionary()
_held: set[Lock] = set()
_fork = threading.Lock()  # held by a thread that forks, and with it the mutex of each of _forking
_forking: list[Store] = []
_inside = threading.local()
_lost = False


def _depth() -> int:
    """How many transactions this thread is in."""
    return getattr(_inside, 'depth', 0)


def _refuse_lost() -> None:
    if _lost:
        raise RuntimeError('this process was forked inside of a transaction: it can use no store')


def _all_stores() -> list[Store]:
    return [store for one in _stores.valuerefs() if (store := one()) is not None]


def _before_fork() -> None:
    # SQLite's connections do not survive a fork, not even unused ones; a gate that was open would
    # stay shut for as long as the child lives.
    if _depth():
        return  # it holds a mutex that other forks wait for
    _fork.acquire()
    while new := [store for store in _all_stores() if store not in _forking]:
        for store in new:
            store._mutex.acquire()
            store._shut()
            _forking.append(store)


def _after_fork() -> None:
    if _depth():
        return
    for store in _forking:
        store._mutex.release()
    _forking.clear()
    _fork.release()


def _after_fork_in_child() -> None:
    global _fork, _lost
    for one in list(_held):
        one.forget()
    for store in _all_stores():
        store._worker = None  # its thread is the parent's
    if not _depth():
        _after_fork()
        return
    # To close the parent's connections here would end its transactions: they stay as they are.
    _lost = True
    _fork = threading.Lock()
    _forking.clear()
    for store in _all_stores():
        store._mutex = threading.Lock()
        if store._connection is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(store._connection))
            store._connection = None
        store._shut()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork,
                    after_in_child=_after_fork_in_child)
