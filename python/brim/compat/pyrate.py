# SPDX-License-Identifier: MIT
"""PyrateLimiter's interface on a segment: change `from pyrate_limiter import ...` to

    from brim.compat.pyrate import Duration, Limiter, Rate
    limiter = Limiter([Rate(5, Duration.SECOND), Rate(100, Duration.MINUTE)])

and all processes of the program share the limit. With PyrateLimiter installed BrimBucket is also a
bucket for its Limiter. docs/guides/migrate-pyrate-limiter.md says what differs.
"""
import asyncio
import hashlib
import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, TypeVar

import brim
from brim.compat._log import encode, open_log, open_segment, take_all
from brim.compat.pyrate_types import (BucketFullException, LimiterDelayException,
                                      validate_rate_list)

if TYPE_CHECKING:
    from brim.compat.pyrate_types import AbstractBucket, BucketFactory, Duration, Rate, RateItem
else:
    try:  # so that both libraries' objects fit each other
        from pyrate_limiter import AbstractBucket, BucketFactory, Duration, Rate, RateItem
    except ImportError:
        from brim.compat.pyrate_types import (AbstractBucket, BucketFactory, Duration, Rate,
                                              RateItem)

__all__ = ["AbstractBucket", "BrimBucket", "BucketFactory", "BucketFullException", "Duration",
           "Limiter", "LimiterDelayException", "Rate", "RateItem", "SingleBucketFactory",
           "validate_rate_list"]

_F = TypeVar("_F", bound=Callable[..., Any])


class BrimBucket(AbstractBucket):
    """The bucket `name` of a segment, for all processes that open it with the same rates. Safe in
    any thread, and after fork(); pickles by name. `options` are those of brim.Limiter.open(), for
    whoever creates the segment."""
    is_async = False

    def __init__(self, rates: list[Rate], name: str = "default", segment: str = "pyrate",
                 **options: Any) -> None:
        super().__init__()
        in_order = sorted(rates, key=lambda rate: rate.interval)
        if not validate_rate_list(in_order):
            raise ValueError(f"rates {in_order}: with the interval the limit must grow, and "
                             f"limit / interval must not")
        self.rates = in_order
        self.name = name
        self._key = encode(name)
        self._made_by = (rates, name, segment, options)
        self._last = threading.local()  # failing_rate is that of the thread's own last put()
        self._limiter = open_segment(segment, {"capacity": 4096, "max_policies": 256,
                                               **options})
        self._logs = [open_log(self._limiter, f"pyrate.{rate.limit}.{rate.interval}", rate.limit,
                               f"{rate.interval}ms") for rate in in_order]
        # One call decides all rates, unless a limit is so large that it is kept in several logs.
        self._policies = [log.parts[0] for log in self._logs]
        self._at_once = all(len(log.parts) == 1 for log in self._logs) and len(self._logs) <= 8

    @property
    def failing_rate(self) -> Rate | None:
        return getattr(self._last, "rate", None)

    @failing_rate.setter
    def failing_rate(self, rate: Rate | None) -> None:
        self._last.rate = rate

    def put(self, item: RateItem) -> bool:
        """Takes item.weight permits of every rate, or none. The time is the segment's, not the
        item's."""
        failing = self._take(item.weight) if item.weight else None
        self._last.rate = None if failing is None else self.rates[failing]
        return failing is None

    def _take(self, weight: int) -> int | None:
        """Which rate refuses; None: all have admitted."""
        key = self._key
        if not self._at_once:
            if len(self._logs) == 1:
                return None if self._logs[0].take(key, weight) else 0
            return take_all(self._logs, key, weight)
        if len(self._policies) == 1:
            return None if self._policies[0].try_acquire(key, weight) else 0
        decision = self._limiter.try_acquire_all([(one, key, weight) for one in self._policies])
        return None if decision else decision.part

    def waiting(self, item: RateItem) -> int:
        """Milliseconds until all rates admit the item, if nobody else takes anything; -1: never;
        0 if the thread's last put() was not refused."""
        if self.failing_rate is None:
            return 0
        waits = [log.wait_ns(self._key, item.weight) for log in self._logs]
        return -1 if None in waits else math.ceil(max(wait or 0 for wait in waits) / 1e6)

    def leak(self, current_timestamp: int | None = None) -> int:
        """0: what has expired is gone already."""
        return 0

    def flush(self) -> None:
        """Forgets everything."""
        self._last.rate = None
        for log in self._logs:
            log.clear(self._key)

    def count(self) -> int:
        """Permits that the widest rate still counts."""
        return self._logs[-1].limit - self._logs[-1].room(self._key)

    def peek(self, index: int) -> RateItem | None:
        """The permit number `index`, the newest is 0, as an item of the bucket's name; or None."""
        widest = self._logs[-1]
        leaves = widest.leaves_ns(self._key, widest.limit)
        if not 0 <= index < len(leaves):
            return None
        taken_ms = self.now() + leaves[-1 - index] / 1e6 - self.rates[-1].interval
        return RateItem(self.name, math.floor(taken_ms), 1)

    def now(self) -> int:
        """CLOCK_MONOTONIC in milliseconds."""
        return time.monotonic_ns() // 1_000_000

    def limiter_lock(self) -> None:
        """No lock is needed."""

    def close(self) -> None:
        """Gives up the segment; the bucket can not be used afterwards."""
        self._limiter.close()

    def __reduce__(self) -> tuple[Any, ...]:
        rates, name, segment, options = self._made_by
        return _make_bucket, (rates, name, segment, options)


def _make_bucket(rates: list[Rate], name: str, segment: str, options: dict[str, Any]) -> BrimBucket:
    return BrimBucket(rates, name, segment, **options)


class SingleBucketFactory(BucketFactory):
    """One bucket for all calls, whatever their names."""

    def __init__(self, bucket: AbstractBucket) -> None:
        self.bucket = bucket

    def wrap_item(self, name: str, weight: int = 1) -> RateItem | Awaitable[RateItem]:
        now = self.bucket.now()
        if not hasattr(now, "__await__"):
            return RateItem(name, now, weight)

        async def item() -> RateItem:
            return RateItem(name, await now, weight)
        return item()

    def get(self, item: RateItem) -> AbstractBucket:
        return self.bucket

    def get_buckets(self) -> list[AbstractBucket]:
        return [self.bucket]

    def close(self) -> None:
        self.bucket.close()


class Limiter:
    """Admits calls as the rates of a bucket allow. Safe in any thread, and after fork(); pickles.

    argument: a Rate, a list of them, a bucket or a BucketFactory. For rates the bucket is
    `bucket` of segment `segment`; without `bucket` it is named after the file and line that make
    the limiter, and its number if a line makes several, so that all processes of a program mean
    the same one, and two limiters or programs do not.
    buffer_ms: added to every wait. raise_when_fail: a refusal raises BucketFullException (a wait
    that would be too long LimiterDelayException) instead of answering False. max_delay: the
    longest wait in milliseconds of calls that give no timeout."""

    def __init__(self, argument: BucketFactory | AbstractBucket | Rate | list[Rate],
                 buffer_ms: int = 50, *, bucket: str | None = None, segment: str = "pyrate",
                 raise_when_fail: bool = False, max_delay: int | None = None) -> None:
        if isinstance(argument, Rate):
            argument = [argument]
        if isinstance(argument, list):
            argument = BrimBucket(argument, bucket or _line_of_maker(self), segment)
        if isinstance(argument, AbstractBucket):
            argument = SingleBucketFactory(argument)
        if not isinstance(argument, BucketFactory):
            raise TypeError(f"{argument!r} is no rate, list of rates, bucket or bucket factory")
        self.bucket_factory = argument
        self.buffer_ms = buffer_ms
        self.raise_when_fail = raise_when_fail
        self.max_delay = max_delay

    def try_acquire(self, name: str = "pyrate", weight: int = 1, blocking: bool = True,
                    timeout: float = -1) -> bool | Awaitable[bool]:
        """Takes `weight` permits; True if it has. Blocks until they are there, at most `timeout`
        seconds (-1: for ever); False at once if that would not do, or with blocking=False.
        Awaitable if something of the bucket or its factory is."""
        deadline = self._deadline(blocking, timeout)
        if weight == 0:
            return True
        item: Any = self.bucket_factory.wrap_item(name, weight)
        if hasattr(item, "__await__"):
            return self._acquire(item, None, blocking, deadline)
        bucket: Any = self.bucket_factory.get(item)
        if hasattr(bucket, "__await__"):
            return self._acquire(item, bucket, blocking, deadline)
        while True:
            put = bucket.put(item)
            if put is True:
                return True
            if hasattr(put, "__await__"):
                return self._acquire(item, bucket, blocking, deadline, put)
            delay = self._delay(item, bucket, bucket.waiting(item) if blocking else -1, deadline)
            if delay is None:
                return False
            time.sleep(delay)

    async def try_acquire_async(self, name: str = "pyrate", weight: int = 1, blocking: bool = True,
                                timeout: float = -1) -> bool:
        """try_acquire() for coroutines: sleeps in the event loop."""
        if weight == 0:
            return True
        deadline = self._deadline(blocking, timeout)
        return await self._acquire(self.bucket_factory.wrap_item(name, weight), None, blocking,
                                   deadline)

    async def _acquire(self, item: Any, bucket: Any, blocking: bool, deadline: float,
                       put: Any = None) -> bool:
        item = await _value(item)
        bucket = await _value(self.bucket_factory.get(item) if bucket is None else bucket)
        while True:
            if await _value(bucket.put(item) if put is None else put):
                return True
            put = None
            wait = await _value(bucket.waiting(item)) if blocking else -1
            delay = self._delay(item, bucket, wait, deadline)
            if delay is None:
                return False
            await asyncio.sleep(delay)

    def _deadline(self, blocking: bool, timeout: float) -> float:
        if timeout < 0 and timeout != -1:
            raise ValueError("timeout must be -1 or >= 0")
        if not blocking and timeout != -1:
            raise RuntimeError("Can't set timeout with non-blocking")
        if timeout == -1 and self.max_delay is not None:
            timeout = self.max_delay / 1000
        return math.inf if timeout == -1 else time.monotonic() + timeout

    def _delay(self, item: RateItem, bucket: AbstractBucket, wait_ms: int, deadline: float
               ) -> float | None:
        """Seconds to sleep before the next try of a refused item; None: it is refused for good."""
        if wait_ms >= 0:
            delay = (wait_ms + self.buffer_ms) / 1000
            if time.monotonic() + delay <= deadline:
                item.timestamp += wait_ms + self.buffer_ms
                return delay
        if self.raise_when_fail:
            error = BucketFullException if wait_ms < 0 else LimiterDelayException
            raise error(item, bucket.failing_rate, max(wait_ms, 0) / 1000)
        return None

    def as_decorator(self, *, name: str = "ratelimiter", weight: int = 1) -> Callable[[_F], _F]:
        """Functions, with or without async, that wait for `weight` permits before each call."""
        def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
            if iscoroutinefunction(func):
                @wraps(func)
                async def later(*args: Any, **kwargs: Any) -> Any:
                    await self.try_acquire_async(name, weight)
                    return await func(*args, **kwargs)
                return later

            @wraps(func)
            def now(*args: Any, **kwargs: Any) -> Any:
                done = self.try_acquire(name, weight)
                if isinstance(done, Coroutine):
                    done.close()
                    raise RuntimeError("Can't use async bucket with sync decorator")
                return func(*args, **kwargs)
            return now
        return decorate  # type: ignore[return-value]

    def buckets(self) -> list[AbstractBucket]:
        """The buckets in use."""
        return self.bucket_factory.get_buckets()

    def dispose(self, bucket: int | AbstractBucket) -> bool:
        """Makes the factory forget a bucket, or the one of that id()."""
        return self.bucket_factory.dispose(bucket)

    def close(self) -> None:
        """Closes the buckets."""
        self.bucket_factory.close()

    def __enter__(self) -> "Limiter":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


async def _value(thing: Any) -> Any:
    while hasattr(thing, "__await__"):
        thing = await thing
    return thing


_made: dict[str, Iterator[int]] = {}


def _line_of_maker(limiter: Limiter) -> str:
    """Of whoever makes the limiter: "app.py:12" and a hash of the file's path, then "...#2"."""
    frame = sys._getframe(1)
    while frame.f_back is not None and any(
            frame.f_locals.get(name) is limiter for name in frame.f_code.co_varnames[:1]):
        frame = frame.f_back  # Limiter.__init__ and that of its subclasses
    file = frame.f_code.co_filename
    where = os.path.realpath(file)
    if file.startswith("<"):  # typed in, or read from a pipe: what was called, and where
        where += "\0".join(["", *sys.orig_argv])
    digest = hashlib.sha256(encode(where)).hexdigest()[:12]
    line = f"{os.path.basename(file)}:{frame.f_lineno}:{digest}"
    number = next(_made.setdefault(line, itertools.count(1)))
    return line if number == 1 else f"{line}#{number}"
