# SPDX-License-Identifier: MIT
"""Throttles for Starlette and FastAPI with the constructor that users of traffik write."""
from __future__ import annotations

import functools
import inspect
import logging
import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Generic, TypeVar

from starlette.exceptions import HTTPException, WebSocketException
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, Response
from starlette.websockets import WebSocket, WebSocketState

from .traffik_backend import BrimBackend, get_throttle_backend
from .traffik_headers import Header, resolve
from .traffik_rate import EXEMPTED, ConfigurationError, Rate, StrategyStat
from .traffik_strategies import DEFAULT_STRATEGY

C = TypeVar('C', bound=HTTPConnection)
Context = Mapping[str, Any]
logger = logging.getLogger(__name__)
TRY_AGAIN_LATER = 1013  # RFC 6455's registry of close codes
WAIT = 'brim_traffik_wait_ms'  # of connection.state


class ConnectionThrottled(HTTPException):
    """429 with Retry-After, in whole seconds, rounded up; without it if no wait will help."""

    def __init__(self, wait_ms: float, detail: str | None = None, status_code: int = 429,
                 headers: Mapping[str, str] | None = None) -> None:
        never = not math.isfinite(wait_ms)
        self.wait_period = math.inf if never else max(1, math.ceil(wait_ms / 1000))
        fields = dict(headers or {})
        if not never:
            fields['Retry-After'] = str(self.wait_period)
        again = '' if never else f', try again in {self.wait_period} s'
        super().__init__(status_code, detail or 'Rate limit exceeded' + again, fields)


async def connection_throttled(connection: HTTPConnection, wait_ms: float, throttle: Throttle[Any],
                               context: Context) -> None:
    """The default handler: raises ConnectionThrottled with the throttle's headers."""
    headers = await throttle.get_headers(connection, context.get('headers'), context=context)
    raise ConnectionThrottled(wait_ms, context.get('detail'), context.get('status_code', 429),
                              headers)


async def websocket_throttled(connection: WebSocket, wait_ms: float, throttle: Throttle[Any],
                              context: Context) -> None:
    """Before accept() it refuses the connection (WebSocketException, of which servers make a 403:
    older Starlettes do nothing with another one); later it tells the client and leaves it open."""
    if connection.application_state != WebSocketState.CONNECTED:
        raise WebSocketException(TRY_AGAIN_LATER, context.get('detail', 'Rate limit exceeded'))
    try:
        await connection.send_json({
            'type': 'rate_limit', 'error': 'Too many messages',
            'retry_after': math.ceil(wait_ms / 1000) if math.isfinite(wait_ms) else None,
            **context.get('extras', {})})
    except RuntimeError:
        pass  # the client has gone


class Throttle(Generic[C]):
    """`await throttle(connection)`, or Depends(throttle). Two throttles with one `uid` and rate
    share what they count. `rate` and `cost` may be `async (connection, context)` functions."""

    connection_type: ClassVar[type[HTTPConnection]] = HTTPConnection
    default_handler: ClassVar[Callable[..., Awaitable[Any]] | None] = None

    def __init__(self, uid: str, rate: Any,
                 identifier: Callable[[C], Awaitable[Any]] | None = None,
                 handle_throttled: Callable[..., Awaitable[Any]] | None = None,
                 strategy: Callable[..., Awaitable[float]] | None = None,
                 backend: BrimBackend | None = None, cost: Any = 1, dynamic_backend: bool = False,
                 min_wait_period: float | None = None,
                 headers: Mapping[str, Header | str] | None = None, on_error: Any = None,
                 context: Context | None = None, cache_ids: bool = True,
                 skip_handler: bool = False) -> None:
        if not uid:
            raise ValueError('uid is empty')
        if dynamic_backend and backend is not None:
            raise ConfigurationError('either a backend or dynamic_backend')
        if not callable(on_error) and on_error not in (None, 'allow', 'throttle', 'raise'):
            raise ValueError(f"on_error is 'allow', 'throttle', 'raise' or a function, "
                             f'not {on_error!r}')
        self.uid = uid
        self.rate = Rate.parse(rate) if isinstance(rate, str) else rate
        self.identifier = identifier
        self.handle_throttled = handle_throttled or type(self).default_handler
        self.strategy = strategy or DEFAULT_STRATEGY
        self.backend = backend
        self.cost = cost
        self.dynamic_backend = dynamic_backend
        self.min_wait_period = min_wait_period
        self.headers = dict(headers or {})
        self.on_error = on_error
        self.context = {'scope': 'default', **(context or {})}
        self.cache_ids = cache_ids
        self.skip_handler = skip_handler
        self._disabled = False
        if isinstance(self.rate, Rate) and not self.rate.unlimited:
            # Now, not at each request as an error of the backend.
            getattr(self.strategy, 'verify', lambda rate: None)(self.rate)
        # FastAPI must see the connection alone; `cost` would be a query parameter.
        self.__signature__ = inspect.Signature([inspect.Parameter(
            'connection', inspect.Parameter.POSITIONAL_OR_KEYWORD,
            annotation=self.connection_type)])

    def get_backend(self, connection: C) -> BrimBackend:
        """The throttle's own, else that of the context or app."""
        backend = self.backend or get_throttle_backend(connection.scope.get('app'))
        if backend is None:
            raise ConfigurationError(f'throttle {self.uid!r} has no backend: give it one, or give '
                                     'the app lifespan=backend.lifespan')
        if not self.dynamic_backend:
            self.backend = backend
        return backend

    def get_scoped_key(self, connection: C, context: Context) -> str:
        return f'{connection.scope["type"]}:{connection.scope["path"]}:{context["scope"]}'

    async def _name(self, connection: C, backend: BrimBackend, context: Context) -> str | None:
        ids: dict[str, Any] = connection.scope.setdefault('brim_traffik_ids', {})
        found = ids.get(self.uid) if self.cache_ids else None
        if found is None:
            found = ids[self.uid] = await (self.identifier or backend.identifier)(connection)
        if found is EXEMPTED:
            return None
        return f'{self.uid}:{found}:{self.get_scoped_key(connection, context)}'

    async def hit(self, connection: C, *, cost: int | None = None, context: Context | None = None,
                  skip_handler: bool | None = None) -> C:
        """Counts the connection. Refused, it is marked (is_throttled) and goes to the handler.
        Raises what that raises: ConnectionThrottled, by default."""
        merged = {**self.context, **context} if context else self.context
        if self._disabled or cost == 0:
            return connection
        rate = await self.rate(connection, merged) if callable(self.rate) else self.rate
        if cost is None:
            cost = await self.cost(connection, merged) if callable(self.cost) else self.cost
        assert cost is not None
        if cost < 0:
            raise ValueError('the cost is negative')
        if rate.unlimited or cost == 0:
            return connection
        backend = self.get_backend(connection)
        name = await self._name(connection, backend, merged)
        if name is None:
            return connection
        try:
            wait = await self.strategy(name, rate, backend, cost)
        except Exception as error:
            wait = await self._failed(connection, error, name, rate, backend, cost, merged)
        if wait > 0:
            wait = max(wait, self.min_wait_period or 0)
        setattr(connection.state, WAIT, wait)
        if wait > 0 and not (self.skip_handler if skip_handler is None else skip_handler):
            handler = self.handle_throttled or backend.handle_throttled or connection_throttled
            await handler(connection, wait, self, merged)
        return connection

    async def __call__(self, connection: C, *args: Any, **kwargs: Any) -> C:
        return await self.hit(connection, *args, **kwargs)

    async def _failed(self, connection: C, error: Exception, key: str, rate: Rate,
                      backend: BrimBackend, cost: int, context: Context) -> float:
        rule = backend.on_error if self.on_error is None else self.on_error
        logger.warning('throttle %r could not decide', self.uid, exc_info=error)
        if callable(rule):
            return float(await rule(connection, {
                'exception': error, 'connection': connection, 'key': key, 'cost': cost,
                'rate': rate, 'backend': backend, 'context': context, 'throttle': self}))
        if rule == 'raise':
            raise error
        return 0.0 if rule == 'allow' else self.min_wait_period or 1000.0

    async def stat(self, connection: C, context: Context | None = None) -> StrategyStat | None:
        """What the connection has left; None if it is exempt or the strategy does not tell."""
        look = getattr(self.strategy, 'get_stat', None)
        merged = {**self.context, **context} if context else self.context
        backend = self.get_backend(connection)
        name = await self._name(connection, backend, merged)
        if look is None or name is None:
            return None
        rate = await self.rate(connection, merged) if callable(self.rate) else self.rate
        found: StrategyStat = await look(name, rate, backend)
        return found

    async def check(self, connection: C, cost: int | None = None,
                    context: Context | None = None) -> bool:
        """Whether `cost` is there now; by the time it is asked for it may be gone."""
        merged = {**self.context, **context} if context else self.context
        if cost is None:
            cost = await self.cost(connection, merged) if callable(self.cost) else self.cost
        stat = await self.stat(connection, context)
        return stat is None or stat.hits_remaining >= cost

    async def get_headers(self, connection: C, headers: Mapping[str, Header | str] | None = None,
                          stat: StrategyStat | None = None, context: Context | None = None,
                          ) -> dict[str, str]:
        """The throttle's headers and `headers` over them."""
        merged = {**self.headers, **(headers or {})}
        if stat is None and any(isinstance(header, Header) for header in merged.values()):
            stat = await self.stat(connection, context)
        return resolve(merged, connection, stat, context)

    async def disable(self) -> None:
        self._disabled = True

    async def enable(self) -> None:
        self._disabled = False


class HTTPThrottle(Throttle[Request]):
    """A limit for each client, method and path; without the method if not `use_method`."""
    connection_type = Request

    def __init__(self, uid: str, rate: Any, *args: Any, use_method: bool = True,
                 **kwargs: Any) -> None:
        super().__init__(uid, rate, *args, **kwargs)
        self.use_method = use_method

    def get_scoped_key(self, connection: Request, context: Context) -> str:
        scope = connection.scope
        method = scope['method'] if self.use_method else ''
        return f'{scope["type"]}:{method}:{scope["path"]}:{context["scope"]}'

    async def set_headers(self, response: Response, connection: Request, *,
                          headers: Mapping[str, Header | str] | None = None,
                          stat: StrategyStat | None = None, context: Context | None = None) -> None:
        response.headers.update(await self.get_headers(connection, headers, stat, context))


class WebSocketThrottle(Throttle[WebSocket]):
    """Before accept() a limit of connections; hit(websocket, context={'scope': 'message'}) for
    each message one of messages."""
    connection_type = WebSocket
    default_handler = staticmethod(websocket_throttled)


RequestThrottle = HTTPThrottle


def get_wait(connection: HTTPConnection) -> float | None:
    """What the last throttle answered, in ms; 0.0: passed; None: none has seen the connection."""
    return getattr(connection.state, WAIT, None)


def is_throttled(connection: HTTPConnection) -> bool:
    return bool(get_wait(connection))


def throttled(*throttles: Throttle[Any]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates an endpoint, of Starlette or FastAPI, that takes its Request or WebSocket."""

    def decorate(endpoint: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(endpoint)
        async def wrapper(*args: Any, **kwargs: Any) -> Any:
            connection = next((value for value in (*args, *kwargs.values())
                               if isinstance(value, HTTPConnection)), None)
            if connection is None:
                raise ConfigurationError(f'{endpoint.__name__} takes no Request or WebSocket')
            for throttle in throttles:
                await throttle(connection)
            return await endpoint(*args, **kwargs)
        return wrapper
    return decorate


class MiddlewareThrottle:
    """A throttle for the requests of some methods, of paths that begin as the pattern `path`, of
    which `async predicate(connection)` is true."""

    def __init__(self, throttle: Throttle[Any], path: str | re.Pattern[str] | None = None,
                 methods: Iterable[str] | None = None,
                 predicate: Callable[[Any], Awaitable[bool]] | None = None) -> None:
        self.throttle = throttle
        self.path = re.compile(path) if path is not None else None
        self.methods = None if methods is None else {method.upper() for method in methods}
        self.predicate = predicate

    async def __call__(self, connection: Any) -> Any:
        if ((self.methods is None or connection.scope['method'] in self.methods)
                and (self.path is None or self.path.match(connection.scope['path']))
                and (self.predicate is None or await self.predicate(connection))):
            await self.throttle(connection)
        return connection


class ThrottleMiddleware:
    """ASGI middleware: each HTTP request meets the throttles in order. What one of them raises is
    for the app's own exception handlers; without one an HTTPException is answered here."""

    def __init__(self, app: Any, middleware_throttles: Sequence[Any],
                 backend: BrimBackend | None = None) -> None:
        self.app = app
        self.throttles = middleware_throttles
        self.backend = backend

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope['type'] == 'http':
            request = Request(scope, receive)
            for one in self.throttles:
                throttle = getattr(one, 'throttle', one)
                if throttle.backend is None and not throttle.dynamic_backend:
                    throttle.backend = self.backend
                try:
                    await one(request)
                except Exception as error:
                    response = await self._answer(request, error)
                    await response(scope, receive, send)
                    return
        await self.app(scope, receive, send)

    @staticmethod
    async def _answer(request: Request, error: Exception) -> Any:
        handlers = getattr(request.scope.get('app'), 'exception_handlers', {})
        handler = next((handlers[one] for one in type(error).__mro__ if one in handlers), None)
        if handler is not None:
            answer = handler(request, error)
            return await answer if inspect.isawaitable(answer) else answer
        if not isinstance(error, HTTPException):
            raise error
        return JSONResponse({'detail': error.detail}, error.status_code, error.headers)
