#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim.wsgi: the middleware as servers and apps meet it.

Goal and method as in asgi_test.py; the standard library's wsgiref.validate stands between the
middleware and the driver, and inside of it before the app, and fails what PEP 3333 forbids.
"""
import random
import sys
import threading
import time
import unittest
import wsgiref.validate

import brim
import drive
import segment
from brim import keys
from brim.rules import Rule, Rules
from brim.wsgi import RateLimitMiddleware


class Body:
    """An iterable that knows whether it was closed."""

    def __init__(self, chunks):
        self.chunks, self.closed = iter(chunks), 0

    def __iter__(self):
        return self.chunks

    def close(self):
        self.closed += 1


class App:
    def __init__(self, fields=(), chunks=(b'ok',), write=b''):
        self.calls, self.bodies, self.write = 0, [], write
        self.fields = [('Content-Type', 'text/plain'), *fields]
        self.chunks = chunks

    def __call__(self, environ, start_response):
        self.calls += 1
        write = start_response('200 OK', self.fields)
        if self.write:
            write(self.write)
        self.bodies.append(Body(self.chunks))
        return self.bodies[-1]


class Case(segment.SegmentTest):
    def setUp(self):
        super().setUp()
        self.app = App()

    def limited(self, text='fixed-window 2/d first-hit', app=None, on_refused=None, **options):
        rule = {name: options.pop(name) for name in ('path', 'key', 'methods', 'cost', 'when')
                if name in options}
        return RateLimitMiddleware(wsgiref.validate.validator(app or self.app),
                                   Rules(self.name, [Rule('r', text, **rule)], **options),
                                   on_refused=on_refused)


class Wsgi(Case):
    def test_admitted_then_refused(self):
        limited = self.limited()
        for left in (1, 0):
            response = drive.wsgi(limited)
            self.assertEqual((response.status, response.body), (200, b'ok'))
            self.assertEqual(response.limits()['r']['r'], left)
            self.assertEqual(response.policies(), {'r': {'q': 2, 'w': 86400}})
        response = drive.wsgi(limited)
        self.assertEqual((response.status, response.problem()['violated-policies']), (429, ['r']))
        self.assertTrue(86300 < int(response.one('retry-after')) <= 86400)
        self.assertEqual(drive.wsgi(limited, method='HEAD').body, b'')
        self.assertEqual(drive.wsgi(limited, client='192.0.2.10').status, 200)
        self.assertEqual(self.app.calls, 3)
        self.assertEqual([body.closed for body in self.app.bodies], [1] * 3)

    def test_what_the_app_returns_is_handed_on_as_it_is(self):
        for path in ('/', '/free'):
            made = object()
            limited = RateLimitMiddleware(lambda environ, start, m=made: m,
                                          Rules(self.name, [Rule('r', '100/d')],
                                                exempt=['/free']))
            self.assertIs(limited(drive.environ(path), None), made)  # file_wrapper, close(), ...

    def test_start_response_is_the_servers_where_nothing_is_limited(self):
        seen = []
        limited = RateLimitMiddleware(lambda environ, start: seen.append(start) or [],
                                      Rules(self.name, [Rule('r', '100/d', path='/x')]))
        limited(drive.environ(), drive.wsgi)
        self.assertEqual(seen, [drive.wsgi])

    def test_write(self):
        response = drive.wsgi(self.limited(app=App(write=b'written, ', chunks=[b'returned'])))
        self.assertEqual(response.body, b'written, returned')

    def test_generators_that_start_late(self):
        def app(environ, start_response):
            start_response('200 OK', [('Content-Type', 'text/plain')])
            yield b'a'
            yield b'b'

        response = drive.wsgi(self.limited(app=app))
        self.assertEqual((response.body, list(response.limits())), (b'ab', ['r']))

    def test_an_error_after_the_start(self):
        seen = []

        def app(environ, start_response):
            start_response('200 OK', [('Content-Type', 'text/plain')])
            try:
                raise ZeroDivisionError
            except ZeroDivisionError:
                start_response('500 Sorry', [('Content-Type', 'text/plain')], sys.exc_info())
            return [b'sorry']

        def server(status, fields, exc_info=None):
            seen.append((status, exc_info and exc_info[0], [name for name, _ in fields]))
            return print

        answer = self.limited(app=app)(drive.environ(), server)
        self.assertEqual(b''.join(answer), b'sorry')
        answer.close()
        fields = ['Content-Type', 'RateLimit-Policy', 'RateLimit']
        self.assertEqual(seen, [('200 OK', None, fields),
                                ('500 Sorry', ZeroDivisionError, fields)])

        def late(status, fields, exc_info=None):  # the server has sent the header: it raises
            if exc_info:
                raise exc_info[1].with_traceback(exc_info[2])
            return print

        with self.assertRaises(ZeroDivisionError):
            self.limited(app=app)(drive.environ(), late)

    def test_fields_of_the_app_are_its_own(self):
        app = App([('ratelimit', '"mine";r=5'), ('Set-Cookie', 'a'), ('Set-Cookie', 'b')])
        response = drive.wsgi(self.limited(app=app))
        self.assertEqual(response.one('RateLimit'), '"mine";r=5')
        self.assertEqual(list(response.policies()), ['r'])
        self.assertEqual(len(app.fields), 4)

    def test_a_handler_makes_the_response(self):
        def page(environ, start_response):
            start_response('420 Slow', [('Content-Type', 'text/plain'), ('Retry-After', '7')])
            return [b'slow']

        limited = self.limited('1/d', on_refused=lambda request, outcome: page)
        drive.wsgi(limited)
        response = drive.wsgi(limited)
        self.assertEqual((response.status, response.body, response.one('retry-after')),
                         (420, b'slow', '7'))
        self.assertEqual(response.limits()['r']['r'], 0)

    def test_statuses(self):
        for status in (503, 599):
            limited = self.limited('1/d', status=status)
            drive.wsgi(limited)
            self.assertEqual(drive.wsgi(limited).status, status)

    def test_coroutine_functions_are_refused_when_it_is_made(self):
        async def function(_):
            return 'a'

        class Object:
            async def __call__(self, _):
                return 'a'

        for one in (function, Object()):
            for option in ('key', 'cost', 'when'):
                with self.assertRaises(TypeError):
                    self.limited(**{option: one})
        with self.assertRaises(TypeError):
            rules = Rules(self.name, [Rule('r', 'fixed-window 2/d first-hit')], key=function)
            RateLimitMiddleware(self.app, rules)

    def test_errors_are_the_apps(self):
        def fails(environ, start_response):
            raise ZeroDivisionError

        with self.assertRaises(ZeroDivisionError):
            drive.wsgi(self.limited(app=fails))
        with self.assertRaises(ZeroDivisionError):
            drive.wsgi(self.limited(key=lambda _: 1 // 0))

    def test_a_queue_delays_in_its_thread(self):
        limited = self.limited('queue 20/s burst 2')
        start = time.monotonic()
        for _ in range(3):
            self.assertEqual(drive.wsgi(limited).status, 200)
        self.assertGreater(time.monotonic() - start, 0.09)

    def test_exact_counts_in_threads(self):
        app, statuses = App(), []
        limited = self.limited('100/d', app=app)

        def client():
            for _ in range(40):
                statuses.append(drive.wsgi(limited).status)

        threads = [threading.Thread(target=client) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual((statuses.count(200), statuses.count(429)), (100, 140))

    def test_hostile_requests(self):
        draw = random.Random(4)
        key = keys.combined(
            keys.by_header('X-API-Key', keys.by_address(trusted_proxies=['192.0.2.0/24'])),
            keys.by_path)
        limited = RateLimitMiddleware(self.app, Rules(self.name, [Rule('r', '3/d', key=key)]))
        texts = ['', '\0', '\xff' * 10_000, 'a' * 10_000, '1.2.3.4', '"', ',' * 99, '\x80|\\']
        statuses = set()
        for _ in range(300):
            headers = [(draw.choice(['X-API-Key', 'X-Forwarded-For', 'Host']), draw.choice(texts))]
            response = drive.wsgi(limited, draw.choice(['/', '', '/\0', '/ü', '/a|b', '*']),
                                  headers=headers, checked=False,
                                  client=draw.choice([None, 'unix', '192.0.2.1', '::1%lo', '\xff']))
            statuses.add(response.status)
            self.assertEqual((set(response.policies()), set(response.limits())), ({'r'}, {'r'}))
        self.assertEqual(statuses, {200, 429})

    def test_bytes_of_a_path(self):
        limited = self.limited('1/d', path='/café')
        self.assertEqual([drive.wsgi(limited, '/café').status for _ in range(2)], [200, 429])
        self.assertIsNone(drive.wsgi(limited, '/cafe').one('ratelimit'))


class WithFlask(Case):
    def test_app_and_client(self):
        try:
            import flask
        except ImportError as missing:
            self.skipTest(str(missing))
        app = flask.Flask('test')
        app.add_url_rule('/', view_func=lambda: 'ok')
        rules = Rules(self.name, [Rule('r', '2/d')])
        app.wsgi_app = RateLimitMiddleware(
            app.wsgi_app, rules, on_refused=lambda *_: flask.Response('slow', 429))
        client = app.test_client()
        self.assertEqual([client.get('/').status_code for _ in range(3)], [200, 200, 429])
        response = client.get('/')
        self.assertEqual((response.text, response.headers['RateLimit'][:7]), ('slow', '"r";r=0'))
        self.assertIn('Retry-After', response.headers)


if __name__ == '__main__':
    unittest.main()
