# SPDX-License-Identifier: MIT
"""Limits on single endpoints of Starlette and FastAPI: a decorator, and the exception it raises.

    @limited("shop", Rule("login", "5/m"))
    async def login(request): ...

For whole applications there is brim.asgi, for FastAPI also the dependency of brim.fastapi. Fields
are added to what the endpoint answers; what an exception handler answers for it has none.
"""
import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from brim.asgi import TRY_AGAIN_LATER
from brim.keys import AsgiRequest
from brim._attachment import Segment
from brim.rules import Outcome, RateLimitExceeded, Rule, Rules

__all__ = ["RateLimited", "limited", "rate_limited"]

_LEFT = "X-RateLimit-Remaining"
_LEGACY = ("X-RateLimit-Limit", _LEFT, "X-RateLimit-Reset")

Endpoint: TypeAlias = Callable[..., Any]


class RateLimited(RateLimitExceeded, HTTPException):
    """A request was refused; `outcome` says all. Without a handler of its own it is answered as
    every HTTPException: with outcome.status, the fields, and a short text. For the body that RFC
    9457 has: app.add_exception_handler(RateLimited, rate_limited), or a handler of your own."""

    def __init__(self, outcome: Outcome) -> None:
        HTTPException.__init__(self, outcome.status, detail=outcome.problem()["title"],
                               headers=dict(outcome.fields))
        self.outcome = outcome  # type: ignore[misc]


async def rate_limited(request: Request, refused: Exception) -> Response:
    """An exception handler: the refusal as application/problem+json."""
    if not isinstance(refused, RateLimitExceeded):
        raise refused
    outcome = refused.outcome
    return Response(outcome.body(), outcome.status, dict(outcome.fields),
                    "application/problem+json")


async def decide(rules: Rules, connection: HTTPConnection) -> Outcome | None:
    """Decides, and waits for the start that a policy `queue` gives. Raises RateLimited; for a
    WebSocket WebSocketException, which closes it."""
    outcome = await rules.decide(AsgiRequest(connection.scope))
    if outcome is None:
        return None
    if not outcome.admitted:
        if connection.scope["type"] == "websocket":
            raise WebSocketException(TRY_AGAIN_LATER, outcome.problem()["title"])
        raise RateLimited(outcome)
    if outcome.delay > 0:
        await asyncio.sleep(outcome.delay)
    return outcome


def add_fields(response: Response, outcome: Outcome | None) -> None:
    """Of several limits RateLimit is a list. Who reads X-RateLimit-* reads one: the tightest."""
    if outcome is None:
        return
    headers, given = response.headers, dict(outcome.fields)
    there, ours = headers.get(_LEFT), given.get(_LEFT)
    one_is_there = there is not None and ours is not None
    tighter = not one_is_there or (there or '').isdigit() and int(ours or 0) < int(there or 0)
    if one_is_there and tighter:
        for name in _LEGACY:
            del headers[name]
    for name, value in outcome.fields:
        if tighter or name not in _LEGACY:
            headers.append(name, value)


def limited(segment: Segment, *rules: Rule, **options: Any
            ) -> Callable[[Endpoint], Callable[..., Coroutine[Any, Any, Any]]]:
    """Decorates an endpoint of Starlette or FastAPI, below the line that makes it a route; also
    the methods of an HTTPEndpoint. All rules must admit a request, or none is charged.

    Arguments: those of brim.rules.Rules. The endpoint may be a coroutine function or, in the thread
    pool as without the decorator, a plain one. It need not take the request.
    """
    decided = Rules(segment, rules, **options)

    def decorate(endpoint: Endpoint) -> Callable[..., Coroutine[Any, Any, Any]]:
        signature, injected = _signature(endpoint)

        @functools.wraps(endpoint)
        async def limited_endpoint(*args: Any, **named: Any) -> Any:
            given = [*args, *named.values()]
            for name in injected:
                named.pop(name, None)
            connection = next((one for one in given if isinstance(one, HTTPConnection)), None)
            if connection is None:
                raise TypeError(f"{endpoint.__qualname__} was called without a request")
            outcome = await decide(decided, connection)
            if inspect.iscoroutinefunction(endpoint):
                result = await endpoint(*args, **named)
            else:
                result = await run_in_threadpool(endpoint, *args, **named)
            # FastAPI makes a Response of another result, with the headers of the injected one.
            for response in [result, *given]:
                if isinstance(response, Response):
                    add_fields(response, outcome)
                    break
            return result

        limited_endpoint.__signature__ = signature  # type: ignore[attr-defined]
        return limited_endpoint

    return decorate


def _signature(endpoint: Endpoint) -> tuple[inspect.Signature, set[str]]:
    """The signature with a request and a response to be given by FastAPI, and the names of these
    that the endpoint does not take itself. They are no part of OpenAPI."""
    try:
        signature = inspect.signature(endpoint, eval_str=True)
    except NameError:  # a name that only type checkers see
        signature = inspect.signature(endpoint)
    parameters = list(signature.parameters.values())
    kinds = [one.annotation for one in parameters if isinstance(one.annotation, type)]
    injected = {}
    for name, kind, base in (("brim_request", Request, HTTPConnection),
                             ("brim_response", Response, Response)):
        if not any(issubclass(one, base) for one in kinds):
            injected[name] = inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY,
                                               annotation=kind)
    end = len(parameters)
    if parameters and parameters[-1].kind is inspect.Parameter.VAR_KEYWORD:
        end -= 1
    parameters[end:end] = injected.values()
    return signature.replace(parameters=parameters), set(injected)
