# SPDX-License-Identifier: MIT
"""Policy.acquire() and Limiter.acquire(): waiting in the event loop of asyncio."""
import asyncio
import contextlib
import math
import time

from brim import _brim


async def acquire(policy: _brim.Policy, key: _brim.Key, cost: int,
                  timeout: float | None) -> _brim.Decision:
    """The steps of wait() in wait.c, sleeping in the loop instead of the thread."""
    limit = math.inf if timeout is None else timeout
    deadline = time.monotonic_ns() + limit * 1e9
    booked = await _booked(policy, key, cost, deadline) if limit > 0 else None
    if booked is not None:
        return booked
    while True:
        decision = (policy.try_acquire(key, cost) if policy.scope != 'strict'
                    else await _asked(policy, key, cost))
        if decision or decision.verdict != _DENIED or decision.retry_after_ns == _brim.NEVER_NS:
            return decision
        again = time.monotonic_ns() + max(decision.retry_after_ns, 1)
        if again > deadline or limit == 0:
            return decision
        await _sleep_until(again)


async def _asked(policy: _brim.Policy, key: _brim.Key, cost: int) -> _brim.Decision:
    """try_acquire() in a thread: it waits for the store that the nodes share.

    A task that is cancelled meanwhile gives back what it then gets.
    """
    loop = asyncio.get_running_loop()
    asked = loop.run_in_executor(None, policy.try_acquire, key, cost)

    def give_back(done: asyncio.Future[_brim.Decision]) -> None:
        if done.exception() is None and done.result().granted:
            with contextlib.suppress(RuntimeError):  # the loop ends
                loop.run_in_executor(None, policy.refund, key, cost)

    try:
        return await asyncio.shield(asked)
    except asyncio.CancelledError:
        asked.add_done_callback(give_back)
        raise


async def _booked(policy: _brim.Policy, key: _brim.Key, cost: int,
                  deadline: float) -> _brim.Decision | None:
    """Books a place and sleeps until it comes; None if this policy takes no bookings.

    A task that is cancelled in its sleep gives the place back, to the end of the line: who waits
    behind it does not come sooner. Of several that are cancelled in the order in which they came
    not all permits come back before their time; never more than were taken.
    """
    while True:
        now = time.monotonic_ns()
        left = max(deadline - now, 0) / 1e9
        ticket = policy.reserve(key, cost, left)
        decision = ticket.decision
        if decision.reason == _UNSUPPORTED:
            return None
        if ticket:
            break
        # Too late for the caller, or only for how far ahead the policy lets anyone book?
        again = now + max(decision.retry_after_ns, 1)
        if (decision.reason not in (_TOO_LATE, _BARRED) or again > deadline
                or policy.peek(key, cost).retry_after > min(left, _MOST)):
            return decision
        await _sleep_until(again)
    if decision.delay_ns > 0:
        try:
            await _sleep_until(time.monotonic_ns() + decision.delay_ns)
        except BaseException:
            with contextlib.suppress(_brim.Error):  # closed meanwhile
                policy.cancel(key, ticket)
            raise
    return _brim._started(decision)


async def _sleep_until(at: int) -> None:
    """A timer may end a little early, and a loop takes a float: look at the clock again."""
    while (left := at - time.monotonic_ns()) > 0:
        await asyncio.sleep(min(left / 1e9, _LONGEST))


_BARRED = 6  # brim.Reason
_UNSUPPORTED = 10
_TOO_LATE = 11
_DENIED = 0  # brim.Verdict
_MOST = _brim.NEVER_NS / 2e9  # seconds; more is never
_LONGEST = 86400.0  # a loop refuses to wait for years
