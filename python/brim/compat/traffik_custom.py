# SPDX-License-Identifier: MIT
"""traffik's strategies whose state is none of brim's: it is kept in the backend's store, and each
call is one transaction there (some 0.1 ms, in a thread). docs/guides/migrate-traffik.md says what
brim has instead of each."""
from __future__ import annotations

import array
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, ClassVar

from ._store import Rows
from .traffik_backend import BrimBackend
from .traffik_rate import Rate, StrategyStat
from .traffik_strategies import between

HOUR_NS = 3600 * 10**9

# (wait in ms, permits left)
Step = tuple[float, float]


class _Undo(Exception):
    """Ends a transaction without its effects."""


@dataclass(frozen=True)
class _Stored:
    kind: ClassVar[str]
    clock: ClassVar[Callable[[], int]] = time.time_ns
    lock_config: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def step(self, rows: Rows, key: str, rate: Rate, cost: int, now: int) -> Step:
        """Decides and counts; with cost 0 only looks. `now` is in ns."""
        raise NotImplementedError

    async def __call__(self, key: object, rate: Rate, backend: BrimBackend,
                       cost: int = 1) -> float:
        if rate.unlimited or cost == 0:
            return 0.0
        text = str(key)
        wait, _ = await backend.run(
            lambda rows: self.step(rows, text, rate, cost, type(self).clock()))
        return wait

    async def get_stat(self, key: object, rate: Rate, backend: BrimBackend) -> StrategyStat:
        if rate.unlimited:
            return StrategyStat(key, rate, math.inf, 0.0)
        text = str(key)
        seen: list[Step] = []

        def look(rows: Rows) -> None:
            now = type(self).clock()
            seen.clear()  # a full store calls it twice
            seen.append(self.step(rows, text, rate, 0, now))
            seen.append(self.step(rows, text, rate, 1, now))
            raise _Undo
        try:
            await backend.run(look)
        except _Undo:
            pass
        return StrategyStat(key, rate, seen[0][1], seen[1][0], {'strategy': self.kind})

    def name(self, key: str, rate: Rate) -> str:
        """The row: one for each period, in which the state counts."""
        return f'{self.kind}:{rate.expire}:{key}'

    def load(self, rows: Rows, key: str, rate: Rate) -> list[Any]:
        kept = rows.get(self.name(key, rate))
        return list(json.loads(kept)) if isinstance(kept, str) else []

    def save(self, rows: Rows, key: str, rate: Rate, state: Sequence[float],
             keep_s: float) -> None:
        rows.set(self.name(key, rate), json.dumps(state), keep_s)


def _window(now: int, rate: Rate, kept: Sequence[Any]) -> tuple[int, float, float]:
    """This window's number (a clock that was set back does not bring an old one again), the ms
    until it ends, and how long to keep its state in seconds."""
    period = rate.expire * 10**6
    window = max(now // period, int(kept[0])) if kept else now // period
    return window, ((window + 1) * period - now) / 1e6, 2 * period / 1e9 + 1


def _next_hours(now: int) -> list[int]:
    return [(now // HOUR_NS + number) * HOUR_NS for number in range(1, 25)]


def _fraction(**values: float) -> None:
    for name, value in values.items():
        if not 0.0 < value < 1.0:
            raise ValueError(f'{name} must lie between 0 and 1')


@dataclass(frozen=True)
class AdaptiveThrottleStrategy(_Stored):
    """A window of the clock whose limit every call above `load_threshold` of it reduces; it
    recovers window by window. Refused calls are load and count. A cost is refused for ever, with
    the wait inf, if it would be refused from idle."""
    kind = 'adaptive'
    load_threshold: float = 0.8
    reduction_factor: float = 0.6
    recovery_rate: float = 0.1
    min_limit_ratio: float = 0.3

    def __post_init__(self) -> None:
        _fraction(load_threshold=self.load_threshold, reduction_factor=self.reduction_factor,
                  recovery_rate=self.recovery_rate, min_limit_ratio=self.min_limit_ratio)

    def step(self, rows: Rows, key: str, rate: Rate, cost: int, now: int) -> Step:
        kept = self.load(rows, key, rate)
        window, wait, keep = _window(now, rate, kept)
        count, limit = 0, float(rate.limit)
        if kept and kept[0] == window:
            count, limit = kept[1:]
        elif kept and kept[0] == window - 1:
            limit = min(limit, kept[2] + rate.limit * self.recovery_rate)
        count += cost
        if cost:
            limit = self._reduced(rate, count, limit)
        if cost:
            self.save(rows, key, rate, [window, count, limit], keep)
        left = max(0, int(limit) - count)
        if count <= limit:
            return 0.0, left
        recovered = min(rate.limit, limit + rate.limit * self.recovery_rate)
        if cost <= self._reduced(rate, cost, recovered):
            return wait, left
        # A window later nothing is known of the load.
        idle = cost <= self._reduced(rate, cost, rate.limit)
        return wait + rate.expire if idle else math.inf, left

    def _reduced(self, rate: Rate, count: int, limit: float) -> float:
        """The limit after a call that made the count."""
        if count / limit <= self.load_threshold:
            return limit
        return max(rate.limit * self.min_limit_ratio, limit * self.reduction_factor)


@dataclass(frozen=True)
class QuotaWithRolloverStrategy(_Stored):
    """A window of the clock; a share of what the one before left is added to its limit. A window
    in which nothing was admitted leaves nothing."""
    kind = 'quota'
    rollover_percentage: float = 0.5
    max_rollover: int = 500

    def __post_init__(self) -> None:
        if not 0.0 <= self.rollover_percentage <= 1.0 or self.max_rollover < 0:
            raise ValueError('rollover_percentage must lie in 0 to 1, max_rollover not below 0')

    def step(self, rows: Rows, key: str, rate: Rate, cost: int, now: int) -> Step:
        kept = self.load(rows, key, rate)
        window, wait, keep = _window(now, rate, kept)
        used, rollover = 0, 0
        if kept and kept[0] == window:
            used, rollover = kept[1:]
        elif kept and kept[0] == window - 1:
            rollover = self._rollover(rate, kept[1])
        left = rate.limit + rollover - used
        if cost > left:
            # After this window there is its share, and then never one again.
            most = rate.limit + (self._rollover(rate, used) if used else 0)
            return wait if cost <= most else math.inf, left
        if cost:
            self.save(rows, key, rate, [window, used + cost, rollover], keep)
        return 0.0, left - cost

    def _rollover(self, rate: Rate, used: int) -> int:
        return min(self.max_rollover, int(max(0, rate.limit - used) * self.rollover_percentage))


@dataclass(frozen=True)
class TimeOfDayStrategy(_Stored):
    """A window of the clock with the limit int(limit * multiplier) of the first (start, end,
    multiplier) in `time_windows` that the hour of the day is in, else the rate's. The hour is
    UTC's and `timezone_offset` hours. The count goes on when the hour changes the limit."""
    kind = 'time_of_day'
    time_windows: Sequence[tuple[int, int, float]] = (
        (0, 8, 2.0), (8, 17, 1.0), (17, 24, 1.5))
    timezone_offset: int = 0

    def __post_init__(self) -> None:
        if not self.time_windows or not -12 <= self.timezone_offset <= 14:
            raise ValueError('time_windows is empty, or timezone_offset not in -12 to 14')
        for start, end, multiplier in self.time_windows:
            if not 0 <= start < end <= 24 or multiplier <= 0:
                raise ValueError(f'not hours and a multiplier: {start, end, multiplier}')

    def step(self, rows: Rows, key: str, rate: Rate, cost: int, now: int) -> Step:
        kept = self.load(rows, key, rate)
        window, wait, keep = _window(now, rate, kept)
        count = kept[1] if kept and kept[0] == window else 0
        left = self._limit(rate, now) - count
        if cost > left:
            # The limit changes with the hours of a day, the count ends with the window.
            over = now + round(wait * 1e6)
            for at in sorted({*_next_hours(now), over, *_next_hours(over)}):
                if cost <= self._limit(rate, at) - (count if at < over else 0):
                    return (at - now) / 1e6, max(0, left)
            return math.inf, max(0, left)
        if cost:
            self.save(rows, key, rate, [window, count + cost], keep)
        return 0.0, max(0, left - cost)

    def _limit(self, rate: Rate, at: int) -> int:
        hour = (at // HOUR_NS + self.timezone_offset) % 24
        multiplier = next((m for start, end, m in self.time_windows if start <= hour < end), 1.0)
        return int(rate.limit * multiplier)


@dataclass(frozen=True)
class CostBasedTokenBucketStrategy(_Stored):
    """A token bucket that refills slower while the last `cost_window` admitted calls were dear:
    times 1/(their mean cost), not below `min_refill_rate`."""
    kind = 'cost_bucket'
    clock = time.monotonic_ns
    burst_size: int | None = None
    cost_window: int = 100
    min_refill_rate: float = 0.5

    def step(self, rows: Rows, key: str, rate: Rate, cost: int, now: int) -> Step:
        capacity = rate.limit if self.burst_size is None else self.burst_size
        kept = self.load(rows, key, rate)
        tokens, since, costs = float(capacity), now, list(kept[2:])
        speed = self._speed(rate, costs)
        if kept:
            tokens = min(float(capacity), kept[0] + max(0, now - kept[1]) * speed)
        if cost > capacity:
            return math.inf, int(tokens)
        if cost > tokens:
            return (cost - tokens) / speed / 1e6, int(tokens)
        if cost:
            costs = [*costs, cost][-self.cost_window:]
            # Once it is full again the past is forgotten.
            keep = capacity / self._speed(rate, costs) / 1e9 + 1
            self.save(rows, key, rate, [tokens - cost, since, *costs], keep)
        return 0.0, int(tokens - cost)

    def _speed(self, rate: Rate, costs: Sequence[float]) -> float:
        """Permits a ns."""
        speed = rate.limit / (rate.expire * 10**6)
        return speed * max(self.min_refill_rate, len(costs) / sum(costs)) if costs else speed


class Priority(IntEnum):
    LOW = 1
    NORMAL = 2
    HIGH = 3
    CRITICAL = 4


@dataclass(frozen=True)
class PriorityQueueStrategy(_Stored):
    """A sliding log in which a call sees the calls of its own level and above: the text between
    `marker` and the next ':' of the key is the level, 1 to 4. All levels of a key together may
    pass 4 times the limit. `max_queue_size` is taken and not needed: the limit bounds the log."""
    kind = 'priority'
    clock = time.monotonic_ns
    default_priority: Priority = Priority.NORMAL
    max_queue_size: int = 1000
    marker: str = 'priority:'

    def __post_init__(self) -> None:
        if self.max_queue_size <= 0:
            raise ValueError('max_queue_size must be positive')

    def priority(self, key: str) -> tuple[Priority, str]:
        """The level, and the key without it."""
        head, level, tail = between(key, self.marker)
        try:
            return Priority(int(level)), head + tail
        except ValueError:
            return self.default_priority, head + tail if level else key

    def step(self, rows: Rows, key: str, rate: Rate, cost: int, now: int) -> Step:
        level, key = self.priority(key)
        period = rate.expire * 10**6
        kept = rows.get(f'{self.kind}:{key}')
        log = array.array('q')  # time, level, cost, time ...
        log.frombytes(kept if isinstance(kept, bytes) else b'')
        calls = [call for call in zip(log[0::3], log[1::3], log[2::3]) if call[0] > now - period]
        seen = [(at, taken) for at, other, taken in calls if other >= level]
        left = rate.limit - sum(taken for _, taken in seen)
        if cost > rate.limit:
            return math.inf, left
        if cost > left:
            over = cost - left
            for at, taken in seen:
                over -= taken
                if over <= 0:
                    return (at + period - now) / 1e6, left
        if cost:
            calls.append((now, int(level), cost))
            log = array.array('q', (number for call in calls for number in call))
            rows.set(f'{self.kind}:{key}', log.tobytes(), period / 1e9 + 1)
        return 0.0, left - cost


AdaptiveThrottle = AdaptiveThrottleStrategy
QuotaWithRollover = QuotaWithRolloverStrategy
TimeOfDay = TimeOfDayStrategy
CostBasedTokenBucket = CostBasedTokenBucketStrategy
PriorityQueue = PriorityQueueStrategy
