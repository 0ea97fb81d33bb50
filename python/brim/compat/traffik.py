# SPDX-License-Identifier: MIT
"""traffik's names over brim: a program changes its imports. docs/guides/migrate-traffik.md.

    from brim.compat.traffik import BrimBackend, HTTPThrottle, TokenBucket

    backend = BrimBackend('api')
    app = FastAPI(lifespan=backend.lifespan)
    throttle = HTTPThrottle('items', '100/m', strategy=TokenBucket(burst_size=150))

Needs Starlette, for the throttles; the strategies and the backend alone do not
(brim.compat.traffik_strategies, traffik_custom, traffik_backend).
"""
from __future__ import annotations

from .traffik_backend import BrimBackend, default_identifier, get_throttle_backend
from .traffik_custom import (
    AdaptiveThrottle, AdaptiveThrottleStrategy, CostBasedTokenBucket, CostBasedTokenBucketStrategy,
    Priority, PriorityQueue, PriorityQueueStrategy, QuotaWithRollover, QuotaWithRolloverStrategy,
    TimeOfDay, TimeOfDayStrategy)
from .traffik_headers import DEFAULT_HEADERS_ALWAYS, DEFAULT_HEADERS_THROTTLED, Header, Headers
from .traffik_rate import (
    EXEMPTED, UNLIMITED, BackendError, ConfigurationError, LockTimeout, Rate, StrategyStat,
    TraffikException)
from .traffik_strategies import (
    DEFAULT_STRATEGY, GCRA, FixedWindow, FixedWindowStrategy, GCRAStrategy, LeakyBucket,
    LeakyBucketStrategy, LeakyBucketWithQueue, LeakyBucketWithQueueStrategy, SlidingWindowCounter,
    SlidingWindowCounterStrategy, SlidingWindowLog, SlidingWindowLogStrategy, TieredRate,
    TieredRateStrategy, TokenBucket, TokenBucketStrategy, TokenBucketWithDebt,
    TokenBucketWithDebtStrategy)
from .traffik_throttles import (
    ConnectionThrottled, HTTPThrottle, MiddlewareThrottle, RequestThrottle, Throttle,
    ThrottleMiddleware, WebSocketThrottle, connection_throttled, get_wait, is_throttled, throttled,
    websocket_throttled)

__all__ = [
    'DEFAULT_HEADERS_ALWAYS', 'DEFAULT_HEADERS_THROTTLED', 'DEFAULT_STRATEGY', 'EXEMPTED', 'GCRA',
    'UNLIMITED', 'AdaptiveThrottle', 'AdaptiveThrottleStrategy', 'BackendError', 'BrimBackend',
    'ConfigurationError', 'ConnectionThrottled', 'CostBasedTokenBucket',
    'CostBasedTokenBucketStrategy', 'FixedWindow', 'FixedWindowStrategy', 'GCRAStrategy',
    'HTTPThrottle', 'Header', 'Headers', 'LeakyBucket', 'LeakyBucketStrategy',
    'LeakyBucketWithQueue', 'LeakyBucketWithQueueStrategy', 'LockTimeout', 'MiddlewareThrottle',
    'Priority', 'PriorityQueue', 'PriorityQueueStrategy', 'QuotaWithRollover',
    'QuotaWithRolloverStrategy', 'Rate', 'RequestThrottle', 'SlidingWindowCounter',
    'SlidingWindowCounterStrategy', 'SlidingWindowLog', 'SlidingWindowLogStrategy', 'StrategyStat',
    'Throttle', 'ThrottleMiddleware', 'TieredRate', 'TieredRateStrategy', 'TimeOfDay',
    'TimeOfDayStrategy', 'TokenBucket', 'TokenBucketStrategy', 'TokenBucketWithDebt',
    'TokenBucketWithDebtStrategy', 'TraffikException', 'WebSocketThrottle', 'connection_throttled',
    'default_identifier', 'get_throttle_backend', 'get_wait', 'is_throttled', 'throttled',
    'websocket_throttled']
