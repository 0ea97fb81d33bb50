# SPDX-License-Identifier: MIT
"""The segment of some rules, in this process: attached when it is first needed, and looked after.

Safe in any thread. A fork inherits the mapping. Without a lock, which a fork could leave taken for
ever: two threads may attach at once, and share one mapping.
"""
from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from brim import (AlreadyExists, Decision, Error, Full, InvalidArgument, Key, Limiter, Policy,
                  Reason, Unfit, headers, parse_policy)
from brim.headers import Described

Segment: TypeAlias = str | Limiter | Callable[[], Limiter]

MAX_AT_ONCE: Final = 8  # asks of one try_acquire_all

_STRICT: Final = 'strict'  # a Policy.scope
_LOOK_S: Final = 1.0  # between attempts, and looks at whether the segment is still linked
_WARN_S: Final = 10.0

_SEGMENT_NAME: Final = re.compile(r'/?(/.*/)?(?!\.)[A-Za-z0-9._-]{1,200}', re.DOTALL)
_POLICY_NAME: Final = re.compile(r'[A-Za-z0-9._-]{1,47}')

_log = logging.getLogger('brim')
# The policies of all rules of a segment in this process, so that whoever comes first creates it
# with room for all of them (a sliding log needs cells in each slot).
_texts: dict[str, dict[str, str]] = {}

Ask: TypeAlias = tuple[Policy, Key, int]
Answer: TypeAlias = tuple[Decision, slice, float]  # of which asks it is about; the delay


def check_policy_name(name: str) -> None:
    """InvalidArgument now, instead of a rule that never holds."""
    if _POLICY_NAME.fullmatch(name) is None:
        raise InvalidArgument(f'invalid_policy_name: {name!r}; give 1 to 47 characters of '
                              'A-Z a-z 0-9 . _ -')


def check_segment_name(name: str) -> None:
    if _SEGMENT_NAME.fullmatch(name) is None:
        raise InvalidArgument(f'invalid_name: segment name {name!r}; give 1 to 200 characters of '
                              'A-Z a-z 0-9 . _ - that do not begin with a dot, or an absolute '
                              'path whose last part is such a name')


def merge(known: dict[str, str], texts: Mapping[str, str]) -> None:
    """ValueError if a policy has two meanings."""
    for name, text in texts.items():
        other = known.get(name, text)
        if parse_policy(other)[0] != parse_policy(text)[0]:
            raise ValueError(f'policy {name!r} is given twice for a segment: {other!r}, {text!r}')
    known.update(texts)


class Warn:
    """Logs one kind of trouble, however many requests meet it."""

    def __init__(self, text: str) -> None:
        self._text: Final = text
        self._at = 0.0

    def __call__(self, detail: object) -> None:
        now = time.monotonic()
        if now >= self._at:
            self._at = now + _WARN_S
            _log.warning(self._text, detail)


class Attached:
    """A segment as the rules use it, and what was worked out of its policies."""

    __slots__ = ('limiter', '_policies', '_described')

    def __init__(self, limiter: Limiter) -> None:
        self.limiter: Final = limiter
        self._policies: Final[dict[str, Policy]] = {}
        self._described: dict[tuple[str, ...], tuple[tuple[Described, ...], str]] = {}

    def define(self, texts: Mapping[str, str]) -> list[str]:
        """Those that are not there yet. The sentences say which can not be, and why: no reason to
        do without the others."""
        failures = []
        for name, text in texts.items():
            if name in self._policies:
                continue
            try:
                self._policies[name] = self.limiter.define(name, text)
            except Error as error:
                try:
                    self.policy(name)
                except Error:
                    failures.append(f'policy {name!r}: {error}')
                    continue
                if isinstance(error, AlreadyExists):  # by an operator, or another release
                    _log.warning('the stored policy is in force: %s', error)
        return failures

    def policy(self, name: str) -> Policy:
        """Error: the segment has none of this name."""
        policy = self._policies.get(name)
        if policy is None:
            policy = self._policies[name] = self.limiter.policy(name)
        return policy

    def waits(self, name: str) -> bool:
        """The policy is strict: a call may take as long as the nodes' store."""
        try:
            return self.policy(name).scope == _STRICT
        except Error:  # said when it is asked
            return False

    def described(self, names: tuple[str, ...]) -> tuple[tuple[Described, ...], str]:
        """The policies, and the value of RateLimit-Policy."""
        known = self._described.get(names)
        if known is None:
            policies = tuple(Described(self.policy(name)) for name in names)
            known = self._described[names] = (policies, headers.policy_field(policies))
        return known

    def forget(self) -> None:
        """Policies may have been changed."""
        self._described = {}

    def acquire(self, asks: list[Ask]) -> Answer:
        """All of them, or none. REQUIRES: strict ones are last."""
        if len(asks) == 1:
            policy, key, cost = asks[0]
            decision = policy.try_acquire(key, cost)
            return decision, _ALL, decision.delay
        tightest, about, delay = None, _ALL, 0.0
        charged: list[Ask] = []
        for part in _parts(asks):
            group = asks[part]
            decision = (self.limiter.try_acquire_all(group) if len(group) > 1
                        else group[0][0].try_acquire(*group[0][1:]))
            if not decision.admitted:
                for policy, key, cost in charged:
                    policy.refund(key, cost)
                return decision, part, 0.0
            charged += _charged(group, decision)
            delay = max(delay, decision.delay)
            if tightest is None or decision.remaining < tightest.remaining:
                tightest, about = decision, part
        assert tightest is not None
        return tightest, about, delay


_ALL: Final = slice(None)


def _parts(asks: list[Ask]) -> Iterator[slice]:
    """What is asked at one instant. A strict policy is asked alone: the store answers for it, and
    nobody could take that back."""
    together = next((i for i, one in enumerate(asks) if one[0].scope == _STRICT), len(asks))
    for first in range(0, together, MAX_AT_ONCE):
        yield slice(first, min(first + MAX_AT_ONCE, together))
    for alone in range(together, len(asks)):
        yield slice(alone, alone + 1)


def _charged(group: list[Ask], decision: Decision) -> list[Ask]:
    """Those that this decision, which admitted, took permits for."""
    if decision.granted:
        return group
    if decision.reason != Reason.SHADOW:
        return []
    # Some of the shadow policies took none; which, it does not say. They refuse nobody.
    return [one for one in group if ' shadow' not in one[0].text]


class Attachment:
    """Where the rules find their segment."""

    def __init__(self, segment: Segment, texts: dict[str, str]) -> None:
        self._segment: Final = segment
        self._texts: Final = texts
        self._attached: Attached | None = None
        self._look_at = 0.0  # CLOCK_MONOTONIC
        self.failed: Final = Warn('requests are not limited as they should be: %s')
        if isinstance(segment, str):
            check_segment_name(segment)
            merge(_texts.setdefault(segment, {}), texts)

    def now(self) -> Attached | None:
        """None: it can not be attached, and will be tried again in a moment."""
        now = time.monotonic()
        if now < self._look_at:
            return self._attached
        attached = self._attached
        if attached is not None and (isinstance(self._segment, Limiter) or attached.limiter.linked):
            attached.forget()
            self._define(attached)  # what could not be: by now there may be room
        else:
            try:
                self._attached = self._attach()
            except (Error, OSError) as error:
                self.failed(error)  # a segment without its name still counts, in this process
        # Only now: until then other threads must not take it that there is none.
        self._look_at = time.monotonic() + _LOOK_S
        return self._attached

    def _define(self, attached: Attached) -> None:
        failures = attached.define(self._texts)
        if failures:
            self.failed('; '.join(failures))

    def _attach(self) -> Attached:
        segment = self._segment
        if isinstance(segment, str):
            try:
                limiter = Limiter.open(segment, policies=_texts[segment], accept_stored=True)
            except (Full, InvalidArgument, Unfit):  # one of them does not fit
                limiter = Limiter.open(segment, accept_stored=True)
        else:
            limiter = segment if isinstance(segment, Limiter) else segment()
        attached = Attached(limiter)
        self._define(attached)
        return attached
