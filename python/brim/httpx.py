# SPDX-License-Identifier: MIT
"""Outgoing requests of httpx under a policy, over all processes of a machine.

    limiter = brim.Limiter.open("outgoing", policies={"api": "10/s burst 10"})
    client = httpx.Client(transport=brim.httpx.Transport(limiter.policy("api")))

A request waits until the policy lets it start; each hop of a redirect is a request. Only starts
are limited: how long an answer takes does not count.
"""
from collections.abc import Callable

import httpx

from brim import Decision, Key, Policy
from brim._outgoing import Throttle, too_long

__all__ = ["AsyncTransport", "Throttled", "Transport", "host"]


def host(request: httpx.Request) -> Key:
    """The default key: the host of the request, with its port unless it is the scheme's."""
    return request.url.netloc.decode("ascii")


class Throttled(httpx.TimeoutException):
    """The request was not sent: its start is further away than the timeout.

    decision.retry_after says how far, in seconds; math.inf: no wait will help.
    """

    def __init__(self, message: str, *, request: httpx.Request, decision: Decision) -> None:
        super().__init__(message, request=request)
        self.decision = decision


def _check(throttle: Throttle[httpx.Request], request: httpx.Request, decision: Decision) -> None:
    if not decision.admitted:
        raise Throttled(too_long(throttle.policy, throttle.key(request), decision),
                        request=request, decision=decision)


def _answered(throttle: Throttle[httpx.Request], request: httpx.Request,
              response: httpx.Response) -> httpx.Response:
    throttle.answered(request, response.status_code, response.headers.get("retry-after"))
    return response


class Transport(httpx.BaseTransport):
    """Waits before each request, then hands it to `wrapped`, by default httpx.HTTPTransport().

    policy: what may be sent. key: whom a request counts for, a function of the request.
    cost: permits a request takes, or a function of the request.
    timeout: seconds a request may wait for its start, else Throttled; None: as long as it takes.
    hold: obey the Retry-After of an answer 429 or 503 up to so many seconds: no process starts a
    request for its key before that. 0: do not look at it.
    Safe in threads and, like httpx, not across a fork().
    """

    def __init__(self, policy: Policy, *, key: Callable[[httpx.Request], Key] = host,
                 cost: int | Callable[[httpx.Request], int] = 1, timeout: float | None = None,
                 hold: float = 0, wrapped: httpx.BaseTransport | None = None) -> None:
        self._throttle = Throttle(policy, key, cost, timeout, hold)
        self._wrapped = httpx.HTTPTransport() if wrapped is None else wrapped

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        _check(self._throttle, request, self._throttle.wait(request))
        return _answered(self._throttle, request, self._wrapped.handle_request(request))

    def close(self) -> None:
        self._wrapped.close()


class AsyncTransport(httpx.AsyncBaseTransport):
    """Transport for httpx.AsyncClient: waits in the event loop."""

    def __init__(self, policy: Policy, *, key: Callable[[httpx.Request], Key] = host,
                 cost: int | Callable[[httpx.Request], int] = 1, timeout: float | None = None,
                 hold: float = 0, wrapped: httpx.AsyncBaseTransport | None = None) -> None:
        self._throttle = Throttle(policy, key, cost, timeout, hold)
        self._wrapped = httpx.AsyncHTTPTransport() if wrapped is None else wrapped

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        _check(self._throttle, request, await self._throttle.acquire(request))
        return _answered(self._throttle, request,
                         await self._wrapped.handle_async_request(request))

    async def aclose(self) -> None:
        await self._wrapped.aclose()
