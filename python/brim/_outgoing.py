# SPDX-License-Identifier: MIT
"""What brim.httpx and brim.requests share: waiting for a permit, and an answer's Retry-After."""
import contextlib
import math
import time
from collections.abc import Callable
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from brim import Decision, Error, Key, Policy

Request = TypeVar("Request")

# Answers whose Retry-After means "you send too much", RFC 9110 and RFC 6585.
HOLDING_STATUSES = (429, 503)


class Throttle(Generic[Request]):
    """Decides when a request may start. Thread-safe; every process that attaches the segment
    counts in it.

    policy: what may be sent. key: names what a request counts for, from the request.
    cost: permits a request takes, or a function of the request.
    timeout: seconds that a request may wait for its start; None: as long as it takes.
    hold: the longest Retry-After in seconds that is obeyed, for all processes; 0: none. A ban that
      ends later, an operator's also, stays as it is.
    """

    def __init__(self, policy: Policy, key: Callable[[Request], Key],
                 cost: int | Callable[[Request], int], timeout: float | None,
                 hold: float) -> None:
        # A wrong argument shows at set-up, not at the first request.
        if not isinstance(policy, Policy):
            raise TypeError(f"policy must be a brim.Policy, not {type(policy).__name__}")
        if (timeout is not None and timeout < 0) or hold < 0:
            raise ValueError("timeout and hold are in seconds, 0 or more")
        self.policy = policy
        self._key = key
        self._cost = cost
        self._timeout = timeout
        self._hold = hold

    def key(self, request: Request) -> Key:
        return self._key(request)

    def _ask(self, request: Request) -> tuple[Key, int]:
        return self._key(request), self._cost(request) if callable(self._cost) else self._cost

    def wait(self, request: Request) -> Decision:
        """Blocks until the request may start. Refused: it would have to wait too long."""
        return self.policy.wait(*self._ask(request), self._timeout)

    async def acquire(self, request: Request) -> Decision:
        """wait() in the event loop."""
        return await self.policy.acquire(*self._ask(request), self._timeout)

    def answered(self, request: Request, status: int, retry_after: str | None) -> None:
        """Holds the key back if the answer asks for it. Call it for every answer."""
        if status not in HOLDING_STATUSES:
            return
        seconds = min(retry_after_seconds(retry_after), self._hold)
        if seconds > 0:
            key = self._key(request)
            # No room for one more ban is no reason to lose an answer that is here.
            with contextlib.suppress(Error):
                if self.policy.peek(key).retry_after < seconds:
                    self.policy.limiter.ban(self.policy.name, key, seconds)


def retry_after_seconds(text: str | None) -> float:
    """Seconds that a Retry-After field asks for, from now; 0 if it says nothing readable."""
    text = (text or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        at = parsedate_to_datetime(text)
        if at.tzinfo is None:  # all dates of HTTP are in UTC, also those that do not say it
            at = at.replace(tzinfo=timezone.utc)
        return max(0.0, at.timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return 0.0


def too_long(policy: Policy, key: Key, decision: Decision) -> str:
    """The sentence of the error that a refused request raises."""
    name = key.decode("utf-8", "backslashreplace") if isinstance(key, bytes) else key
    if decision.retry_after == math.inf:
        return f"policy {policy.name!r} never lets this request to {name!r} start"
    return (f"policy {policy.name!r} lets no request to {name!r} start for another "
            f"{decision.retry_after:.3f} s, longer than the timeout")
