#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim.asgi: the middleware as servers and apps meet it.

Goal: what passes reaches the app unchanged, what is refused does not reach it, and the fields are
there once, parse, and agree. Method: a hand-driven server (drive.py) and, for what they do on
their own, Starlette's router and its test client.
"""
import asyncio
import os
import pathlib
import random
import re
import time
import unittest

import brim
import drive
import segment
from brim import headers, keys
from brim.asgi import RateLimitMiddleware
from brim.rules import Rule, Rules
DENIAL = {'websocket.http.response': {}}


class App:
    """Answers 200 and counts; `fields` are its own."""

    def __init__(self, fields=(), chunks=(b'ok',)):
        self.calls, self.fields, self.chunks = [], list(fields), chunks

    async def __call__(self, scope, receive, send):
        self.calls.append(scope)
        if scope['type'] == 'websocket':
            assert (await receive())['type'] == 'websocket.connect'
            return await send({'type': 'websocket.accept'})
        await send({'type': 'http.response.start', 'status': 200, 'headers': self.fields})
        for i, chunk in enumerate(self.chunks):
            await send({'type': 'http.response.body', 'body': chunk,
                        'more_body': i + 1 < len(self.chunks)})


class Case(segment.SegmentTest):
    def setUp(self):
        super().setUp()
        self.app = App()

    def limited(self, text='fixed-window 2/d first-hit', app=None, on_refused=None, **options):
        rule = {name: options.pop(name) for name in ('path', 'key', 'methods', 'cost', 'when')
                if name in options}
        return RateLimitMiddleware(app or self.app,
                                   Rules(self.name, [Rule('r', text, **rule)], **options),
                                   on_refused=on_refused)


class Http(Case):
    def test_admitted_then_refused(self):
        limited = self.limited()
        for left in (1, 0):
            response = drive.asgi_now(limited)
            self.assertEqual((response.status, response.body), (200, b'ok'))
            self.assertEqual(response.limits()['r']['r'], left)
            self.assertEqual(response.policies(), {'r': {'q': 2, 'w': 86400}})
            self.assertIsNone(response.one('retry-after'))
        response = drive.asgi_now(limited)
        self.assertEqual(response.status, 429)
        self.assertEqual(response.problem()['violated-policies'], ['r'])
        self.assertEqual(response.limits()['r']['r'], 0)
        wait = int(response.one('retry-after'))
        self.assertTrue(86300 < wait <= 86400)
        self.assertEqual(response.limits()['r']['t'], wait)
        self.assertEqual(len(self.app.calls), 2)

    def test_what_is_not_limited_is_not_touched(self):
        limited = self.limited(path='/api/*')
        seen = []

        async def app(scope, receive, send):
            seen.append((scope, receive, send))

        limited = RateLimitMiddleware(app, limited.rules)
        for given in [{'type': 'lifespan'}, drive.scope('/other')]:
            asyncio.run(limited(given, len, print))
            self.assertEqual(seen.pop(), (given, len, print))

    def test_a_head_gets_no_body(self):
        limited = self.limited()
        for _ in range(3):
            response = drive.asgi_now(limited, method='HEAD')
        self.assertEqual((response.status, response.body), (429, b''))
        self.assertGreater(int(response.one('content-length')), 50)

    def test_fields_of_the_app_are_its_own(self):
        app = App([(b'ratelimit', b'"mine";r=5'), (b'set-cookie', b'a'), (b'set-cookie', b'b')])
        response = drive.asgi_now(self.limited(app=app))
        self.assertEqual(response.one('ratelimit'), '"mine";r=5')
        self.assertEqual(response.policies(), {'r': {'q': 2, 'w': 86400}})
        self.assertEqual([v for k, v in response.fields if k == 'set-cookie'], ['a', 'b'])
        self.assertEqual(len(app.fields), 3)  # the app's list is not ours to change
        # Two limiters, one inside the other: the inner one speaks for what it knows better.
        inner = self.limited()
        outer = RateLimitMiddleware(inner, Rules(self.name, [Rule('outer', '100/d')]))
        response = drive.asgi_now(outer)
        self.assertEqual(list(response.limits()), ['r'])

    def test_streams_pass_as_they_come(self):
        app = App(chunks=[b'a', b'b', b'c'])
        response = drive.asgi_now(self.limited(app=app))
        self.assertEqual([m['type'] for m in response.messages],
                         ['http.response.start'] + ['http.response.body'] * 3)
        self.assertEqual(response.body, b'abc')
        self.assertEqual(list(response.limits()), ['r'])

    def test_errors_of_the_app_are_its_own(self):
        async def fails(scope, receive, send):
            raise ZeroDivisionError

        async def fails_late(scope, receive, send):
            await send({'type': 'http.response.start', 'status': 200, 'headers': []})
            raise ZeroDivisionError

        for app in (fails, fails_late):
            with self.assertRaises(ZeroDivisionError):
                drive.asgi_now(self.limited(app=app))
        with self.assertRaises(ZeroDivisionError):
            drive.asgi_now(self.limited(key=lambda _: 1 // 0))
        self.assertEqual(drive.asgi_now(self.limited()).status, 429)  # they were counted

    def test_a_client_that_leaves(self):
        async def gone(message):
            raise OSError('the connection is closed')

        async def receive():
            return {'type': 'http.disconnect'}

        for _ in range(3):
            with self.assertRaises(OSError):
                asyncio.run(self.limited()(drive.scope(), receive, gone))

    def test_a_handler_makes_the_response(self):
        async def page(scope, receive, send):
            await send({'type': 'http.response.start', 'status': 420,
                        'headers': [(b'retry-after', b'7')]})
            await send({'type': 'http.response.body', 'body': b'slow down'})

        seen = []

        def handler(request, outcome):
            seen.append((request.path, outcome.violated))
            return page

        async def waiting(request, outcome):
            await asyncio.sleep(0)
            return handler(request, outcome)

        for one in (handler, waiting):
            self.remove(self.name)
            limited = self.limited('1/d', on_refused=one)
            drive.asgi_now(limited)
            response = drive.asgi_now(limited, '/x')
            self.assertEqual((response.status, response.body), (420, b'slow down'))
            self.assertEqual(response.one('retry-after'), '7')
            self.assertEqual(response.limits()['r']['r'], 0)
        self.assertEqual(seen, [('/x', ['r'])] * 2)

    def test_options_reach_the_response(self):
        limited = self.limited('1/d', legacy='delta', least_retry_after=90000, status=503,
                               extra_fields={'X-Help': '/ü'}, exempt=['/health'])
        response = drive.asgi_now(limited)
        self.assertEqual(response.one('x-ratelimit-limit'), '1')
        response = drive.asgi_now(limited)
        self.assertEqual((response.status, response.one('retry-after'), response.one('x-help')),
                         (503, '90000', '/ü'))
        self.assertEqual(response.one('x-ratelimit-remaining'), '0')
        self.assertIsNone(drive.asgi_now(limited, '/health').one('ratelimit'))

    def test_a_queue_delays_in_the_event_loop(self):
        limited = self.limited('queue 20/s burst 4')

        async def crowd():
            ended, start = [], time.monotonic()

            async def one(i):
                self.assertEqual((await drive.asgi(limited)).status, 200)
                ended.append((i, time.monotonic() - start))

            await asyncio.gather(*(one(i) for i in range(4)))
            return ended

        ended = asyncio.run(crowd())  # they wait beside each other, 50 ms apart
        self.assertEqual([i for i, _ in ended], [0, 1, 2, 3])
        self.assertGreater(ended[3][1], 0.149)

    def test_exact_counts_of_concurrent_requests(self):
        async def key(request):
            await asyncio.sleep(random.random() / 1000)
            return request.path

        limited = self.limited('100/d', key=key)

        async def crowd():
            return await asyncio.gather(*(drive.asgi(limited, f'/{i % 3}') for i in range(450)))

        responses = asyncio.run(crowd())
        self.assertEqual([r.status for r in responses].count(200), 300)
        self.assertEqual([r.status for r in responses].count(429), 150)
        self.assertEqual(len(self.app.calls), 300)
        self.assertEqual(sorted(r.limits()['r']['r'] for r in responses if r.status == 200),
                         sorted(list(range(100)) * 3))


class WebSockets(Case):
    def test_accepted(self):
        response = drive.asgi_now(self.limited(), kind='websocket')
        self.assertEqual(response.messages[0]['type'], 'websocket.accept')
        self.assertEqual(response.limits()['r']['r'], 1)
        self.assertEqual(self.app.calls[0]['type'], 'websocket')

    def refused(self, **options):
        limited = self.limited('1/d', **options.pop('limited', {}))
        drive.asgi_now(limited, kind='websocket')
        return drive.asgi_now(limited, kind='websocket', **options)

    def test_refused_with_a_response_if_the_server_can(self):
        response = self.refused(extensions=DENIAL)
        self.assertEqual([m['type'] for m in response.messages],
                         ['websocket.http.response.start', 'websocket.http.response.body'])
        self.assertEqual(response.status, 429)
        self.assertEqual(response.problem()['violated-policies'], ['r'])
        self.assertTrue(86300 < int(response.one('retry-after')) <= 86400)
        self.assertEqual(len(self.app.calls), 1)

    def test_else_closed_before_it_is_accepted(self):
        for extensions in ({}, None):
            response = self.refused(extensions=extensions)
            self.assertEqual(response.messages, [{'type': 'websocket.close', 'code': 1013}])
            self.assertEqual(response.unread, [])  # a server waits for its connect to be taken

    def test_a_handler(self):
        async def page(scope, receive, send):
            kind = scope['type'] == 'websocket' and 'websocket.http' or 'http'  # as Starlette does
            await send({'type': f'{kind}.response.start', 'status': 403, 'headers': []})
            await send({'type': 'http.response.body', 'body': b'no'})  # and as older ones do

        response = self.refused(limited={'on_refused': lambda *_: page}, extensions=DENIAL)
        self.assertEqual([m['type'] for m in response.messages],
                         ['websocket.http.response.start', 'websocket.http.response.body'])
        self.assertEqual((response.status, response.body), (403, b'no'))
        self.assertIsNotNone(response.one('retry-after'))

    def test_methods(self):
        limited = self.limited('1/d', methods=['WEBSOCKET'])
        for _ in range(3):
            self.assertEqual(drive.asgi_now(limited).status, 200)
        drive.asgi_now(limited, kind='websocket')
        self.assertEqual(drive.asgi_now(limited, kind='websocket').messages[0]['code'], 1013)


class Hostile(Case):
    def test_any_request_gets_an_answer_whose_fields_parse(self):
        draw = random.Random(3)
        key = keys.combined(
            keys.by_header('X-API-Key', keys.by_address(trusted_proxies=['192.0.2.0/24'])),
            keys.by_path)
        limited = self.limited('3/d', key=key, legacy='epoch')
        texts = [b'', b'\0', b'\xff' * 10_000, b'a' * 10_000, b'1.2.3.4', b'"', b'\r\nX: y',
                 b',' * 99, 'ü'.encode(), b'for=1.2.3.4', b';q=1', b'\x80|\\']
        paths = ['/', '', '/\0', '/\ud800', '/' + 'x' * 10_000, '*', '/ü', '//', '/%00', '/a|b']
        clients = [('192.0.2.1', 1), None, ('', 0), ('unix', 0), ('::1%lo', 1), []]
        statuses = []
        for _ in range(400):
            headers = [(draw.choice(['X-API-Key', 'X-Forwarded-For', 'Forwarded', 'Host']),
                        draw.choice(texts)) for _ in range(draw.randint(0, 4))]
            response = drive.asgi_now(limited, draw.choice(paths), headers=headers,
                                      method=draw.choice(['GET', 'POST', '', 'g\0', 'HEAD']),
                                      client=draw.choice(clients))
            statuses.append(response.status)
            self.assertEqual(set(response.policies()), {'r'})
            self.assertEqual(set(response.limits()), {'r'})
            if response.status == 429:
                self.assertGreaterEqual(int(response.one('retry-after')),
                                        response.limits()['r']['t'])
        self.assertEqual(set(statuses), {200, 429})


class Page(Case):
    """docs/reference/http.md."""

    def test_the_example(self):
        root = pathlib.Path(os.environ.get('BRIM_ROOT', pathlib.Path(__file__).parents[2]))
        text = (root / 'docs/reference/http.md').read_text()
        block, = re.findall(r'```python\n(.*?)```', text, re.S)
        names = {'app': self.app}
        exec(block.replace("'api'", repr(self.name)), names)  # pylint: disable=exec-used

        def ask(path, **more):
            return drive.asgi_now(names['app'], path, **more)

        self.assertIsNone(ask('/health').one('ratelimit'))
        self.assertEqual(ask('/').limits(), {'per_ip': {'r': 19, 't': 1}})
        response = ask('/login', method='POST')
        self.assertEqual(list(response.policies()), ['per_ip', 'login/1', 'login/2'])
        self.assertEqual(response.limits()['login']['r'], 4)
        self.assertEqual(list(ask('/files/a', method='POST').policies()), ['per_ip', 'files'])
        left = brim.Limiter.attach(self.name).policy('files').peek('192.0.2.9').remaining
        self.assertIn(left, range(990, 999))
        for name in headers.EXPOSED:
            self.assertIn(name.replace('X-RateLimit', ''), text.replace('X-RateLimit', ''))


class WithStarlette(Case):
    def test_router_and_client(self):
        try:
            from starlette.applications import Starlette
            from starlette.responses import PlainTextResponse, StreamingResponse
            from starlette.routing import Route, WebSocketRoute
            from starlette.testclient import TestClient
            from starlette.websockets import WebSocketDisconnect
        except ImportError as missing:
            self.skipTest(str(missing))

        async def echo(websocket):
            await websocket.accept()
            await websocket.send_text('hello')
            await websocket.close()

        app = Starlette(routes=[
            Route('/', lambda _: PlainTextResponse('ok')),
            Route('/stream', lambda _: StreamingResponse(iter([b'a', b'b']))),
            Route('/fails', lambda _: 1 // 0),
            WebSocketRoute('/ws', echo)])
        app.add_middleware(RateLimitMiddleware,
                           rules=Rules(self.name, [Rule('r', '4/d'),
                                                      Rule('ws', '1/d', methods=['WEBSOCKET'])]),
                           on_refused=lambda request, _: PlainTextResponse('slow', 429))
        with TestClient(app, raise_server_exceptions=False) as client:
            self.assertEqual(client.get('/').headers['ratelimit-policy'], '"r";q=4;w=86400')
            self.assertEqual(client.get('/stream').text, 'ab')
            self.assertEqual(client.get('/fails').status_code, 500)
            with client.websocket_connect('/ws') as websocket:
                self.assertEqual(websocket.receive_text(), 'hello')
            with self.assertRaises(WebSocketDisconnect) as refused:
                client.websocket_connect('/ws').__enter__()
            self.assertEqual(refused.exception.code, 1013)
            response = client.get('/')
            self.assertEqual((response.status_code, response.text), (429, 'slow'))
            self.assertIn('retry-after', response.headers)


if __name__ == '__main__':
    unittest.main()
