# SPDX-License-Identifier: MIT
"""Limits on WebSockets of Starlette and FastAPI: how many connect, and how much each sends.

    connects = WebSocketThrottle("shop", Rule("connects", "10/m"))
    messages = WebSocketThrottle("shop", Rule("messages", "20/s burst 40"), close_after=100)

    @app.websocket("/chat")
    async def chat(websocket: WebSocket):
        if not await connects.connect(websocket):
            return
        await websocket.accept()
        async for text in websocket.iter_text():
            if await messages(websocket):
                await websocket.send_text(text)

Keys are those of brim.keys, of the connect's request: the address, a header, a user.
"""
import asyncio
import time
from typing import Any, Final

from starlette.exceptions import WebSocketException
from starlette.websockets import WebSocket, WebSocketState

from brim import NEVER, Verdict
from brim.asgi import DENIAL, TRY_AGAIN_LATER, adding, denying, raw_fields, refusal
from brim.keys import AsgiRequest
from brim._attachment import Segment
from brim.rules import Outcome, Rule, Rules

__all__ = ["WebSocketThrottle"]

_REFUSALS: Final = "brim.refusals"  # in a row, by throttle, in the connection's scope


class WebSocketThrottle:
    """Rules for the connects or for the messages of WebSockets. Safe in any thread, before and
    after fork(); a connection is one task's.

    Arguments: those of brim.rules.Rules, and
    wait: seconds that a message may wait for its permits. While it waits the connection is not
      read, so a client that sends too fast is slowed down and not refused. 0: refuse at once. The
      delays of a policy `queue` are its own: its burst bounds them, not `wait`.
    close_after: so many refused messages in a row close the connection with 1013, Try Again Later.
      None: never.
    """

    def __init__(self, segment: Segment, *rules: Rule, wait: float = 0.0,
                 close_after: int | None = None, **options: Any) -> None:
        self._rules = Rules(segment, rules, **options)
        self._wait = wait
        self._close_after = close_after

    async def connect(self, websocket: WebSocket) -> bool:
        """To be called before accept(). False: the connect was refused and answered; return.

        The answer is that of an HTTP request, status, fields and body, where the server has
        websocket.http.response; else a close, of which servers make a 403.
        """
        outcome = await self._decide(websocket)
        if outcome is None or outcome.admitted:
            return True
        if websocket.client_state is WebSocketState.CONNECTING:
            await websocket.receive()  # websocket.connect
        if DENIAL in (websocket.scope.get("extensions") or ()):
            # WebSocket.send() of older releases of Starlette lets no such message pass.
            send = adding(denying(websocket._send), raw_fields(outcome.fields))
            await refusal(outcome)(websocket.scope, websocket._receive, send)
        else:
            await websocket.close(TRY_AGAIN_LATER)
        return False

    async def __call__(self, websocket: WebSocket) -> bool:
        """To be called for each message that came. False: it was refused, and the client has got a
        JSON text of `"type": "rate_limit"`; go on with the next. After `close_after` refusals in a
        row it raises WebSocketException, by which the app closes the connection."""
        outcome = await self._decide(websocket)
        refusals = websocket.scope.setdefault(_REFUSALS, {})
        if outcome is None or outcome.admitted:
            refusals.pop(id(self), None)
            return True
        await websocket.send_json(message(outcome))
        refusals[id(self)] = count = refusals.get(id(self), 0) + 1
        if self._close_after is not None and count >= self._close_after:
            raise WebSocketException(TRY_AGAIN_LATER, outcome.problem()["title"])
        return False

    async def _decide(self, websocket: WebSocket) -> Outcome | None:
        deadline = time.monotonic() + self._wait
        while True:
            outcome = await self._rules.decide(AsgiRequest(websocket.scope))
            if outcome is None:
                return None
            if outcome.admitted:
                if outcome.delay > 0:
                    await asyncio.sleep(outcome.delay)
                return outcome
            decision = outcome.decision
            if (decision is None or decision.verdict != Verdict.DENIED or
                    not 0 < decision.retry_after <= deadline - time.monotonic()):
                return outcome
            await asyncio.sleep(decision.retry_after)


def message(outcome: Outcome) -> dict[str, Any]:
    """What a client is told of a refused message. retry_after: seconds, rounded up to ms, or those
    of Retry-After where brim could not decide; null: no wait will help."""
    return {"type": "rate_limit", "title": outcome.problem()["title"], "status": outcome.status,
            "violated-policies": outcome.violated, "retry_after": _retry_after(outcome)}


def _retry_after(outcome: Outcome) -> float | None:
    decision = outcome.decision
    if decision is None or decision.verdict != Verdict.DENIED:
        return float(dict(outcome.fields)["Retry-After"])
    if decision.retry_after == NEVER:
        return None
    return -(-decision.retry_after_ns // 1_000_000) / 1000
