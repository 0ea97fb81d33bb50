# SPDX-License-Identifier: MIT
"""Limits in FastAPI: a dependency for an endpoint, a router or the app, and a decorator.

    per_ip = limit("shop", Rule("per_ip", "100/m burst 20"))

    @app.get("/items", dependencies=[Depends(per_ip)])
    async def items(): ...

A refused request is answered 429 with Retry-After and the RateLimit fields, without further set-up.
"""
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from brim._attachment import Segment
from brim.rules import Rule, Rules
from brim.starlette import RateLimited, add_fields, decide, limited, rate_limited

__all__ = ["LimitedRoute", "RateLimited", "limit", "limited", "rate_limited"]

_OUTCOMES = "brim.outcomes"  # of the dependencies, in the scope


def limit(segment: Segment, *rules: Rule, **options: Any
          ) -> Callable[[HTTPConnection, Response], Coroutine[Any, Any, None]]:
    """A dependency, for Depends(). All rules must admit a request, or none is charged. Refused, it
    raises RateLimited; on a WebSocket's route it closes the connection.

    Arguments: those of brim.rules.Rules. FastAPI runs the same dependency once per request, also if
    it is named twice.
    """
    decided = Rules(segment, rules, **options)

    async def limit_request(connection: HTTPConnection, response: Response) -> None:
        outcome = await decide(decided, connection)
        if outcome is not None:
            add_fields(response, outcome)
            connection.scope.setdefault(_OUTCOMES, []).append(outcome)

    return limit_request


class LimitedRoute(APIRoute):
    """FastAPI leaves out what dependencies say of a Response that the endpoint returns ready-made;
    a router with APIRouter(route_class=LimitedRoute) puts the fields of limit() on these, too."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handler = super().get_route_handler()

        async def handle(request: Request) -> Response:
            response = await handler(request)
            if "ratelimit" not in response.headers:
                for outcome in request.scope.get(_OUTCOMES, ()):
                    add_fields(response, outcome)
            return response

        return handle
