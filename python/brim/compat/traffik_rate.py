# SPDX-License-Identifier: MIT
"""Rates, and what is said of a key, as users of traffik write them."""
from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

UNITS: Final = {name: milliseconds for names, milliseconds in (
    ('ms millisecond milliseconds', 1),
    ('s sec second seconds', 1000),
    ('m min minute minutes', 60_000),
    ('h hr hour hours', 3_600_000),
    ('d day days', 86_400_000),
) for name in names.split()}


class _Exempted:
    def __repr__(self) -> str:
        return 'EXEMPTED'


# An identifier that returns this lets the connection pass uncounted.
EXEMPTED: Final = _Exempted()
UNLIMITED: Final = EXEMPTED


@dataclass(frozen=True, init=False)
class Rate:
    """`limit` permits in `expire` milliseconds; both 0: unlimited. Immutable."""
    limit: int
    expire: int

    def __init__(self, *, limit: int = 0, milliseconds: int = 0, seconds: int = 0,
                 minutes: int = 0, hours: int = 0) -> None:
        expire = milliseconds + 1000 * seconds + 60_000 * minutes + 3_600_000 * hours
        if limit < 0 or expire < 0:
            raise ValueError('a rate has no negative parts')
        if (limit == 0) != (expire == 0):
            raise ValueError('a limit needs a period and a period a limit; unlimited has neither')
        object.__setattr__(self, 'limit', limit)
        object.__setattr__(self, 'expire', expire)

    @classmethod
    def parse(cls, rate: str) -> Rate:
        """Reads '100/m', '5/10s', '1000/500ms', '10 per 2 minutes', and '0/0' for unlimited."""
        text = str(rate).strip().lower()
        if re.fullmatch(r'0\s*/\s*0', text):
            return cls()
        parts = re.fullmatch(r'([\d_]+)\s*(?:/|per)\s*(\d+)?\s*([a-z]+)', text)
        if parts is None or parts[3] not in UNITS:
            raise ValueError(f'not a rate: {rate!r}; write LIMIT/[N]UNIT, such as 100/m or 5/10s')
        count = 1 if parts[2] is None else int(parts[2])
        if count == 0:
            raise ValueError(f'a period of 0: {rate!r}')
        return cls(limit=int(parts[1]), milliseconds=count * UNITS[parts[3]])

    @property
    def unlimited(self) -> bool:
        return self.limit == 0

    @property
    def is_subsecond(self) -> bool:
        return self.expire < 1000

    def _per(self, milliseconds: int) -> float:
        return math.inf if self.unlimited else self.limit * milliseconds / self.expire

    @property
    def rps(self) -> float:
        return self._per(1000)

    @property
    def rpm(self) -> float:
        return self._per(60_000)

    @property
    def rph(self) -> float:
        return self._per(3_600_000)

    @property
    def rpd(self) -> float:
        return self._per(86_400_000)


@dataclass(frozen=True)
class StrategyStat:
    """What a key has left, without taking anything."""
    key: Any
    rate: Rate
    hits_remaining: float
    wait_ms: float  # until one permit is there; inf: never
    metadata: Mapping[str, Any] | None = None


class TraffikException(Exception):
    """Base of the exceptions here that are no HTTP responses."""


class ConfigurationError(TraffikException):
    """A throttle was set up in a way that can not work."""


class BackendError(TraffikException):
    """The backend could not do what was asked."""


class LockTimeout(BackendError, TimeoutError):
    """A lock was not free in time."""
