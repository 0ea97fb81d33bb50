# SPDX-License-Identifier: MIT
"""The HTTP fields that tell a client of its limits, from one decision. docs/reference/http.md.

`RateLimit-Policy` and `RateLimit` are Structured Fields (RFC 9651) as in
draft-ietf-httpapi-ratelimit-headers-11: Lists of Strings with Integer parameters. The serialisers
here are strict: what they can not say they refuse, rather than send a field that does not parse.
Plain functions and immutable values: safe in any thread and after fork().
"""
from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Final, Literal, TypeAlias

from brim import NEVER_NS, Decision, Policy, Rate, Reason, Verdict

Fields: TypeAlias = list[tuple[str, str]]
Legacy: TypeAlias = Literal['off', 'delta', 'epoch']

LEGACY: Final[tuple[Legacy, ...]] = ('off', 'delta', 'epoch')
# What a script of another origin may read only if the server lists it in
# Access-Control-Expose-Headers.
EXPOSED: Final = ('RateLimit', 'RateLimit-Policy', 'Retry-After',
                  'X-RateLimit-Limit', 'X-RateLimit-Remaining', 'X-RateLimit-Reset')

_SECOND_NS: Final = 1_000_000_000
_MOST: Final = 999_999_999_999_999  # of an sf-integer
_KEY_START: Final = frozenset('abcdefghijklmnopqrstuvwxyz*')
_KEY_REST: Final = _KEY_START | frozenset('0123456789_-.')
_FIELD_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_FIELD_VALUE: Final = re.compile(r'[\t\x20-\x7e\x80-\xff]*')
_CALENDAR_S: Final = {'hour': 3600, 'day': 86400, 'week': 604800}  # the others vary
# As ints: half the time of a comparison.
_DENIED: Final = int(Verdict.DENIED)
_ALLOWED: Final = int(Verdict.ALLOWED)
_NONE: Final = int(Reason.NONE)


def string(text: str) -> str:
    """An sf-string. ValueError unless the text is printable ASCII."""
    if not (text.isascii() and text.isprintable()):
        raise ValueError(f'not printable ASCII, so no structured field can say it: {text!r}')
    return '"' + text.replace('\\', '\\\\').replace('"', '\\"') + '"'


def integer(value: int) -> str:
    """An sf-integer. ValueError beyond 15 digits."""
    if not -_MOST <= value <= _MOST:
        raise ValueError(f'more than 15 digits: {value}')
    return str(int(value))


def item(name: str, parameters: Mapping[str, int | str]) -> str:
    """An sf-item: a String with parameters, in the order given."""
    text = string(name)
    for key, value in parameters.items():
        if not key or key[0] not in _KEY_START or not _KEY_REST.issuperset(key):
            raise ValueError(f'no key of a structured field: {key!r}')
        text += f';{key}={string(value) if isinstance(value, str) else integer(value)}'
    return text


def sendable(name: object, value: object) -> bool:
    """Whether a server can send this field as it is, RFC 9110: nothing that ends a line in it."""
    return (isinstance(name, str) and _FIELD_NAME.fullmatch(name) is not None and
            isinstance(value, str) and _FIELD_VALUE.fullmatch(value) is not None)


def whole_seconds(duration_ns: int) -> int:
    """Rounded up."""
    return -(-duration_ns // _SECOND_NS)


def retry_after(duration_ns: int, least_s: float = 0.0) -> int | None:
    """The value of Retry-After: seconds rounded up, at least 1 and `least_s`; None for NEVER."""
    if duration_ns >= NEVER_NS:
        return None
    return max(1, whole_seconds(duration_ns), whole_seconds(round(least_s * _SECOND_NS)))


def _window_s(rate: Rate) -> int | None:
    """The window in whole seconds; None if no whole number says it."""
    if rate.calendar:
        return _CALENDAR_S.get(rate.calendar)
    seconds, rest = divmod(rate.period_ns, _SECOND_NS)
    return seconds if seconds > 0 and rest == 0 else None


def _settled_s(rate: Rate) -> int | None:
    """Seconds after which a key is as if never seen, whatever it took; None if not known."""
    if rate.calendar:
        return _CALENDAR_S.get(rate.calendar)
    if rate.algorithm == 'sliding-counter':
        return whole_seconds(2 * rate.period_ns)
    if rate.algorithm in ('fixed-window', 'sliding-log'):
        return whole_seconds(rate.period_ns)
    if rate.limit == 0:
        return None
    most = (rate.burst + 1 if rate.algorithm == 'queue' else rate.burst or rate.limit) + rate.debt
    return whole_seconds(-(-most * rate.period_ns // rate.limit))


class Described:
    """What the fields say of a policy, made once for many responses. A policy of one rate goes by
    its name; the rates of "10/s; 1000/h" are "NAME/1" and "NAME/2": no policy is called so."""

    __slots__ = ('name', 'names', 'quoted', 'quoted_rates', 'members', 'quotas', 'settled')

    def __init__(self, policy: Policy) -> None:
        rates = [rate for rate in policy.rates if rate.algorithm != 'unlimited']
        several = len(rates) > 1
        forward = ' forward' in policy.text  # may owe more than the burst
        self.name: Final = policy.name
        self.names: Final = tuple(f'{policy.name}/{i + 1}' if several else policy.name
                                  for i in range(len(rates)))
        self.quoted: Final = string(policy.name)
        self.quoted_rates: Final = tuple(map(string, self.names))
        self.members: Final = ', '.join(map(_member, self.names, rates))
        self.quotas: Final = tuple(rate.limit for rate in rates)
        self.settled: Final = tuple(None if forward else _settled_s(rate) for rate in rates)


def _member(name: str, rate: Rate) -> str:
    parameters: dict[str, int | str] = {'q': rate.limit}
    if rate.algorithm == 'concurrency':
        parameters['qu'] = 'concurrent-requests'
    elif rate.algorithm != 'deny' and (window := _window_s(rate)) is not None:
        parameters['w'] = window
    return item(name, parameters)


def policy_field(policies: Sequence[Described]) -> str:
    """The value of RateLimit-Policy, each policy once; '' if there is nothing to say."""
    return ', '.join(dict.fromkeys(one.members for one in policies if one.members))


def binding(decision: Decision, policies: Sequence[Described]) -> tuple[Described, int | None]:
    """The policy that the decision on all of `policies` is about, and which of its rates; None if
    that is not known: a decision on several policies does not tell the rate."""
    part = decision.part
    if len(policies) > 1:
        one = policies[part if part < len(policies) else 0]
        return one, 0 if len(one.names) == 1 else None
    one = policies[0]
    # An override may have put another policy in the place of this one.
    return one, part if part < len(one.names) else None


def _settled(policy: Described, rate: int | None) -> int | None:
    if rate is not None:
        return policy.settled[rate]
    return None if None in policy.settled else max(filter(None, policy.settled), default=None)


def fields(decision: Decision, policies: Sequence[Described], *, policy_line: str | None = None,
           legacy: Legacy = 'off', least_retry_after: float = 0.0) -> Fields:
    """The fields of a response, from the decision on all of `policies`, in the order asked.

    `policy_line`: the value of RateLimit-Policy, if it is at hand. Empty where the decision says
    nothing of the limits: brim could not decide, the key is exempt or in shadow, all is paused.
    """
    admitted, verdict = decision.admitted, decision.verdict
    if verdict != (_ALLOWED if admitted else _DENIED) or (admitted and decision.reason != _NONE):
        return []
    about, rate = binding(decision, policies)
    after = (whole_seconds(decision.reset_after_ns) if admitted
             else retry_after(decision.retry_after_ns))
    told = after
    if admitted and after is not None and (len(policies) > 1 or len(about.names) > 1):
        # The decision tells when all are settled. This one is so before, if that is longer than it
        # ever takes; how long it takes is not known: a factor or an override may be in force.
        settled = _settled(about, rate)
        if settled is None or settled < after:
            told = None
    remaining = decision.remaining
    line = policy_field(policies) if policy_line is None else policy_line
    out = [('RateLimit-Policy', line)] if line else []
    name = about.quoted if rate is None else about.quoted_rates[rate]
    out.append(('RateLimit', f'{name};r={remaining}' if told is None
                else f'{name};r={remaining};t={told}'))
    if not admitted:
        wait = retry_after(decision.retry_after_ns, least_retry_after)
        if wait is not None:
            out.append(('Retry-After', str(wait)))
    if legacy != 'off' and about.quotas:
        out += _legacy(about.quotas[rate] if rate is not None else min(about.quotas), remaining,
                       after, legacy)
    return out


def _legacy(limit: int, remaining: int, after: int | None, kind: Legacy) -> Fields:
    out = [('X-RateLimit-Limit', str(limit)), ('X-RateLimit-Remaining', str(remaining))]
    if after is not None:
        # The end of that second: a client that waits for it never comes too early.
        reset = after if kind == 'delta' else int(time.time()) + 1 + after
        out.append(('X-RateLimit-Reset', str(reset)))
    return out
