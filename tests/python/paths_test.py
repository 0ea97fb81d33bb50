#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Ways around rules that name paths or methods, with the routers of real frameworks.

Goal: what reaches an endpoint counts for the endpoint's rule, however the client spells it. Method:
Starlette, FastAPI and Flask behind the middlewares; each request that runs an endpoint must have
had the fields of its rule; those that need not (404, a redirect) are seen not to run it.
"""
import unittest

import drive
import segment
from brim import asgi, keys, wsgi
from brim.rules import Rule, Rules

# Spellings of /login; which of them a framework takes for it is its own affair.
SPELLINGS = ['/login', '/login\n', '/login\n\n', '//login', '///login', '/login/', '//login\n',
             'login', '/./login', '/x/../login', '/LOGIN', '/login;a', '/%6cogin', '/login\0',
             '/login\r\n', '/login ', '\n/login', '/\n/login', '/login//', '/login/\n']


class Case(segment.SegmentTest):
    def rules(self, **options):
        return Rules(self.name, [
            Rule('exact', '100/d', path='/login', methods=['POST']),
            Rule('prefix', '100/d', path='/api/*'),
            Rule('regex', '100/d', regex='^/api/.+$', methods=['GET']),
        ], key=keys.everyone, **options)

    def limited(self, response, rule):
        """Whether the endpoint ran; if it did, the rule must have counted."""
        if response.status == 200 and response.body == b'ran':
            self.assertIn(rule, response.policies())
            return True
        return False


class Flask(Case):
    def setUp(self):
        super().setUp()
        try:
            import flask
        except ImportError as missing:
            self.skipTest(str(missing))
        app = flask.Flask('paths')
        app.add_url_rule('/login', 'login', lambda: 'ran', methods=['POST'])
        app.add_url_rule('/api/<name>', 'api', lambda name: 'ran')
        self.app = wsgi.RateLimitMiddleware(app.wsgi_app, self.rules(exempt=['/api/free']))

    def call(self, path, rule, method='GET'):
        return self.limited(drive.wsgi(self.app, path, checked=False, method=method), rule)

    def test_spellings(self):
        ran = [path for path in SPELLINGS if self.call(path, 'exact', 'POST')]
        self.assertLessEqual({'/login', '//login', '///login'}, set(ran))
        for path in ('/api/x', '//api/x', '/api/x\ny', '//api/x\n', '//api/free'):
            for rule in ('prefix', 'regex'):
                self.assertTrue(self.call(path, rule), (path, rule))
        self.assertFalse(drive.wsgi(self.app, '/api/free').policies())

    def test_methods(self):
        self.assertTrue(self.call('/login', 'exact', 'post'))
        response = drive.wsgi(self.app, '/api/x', checked=False, method='head')
        self.assertEqual(response.status, 200)
        self.assertIn('regex', response.policies())


class Starlette(Case):
    def setUp(self):
        super().setUp()
        try:
            from starlette.applications import Starlette
            from starlette.responses import PlainTextResponse
            from starlette.routing import Mount, Route
        except ImportError as missing:
            self.skipTest(str(missing))

        async def run(request):
            return PlainTextResponse('ran')

        inner = Starlette(routes=[Route('/api/{name}', run),
                                  Route('/login', run, methods=['POST'])])
        self.app = asgi.RateLimitMiddleware(
            Starlette(routes=[*inner.routes, Mount('/v1', asgi.RateLimitMiddleware(
                inner, self.rules()))]), self.rules(exempt=['/api/free']))

    def call(self, path, rule, method='GET', **more):
        return self.limited(drive.asgi_now(self.app, path, method=method, **more), rule)

    def test_spellings(self):
        ran = [path for path in SPELLINGS if self.call(path, 'exact', 'POST')]
        self.assertLessEqual({'/login', '/login\n'}, set(ran))
        for path in ('/api/x', '/api/x\ny', '/api/x\n', '/api/free\n'):
            for rule in ('prefix', 'regex'):
                self.assertTrue(self.call(path, rule), (path, rule))
        self.assertFalse(drive.asgi_now(self.app, '/api/free').policies())

    def test_mounted(self):
        for path in ('/v1/login', '/v1/login\n'):
            self.assertTrue(self.call(path, 'exact', 'POST'), path)

    def test_a_root_path_in_the_path_or_not(self):
        """Servers differ in it, and so do releases of Starlette in what they route."""
        rules = self.rules(exempt=['/free'])
        for path in ('/login', '/v1/login', '/v1/login\n', '/v1//login'):
            request = keys.AsgiRequest(drive.scope(path, method='POST', root_path='/v1'))
            self.assertEqual(rules.decide_now(request).policies, ('exact',), path)
        whole = Rules(self.name, [Rule('whole', '100/d', path='/v1/login')])
        request = keys.AsgiRequest(drive.scope('/v1/login', root_path='/v1'))
        self.assertEqual(whole.decide_now(request).policies, ('whole',))

    def test_methods(self):
        response = drive.asgi_now(self.app, '/api/x', method='HEAD')
        self.assertEqual(response.status, 200)
        self.assertIn('regex', response.policies())


class FastApi(Case):
    def test_spellings(self):
        try:
            import fastapi
        except ImportError as missing:
            self.skipTest(str(missing))
        app = fastapi.FastAPI()

        @app.post('/login', response_class=fastapi.responses.PlainTextResponse)
        async def login():
            return 'ran'

        limited = asgi.RateLimitMiddleware(app, self.rules())
        ran = [path for path in SPELLINGS if self.limited(
            drive.asgi_now(limited, path, method='POST'), 'exact')]
        self.assertLessEqual({'/login', '/login\n'}, set(ran))


class Exemptions(Case):
    def test_only_of_paths_that_are_written_plainly(self):
        rules = Rules(self.name, [Rule('r', '100/d')], exempt=['/static/*', '/health'])
        for path, exempt in [('/static/a', True), ('/static/.well-known', True), ('/health', True),
                             ('//static/a', False), ('/static/a\n', False), ('/health\n', False),
                             ('/static/../login', False), ('/static/a/..', False)]:
            for request in (keys.AsgiRequest(drive.scope(path)),
                            keys.WsgiRequest(drive.environ(path))):
                self.assertEqual(rules.decide_now(request) is None, exempt, repr(path))


if __name__ == '__main__':
    unittest.main()
