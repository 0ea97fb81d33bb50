# SPDX-License-Identifier: MIT
"""What brim.httpx and brim.requests share: waiting for a permit, and an answer's Retry-After."""
import asyncio
import contextlib
import math
import time
from collections.abc import Callable
from datetime import timezone
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar

from brim import Decision, Error, Key, Policy, Reason

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

    def _ask(self, request: Request) -> tuple[Key, int, float]:
        cost = self._cost(request) if callable(self._cost) else self._cost
        timeout = math.inf if self._timeout is None else self._timeout
        return self._key(request), cost, time.monotonic() + timeout

    def wait(self, request: Request) -> Decision:
        """Blocks until the request may start. Refused: it would have to wait too long."""
        key, cost, deadline = self._ask(request)
        while True:
            decision = self.policy.wait(key, cost, _left(deadline))
            pause = _pause(decision, deadline)
            if pause is None:
                return decision
            time.sleep(pause)

    async def acquire(self, request: Request) -> Decision:
        """wait() in the event loop."""
        key, cost, deadline = self._ask(request)
        while True:
            decision = await self.policy.acquire(key, cost, _left(deadline))
            pause = _pause(decision, deadline)
            if pause is None:
                return decision
            await asyncio.sleep(pause)

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


def _left(deadline: float) -> float | None:
    return None if deadline == math.inf else max(0.0, deadline - time.monotonic())


def _pause(decision: Decision, deadline: float) -> float | None:
    """Seconds to sleep before the next try; None: the decision stands.

    A wait ends at once for a key that is held back; its end is worth waiting for.
    """
    if decision.admitted or decision.reason != Reason.BARRED:
        return None
    seconds = decision.retry_after
    if seconds == math.inf or time.monotonic() + seconds > deadline:
        return None
    return seconds


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
