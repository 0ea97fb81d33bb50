# SPDX-License-Identifier: MIT
"""traffik's strategies that brim decides by itself: one policy for each (strategy, rate).

    wait_ms = await strategy(key, rate, backend, cost=1)   # 0.0: go

The wait is true: the same call passes after it if nothing else happens; inf if no wait will help.
A refused call counts nothing. `lock_config` is taken and not needed: no decision takes a lock.
"""
from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, ClassVar

import brim

from ._policies import Decision, Limit
from .traffik_backend import BrimBackend
from .traffik_rate import Rate, StrategyStat


def wait_ms(decision: Decision) -> float:
    if decision.admitted:
        return 0.0
    return decision.retry_after * 1000 or 1.0  # 0.0 would say "go"


@dataclass(frozen=True)
class _Native:
    kind: ClassVar[str]
    lock_config: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def limit(self, key: str, rate: Rate) -> Limit:
        raise NotImplementedError

    def name(self, key: str) -> str:
        """The key in the policy."""
        return key

    def verify(self, rate: Rate) -> None:
        """Raises brim.InvalidArgument if no policy of brim can say it."""
        limit = self.limit('', rate)
        if limit.algorithm != 'sliding-log':  # what brim can not hold is for the store
            brim.parse_policy(limit.text)

    async def __call__(self, key: object, rate: Rate, backend: BrimBackend,
                       cost: int = 1) -> float:
        if rate.unlimited:
            return 0.0
        text = str(key)
        return wait_ms(await backend.policies.take(self.limit(text, rate), self.name(text), cost))

    async def get_stat(self, key: object, rate: Rate, backend: BrimBackend) -> StrategyStat:
        if rate.unlimited:
            return StrategyStat(key, rate, float('inf'), 0.0)
        limit, name = self.limit(str(key), rate), self.name(str(key))
        now = await backend.policies.look(limit, name, 0)
        one = await backend.policies.look(limit, name, 1)
        return StrategyStat(key, rate, now.remaining, wait_ms(one), {'strategy': self.kind})


def _limit(algorithm: str, rate: Rate, clauses: str = '', limit: int | None = None) -> Limit:
    return Limit(algorithm, rate.limit if limit is None else limit, rate.expire * 10**6, clauses)


class FixedWindowStrategy(_Native):
    """Windows of the clock."""
    kind = 'fixed_window'

    def limit(self, key: str, rate: Rate) -> Limit:
        return _limit('fixed-window', rate)


class SlidingWindowLogStrategy(_Native):
    """Exact. Decided in brim if the segment has `cells_per_key` for the limit (at most 256), else
    in the backend's store, at some 0.1 ms a call."""
    kind = 'sliding_window_log'

    def limit(self, key: str, rate: Rate) -> Limit:
        return _limit('sliding-log', rate)


class SlidingWindowCounterStrategy(_Native):
    kind = 'sliding_window_counter'

    def limit(self, key: str, rate: Rate) -> Limit:
        return _limit('sliding-counter', rate)


def _bucket(rate: Rate, burst: int, debt: int = 0) -> Limit:
    if burst == 0:  # all there is may be owed
        burst, debt = debt, 0
    clauses = f'burst {burst}' + (f' debt {debt}' if debt else '')
    return _limit('token-bucket', rate, clauses, rate.limit if burst else 0)


@dataclass(frozen=True)
class TokenBucketStrategy(_Native):
    """`burst_size` permits at most are saved up; None: the rate's limit."""
    kind = 'token_bucket'
    burst_size: int | None = None

    def __post_init__(self) -> None:
        if self.burst_size is not None and self.burst_size < 0:
            raise ValueError('burst_size is negative')

    def limit(self, key: str, rate: Rate) -> Limit:
        return _bucket(rate, rate.limit if self.burst_size is None else self.burst_size)


@dataclass(frozen=True)
class TokenBucketWithDebtStrategy(_Native):
    """A token bucket of which `max_debt` permits may be owed."""
    kind = 'token_bucket_with_debt'
    burst_size: int | None = None
    max_debt: int = 0

    def __post_init__(self) -> None:
        if (self.burst_size is not None and self.burst_size < 0) or self.max_debt < 0:
            raise ValueError('burst_size or max_debt is negative')

    def limit(self, key: str, rate: Rate) -> Limit:
        return _bucket(rate, rate.limit if self.burst_size is None else self.burst_size,
                       self.max_debt)


class LeakyBucketStrategy(_Native):
    kind = 'leaky_bucket'

    def limit(self, key: str, rate: Rate) -> Limit:
        return _limit('leaky-bucket', rate)


class LeakyBucketWithQueueStrategy(LeakyBucketStrategy):
    """Nothing is delayed, there or here: a wait of 0 is "go". A refused call waits at least 10 ms.
    brim's own `queue` tells a call when to start."""
    kind = 'leaky_bucket_with_queue'

    def name(self, key: str) -> str:
        return f'{key}:queue'

    async def __call__(self, key: object, rate: Rate, backend: BrimBackend,
                       cost: int = 1) -> float:
        wait = await super().__call__(key, rate, backend, cost)
        return max(wait, 10.0) if wait else 0.0


@dataclass(frozen=True)
class GCRAStrategy(_Native):
    """Evenly spaced; a call is judged by what was owed before it, so that one of any cost passes
    and the next ones pay (`forward`). The tolerance is cut to whole permits."""
    kind = 'gcra'
    burst_tolerance_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.burst_tolerance_ms < 0:
            raise ValueError('burst_tolerance_ms is negative')

    def limit(self, key: str, rate: Rate) -> Limit:
        early = int(Fraction(self.burst_tolerance_ms) * rate.limit / rate.expire)
        return _limit('gcra', rate, f'burst {1 + early} forward')


@dataclass(frozen=True)
class TieredRateStrategy(_Native):
    """A fixed window whose limit is int(limit * multiplier) of the tier in the key, the text
    between `marker` and the next ':'. An unknown tier has the rate itself."""
    kind = 'tiered_rate'
    tier_multipliers: Mapping[str, float] = field(
        default_factory=lambda: {'free': 1.0, 'premium': 5.0, 'enterprise': 10.0})
    default_tier: str = 'free'
    marker: str = 'tier:'

    def __post_init__(self) -> None:
        if self.default_tier not in self.tier_multipliers:
            raise ValueError('default_tier is none of the tiers')

    def tier(self, key: str) -> str:
        return between(key, self.marker)[1] or self.default_tier

    def limit(self, key: str, rate: Rate) -> Limit:
        multiplier = self.tier_multipliers.get(self.tier(key), 1.0)
        return _limit('fixed-window', rate, limit=int(rate.limit * multiplier))

    def name(self, key: str) -> str:
        return f'{key}:{self.tier(key)}'


def between(key: str, marker: str) -> tuple[str, str, str]:
    """The key before, the text after `marker` up to the next ':', and the key after that."""
    marker = marker if marker.endswith(':') else marker + ':'
    head, _, rest = key.partition(marker)
    text, colon, tail = rest.partition(':')
    return head, text, colon + tail


FixedWindow = FixedWindowStrategy
SlidingWindowLog = SlidingWindowLogStrategy
SlidingWindowCounter = SlidingWindowCounterStrategy
TokenBucket = TokenBucketStrategy
TokenBucketWithDebt = TokenBucketWithDebtStrategy
LeakyBucket = LeakyBucketStrategy
LeakyBucketWithQueue = LeakyBucketWithQueueStrategy
GCRA = GCRAStrategy
TieredRate = TieredRateStrategy
DEFAULT_STRATEGY = FixedWindow()
