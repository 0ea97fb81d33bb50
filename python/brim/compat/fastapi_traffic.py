# SPDX-License-Identifier: MIT
"""fastapi-traffic's names over brim: a program changes its imports.
docs/guides/migrate-fastapi-traffic.md says what differs.

    from brim.compat.fastapi_traffic import BrimBackend, RateLimiter, rate_limit, set_limiter

    set_limiter(RateLimiter(BrimBackend('api')))

    @app.get('/items')
    @rate_limit(100, 60)
    async def items(request: Request): ...

Durations are seconds. Every process that names the segment shares the limits. Needs Starlette.
"""
from __future__ import annotations

import functools
import inspect
import json
import pathlib
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

import brim
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ._policies import Decision, Limit, Policies
from ._store import Store
from .fastapi_traffic_config import (
    Algorithm, BackendError, ConfigurationError, FastAPITrafficError, RateLimitConfig,
    RateLimitExceeded, RateLimitInfo, RateLimitResult, default_key_extractor,
    load_rate_limit_config)

__all__ = [
    'Algorithm', 'Backend', 'BackendError', 'BaseAlgorithm', 'BrimBackend', 'ConfigurationError',
    'FastAPITrafficError', 'GlobalConfig', 'MemoryBackend', 'RateLimitConfig',
    'RateLimitDependency', 'RateLimitExceeded', 'RateLimitInfo', 'RateLimitMiddleware',
    'RateLimitResult', 'RateLimiter', 'SQLiteBackend', 'default_key_extractor', 'get_algorithm',
    'get_limiter', 'load_rate_limit_config', 'rate_limit', 'set_limiter']

_WORDS: Final = {
    Algorithm.TOKEN_BUCKET: 'token-bucket', Algorithm.SLIDING_WINDOW: 'sliding-log',
    Algorithm.FIXED_WINDOW: 'fixed-window', Algorithm.LEAKY_BUCKET: 'leaky-bucket',
    Algorithm.SLIDING_WINDOW_COUNTER: 'sliding-counter'}
_BUCKETS: Final = (Algorithm.TOKEN_BUCKET, Algorithm.LEAKY_BUCKET)


class BrimBackend:
    """Takes the place of MemoryBackend, SQLiteBackend and RedisBackend. `options` are
    brim.Limiter.open's, for a segment that has to be made. The limits are policies of the segment;
    values (JSON objects) are kept in a store beside it. Safe in any thread and after fork()."""

    def __init__(self, segment: str = 'fastapi-traffic', *, namespace: str = 'fastapi-traffic',
                 **options: Any) -> None:
        self.policies = Policies(segment, namespace, **options)
        self.store = self.policies.store

    async def get(self, key: str) -> Any:
        value = await self.store.run(lambda rows: rows.get(key))
        return json.loads(value) if isinstance(value, str) else value

    async def set(self, key: str, value: Any, *, ttl: float) -> None:
        text = json.dumps(value)
        await self.store.run(lambda rows: rows.set(key, text, ttl))

    async def delete(self, key: str) -> None:
        await self.store.run(lambda rows: rows.delete(key))

    async def exists(self, key: str) -> bool:
        return await self.store.run(lambda rows: rows.get(key) is not None)

    async def increment(self, key: str, amount: int = 1) -> int:
        """The new value; exact among all processes."""
        return await self.store.run(lambda rows: rows.increment(key, amount))

    async def clear(self) -> None:
        """Forgets all limits and values of the namespace, for every process."""
        await self.policies.clear()

    def remove_store(self) -> None:
        """Removes the values of all namespaces of the segment, also damaged ones. Processes that
        use them go on with a new, empty store; the limits stay."""
        Store.remove(self.policies.segment)

    async def close(self) -> None:
        self.store.close()

    async def __aenter__(self) -> BrimBackend:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()


Backend = BrimBackend


class MemoryBackend(BrimBackend):
    """The segment 'fastapi-traffic' of all of this user's processes; it has its own bounds."""

    def __init__(self, max_size: int = 10000, cleanup_interval: float = 60) -> None:
        super().__init__()


class SQLiteBackend(BrimBackend):
    """The segment named as the file, which is not made. It outlives processes, not the machine:
    `brim snapshot` keeps it over that."""

    def __init__(self, db_path: str = 'rate_limits.db', **ignored: Any) -> None:
        stem = re.sub('[^A-Za-z0-9_-]', '-', pathlib.PurePath(db_path).stem)
        super().__init__(stem or 'fastapi-traffic')


class BaseAlgorithm:
    """One limit, by keys. Made by get_algorithm()."""

    def __init__(self, algorithm: Algorithm, limit: int, window_size: float, backend: BrimBackend,
                 *, burst_size: int | None = None) -> None:
        clauses = f'burst {burst_size}' if burst_size and algorithm in _BUCKETS else ''
        self.limit = limit
        self.window_size = window_size
        self._policies = backend.policies
        self._limit = Limit(_WORDS[algorithm], limit, max(1, round(window_size * 1e9)), clauses)

    def _info(self, decision: Decision) -> RateLimitInfo:
        retry = None if decision.admitted else decision.retry_after
        reset = decision.reset_after
        return RateLimitInfo(self.limit, decision.remaining, time.time() + reset, retry,
                             self.window_size)

    async def check(self, key: str, cost: int = 1) -> tuple[bool, RateLimitInfo]:
        """Takes `cost` permits, or none."""
        decision = await self._policies.take(self._limit, key, cost)
        return decision.admitted, self._info(decision)

    async def get_state(self, key: str) -> RateLimitInfo:
        """Takes nothing."""
        return self._info(await self._policies.look(self._limit, key, 0))

    async def reset(self, key: str) -> None:
        await self._policies.forget(self._limit, key)


def get_algorithm(algorithm: Algorithm, limit: int, window_size: float, backend: BrimBackend, *,
                  burst_size: int | None = None) -> BaseAlgorithm:
    return BaseAlgorithm(Algorithm(algorithm), limit, window_size, backend, burst_size=burst_size)


@dataclass(frozen=True)
class GlobalConfig:
    backend: BrimBackend | None = None
    enabled: bool = True
    default_limit: int = 100
    default_window_size: float = 60.0
    default_algorithm: Algorithm = Algorithm.SLIDING_WINDOW_COUNTER
    key_prefix: str = 'fastapi_traffic'


async def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    answer = function(*arguments)
    return await answer if inspect.isawaitable(answer) else answer


class RateLimiter:
    """Decides requests by their RateLimitConfig."""

    def __init__(self, backend: BrimBackend | None = None, *,
                 config: GlobalConfig | None = None) -> None:
        self.config = config or GlobalConfig()
        self.backend = backend or self.config.backend or MemoryBackend()
        self._algorithms: dict[tuple[Any, ...], BaseAlgorithm] = {}

    async def initialize(self) -> None:
        """Attaches the segment, or makes it; the first request would do so as well."""
        self.backend.policies.limiter.policy_names()

    async def close(self) -> None:
        await self.backend.close()

    def _algorithm(self, config: RateLimitConfig) -> BaseAlgorithm:
        name = (config.algorithm, config.limit, config.window_size, config.burst_size)
        if name not in self._algorithms:
            self._algorithms[name] = get_algorithm(*name[:3], self.backend, burst_size=name[3])
        return self._algorithms[name]

    async def _key(self, request: Request, config: RateLimitConfig) -> str:
        identifier = await _call(config.key_extractor, request)
        return f'{self.config.key_prefix}:{config.key_prefix}:{identifier}'

    async def check(self, request: Request, config: RateLimitConfig) -> RateLimitResult:
        """Takes config.cost permits, or none. Raises BackendError, unless skip_on_error."""
        free = RateLimitInfo(config.limit, config.limit, time.time(), None, config.window_size)
        if not self.config.enabled or (
                config.exempt_when is not None and await _call(config.exempt_when, request)):
            return RateLimitResult(True, free, '')
        key = await self._key(request, config)
        try:
            allowed, info = await self._algorithm(config).check(key, config.cost)
        except Exception as error:
            if config.skip_on_error:
                return RateLimitResult(True, free, key)
            raise BackendError(str(error), original_error=error) from error
        return RateLimitResult(allowed, info, key)

    async def hit(self, request: Request, config: RateLimitConfig) -> RateLimitInfo:
        """check(), and RateLimitExceeded if refused."""
        result = await self.check(request, config)
        if not result.allowed:
            if config.on_blocked is not None:
                await _call(config.on_blocked, request, result)
            raise RateLimitExceeded(
                config.error_message, retry_after=result.info.retry_after, limit_info=result.info,
                status_code=config.status_code, include_headers=config.include_headers)
        return result.info

    async def get_state(self, request: Request, config: RateLimitConfig) -> RateLimitInfo:
        return await self._algorithm(config).get_state(await self._key(request, config))

    async def reset(self, request: Request, config: RateLimitConfig) -> None:
        await self._algorithm(config).reset(await self._key(request, config))


_limiter: RateLimiter | None = None


def set_limiter(limiter: RateLimiter) -> None:
    """The limiter of decorators and dependencies in this process (and its later children)."""
    global _limiter
    _limiter = limiter


def get_limiter() -> RateLimiter:
    """The one set, else one with MemoryBackend()."""
    if _limiter is None:
        set_limiter(RateLimiter())
    assert _limiter is not None
    return _limiter


def rate_limit(limit: int, window_size: float = 60.0, **fields: Any,
               ) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates an endpoint that takes its Request; `fields` are RateLimitConfig's. A Response
    that it returns gets the headers; for other results use RateLimitMiddleware."""
    config = RateLimitConfig(limit, window_size, **fields)

    def decorate(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(endpoint)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            request = next((value for value in (*args, *kwargs.values())
                            if isinstance(value, Request)), None)
            if request is None:
                raise ConfigurationError(f'{endpoint.__name__} takes no Request')
            info = await get_limiter().hit(request, config)
            if inspect.iscoroutinefunction(endpoint):
                result = await endpoint(*args, **kwargs)
            else:
                result = await run_in_threadpool(endpoint, *args, **kwargs)
            if config.include_headers and isinstance(result, Response):
                result.headers.update(info.to_headers())
            return result
        return wrapper
    return decorate


class RateLimitDependency:
    """`info: RateLimitInfo = Depends(RateLimitDependency(100, 60))`."""

    def __init__(self, limit: int, window_size: float = 60.0, **fields: Any) -> None:
        self.config = RateLimitConfig(limit, window_size, **fields)
        self.__signature__ = inspect.Signature([inspect.Parameter(
            'request', inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=Request)])

    async def __call__(self, request: Request) -> RateLimitInfo:
        return await get_limiter().hit(request, self.config)


class RateLimitMiddleware:
    """ASGI middleware: one limit for all HTTP requests but those of `exempt_paths` and
    `exempt_ips` (addresses and networks). `fields` are RateLimitConfig's."""

    def __init__(self, app: Any, *, limit: int = 100, window_size: float = 60.0,
                 backend: BrimBackend | None = None, exempt_paths: Iterable[str] | None = None,
                 exempt_ips: Iterable[str] | None = None, key_prefix: str = 'middleware',
                 **fields: Any) -> None:
        self.app = app
        self.limiter = RateLimiter(backend)
        self.config = RateLimitConfig(limit, window_size, key_prefix=key_prefix, **fields)
        self.exempt_paths = frozenset(exempt_paths or ())
        self.exempt_ips = tuple(exempt_ips or ())
        for network in self.exempt_ips:
            brim.network_contains(network, '::')  # InvalidArgument now, not at a request

    def _exempt(self, request: Request) -> bool:
        address = request.client.host if request.client else ''
        return request.scope['path'] in self.exempt_paths or (
            brim.address_key(address) is not None
            and any(brim.network_contains(network, address) for network in self.exempt_ips))

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive) if scope['type'] == 'http' else None
        if request is None or self._exempt(request):
            await self.app(scope, receive, send)
            return
        try:
            info = await self.limiter.hit(request, self.config)
        except RateLimitExceeded as error:
            response = JSONResponse({'detail': error.message}, error.status_code,
                                    dict(error.headers or {}))
            await response(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message['type'] == 'http.response.start' and self.config.include_headers:
                MutableHeaders(scope=message).update(info.to_headers())
            await send(message)
        await self.app(scope, receive, with_headers)
