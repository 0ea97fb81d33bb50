# SPDX-License-Identifier: MIT
"""Rate limits for every ASGI app: Starlette, FastAPI, Quart, Django, ...

    app = RateLimitMiddleware(app, Rules('api', [Rule('per_ip', '100/m burst 20')]))
    app.add_middleware(RateLimitMiddleware, rules=Rules(...))     # Starlette, FastAPI

For asyncio. One object serves all requests of a process; see brim.rules on forks.
"""
from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Final, TypeAlias

from brim import headers
from brim.headers import Fields
from brim.keys import AsgiRequest, Request
from brim.rules import Outcome, Rules

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]
RawFields: TypeAlias = list[tuple[bytes, bytes]]
# Makes the response to a refused request: an ASGI app, such as a Response of Starlette. The fields
# of the outcome are added to it.
RefusalHandler: TypeAlias = Callable[[Request, Outcome], App | Awaitable[App]]

TRY_AGAIN_LATER: Final = 1013  # a close code of WebSockets
DENIAL: Final = 'websocket.http.response'  # the ASGI extension: a refused connect gets a response

_NAMES: Final = {name: name.lower().encode() for name in headers.EXPOSED}
_STARTS: Final = frozenset(['http.response.start', 'websocket.accept', DENIAL + '.start'])


def raw_fields(fields: Fields) -> RawFields:
    """As ASGI has them."""
    return [(_NAMES.get(name) or name.lower().encode('latin-1'), value.encode('latin-1'))
            for name, value in fields]


def with_fields(present: Iterable[tuple[bytes, bytes]], fields: RawFields) -> RawFields:
    """Those of the response and ours. A field that the response has is its own affair."""
    merged = list(present)
    names = dict(merged)
    merged += [one for one in fields if one[0] not in names]
    return merged


def adding(send: Send, fields: RawFields) -> Send:
    """`send`, for a response that gets these fields."""

    async def send_with(message: Message) -> None:
        if message['type'] in _STARTS:
            message = {**message, 'headers': with_fields(message.get('headers') or (), fields)}
        await send(message)

    return send_with


def refusal(outcome: Outcome) -> App:
    """The response to a refused request: application/problem+json."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        body = outcome.body()
        await send({'type': 'http.response.start', 'status': outcome.status,
                    'headers': [(b'content-type', b'application/problem+json'),
                                (b'content-length', b'%d' % len(body))]})
        await send({'type': 'http.response.body',
                    'body': b'' if scope.get('method') == 'HEAD' else body})

    return respond


class RateLimitMiddleware:
    """Limits the HTTP requests and WebSocket connects of an app.

    A request that is refused does not reach the app. on_refused: makes its response instead of
    refusal(); may be a coroutine function. A connect is refused before it is accepted: with that
    response if the server can send one (the extension websocket.http.response), else by a close,
    which servers turn into status 403. An admitted request of a `queue` policy sleeps in the event
    loop for the time that the decision names ("no-delay" in the policy: it does not).
    """

    def __init__(self, app: App, rules: Rules, *, on_refused: RefusalHandler | None = None
                 ) -> None:
        self.app: Final = app
        self.rules: Final = rules
        self._on_refused: Final = on_refused

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope['type']
        if kind != 'http' and kind != 'websocket':
            return await self.app(scope, receive, send)
        request = AsgiRequest(scope)
        outcome = await self.rules.decide(request)
        if outcome is None:
            return await self.app(scope, receive, send)
        if not outcome.admitted:
            return await self._refuse(request, outcome, scope, receive, send)
        if outcome.delay > 0:
            await asyncio.sleep(outcome.delay)
        if outcome.fields:
            send = adding(send, raw_fields(outcome.fields))
        await self.app(scope, receive, send)

    async def _refuse(self, request: Request, outcome: Outcome, scope: Scope, receive: Receive,
                      send: Send) -> None:
        if scope['type'] == 'websocket':
            await receive()  # its connect
            if DENIAL not in (scope.get('extensions') or ()):
                return await send({'type': 'websocket.close', 'code': TRY_AGAIN_LATER})
            send = denying(send)
        handler = self._on_refused
        made: Any = refusal(outcome) if handler is None else handler(request, outcome)
        response: App = await made if inspect.isawaitable(made) else made
        await response(scope, receive, adding(send, raw_fields(outcome.fields)))


def denying(send: Send) -> Send:
    """Says an HTTP response in the words of a WebSocket that was not accepted."""

    async def send_denial(message: Message) -> None:
        if message['type'].startswith('http.'):
            message = {**message, 'type': 'websocket.' + message['type']}
        await send(message)

    return send_denial
