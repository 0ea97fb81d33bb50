# SPDX-License-Identifier: MIT
"""What is configured, answered and raised in brim.compat.fastapi_traffic."""
from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from brim.keys import AsgiRequest, by_address
from starlette.exceptions import HTTPException
from starlette.requests import Request

_peer: Final = by_address()


class Algorithm(str, Enum):
    TOKEN_BUCKET = 'token_bucket'
    SLIDING_WINDOW = 'sliding_window'
    FIXED_WINDOW = 'fixed_window'
    LEAKY_BUCKET = 'leaky_bucket'
    SLIDING_WINDOW_COUNTER = 'sliding_window_counter'


@dataclass(frozen=True)
class RateLimitInfo:
    """What the decision said. `reset_at` is a time.time(): when the key is as if never seen.
    `retry_after` is None if the request passed, inf if no wait will help."""
    limit: int
    remaining: int
    reset_at: float
    retry_after: float | None = None
    window_size: float | None = None

    def to_headers(self) -> dict[str, str]:
        """X-RateLimit-Limit, -Remaining, -Reset (time of day), and Retry-After, rounded up."""
        headers = {'X-RateLimit-Limit': str(self.limit),
                   'X-RateLimit-Remaining': str(self.remaining),
                   'X-RateLimit-Reset': str(math.ceil(self.reset_at))}
        if self.retry_after is not None and math.isfinite(self.retry_after):
            headers['Retry-After'] = str(max(1, math.ceil(self.retry_after)))
        return headers


@dataclass(frozen=True)
class RateLimitResult:
    allowed: bool
    info: RateLimitInfo
    key: str


class FastAPITrafficError(Exception):
    """Base of the exceptions here."""


class RateLimitExceeded(FastAPITrafficError, HTTPException):
    """Without a handler for it the response is `status_code` with the headers of `limit_info`."""

    def __init__(self, message: str = 'Rate limit exceeded', *, retry_after: float | None = None,
                 limit_info: RateLimitInfo | None = None, status_code: int = 429,
                 include_headers: bool = True) -> None:
        headers = limit_info.to_headers() if limit_info and include_headers else None
        HTTPException.__init__(self, status_code, message, headers)
        self.message = message
        self.retry_after = retry_after
        self.limit_info = limit_info


class BackendError(FastAPITrafficError):
    def __init__(self, message: str = 'Backend operation failed', *,
                 original_error: Exception | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.original_error = original_error


class ConfigurationError(FastAPITrafficError):
    """What was configured can not work."""


def default_key_extractor(request: Request) -> str:
    """The client's address as the server sees it. No header is trusted: behind a proxy use
    brim.keys.by_address(trusted_proxies=[...])."""
    return str(_peer(AsgiRequest(request.scope)))


@dataclass(frozen=True)
class RateLimitConfig:
    limit: int
    window_size: float = 60.0
    algorithm: Algorithm = Algorithm.SLIDING_WINDOW_COUNTER
    key_prefix: str = 'ratelimit'
    key_extractor: Callable[[Request], Any] = default_key_extractor
    burst_size: int | None = None
    include_headers: bool = True
    error_message: str = 'Rate limit exceeded'
    status_code: int = 429
    skip_on_error: bool = False
    cost: int = 1
    exempt_when: Callable[[Request], Any] | None = None
    on_blocked: Callable[[Request, Any], Any] | None = None

    def __post_init__(self) -> None:
        if self.limit <= 0 or self.window_size <= 0 or self.cost <= 0:
            raise ValueError('limit, window_size and cost must be positive')
        if self.burst_size is not None and self.burst_size <= 0:
            raise ValueError('burst_size must be positive')
        object.__setattr__(self, 'algorithm', Algorithm(self.algorithm))


def load_rate_limit_config(path: str | os.PathLike[str] | None = None, *,
                           environ: Mapping[str, str] = os.environ,
                           prefix: str = 'FASTAPI_TRAFFIC_RATE_LIMIT_',
                           **overrides: Any) -> RateLimitConfig:
    """Fields from a JSON object in a file, over them from PREFIX and the field's name in capitals
    in the environment, over them `overrides`. An unknown field in the file is an error."""
    values: dict[str, Any] = {}
    if path is not None:
        values = json.loads(pathlib.Path(path).read_text())
    for field in dataclasses.fields(RateLimitConfig):
        text = environ.get(prefix + field.name.upper())
        if text is not None:
            values[field.name] = _read(field.name, text)
    try:
        return RateLimitConfig(**{**values, **overrides})
    except (TypeError, ValueError) as error:
        raise ConfigurationError(str(error)) from error


def _read(name: str, text: str) -> Any:
    if name in ('include_headers', 'skip_on_error'):
        if text.lower() not in ('true', 'false', '1', '0'):
            raise ConfigurationError(f'{name} is true or false, not {text!r}')
        return text.lower() in ('true', '1')
    if name in ('key_prefix', 'error_message', 'algorithm'):
        return text
    if name not in ('limit', 'window_size', 'burst_size', 'status_code', 'cost'):
        raise ConfigurationError(f'{name} is a function: give it in the program')
    try:
        return float(text) if name == 'window_size' else int(text)
    except ValueError as error:
        raise ConfigurationError(f'{name} is a number, not {text!r}') from error
