# SPDX-License-Identifier: MIT
"""Response headers of a throttle, as users of traffik write them. brim.headers has the fields of
the IETF draft, from the one decision; these are read after it."""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from .traffik_rate import StrategyStat

Resolver = Callable[[Any, StrategyStat, Mapping[str, Any] | None], str]
Condition = Callable[[Any, StrategyStat, Mapping[str, Any] | None], bool]


class Header:
    """A value, or resolver(connection, stat, context), and when to send it: 'always', 'throttled'
    (nothing is left) or condition(connection, stat, context)."""

    DISABLE: Final = '\0disabled'  # an override that takes a header away

    def __init__(self, value: str | Resolver, when: str | Condition = 'throttled') -> None:
        if isinstance(when, str) and when not in ('always', 'throttled'):
            raise ValueError(f"when is 'always', 'throttled' or a function, not {when!r}")
        self._value = value
        self._when = when

    def check(self, connection: Any, stat: StrategyStat,
              context: Mapping[str, Any] | None = None) -> bool:
        if callable(self._when):
            return self._when(connection, stat, context)
        return self._when == 'always' or stat.wait_ms > 0

    def resolve(self, connection: Any, stat: StrategyStat,
                context: Mapping[str, Any] | None = None) -> str:
        return self._value if isinstance(self._value, str) else self._value(
            connection, stat, context)

    @classmethod
    def LIMIT(cls, when: str | Condition) -> Header:
        return cls(lambda _, stat, __: str(stat.rate.limit), when)

    @classmethod
    def REMAINING(cls, when: str | Condition) -> Header:
        return cls(lambda _, stat, __: str(stat.hits_remaining), when)

    @classmethod
    def RESET_SECONDS(cls, when: str | Condition) -> Header:
        """Until one permit is there, rounded up; 'never' if no wait will help."""
        return cls(lambda _, stat, __: _whole(stat.wait_ms / 1000), when)

    @classmethod
    def RESET_MILLISECONDS(cls, when: str | Condition) -> Header:
        return cls(lambda _, stat, __: _whole(stat.wait_ms), when)


def _whole(duration: float) -> str:
    return str(math.ceil(duration)) if math.isfinite(duration) else 'never'


Headers = dict[str, Header | str]


def _defaults(when: str) -> Headers:
    return {'X-RateLimit-Limit': Header.LIMIT(when),
            'X-RateLimit-Remaining': Header.REMAINING(when),
            'X-RateLimit-Reset': Header.RESET_SECONDS(when)}


DEFAULT_HEADERS_ALWAYS: Final = _defaults('always')
DEFAULT_HEADERS_THROTTLED: Final = _defaults('throttled')


def resolve(headers: Mapping[str, Header | str], connection: Any, stat: StrategyStat | None,
            context: Mapping[str, Any] | None) -> dict[str, str]:
    """Plain texts are always sent; headers that need a stat only if there is one."""
    found: dict[str, str] = {}
    for name, header in headers.items():
        if isinstance(header, str):
            if header is not Header.DISABLE:
                found[name] = header
        elif stat is not None and header.check(connection, stat, context):
            found[name] = header.resolve(connection, stat, context)
    return found
