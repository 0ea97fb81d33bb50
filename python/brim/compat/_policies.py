# SPDX-License-Identifier: MIT
"""The policies that an adapter makes up for the rates that its users write."""
from __future__ import annotations

import array
import bisect
import hashlib
import math
import os
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import brim

from . import _store
from ._log import define, encode

UNITS = (('d', 86_400 * 10**9), ('h', 3600 * 10**9), ('m', 60 * 10**9), ('s', 10**9),
         ('ms', 10**6), ('us', 10**3), ('ns', 1))
LOG_MOST = 256  # what a log of brim can hold
MOST = 2**32 - 1  # brim's largest limit
CHUNK = 256  # events of a row of a log in the store


@dataclass(frozen=True)
class Limit:
    """One rate: `algorithm` and `clauses` are words of brim's policies. limit 0 refuses all."""
    algorithm: str
    limit: int
    period_ns: int
    clauses: str = ''

    @property
    def text(self) -> str:
        if self.limit <= 0:
            return 'deny'
        unit, size = next((u, n) for u, n in UNITS if self.period_ns % n == 0)
        count = self.period_ns // size
        return f'{self.algorithm} {self.limit}/{count}{unit} {self.clauses}'.strip()


@dataclass(frozen=True)
class Answer:
    """What was decided without brim; the names are brim.Decision's."""
    admitted: bool
    remaining: int
    retry_after: float = 0.0
    reset_after: float = 0.0


Decision = brim.Decision | Answer


class Policies:
    """The policies of one namespace in a segment, each defined on its first use. The segment is
    attached, or made with `options` (see brim.Limiter.open), on the first use as well."""

    def __init__(self, segment: str, namespace: str, **options: Any) -> None:
        self.segment = segment
        self._options: dict[str, Any] = {'accept_stored': True, 'max_policies': 256, **options}
        self._limiter: brim.Limiter | None = None
        self._resets: brim.Policy | None = None
        self._reset = 0
        self._policies: dict[Limit, brim.Policy | None] = {}
        # A policy's name has 47 characters: some to read, and a hash that tells them apart.
        digest = hashlib.sha256(encode(namespace)).hexdigest()
        self._prefix = f'{re.sub("[^A-Za-z0-9]+", "-", namespace)[:16]}-{digest[:6]}.'
        self.store = _store.Store(segment, namespace)

    @property
    def limiter(self) -> brim.Limiter:
        if self._limiter is None:
            self._limiter = brim.Limiter.open(self.segment, **self._options)
        return self._limiter

    def policy(self, limit: Limit) -> brim.Policy | None:
        """None for a log that has no room in the segment: it is kept in the store."""
        if limit not in self._policies:
            self._policies[limit] = self._define(limit)
        return self._policies[limit]

    def _define(self, limit: Limit) -> brim.Policy | None:
        name = re.sub('[^A-Za-z0-9]+', '-', limit.text)
        if len(name) > 23:
            name = f'{name[:14]}-{hashlib.sha256(encode(limit.text)).hexdigest()[:8]}'
        is_log = limit.algorithm == 'sliding-log'
        if is_log and limit.limit > LOG_MOST:
            return None
        try:
            return define(self.limiter, self._prefix + name, limit.text)
        except brim.Error as error:
            if is_log and error.name == 'too_few_cells':
                return None
            raise

    def _name(self, key: str) -> bytes:
        """The key as of the last clear(): not every policy can forget all its keys at once, but
        all keys can get another name. Its number is the limit of a policy that never has a key,
        less 1: nothing evicts that, and to read it is a peek."""
        seen = self._cleared().peek(b'')
        if seen.remaining:
            self._reset = seen.remaining - 1
        return encode(f'{key}\0{self._reset}' if self._reset else key)

    def _cleared(self) -> brim.Policy:
        if self._resets is None:
            self._resets = define(self.limiter, self._prefix + 'resets', 'fixed-window 1/100y')
        return self._resets

    async def take(self, limit: Limit, key: str, cost: int) -> Decision:
        """Takes `cost` permits of the key, or none."""
        policy = self.policy(limit)
        if policy is not None:
            return policy.try_acquire(self._name(key), cost)
        return await self.store.run(lambda rows: log(rows, limit, key, cost, True))

    async def look(self, limit: Limit, key: str, cost: int) -> Decision:
        """What take() would answer now. With cost 0, `remaining` is what is there."""
        policy = self.policy(limit)
        if policy is not None:
            return policy.peek(self._name(key), cost)
        return await self.store.run(lambda rows: log(rows, limit, key, cost, False))

    async def forget(self, limit: Limit, key: str) -> None:
        policy = self.policy(limit)
        if policy is not None:
            policy.reset(self._name(key))
        else:
            await self.store.run(lambda rows: rows.delete(log_key(limit, key)))

    async def clear(self) -> None:
        """All keys of the namespace are as if never seen, its stored values are gone: those first,
        so that an error leaves the keys. A store that is not there or another user's has none."""
        if os.path.isdir(self.store.directory):
            try:
                await self.store.run(lambda rows: rows.clear())
            except PermissionError:
                pass
        self._cleared()
        # Not one more than before: two that clear at once would lead back to the old keys.
        self.limiter.change(self._prefix + 'resets',
                            f'fixed-window {random.randint(2, MOST)}/100y')


def log_key(limit: Limit, key: str) -> str:
    return f'brim:log:{limit.text}:{key}'


def _numbers(rows: _store.Rows, name: str) -> array.array[int]:
    numbers = array.array('q')
    kept = rows.get(name)
    if isinstance(kept, bytes):
        numbers.frombytes(kept)
    return numbers


def log(rows: _store.Rows, limit: Limit, key: str, cost: int, take: bool,
        now_ns: Callable[[], int] = time.monotonic_ns) -> Answer:
    """A sliding log in the store: exactly brim's rule (an event one period old has left), for
    limits that its cells do not hold. 16 bytes an event, in rows of CHUNK events (time, cost, time
    ...), and a row that has the number of the first of them, and the last time and total of each:
    a call reads and writes that one and no more than two of the others."""
    now = now_ns()
    name = log_key(limit, key)
    old = now - limit.period_ns

    def events(number: int) -> list[tuple[int, int]]:
        row = _numbers(rows, f'{name}\0{number}')
        return list(zip(row[0::2], row[1::2]))
    head = _numbers(rows, name)
    gone = bisect.bisect_right(head[1::2], old)
    first = (head[0] if head else 0) + gone
    lasts, totals = head[1 + 2 * gone::2], head[2 + 2 * gone::2]
    live = totals[:]
    if live:
        live[0] -= sum(taken for at, taken in events(first) if at <= old)
    used = sum(live)
    reset = (lasts[-1] + limit.period_ns - now) / 1e9 if lasts else 0.0
    if cost > limit.limit:
        return Answer(False, limit.limit - used, math.inf, reset)
    if used + cost > limit.limit:
        over = used + cost - limit.limit
        for number, total in enumerate(live, first):
            if over > total:
                over -= total
                continue
            for at, freed in events(number):
                over -= freed if at > old else 0
                if over <= 0:
                    return Answer(False, limit.limit - used, (at + limit.period_ns - now) / 1e9,
                                  reset)
    if not take or cost == 0:
        return Answer(True, limit.limit - used - cost, 0.0, reset)
    _append(rows, name, first, lasts, totals, now, cost, limit.period_ns / 1e9 + 1)
    for number in range(first - gone, first):
        rows.delete(f'{name}\0{number}')
    return Answer(True, limit.limit - used - cost, 0.0, limit.period_ns / 1e9)


def _append(rows: _store.Rows, name: str, first: int, lasts: array.array[int],
            totals: array.array[int], now: int, cost: int, keep_s: float) -> None:
    at = max(now, lasts[-1]) if lasts else now
    row = _numbers(rows, f'{name}\0{first + len(lasts) - 1}') if lasts else array.array('q')
    if not lasts or len(row) >= 2 * CHUNK:
        row = array.array('q')
        lasts.append(at)
        totals.append(0)
    row.extend((at, cost))
    lasts[-1], totals[-1] = at, totals[-1] + cost
    head = array.array('q', [first, *(n for pair in zip(lasts, totals) for n in pair)])
    rows.set(f'{name}\0{first + len(lasts) - 1}', row.tobytes(), keep_s)
    rows.set(name, head.tobytes(), keep_s)
