# SPDX-License-Identifier: MIT
"""The backend: a brim segment for the strategies, a store beside it for strategies of one's own."""
from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

import brim
from brim.keys import AsgiRequest, by_address

from ._policies import Policies
from ._store import Lock, Rows, Store
from .traffik_rate import BackendError, LockTimeout

T = TypeVar('T')
_peer = by_address()
ATTRIBUTE = 'brim_traffik_backend'  # of app.state

_current: ContextVar[BrimBackend | None] = ContextVar('brim_traffik_backend', default=None)


async def default_identifier(connection: Any) -> str:
    """The client's address as the server sees it, IPv6 cut to /64. No header is trusted: behind a
    proxy use brim.keys.by_address(trusted_proxies=[...])."""
    return str(_peer(AsgiRequest(connection.scope)))


class BrimBackend:
    """Takes the place of traffik's InMemoryBackend, MultiProcessInMemoryBackend, RedisBackend and
    MemcachedBackend. Every process that names the same segment and namespace shares it.

    `options` are brim.Limiter.open's, for a segment that has to be made (capacity, cells_per_key,
    mode ...). Values, counters and locks are for strategies of one's own; brim's need none. The
    locks are the kernel's: one whose holder is killed is free at once. Durations are seconds.
    What fails in the store is a BackendError. Safe in any thread and after fork().
    """

    def __init__(self, segment: str, *, namespace: str = 'traffik',
                 identifier: Callable[[Any], Awaitable[Any]] | None = None,
                 handle_throttled: Callable[..., Awaitable[Any]] | None = None,
                 persistent: bool = True, on_error: Any = 'throttle',
                 lock_blocking: bool = True, lock_ttl: float | None = None,
                 lock_blocking_timeout: float | None = None, **options: Any) -> None:
        self.namespace = namespace
        self.identifier = identifier or default_identifier
        self.handle_throttled = handle_throttled
        self.persistent = persistent
        self.on_error = on_error
        self.lock_blocking = lock_blocking
        self.lock_ttl = lock_ttl
        self.lock_blocking_timeout = lock_blocking_timeout
        self.policies = Policies(segment, namespace, **options)
        self.store = self.policies.store

    async def initialize(self) -> None:
        """Attaches the segment, or makes it; the first decision would do so as well."""
        self.policies.limiter.policy_names()

    async def ready(self) -> bool:
        return True

    def get_key(self, key: str, *args: object, **kwargs: object) -> str:
        parts = [self.namespace, key, *map(str, args), *(f'{k}={v}' for k, v in kwargs.items())]
        return ':'.join(parts)

    async def run(self, function: Callable[[Rows], T]) -> T:
        """function(rows) in a thread, as one transaction: all of it happens, or, if it raises,
        nothing. `rows` has get, set, increment, expire and delete, without await."""
        with _backend_errors():
            return await self.store.run(function)

    async def get(self, key: str) -> str | None:
        value = await self.run(lambda rows: rows.get(key))
        return None if value is None else _text(value)

    async def set(self, key: str, value: Any, expire: float | None = None) -> None:
        await self.run(lambda rows: rows.set(key, _value(value), expire))

    async def delete(self, key: str) -> bool:
        return await self.run(lambda rows: rows.delete(key))

    async def increment(self, key: str, amount: int = 1) -> int:
        """The new value; exact among all processes. What is no number counts as 0."""
        return await self.run(lambda rows: _increment(rows, key, amount, None))

    async def decrement(self, key: str, amount: int = 1) -> int:
        return await self.increment(key, -amount)

    async def expire(self, key: str, seconds: float) -> bool:
        return await self.run(lambda rows: rows.expire(key, seconds))

    async def increment_with_ttl(self, key: str, amount: int = 1, ttl: float = 60) -> int:
        """`ttl` counts from the first increment with one: it is for a key that has none."""
        return await self.run(lambda rows: _increment(rows, key, amount, ttl))

    async def multi_get(self, *keys: str) -> list[str | None]:
        """At one instant."""
        values = await self.run(lambda rows: [rows.get(key) for key in keys])
        return [None if value is None else _text(value) for value in values]

    async def multi_set(self, items: Mapping[str, Any], expire: float | None = None) -> None:
        """All of them or, if one can not be kept, none."""
        def put(rows: Rows) -> None:
            for key, value in items.items():
                rows.set(key, _value(value), expire)
        await self.run(put)

    @asynccontextmanager
    async def lock(self, name: str, ttl: float | None = None, blocking: bool | None = None,
                   blocking_timeout: float | None = None, reentrant: bool = False,
                   enforce_ttl_locally: bool = False, local_ttl_factor: float = 0.8,
                   ) -> AsyncIterator[None]:
        """Held by one task among all processes. Raises LockTimeout. A task that asks again for
        what it holds waits for itself, unless both times `reentrant`. `ttl`: free after that
        even if the holder still runs, which is not ended (enforce_ttl_locally is ignored)."""
        mine = (name, id(self), id(asyncio.current_task()))
        if reentrant and mine in _owned and _owned[mine].held:
            yield
            return
        lock = Lock(self.store, name)
        with _backend_errors():
            got = await lock.acquire(
                self.lock_blocking if blocking is None else blocking,
                self.lock_blocking_timeout if blocking_timeout is None else blocking_timeout,
                self.lock_ttl if ttl is None else ttl)
        if not got:
            raise LockTimeout(f'the lock {name!r} is not free')
        if reentrant:
            _owned[mine] = lock
        try:
            yield
        finally:
            if reentrant:
                _owned.pop(mine, None)
            lock.drop()

    async def reset(self) -> None:
        """Every key of this namespace is as if never seen, in every process, and its values are
        gone."""
        with _backend_errors():
            await self.policies.clear()

    clear = reset

    def remove_store(self) -> None:
        """Removes the values of all namespaces of the segment, also damaged ones. Processes that
        use them go on with a new, empty store; the limits stay."""
        with _backend_errors():
            Store.remove(self.policies.segment)

    async def close(self) -> None:
        """Ends this process's connection to the store; the next use opens it again."""
        self.store.close()

    @asynccontextmanager
    async def lifespan(self, app: Any) -> AsyncIterator[None]:
        """For Starlette(lifespan=...) and FastAPI(lifespan=...)."""
        async with self(app):
            yield

    @asynccontextmanager
    async def __call__(self, app: Any = None, persistent: bool | None = None,
                       close_on_exit: bool = True, initialized: bool = False,
                       ) -> AsyncIterator[BrimBackend]:
        """The backend of throttles without one of their own, in this context and of this app.
        persistent=False resets it at the end: for every process, so not for one worker of many."""
        if not initialized:
            await self.initialize()
        if app is not None:
            setattr(app.state, ATTRIBUTE, self)
        before = _current.get()
        _current.set(self)
        try:
            yield self
        finally:
            _current.set(before)
            if not (self.persistent if persistent is None else persistent):
                await self.reset()
            if close_on_exit:
                await self.close()


_owned: dict[tuple[str, int, int], Lock] = {}


@contextmanager
def _backend_errors() -> Iterator[None]:
    try:
        yield
    except (OSError, OverflowError, sqlite3.Error, brim.Error) as error:
        raise BackendError(f'{type(error).__name__}: {error}') from error


def _increment(rows: Rows, key: str, amount: int, ttl: float | None) -> int:
    try:
        return rows.increment(key, amount, ttl)
    except ValueError:
        rows.set(key, amount, ttl)
        return amount


def get_throttle_backend(app: Any = None) -> BrimBackend | None:
    """The backend of the context, else of the app."""
    backend = _current.get()
    if backend is None and app is not None:
        backend = getattr(getattr(app, 'state', None), ATTRIBUTE, None)
    return backend


def _value(value: Any) -> str | bytes | int:
    if isinstance(value, (str, bytes)) or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    return str(value)


def _text(value: str | bytes | int) -> str:
    if isinstance(value, bytes):
        raise BackendError('the value is bytes: read it through backend.store')
    return str(value)
