# SPDX-License-Identifier: MIT
"""Which requests count against which policies: the core of the middlewares, of no framework.

    rules = Rules('api', [Rule('per_ip', '100/m burst 20'),
                          Rule('login', '5/m', path='/login', methods=['POST'])])
    outcome = await rules.decide(AsgiRequest(scope))     # or decide_now(WsgiRequest(environ))
    if outcome is not None and not outcome.admitted: ...  # outcome.status, .fields, .body()

A Rules is made once, before the server forks or in each worker: the segment is attached at the
first request, its mapping is inherited by a fork, and it is attached anew when the name leads to
another segment. Rules are safe in any thread. docs/reference/http.md says it for users.
"""
from __future__ import annotations

import inspect
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from brim import NEVER, Decision, Error, Key, Reason, Verdict, headers, parse_policy
from brim._attachment import (MAX_AT_ONCE, Answer, Ask, Attached, Attachment, Segment, Warn,
                              check_policy_name, merge)
from brim.headers import Fields, Legacy
from brim.keys import UNLIMITED, KeyFunction, Request, Unlimited, by_address

PolicyFunction: TypeAlias = Callable[[Request], 'str | Unlimited | Awaitable[str | Unlimited]']
CostFunction: TypeAlias = Callable[[Request], int | Awaitable[int]]
Predicate: TypeAlias = Callable[[Request], bool | Awaitable[bool]]

_MOST_COST: Final = 2**31  # more is above every burst
_PROBLEMS: Final = 'https://iana.org/assignments/http-problem-types#'


class Paths:
    """Paths as rules write them: "/login" is that path alone, "/api/*" all that begin "/api/"."""

    __slots__ = ('exact', 'prefixes')

    def __init__(self, patterns: str | Iterable[str]) -> None:
        given = (patterns,) if isinstance(patterns, str) else tuple(patterns)
        for one in given:
            if '*' in one[:-1] or not one.startswith(('/', '*')) or one.startswith('//'):
                raise ValueError(f"a path begins with one '/' and may end in '*': {one!r}; "
                                 'use regex for other shapes')
        self.exact: Final = frozenset(one for one in given if not one.endswith('*'))
        self.prefixes: Final = tuple(one[:-1] for one in given if one.endswith('*'))

    def __contains__(self, path: str) -> bool:
        return path in self.exact or path.startswith(self.prefixes)


class Rule:
    """A policy, the requests that it is for, and whom and how much they are counted. Immutable.

    policy: its name. text: as in "100/m burst 20", to define it if the segment has no such policy;
      None: it must be there. What is stored is in force, also if it differs (a warning says so).
      policy may be a function of the request that names one, or answers UNLIMITED; text is then a
      mapping of names to texts.
    path: "/login", or "/api/*" for all that begin "/api/"; or several. regex: searched in the
      path; in a text "." is also a newline, as clients may write one. methods: of these alone
      ("WEBSOCKET" for connects); GET is HEAD too. when: a predicate. All that are given must hold.
    key: a key function; None: that of the Rules. cost: permits, or a function; 0 only looks; more
      than 2**31 is that.
    Functions may be coroutine functions where the server is asynchronous. What they raise is
    raised to the caller: an error of the app like others.
    """

    __slots__ = ('policy', 'texts', 'paths', 'regex', 'methods', 'when', 'key', 'cost', 'selects')

    def __init__(self, policy: str | PolicyFunction, text: str | Mapping[str, str] | None = None,
                 *, path: str | Iterable[str] | None = None,
                 regex: str | re.Pattern[str] | None = None,
                 methods: Iterable[str] | None = None, when: Predicate | None = None,
                 key: KeyFunction | None = None, cost: int | CostFunction = 1) -> None:
        if isinstance(text, str):
            if not isinstance(policy, str):
                raise TypeError('a policy function needs a mapping of names to texts')
            text = {policy: text}
        if isinstance(policy, str):
            check_policy_name(policy)
        for name, one in (text or {}).items():
            check_policy_name(name)
            if parse_policy(one)[1][0].algorithm == 'concurrency':
                raise ValueError(f'policy {name!r}: a rule takes permits; for `concurrency` use '
                                 'Policy.acquire_lease() around the work')
        if isinstance(methods, str):
            raise TypeError('methods is a list, not one string')
        self.policy: Final = policy
        self.texts: Final[Mapping[str, str]] = dict(text or {})
        self.paths: Final = None if path is None else Paths(path)
        self.regex: Final = re.compile(regex, re.DOTALL) if isinstance(regex, str) else regex
        self.methods: Final = None if methods is None else _methods(methods)
        self.when: Final = when
        self.key: Final = key
        self.cost: Final[int | CostFunction] = cost if callable(cost) else _permits(cost)
        self.selects: Final = not (path is None and regex is None and methods is None)

    def about(self, method: str, paths: tuple[str, ...]) -> bool:
        """Whether the request is one of the rule's, its predicate aside."""
        if self.methods is not None and method not in self.methods:
            return False
        for path in paths:
            if ((self.paths is None or path in self.paths) and
                    (self.regex is None or self.regex.search(path) is not None)):
                return True
        return False

    def functions(self) -> list[Callable[..., Any]]:
        """Those of the user."""
        return [one for one in (self.policy, self.when, self.key, self.cost) if callable(one)]


class Outcome:
    """What was decided about one request. Immutable."""

    __slots__ = ('decision', 'policies', 'fields', 'status', 'violated', 'delay')

    def __init__(self, decision: Decision | None, policies: tuple[str, ...], fields: Fields,
                 status: int, violated: list[str], delay: float = 0.0) -> None:
        self.decision: Final = decision  # None: there was no segment, and the rules fail closed
        self.policies: Final = policies  # asked, in order
        self.fields: Final = fields  # for the response, whatever its status
        self.status: Final = status  # 200, or the refusal's: 429, 413, 403, 503
        # Of a refusal: the policy, or NAME/N for the rate of it, as in RateLimit-Policy.
        self.violated: Final = violated
        self.delay: Final = delay  # seconds to wait before the start (policies `queue`)

    @property
    def admitted(self) -> bool:
        return self.decision is not None and self.decision.admitted

    def problem(self) -> dict[str, Any]:
        """The refusal as RFC 9457 has it."""
        decision = self.decision
        reason = None if decision is None else decision.reason
        kind, title = 'quota-exceeded', 'Too many requests'
        if decision is None or decision.verdict == Verdict.UNAVAILABLE:
            kind, title = 'temporary-reduced-capacity', 'The limit could not be determined'
        elif reason == Reason.BARRED:
            kind, title = 'abnormal-usage-detected', 'Banned after too many refused requests'
        elif reason == Reason.COST_ABOVE_BURST:
            title = 'This request costs more than the limit ever allows'
        elif reason == Reason.BLOCKED:
            title = 'Requests of this client are refused'
        return {'type': _PROBLEMS + kind, 'title': title, 'status': self.status,
                'violated-policies': self.violated}

    def body(self) -> bytes:
        """problem() as application/problem+json."""
        return json.dumps(self.problem()).encode()


class RateLimitExceeded(Exception):
    """A request was refused. For code that raises instead of answering: a dependency, a decorator.
    `outcome` holds the decision, the status, the header fields and the body."""

    def __init__(self, outcome: Outcome) -> None:
        super().__init__(outcome)
        self.outcome: Final = outcome

    def __str__(self) -> str:
        return f'rate limit exceeded: {", ".join(self.outcome.violated) or "unavailable"}'


ExtraFields: TypeAlias = Mapping[str, str] | Callable[[Request, Outcome], Mapping[str, str]]


class Rules:
    """Rules of one segment, and what their answers look like.

    segment: its name, opened (and created) with the policies of all rules of that name in the
      process; or a Limiter; or a function that returns one, for other options.
    key: for rules without one of their own. exempt: paths, as in Rule, plainly written.
      exempt_methods: such as OPTIONS, whose pre-flight requests a browser sends without asking.
    fail_closed: if the segment can not be opened, or has no policy of a rule that the request is
      for, refuse with 503 instead of admitting. Trouble of a single decision is answered by the
      policy's on-unavailable.
    legacy: X-RateLimit-Limit, -Remaining and -Reset as well, Reset in seconds from now ("delta")
      or since 1970 ("epoch").
    least_retry_after: seconds that a refused client is told to wait at least.
    status: of a refusal. never_status: if no wait will help, since the cost is above the burst.
    extra_fields: on every limited response; a mapping, or a function of request and outcome. Of
      what the function returns, a field that would not be one is left out, with a warning.
    """

    def __init__(self, segment: Segment, rules: Sequence[Rule], *, key: KeyFunction | None = None,
                 exempt: Iterable[str] = (), exempt_methods: Iterable[str] = (),
                 fail_closed: bool = False, legacy: Legacy = 'off', least_retry_after: float = 0.0,
                 status: int = 429, never_status: int = 413,
                 extra_fields: ExtraFields | None = None) -> None:
        if legacy not in headers.LEGACY:
            raise ValueError(f'legacy is one of {", ".join(headers.LEGACY)}: {legacy!r}')
        if isinstance(exempt_methods, str):
            raise TypeError('exempt_methods is a list, not one string')
        if not 0 <= least_retry_after < 1e9:
            raise ValueError(f'least_retry_after is in seconds, 0 or more: {least_retry_after!r}')
        for name, value in () if extra_fields is None or callable(extra_fields) else (
                extra_fields.items()):
            if not headers.sendable(name, value):
                raise ValueError(f'no field of a response: {name!r}: {value!r}')
        self.rules: Final = tuple(rules)
        self._key: Final[KeyFunction] = key or by_address()
        self._exempt: Final = Paths(exempt)
        self._exempt_methods: Final = frozenset(one.upper() for one in exempt_methods)
        self._exempts: Final = bool(self._exempt.exact or self._exempt.prefixes or
                                    self._exempt_methods)
        self._fail_closed: Final = fail_closed
        self._legacy: Final[Legacy] = legacy
        self._least: Final = least_retry_after
        self._status: Final = status
        self._never_status: Final = never_status
        self._extra: Final = extra_fields
        self._left_out: Final = Warn('no field of a response, and left out: %s')
        texts: dict[str, str] = {}
        for rule in self.rules:
            merge(texts, rule.texts)
        self._attachment: Final = Attachment(segment, texts)

    def functions(self) -> list[Callable[..., Any]]:
        """Those of the user, which may be coroutine functions."""
        return [self._key, *(one for rule in self.rules for one in rule.functions())]

    async def decide(self, request: Request) -> Outcome | None:
        """Asks all rules that match: all pass, or none is charged. None: nothing was decided, let
        the request pass. Of more than MAX_AT_ONCE matching rules the first MAX_AT_ONCE are asked
        at one instant, then the next; a refusal gives back what was taken before it. Policies
        `scope cluster strict` are asked in a thread: they wait for the nodes' store."""
        wanted = await self._wanted(request)
        if not wanted:
            return None
        if self._waits(wanted):
            import asyncio
            return await asyncio.to_thread(self._ask, request, wanted)
        return self._ask(request, wanted)

    def decide_now(self, request: Request) -> Outcome | None:
        """decide() for servers that are not asynchronous. TypeError if a function of the rules
        has to be waited for."""
        steps: Coroutine[Any, Any, list[tuple[str, Key, int]] | None] = self._wanted(request)
        try:
            steps.send(None)
        except StopIteration as done:
            wanted: list[tuple[str, Key, int]] | None = done.value
            if not wanted:
                return None
            self._waits(wanted)
            return self._ask(request, wanted)
        steps.close()
        raise TypeError('a function of these rules waits, and this server is not asynchronous')

    async def _wanted(self, request: Request) -> list[tuple[str, Key, int]] | None:
        """What the rules that match ask for; None: the request is exempt."""
        method, paths = request.method, request.paths
        if self._exempts and (method in self._exempt_methods or self._exempted(request)):
            return None
        wanted: list[tuple[str, Key, int]] = []
        for rule in self.rules:
            if rule.selects and not rule.about(method, paths):
                continue
            if rule.when is not None and not await _value(rule.when(request)):
                continue
            name = rule.policy if isinstance(rule.policy, str) else await _value(
                rule.policy(request))
            if name is UNLIMITED:
                return None
            key = (rule.key or self._key)(request)
            if not isinstance(key, (str, bytes)):
                key = await _value(key)
                if key is UNLIMITED:
                    return None
                if not isinstance(key, (str, bytes)):
                    raise TypeError(f'a key is str, bytes or UNLIMITED, not {key!r}')
            if isinstance(key, str) and not key.isascii():
                key = key.encode('utf-8', 'surrogatepass')
            cost = rule.cost
            wanted.append((name, key, cost if isinstance(cost, int)
                           else _permits(await _value(cost(request)))))
        return wanted

    def _waits(self, wanted: list[tuple[str, Key, int]]) -> bool:
        """If one of them is strict, which are moved to the end."""
        attached = self._attachment.now()
        if attached is None:
            return False
        waiting = [one for one in wanted if attached.waits(one[0])]
        if waiting and len(wanted) > 1:
            wanted[:] = [one for one in wanted if not attached.waits(one[0])] + waiting
        return bool(waiting)

    def _exempted(self, request: Request) -> bool:
        # Nothing but what is written as the exemption is: some apps resolve "..".
        path = request.path
        return path in self._exempt and request.plain and '/..' not in path

    def _ask(self, request: Request, wanted: list[tuple[str, Key, int]]) -> Outcome | None:
        attached = self._attachment.now()
        outcome = None if attached is None else self._answer(request, attached, wanted)
        if outcome is not None or not self._fail_closed:
            return outcome
        return Outcome(None, tuple(one[0] for one in wanted), self._come_later(), 503, [])

    def _answer(self, request: Request, attached: Attached,
                wanted: list[tuple[str, Key, int]]) -> Outcome | None:
        names: list[str] = []
        asks: list[Ask] = []
        for name, key, cost in wanted:
            try:
                asks.append((attached.policy(name), key, cost))
                names.append(name)
            except Error as error:  # of this rule: the others hold
                self._attachment.failed(error)
                if self._fail_closed:
                    return None
        if not asks:
            return None
        try:
            answer = attached.acquire(asks)
        except Error as error:
            self._attachment.failed(error)
            return None
        return self._outcome(request, attached, tuple(names), answer)

    def _come_later(self) -> Fields:
        return [('Retry-After', str(headers.retry_after(0, self._least)))]

    def _outcome(self, request: Request, attached: Attached, names: tuple[str, ...],
                 answer: Answer) -> Outcome:
        decision, about, delay = answer
        policies, line = attached.described(names)
        policies = policies[about]
        fields = headers.fields(decision, policies, policy_line=line, legacy=self._legacy,
                                least_retry_after=self._least)
        if decision.admitted:
            outcome = Outcome(decision, names, fields, 200, [], delay)
        else:
            policy, rate = headers.binding(decision, policies)
            violated = [policy.name if rate is None else policy.names[rate]]
            outcome = Outcome(decision, names, fields, self._refusal(decision, fields), violated)
        if self._extra is not None:
            extra = self._extra(request, outcome) if callable(self._extra) else self._extra
            for name, value in extra.items():
                if headers.sendable(name, value):
                    outcome.fields.append((name, value))
                else:
                    self._left_out(f'{name!r}: {value!r}')
        return outcome

    def _refusal(self, decision: Decision, fields: Fields) -> int:
        """Its status."""
        if decision.verdict == Verdict.UNAVAILABLE:
            fields += self._come_later()
            return 503
        if decision.retry_after != NEVER:
            return self._status
        return self._never_status if decision.reason == Reason.COST_ABOVE_BURST else 403


def _methods(methods: Iterable[str]) -> frozenset[str]:
    """Frameworks answer HEAD by what answers GET."""
    found = frozenset(one.upper() for one in methods)
    return found | {'HEAD'} if 'GET' in found else found


def _permits(cost: object) -> int:
    if not isinstance(cost, int):
        raise TypeError(f'a cost is an int, not {cost!r}')
    if cost < 0:
        raise ValueError(f'a cost is 0 or more, not {cost}')
    return min(cost, _MOST_COST)


async def _value(answer: Any) -> Any:
    return await answer if inspect.isawaitable(answer) else answer
