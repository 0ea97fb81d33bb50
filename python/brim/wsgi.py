# SPDX-License-Identifier: MIT
"""Rate limits for every WSGI app: Flask, Django, Bottle, ...

    app = RateLimitMiddleware(app, Rules('api', [Rule('per_ip', '100/m burst 20')]))
    app.wsgi_app = RateLimitMiddleware(app.wsgi_app, Rules(...))     # Flask

Safe with threaded servers; see brim.rules on forks.
"""
from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, TypeAlias

from brim.headers import Fields
from brim.keys import Request, WsgiRequest
from brim.rules import Outcome, Rules

Environ: TypeAlias = dict[str, Any]
ExcInfo: TypeAlias = (tuple[type[BaseException], BaseException, TracebackType | None]
                      | tuple[None, None, None])
StartResponse: TypeAlias = Callable[..., Callable[[bytes], object]]
App: TypeAlias = Callable[[Environ, StartResponse], Iterable[bytes]]
# Makes the response to a refused request: a WSGI app, such as a Response of Flask. The fields of
# the outcome are added to it.
RefusalHandler: TypeAlias = Callable[[Request, Outcome], App]


def with_fields(present: Iterable[tuple[str, str]], fields: Fields) -> list[tuple[str, str]]:
    """Those of the response and ours. A field that the response has is its own affair."""
    merged = list(present)
    names = {name.lower() for name, _ in merged}
    merged += [one for one in fields if one[0].lower() not in names]
    return merged


def adding(start_response: StartResponse, fields: Fields) -> StartResponse:
    """`start_response`, for a response that gets these fields."""

    def start(status: str, response_headers: list[tuple[str, str]],
              exc_info: ExcInfo | None = None) -> Callable[[bytes], object]:
        merged = with_fields(response_headers, fields)
        if exc_info is None:
            return start_response(status, merged)
        try:
            return start_response(status, merged, exc_info)
        finally:
            exc_info = None  # or its traceback would hold this frame, and the frame it

    return start


def refusal(outcome: Outcome) -> App:
    """The response to a refused request: application/problem+json."""

    def respond(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        body = outcome.body()
        start_response(_status_line(outcome.status),
                       [('Content-Type', 'application/problem+json'),
                        ('Content-Length', str(len(body)))])
        return [] if environ['REQUEST_METHOD'] == 'HEAD' else [body]

    return respond


def _status_line(status: int) -> str:
    try:
        return f'{status} {HTTPStatus(status).phrase}'
    except ValueError:
        return f'{status} Refused'


class RateLimitMiddleware:
    """Limits the requests of an app.

    A request that is refused does not reach the app. on_refused: makes its response instead of
    refusal(). An admitted request of a `queue` policy sleeps, in its thread, for the time that the
    decision names ("no-delay" in the policy: it does not). Functions of the rules must not be
    coroutine functions: TypeError.
    """

    def __init__(self, app: App, rules: Rules, *, on_refused: RefusalHandler | None = None
                 ) -> None:
        for function in rules.functions():
            if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
                    getattr(function, '__call__', None)):
                raise TypeError(f'{function!r} is a coroutine function: WSGI can not wait for it')
        self.app: Final = app
        self.rules: Final = rules
        self._on_refused: Final = on_refused

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        request = WsgiRequest(environ)
        outcome = self.rules.decide_now(request)
        if outcome is None:
            return self.app(environ, start_response)
        if outcome.fields:
            start_response = adding(start_response, outcome.fields)
        if not outcome.admitted:
            handler = self._on_refused
            response = refusal(outcome) if handler is None else handler(request, outcome)
            return response(environ, start_response)
        if outcome.delay > 0:
            time.sleep(outcome.delay)
        return self.app(environ, start_response)
