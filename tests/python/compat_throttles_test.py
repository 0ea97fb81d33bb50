# SPDX-License-Identifier: MIT
"""traffik's throttles over brim, in Starlette and FastAPI apps."""
import contextlib
import math
import os
import unittest
import warnings

from fastapi import Depends, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

import brim
from brim.compat import _store
from brim.compat.traffik import (
    DEFAULT_HEADERS_ALWAYS, EXEMPTED, BrimBackend, ConfigurationError, ConnectionThrottled, Header,
    HTTPThrottle, MiddlewareThrottle, Rate, SlidingWindowCounter, SlidingWindowLog,
    ThrottleMiddleware, TokenBucket, WebSocketThrottle, get_wait, is_throttled, throttled)

NAME = f'compat-throttles-{os.getpid()}'
FAR = Rate(limit=2, hours=24_000)


class Case(unittest.TestCase):
    def setUp(self):
        warnings.simplefilter('ignore')  # of the libraries of this machine among themselves
        self.backend = BrimBackend(NAME, capacity=1024)
        self.addCleanup(_store.Store.remove, NAME)
        self.addCleanup(self.backend.store.close)
        self.addCleanup(brim.Limiter.unlink, NAME)
        self.backend.policies.limiter
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)

    def client(self, app):
        return self.stack.enter_context(TestClient(app, raise_server_exceptions=False))

    def throttle(self, uid='t', rate=FAR, **options):
        return HTTPThrottle(uid, rate, backend=self.backend, **options)

    def app(self, throttle, path='/'):
        app = FastAPI()

        @app.api_route(path, methods=['GET', 'POST'], dependencies=[Depends(throttle)])
        async def endpoint(request: Request):
            return {'wait': get_wait(request), 'throttled': is_throttled(request)}
        return self.client(app)

    def codes(self, client, calls, **request):
        return [client.request(request.get('method', 'GET'), request.get('path', '/'),
                               headers=request.get('headers')).status_code for _ in range(calls)]


class HttpTest(Case):
    def test_the_readme_program(self):
        """A throttle that takes the backend of the app's lifespan."""
        throttle = HTTPThrottle('items', '2/1000d')
        app = FastAPI()
        app.router.lifespan_context = self.backend.lifespan  # what later ones take as `lifespan`

        @app.get('/items', dependencies=[Depends(throttle)])
        async def items():
            return {'items': []}
        client = self.client(app)
        self.assertEqual(self.codes(client, 3, path='/items'), [200, 200, 429])
        parameters = client.get('/openapi.json').json()['paths']['/items']['get']
        self.assertNotIn('parameters', parameters)
        self.assertNotIn('requestBody', parameters)

    def test_without_a_backend(self):
        app = FastAPI()
        app.get('/', dependencies=[Depends(HTTPThrottle('t', '1/m'))])(lambda: None)
        self.assertEqual(self.client(app).get('/').status_code, 500)

    def test_refused(self):
        client = self.app(self.throttle(headers={
            **DEFAULT_HEADERS_ALWAYS, 'X-Static': 'yes', 'X-Gone': Header('no'),
            'X-Few': Header('few', when=lambda _, stat, __: stat.hits_remaining < 1),
            'X-Many': Header('many', when=lambda _, stat, __: stat.hits_remaining > 1)},
            context={'detail': 'slow down', 'headers': {'X-Gone': Header.DISABLE}}))
        self.assertEqual(client.get('/').json(), {'wait': 0.0, 'throttled': False})
        self.assertEqual(self.codes(client, 1), [200])
        response = client.get('/')
        self.assertEqual((response.status_code, response.json()), (429, {'detail': 'slow down'}))
        headers = response.headers
        self.assertEqual((headers['X-RateLimit-Limit'], headers['X-RateLimit-Remaining'],
                          headers['X-Static'], headers['X-Few']), ('2', '0', 'yes', 'few'))
        self.assertNotIn('X-Gone', headers)
        self.assertNotIn('X-Many', headers)
        wait = int(headers['Retry-After'])
        self.assertAlmostEqual(wait, int(headers['X-RateLimit-Reset']), delta=60)
        self.assertGreater(wait, 0)

    def test_keys(self):
        client = self.app(self.throttle(), '/{name}')
        for path in ['/a', '/b']:
            self.assertEqual(self.codes(client, 3, path=path), [200, 200, 429])
        self.assertEqual(self.codes(client, 3, path='/a', method='POST'), [200, 200, 429])
        client = self.app(self.throttle('u', use_method=False))
        self.assertEqual(self.codes(client, 1, method='POST') + self.codes(client, 2),
                         [200, 200, 429])

    def test_identifier(self):
        async def api_key(request):
            name = request.headers.get('x-api-key', '')
            return EXEMPTED if name == 'root' else name
        client = self.app(self.throttle(identifier=api_key))
        for name, codes in [('a', [200, 200, 429]), ('b\xff', [200, 200, 429]),
                            ('root', [200, 200, 200])]:
            headers = [(b'x-api-key', name.encode('latin-1'))]
            self.assertEqual(self.codes(client, 3, headers=headers), codes, name)

    def test_no_header_is_trusted(self):
        client = self.app(self.throttle())
        codes = [client.get('/', headers={'X-Forwarded-For': f'192.0.2.{i}'}).status_code
                 for i in range(3)]
        self.assertEqual(codes, [200, 200, 429])

    def test_rate_and_cost_functions(self):
        async def rate(request, context):
            return Rate() if 'free' in request.headers else Rate.parse(context['rate'])

        async def cost(request, context):
            return int(request.headers.get('cost', '1'))
        client = self.app(self.throttle(rate=rate, cost=cost, context={'rate': '5/1000d'}))
        self.assertEqual(self.codes(client, 9, headers={'free': '1'}), [200] * 9)
        self.assertEqual(self.codes(client, 9, headers={'cost': '0'}), [200] * 9)
        self.assertEqual(self.codes(client, 2, headers={'cost': '3'}), [200, 429])
        self.assertEqual(self.codes(client, 3), [200, 200, 429])
        response = client.get('/', headers={'cost': '6'})  # more than there ever is
        self.assertEqual(response.status_code, 429)
        self.assertNotIn('Retry-After', response.headers)
        self.assertEqual(self.codes(client, 1, headers={'cost': '-1'}), [500])

    def test_handler_and_least_wait(self):
        seen = []

        async def handler(request, wait_ms, throttle, context):
            seen.append((wait_ms, throttle.uid, context['scope']))
            raise ConnectionThrottled(wait_ms, status_code=503)
        client = self.app(self.throttle(
            rate='1/10ms', strategy=lambda *_: self.waits(3.0), handle_throttled=handler,
            min_wait_period=1500))
        response = client.get('/')
        self.assertEqual((response.status_code, response.headers['Retry-After']), (503, '2'))
        self.assertEqual(seen, [(1500, 't', 'default')])
        # A call that passes waits for nothing.
        passing = self.throttle(strategy=lambda *_: self.waits(0.0), min_wait_period=1500)
        self.assertEqual(self.codes(self.app(passing), 1), [200])

    async def waits(self, answer):
        if isinstance(answer, Exception):
            raise answer
        return answer

    def test_marked_only(self):
        client = self.app(self.throttle(skip_handler=True))
        answers = [client.get('/').json() for _ in range(3)]
        self.assertEqual([one['throttled'] for one in answers], [False, False, True])
        self.assertGreater(answers[2]['wait'], 1000)

    def test_errors(self):
        async def rule(request, info):
            self.assertEqual((str(info['exception']), info['cost']), ('broken', 1))
            return 5000.0
        for on_error, code in [('allow', 200), ('throttle', 429), ('raise', 500), (rule, 429)]:
            throttle = self.throttle(strategy=lambda *_: self.waits(RuntimeError('broken')),
                                     on_error=on_error)
            with self.assertLogs('brim.compat', 'WARNING') as logs:
                self.assertEqual(self.codes(self.app(throttle), 1), [code], on_error)
            self.assertIn('broken', logs.output[0])
        with self.assertRaises(ValueError):
            self.throttle(on_error='ignore')
        with self.assertRaises(ConfigurationError):
            self.throttle(dynamic_backend=True)

    def test_a_rate_that_no_policy_says(self):
        with self.assertRaises(brim.InvalidArgument):
            self.throttle(rate='3000000/h', strategy=SlidingWindowCounter())
        self.throttle(rate='3000000/h', strategy=SlidingWindowLog())  # is kept elsewhere

    def test_check_and_disable(self):
        throttle = self.throttle(strategy=TokenBucket(burst_size=3))
        app = FastAPI()

        @app.get('/')
        async def endpoint(request: Request):
            before = [await throttle.check(request, cost) for cost in (1, 3, 4)]
            await throttle(request, cost=2)
            stat = await throttle.stat(request)
            await throttle.disable()
            await throttle(request, cost=99)
            await throttle.enable()
            response = JSONResponse([before, stat.hits_remaining])
            await throttle.set_headers(response, request,
                                       headers={'X-Left': Header.REMAINING('always')})
            return response
        response = self.client(app).get('/')
        self.assertEqual(response.json(), [[True, True, False], 1])
        self.assertEqual(response.headers['X-Left'], '1')

    def test_decorator(self):
        one, two = self.throttle('one'), self.throttle('two', '5/1000d')

        @throttled(one, two)
        async def endpoint(request: Request):
            return PlainTextResponse('ok')
        starlette = self.client(Starlette(routes=[Route('/', endpoint)]))
        self.assertEqual(self.codes(starlette, 3), [200, 200, 429])
        app = FastAPI()
        app.get('/fast')(endpoint)
        self.assertEqual(self.codes(self.client(app), 3, path='/fast'), [200, 200, 429])

    def test_middleware(self):
        async def chosen(request):
            return 'skip' not in request.headers

        async def endpoint(request):
            return PlainTextResponse('ok')
        app = Starlette(routes=[Route('/{rest:path}', endpoint, methods=['GET', 'POST'])])
        app.add_middleware(ThrottleMiddleware, backend=self.backend, middleware_throttles=[
            MiddlewareThrottle(HTTPThrottle('m', FAR), path='/api/', methods={'post'},
                               predicate=chosen)])
        client = self.client(app)
        self.assertEqual(self.codes(client, 3, path='/api/x'), [200] * 3)
        self.assertEqual(self.codes(client, 3, path='/web', method='POST'), [200] * 3)
        self.assertEqual(self.codes(client, 3, path='/api/x', method='POST',
                                    headers={'skip': '1'}), [200] * 3)
        self.assertEqual(self.codes(client, 3, path='/api/x', method='POST'), [200, 200, 429])
        refused = client.post('/api/x')
        self.assertIn('Retry-After', refused.headers)
        self.assertIn('detail', refused.json())

        @app.exception_handler(ConnectionThrottled)
        def handler(request, error):
            return PlainTextResponse('mine', 503)
        self.assertEqual(client.post('/api/x').text, 'mine')

    def test_never(self):
        error = ConnectionThrottled(math.inf)
        self.assertEqual((error.headers, error.wait_period), ({}, math.inf))


class WebSocketTest(Case):
    def test_connections_and_messages(self):
        connects = WebSocketThrottle('connects', FAR, backend=self.backend)
        messages = WebSocketThrottle('messages', '3/1000d', backend=self.backend,
                                     context={'extras': {'more': 1}})
        app = FastAPI()

        @app.websocket('/ws')
        async def endpoint(websocket: WebSocket, _: object = Depends(connects)):
            await websocket.accept()
            with contextlib.suppress(WebSocketDisconnect):
                while True:
                    text = await websocket.receive_text()
                    await messages.hit(websocket, context={'scope': 'message'})
                    if not is_throttled(websocket):
                        await websocket.send_text(text)
        client = self.client(app)
        with client.websocket_connect('/ws') as socket:
            for _ in range(3):
                socket.send_text('x')
                self.assertEqual(socket.receive_text(), 'x')
            socket.send_text('x')
            answer = socket.receive_json()
        self.assertEqual((answer['type'], answer['more']), ('rate_limit', 1))
        self.assertGreater(answer['retry_after'], 0)
        with client.websocket_connect('/ws') as socket:  # the count is the client's
            socket.send_text('x')
            self.assertEqual(socket.receive_json()['type'], 'rate_limit')
        with self.assertRaises(WebSocketDisconnect) as refused:
            with client.websocket_connect('/ws'):
                self.fail('accepted')
        self.assertEqual(refused.exception.code, 1013)


if __name__ == '__main__':
    unittest.main()
