# SPDX-License-Identifier: MIT
"""Storage `shm://NAME` for the package limits, hence for Flask-Limiter and slowapi. Importing this
module registers it, and `async+shm://NAME` for limits.aio:

    import brim.compat.limits
    limiter = Limiter(get_remote_address, app=app, storage_uri="shm://api")

NAME is a segment's; an absolute path follows three slashes. Options of Limiter.open() may follow as
`?capacity=100000&mode=0660` or in storage_options; they count for the process that creates the
segment. docs/guides/migrate-limits.md says what differs from the storages of the package.
"""
import asyncio
import contextlib
import time
import urllib.parse
from collections.abc import Generator, Mapping
from typing import Any

import limits.aio.storage
import limits.storage
from limits.errors import ConfigurationError

import brim
from brim.compat._log import Log, define, encode, open_log, open_segment, stored_log

MOST = (1 << 24) - 1  # hits that a counter tells apart; see UNCOUNTED
PATIENCE = 2.0  # seconds that a hit on an elastic window waits for others on the same key
UNCOUNTED = (1 << 63) - 1  # what a counter answers beyond that: more than any limit

_INTEGERS = ("capacity", "cells_per_key", "max_policies", "name_bytes", "overrides", "probe_limit",
             "owner_uid")
_TEXTS = ("hash", "on_full", "clock", "group")
_DEFAULTS = {"capacity": 32768, "max_policies": 256, "name_bytes": 112}
_WINDOW, _LOG, _COUNTER = "limits.fw.", "limits.mw.", "limits.sw."
_KINDS = _WINDOW, _LOG, _COUNTER
_LOCK = "limits.lock"
_OTHER = b"\0"  # follows a key in the second place of its elastic windows

# Releases before 3.13 promise whole seconds, and print them into headers.
_WHOLE = limits.storage.Storage.get_expiry.__annotations__.get("return") in (int, "int")


def _options(given: Mapping[str, object]) -> dict[str, object]:
    found: dict[str, object] = dict(_DEFAULTS)
    for name, value in given.items():
        if name in _INTEGERS:
            found[name] = int(str(value))
        elif name == "mode":
            found[name] = value if isinstance(value, int) else int(str(value), 8)
        elif name in _TEXTS:
            found[name] = str(value)
        elif name != "wrap_exceptions":
            raise ConfigurationError(
                f"shm:// has no option {name!r}; it has mode, {', '.join(_INTEGERS + _TEXTS)}")
    return found


def _span(expiry: float) -> str:
    milliseconds = round(expiry * 1000)
    return f"{milliseconds}ms" if milliseconds % 1000 else f"{milliseconds // 1000}s"


def _stamp(after_ns: int) -> float:
    at = time.time() + after_ns / 1e9
    return int(at) if _WHOLE else at


def _counted(window: brim.Policy, decision: brim.Decision) -> int:
    """Hits so far, those of the decision included."""
    if not decision:
        return UNCOUNTED  # a full counter; or a ban or `deny` by the operator
    if decision.reason:
        return 0  # paused, exempt, or brim could not decide and lets it pass
    hits = MOST - decision.remaining
    if not 0 <= hits < MOST // 2:  # perhaps the operator gave the window another limit
        hits = max(0, max((rate.limit for rate in window.rates), default=0) - decision.remaining)
    return hits if hits < MOST else UNCOUNTED


class _Calls:
    """The storage interface of the package. Any thread, any process, and after fork()."""

    def __init__(self, uri: str, options: Mapping[str, object]) -> None:
        parts = urllib.parse.urlsplit(uri)
        query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        found = _options({**query, **options})
        self._limiter = open_segment(parts.netloc + parts.path, found)
        self._group: Any = found.get("group")
        self._owner: Any = found.get("owner_uid")
        self._windows: dict[str, brim.Policy] = {}  # by span
        self._logs: dict[str, Log] = {}  # by limit and span, as the next
        self._counters: dict[str, brim.Policy] = {}
        self._leases: brim.Policy | None = None
        self._learnt: list[str] = []

    # ------------------------------------------------------------------ fixed window

    def incr(self, key: str, expiry: float, elastic_expiry: bool = False, amount: int = 1) -> int:
        """Counts `amount` hits; the number of hits in the key's window, these included."""
        window, name = self._window(_span(expiry)), encode(key)
        if not elastic_expiry:
            return _counted(window, window.try_acquire(name, amount))
        steps = self.prolong(window, name, amount)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return int(end.value)
            time.sleep(0)

    async def incr_elastic(self, key: str, expiry: float, amount: int) -> int:
        """incr(key, expiry, True, amount) for coroutines."""
        steps = self.prolong(self._window(_span(expiry)), encode(key), amount)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                return int(end.value)
            await asyncio.sleep(0)

    def get(self, key: str) -> int:
        """Hits in the key's window."""
        self._learn()
        return max((_counted(window, window.peek(place)) for window in self._windows.values()
                    for place in self._places(encode(key))), default=0)

    def get_expiry(self, key: str) -> float:
        """When the key's window is over, in seconds since 1970; now if there is none."""
        self._learn()
        return _stamp(max((window.peek(place).reset_after_ns for window in self._windows.values()
                           for place in self._places(encode(key))), default=0))

    # ----------------------------------------------------------------- moving window

    def acquire_entry(self, key: str, limit: int, expiry: float, amount: int = 1) -> bool:
        """Takes `amount` of at most `limit` permits in any `expiry` seconds, or none."""
        return self._log(limit, _span(expiry)).take(encode(key), amount)

    def get_moving_window(self, key: str, limit: int, expiry: float) -> tuple[float, int]:
        """When the oldest permit was taken (seconds since 1970), and how many there are."""
        log, name = self._log(limit, _span(expiry)), encode(key)
        used = limit - log.room(name)
        leaves = log.leaves_ns(name, 1)
        return _stamp(leaves[0] - round(expiry * 1e9) if leaves else 0), used

    # -------------------------------------------- sliding window counter (limits >= 4.1)

    def acquire_sliding_window_entry(self, key: str, limit: int, expiry: float,
                                     amount: int = 1) -> bool:
        """Takes `amount` permits if what the last two windows weigh leaves room for them."""
        return limit > 0 and bool(
            self._counter(limit, _span(expiry)).try_acquire(encode(key), amount))

    def get_sliding_window(self, key: str, expiry: float) -> tuple[int, float, int, float]:
        """Hits and seconds left of the window before, and of this one. What the two weigh now is
        told as hits of this one, which is over when the next permit is free."""
        self._learn()
        for name, counter in self._counters.items():
            limit, span = _limit_and_span(_COUNTER + name)
            place = encode(key)
            if span == _span(expiry) and (free := counter.peek(place).remaining) < limit:
                wait = counter.peek(place, free + 1).retry_after_ns / 1e9
                return 0, 0.0, limit - free, min(wait, expiry * (1 - 1e-9))
        return 0, 0.0, 0, 0.0

    def clear_sliding_window(self, key: str, expiry: float) -> None:
        """Forgets the key's sliding windows."""
        self._learn()
        for name, counter in self._counters.items():
            if _limit_and_span(_COUNTER + name)[1] == _span(expiry):
                counter.reset(encode(key))

    # --------------------------------------------------------------------------- all

    def check(self) -> bool:
        """Whether the segment is still the one of that name."""
        return self._limiter.linked

    def clear(self, key: str) -> None:
        """Forgets the key."""
        self._learn()
        name = encode(key)
        for window in self._windows.values():
            for place in self._places(name):
                window.reset(place)
        for counter in self._counters.values():
            counter.reset(name)
        for log in self._logs.values():
            log.clear(name)

    def reset(self) -> int | None:
        """Forgets all keys; of moving windows those of at most name_bytes - 3 bytes."""
        self._learn()
        for name in self._limiter.policy_names():
            if name.startswith((_WINDOW, _COUNTER)):
                with contextlib.suppress(brim.Unfit):  # windows of many years
                    self._limiter.reset_policy(name)

        def forget(row: dict[str, Any]) -> None:
            name, key = row.get("policy", ""), row["key"]
            if not name.startswith(_KINDS) or len(key) != row["key_length"]:
                return
            if name.startswith(_LOG) and b"\0" not in key[-3:]:
                self._log(*_limit_and_span(name)).clear(key)  # all parts: a part's key is longer
            else:
                self._limiter.policy(name).reset(key)
        brim.dump(self._limiter.name, forget, group=self._group, owner_uid=self._owner)
        return None

    # ---------------------------------------------------------------------- policies

    def _window(self, span: str) -> brim.Policy:
        found = self._windows.get(span)
        if found is None:
            found = define(self._limiter, _WINDOW + span, f"fixed-window {MOST}/{span} first-hit")
            self._windows[span] = found
        return found

    def _log(self, limit: int, span: str) -> Log:
        name = f"{limit}.{span}"
        found = self._logs.get(name)
        if found is None:
            found = open_log(self._limiter, _LOG + name, limit, span)
            self._logs[name] = found
        return found

    def _counter(self, limit: int, span: str) -> brim.Policy:
        name = f"{limit}.{span}"
        found = self._counters.get(name)
        if found is None:
            found = define(self._limiter, _COUNTER + name, f"sliding-counter {limit}/{span} floor")
            self._counters[name] = found
        return found

    def _learn(self) -> None:
        """Takes in the policies that other processes defined."""
        names = self._limiter.policy_names()
        if names == self._learnt:
            return
        for name in names:
            # Removed just now; or no name of ours.
            with contextlib.suppress(brim.NotFound, ValueError):
                rest = name[len(_WINDOW):]
                if name.startswith(_WINDOW):
                    self._windows.setdefault(rest, self._limiter.policy(name))
                elif name.startswith(_COUNTER):
                    self._counters.setdefault(rest, self._limiter.policy(name))
                elif name.startswith(_LOG):
                    limit, span = _limit_and_span(name)
                    kept = f"{limit}.{span}"
                    if kept not in self._logs and (
                            log := stored_log(self._limiter, _LOG + kept, limit)):
                        self._logs[kept] = log
                elif name == _LOCK:
                    self._leases = self._limiter.policy(name)
        self._learnt = names

    # --------------------------------------------------------------- elastic windows

    def _places(self, key: bytes) -> tuple[bytes, ...]:
        # The first place again at the end: between two looks the count may move to it.
        return (key,) if self._leases is None else (key, key + _OTHER, key)

    def prolong(self, window: brim.Policy, key: bytes, amount: int) -> Generator[None, None, int]:
        """Counts, and begins the window anew: in the other one of two places, so that no hit is
        lost with a process that is killed here. The larger count is the right one. A lease keeps
        calls apart; it ends with its holder. Yields while another call has it."""
        if self._leases is None:
            self._leases = define(self._limiter, _LOCK, "concurrency 1 ttl 1s")
        until = time.monotonic() + PATIENCE
        while (not (lease := self._leases.acquire_lease(key)) and not lease.decision.reason
               and time.monotonic() < until):
            yield
        with lease:
            one, other = window.peek(key), window.peek(key + _OTHER)
            here, there = _counted(window, one), _counted(window, other)
            if one.reason or other.reason:  # banned: more than any limit; or paused
                return max(here, there)
            if lease.decision.reason:  # no room for a lease: the window is not prolonged
                place = key if here >= there else key + _OTHER
                return _counted(window, window.try_acquire(place, amount))
            if not lease:
                return UNCOUNTED
            place = key + _OTHER if here >= there else key
            window.reset(place)
            total = min(max(here, there) + amount, MOST)
            return _counted(window, window.try_acquire(place, total))


def _limit_and_span(name: str) -> tuple[int, str]:
    """Of a log's or a counter's policy: "limits.mw.100.60s", of parts "limits.mw.100.60s.2.r"."""
    limit, span = name.split(".")[2:4]
    return int(limit), span


class ShmStorage(  # type: ignore[misc]
        _Calls, limits.storage.Storage, limits.storage.MovingWindowSupport):
    """`shm://NAME`."""
    STORAGE_SCHEME = ["shm"]

    def __init__(self, uri: str = "", wrap_exceptions: bool = False,
                 **options: float | str | bool) -> None:
        limits.storage.Storage.__init__(self, uri, wrap_exceptions=wrap_exceptions)
        _Calls.__init__(self, uri, options)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """What the calls raise."""
        return brim.Error, ValueError


class AsyncShmStorage(limits.aio.storage.Storage, limits.aio.storage.MovingWindowSupport):
    """`async+shm://NAME`. Only a call on an elastic window may have to wait, for another such call
    of the same key: it lets the event loop run meanwhile. Every other is done at once."""
    STORAGE_SCHEME = ["async+shm"]

    def __init__(self, uri: str = "", wrap_exceptions: bool = False,
                 **options: float | str | bool) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._calls = _Calls(uri, options)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        """What the calls raise."""
        return brim.Error, ValueError

    async def incr(self, key: str, expiry: int, elastic_expiry: bool = False,
                   amount: int = 1) -> int:
        if elastic_expiry:
            return await self._calls.incr_elastic(key, expiry, amount)
        return self._calls.incr(key, expiry, False, amount)

    async def get(self, key: str) -> int:
        return self._calls.get(key)

    async def get_expiry(self, key: str) -> float:  # type: ignore[override]
        return self._calls.get_expiry(key)

    async def check(self) -> bool:
        return self._calls.check()

    async def reset(self) -> int | None:
        return self._calls.reset()

    async def clear(self, key: str) -> None:
        self._calls.clear(key)

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        return self._calls.acquire_entry(key, limit, expiry, amount)

    async def get_moving_window(  # type: ignore[override]
            self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return self._calls.get_moving_window(key, limit, expiry)

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int,
                                           amount: int = 1) -> bool:
        return self._calls.acquire_sliding_window_entry(key, limit, expiry, amount)

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        return self._calls.get_sliding_window(key, expiry)

    async def clear_sliding_window(self, key: str, expiry: int) -> None:
        self._calls.clear_sliding_window(key, expiry)


for _base, _storage in ((limits.storage.base, ShmStorage), (limits.aio.storage.base,
                                                            AsyncShmStorage)):
    if hasattr(_base, "SlidingWindowCounterSupport"):
        _base.SlidingWindowCounterSupport.register(_storage)
