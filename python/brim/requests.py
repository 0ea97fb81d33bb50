# SPDX-License-Identifier: MIT
# Types of requests come in a package of their own, which may be missing.
# mypy: disable-error-code="import,misc"
"""Outgoing requests of requests.Session under a policy, over all processes of a machine.

    limiter = brim.Limiter.open("outgoing", policies={"api": "10/s burst 10"})
    session = requests.Session()
    session.mount("https://", brim.requests.Adapter(limiter.policy("api")))

A request waits until the policy lets it start; each hop of a redirect is a request.
"""
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from brim import Decision, Key, Policy
from brim._outgoing import Throttle, too_long

__all__ = ["Adapter", "Throttled", "host"]


def host(request: requests.PreparedRequest) -> Key:
    """The default key: the host of the request, with its port unless it is the scheme's."""
    url = urlsplit(request.url or "")
    usual = {"http": 80, "https": 443}.get(url.scheme)
    name = url.hostname or ""
    name = f"[{name}]" if ":" in name else name
    return name if url.port in (None, usual) else f"{name}:{url.port}"


class Throttled(requests.Timeout):
    """The request was not sent: its start is further away than the timeout.

    decision.retry_after says how far, in seconds; math.inf: no wait will help.
    """

    def __init__(self, message: str, *, request: requests.PreparedRequest,
                 decision: Decision) -> None:
        super().__init__(message, request=request)
        self.decision = decision


class Adapter(HTTPAdapter):
    """Waits before each request. Further arguments are HTTPAdapter's.

    policy: what may be sent. key: whom a request counts for, a function of the request.
    cost: permits a request takes, or a function of the request.
    timeout: seconds a request may wait for its start, else Throttled; None: as long as it takes.
    hold: obey the Retry-After of an answer 429 or 503 up to so many seconds: no process starts a
    request for its key before that. 0: do not look at it.
    HTTPAdapter's max_retries repeats a request by itself; such repeats are not counted.
    """

    __attrs__ = [*HTTPAdapter.__attrs__, "_throttle"]  # what a pickled session keeps

    def __init__(self, policy: Policy, *, key: Callable[[requests.PreparedRequest], Key] = host,
                 cost: int | Callable[[requests.PreparedRequest], int] = 1,
                 timeout: float | None = None, hold: float = 0, **options: Any) -> None:
        self._throttle = Throttle(policy, key, cost, timeout, hold)
        super().__init__(**options)

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any
             ) -> requests.Response:
        decision = self._throttle.wait(request)
        if not decision.admitted:
            key = self._throttle.key(request)
            raise Throttled(too_long(self._throttle.policy, key, decision), request=request,
                            decision=decision)
        response = super().send(request, *args, **options)
        self._throttle.answered(request, response.status_code,
                                response.headers.get("Retry-After"))
        return response
