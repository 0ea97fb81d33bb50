# SPDX-License-Identifier: MIT
"""fastapi-traffic's names over brim."""
import asyncio
import contextlib
import json
import math
import os
import tempfile
import time
import unittest
import warnings
from unittest import mock

from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import Request
from starlette.testclient import TestClient

import brim
from brim.compat import _store
from brim.compat import fastapi_traffic as ft

NAME = f'compat-fastapi-{os.getpid()}'
FAR = 1000 * 86400.0
ALL = list(ft.Algorithm)


class Case(unittest.TestCase):
    def setUp(self):
        warnings.simplefilter('ignore')  # of the libraries of this machine among themselves
        self.backend = ft.BrimBackend(NAME, capacity=1024)
        self.addCleanup(_store.Store.remove, NAME)
        self.addCleanup(self.backend.store.close)
        self.addCleanup(brim.Limiter.unlink, NAME)
        self.backend.policies.limiter
        ft.set_limiter(ft.RateLimiter(self.backend))
        self.stack = contextlib.ExitStack()
        self.addCleanup(self.stack.close)
        self.app = FastAPI()

    def client(self):
        return self.stack.enter_context(TestClient(self.app, raise_server_exceptions=False))

    def request(self, **headers):
        return Request({'type': 'http', 'method': 'GET', 'path': '/', 'client': ('192.0.2.1', 1),
                        'headers': [(k.encode(), v.encode()) for k, v in headers.items()]})


class BackendTest(Case):
    def test_protocol(self):
        async def main():
            async with self.backend as backend:
                self.assertIsNone(await backend.get('k'))
                self.assertFalse(await backend.exists('k'))
                await backend.set('k', {'count': 1, 'at': [1.5]}, ttl=60)
                self.assertEqual(await backend.get('k'), {'count': 1, 'at': [1.5]})
                self.assertTrue(await backend.exists('k'))
                await backend.set('gone', {}, ttl=0)
                self.assertFalse(await backend.exists('gone'))
                self.assertEqual(await backend.increment('n'), 1)
                self.assertEqual(await backend.increment('n', 4), 5)
                self.assertEqual(await backend.get('n'), 5)
                await backend.delete('k')
                self.assertFalse(await backend.exists('k'))
                await backend.clear()
                self.assertFalse(await backend.exists('n'))
        asyncio.run(main())

    def test_exact_in_processes(self):
        read, write = os.pipe()
        children = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                async def work():
                    limit = ft.get_algorithm('token_bucket', 100, FAR, self.backend)
                    for _ in range(60):
                        await self.backend.increment('n')
                        if (await limit.check('k'))[0]:
                            os.write(write, b'.')
                try:
                    asyncio.run(work())
                finally:
                    os._exit(0)
            children.append(pid)
        os.close(write)
        with open(read, 'rb') as said:
            self.assertEqual(len(said.read()), 100)
        for pid in children:
            os.waitpid(pid, 0)
        self.assertEqual(asyncio.run(self.backend.get('n')), 240)

    def test_their_backends(self):
        names = [ft.MemoryBackend(max_size=5).policies.segment,
                 ft.SQLiteBackend('var/rate limits.db', cleanup_interval=3).policies.segment]
        self.assertEqual(names, ['fastapi-traffic', 'rate-limits'])


class AlgorithmTest(Case):
    def test_each(self):
        async def main():
            for algorithm in ALL:
                limit = ft.get_algorithm(algorithm, 5, FAR, self.backend)
                for left in [4, 3, 2, 1, 0]:
                    allowed, info = await limit.check('k')
                    self.assertEqual((allowed, info.remaining, info.retry_after),
                                     (True, left, None), algorithm)
                allowed, info = await limit.check('k')
                self.assertEqual((allowed, info.remaining, info.limit), (False, 0, 5))
                self.assertGreater(info.retry_after, 0)
                self.assertGreaterEqual(info.reset_at + 1, time.time() + info.retry_after)
                self.assertEqual((await limit.check('other', 6))[1].retry_after, math.inf)
                self.assertEqual((await limit.get_state('other')).remaining, 5)
                await limit.reset('k')
                self.assertEqual((await limit.get_state('k')).remaining, 5, algorithm)
        asyncio.run(main())

    def test_burst(self):
        async def main(algorithm):
            limit = ft.get_algorithm(algorithm, 5, FAR, self.backend, burst_size=8)
            return [(await limit.check('k'))[0] for _ in range(12)].count(True)
        self.assertEqual([asyncio.run(main(one)) for one in ALL], [8, 5, 5, 8, 5])

    def test_the_wait_is_true(self):
        async def one(algorithm):
            limit = ft.get_algorithm(algorithm, 3, 0.5, self.backend)
            end = time.monotonic() + 60
            allowed = True
            while allowed:
                self.assertLess(time.monotonic(), end)
                allowed, info = await limit.check('w')
            await asyncio.sleep(info.retry_after)
            self.assertTrue((await limit.check('w'))[0], algorithm)

        async def main():
            await asyncio.gather(*map(one, ALL))
        asyncio.run(main())


class ConfigTest(Case):
    def test_checked(self):
        config = ft.RateLimitConfig(5, algorithm='fixed_window')
        self.assertIs(config.algorithm, ft.Algorithm.FIXED_WINDOW)
        for bad in [{'limit': 0}, {'limit': 1, 'window_size': 0}, {'limit': 1, 'cost': 0},
                    {'limit': 1, 'algorithm': 'magic'}, {'limit': 1, 'burst_size': 0}]:
            with self.assertRaises(ValueError, msg=bad):
                ft.RateLimitConfig(**bad)

    def test_loaded(self):
        with tempfile.NamedTemporaryFile('w', suffix='.json') as file:
            json.dump({'limit': 5, 'window_size': 1.5, 'algorithm': 'token_bucket'}, file)
            file.flush()
            env = {'FASTAPI_TRAFFIC_RATE_LIMIT_LIMIT': '7', 'X_SKIP_ON_ERROR': 'true',
                   'FASTAPI_TRAFFIC_RATE_LIMIT_SKIP_ON_ERROR': 'True'}
            config = ft.load_rate_limit_config(file.name, environ=env, cost=2)
        self.assertEqual((config.limit, config.window_size, config.algorithm, config.cost,
                          config.skip_on_error), (7, 1.5, ft.Algorithm.TOKEN_BUCKET, 2, True))
        prefix = 'FASTAPI_TRAFFIC_RATE_LIMIT_'
        config = ft.load_rate_limit_config(
            environ={prefix + 'LIMIT': '7', prefix + 'INCLUDE_HEADERS': '0'}, limit=8)
        self.assertEqual((config.limit, config.include_headers), (8, False))
        for name, text in [('LIMIT', 'many'), ('INCLUDE_HEADERS', 'perhaps'),
                           ('ON_BLOCKED', 'f'), ('ALGORITHM', 'magic'), ('LIMIT', '-1')]:
            with self.assertRaises(ft.ConfigurationError, msg=name):
                ft.load_rate_limit_config(environ={prefix + 'LIMIT': '1', prefix + name: text})
        with self.assertRaises(ft.ConfigurationError):
            ft.load_rate_limit_config(environ={}, limit=1, limits=2)

    def test_headers(self):
        info = ft.RateLimitInfo(5, 0, 1000.2, 0.2)
        self.assertEqual(info.to_headers(), {
            'X-RateLimit-Limit': '5', 'X-RateLimit-Remaining': '0', 'X-RateLimit-Reset': '1001',
            'Retry-After': '1'})
        self.assertNotIn('Retry-After', ft.RateLimitInfo(5, 0, 1.0, math.inf).to_headers())


class LimiterTest(Case):
    def test_default(self):
        with mock.patch.object(ft, '_limiter', None):
            self.assertEqual(ft.get_limiter().backend.policies.segment, 'fastapi-traffic')
            self.assertIs(ft.get_limiter(), ft.get_limiter())

    def test_check_hit_reset(self):
        async def main():
            limiter = ft.get_limiter()
            await limiter.initialize()
            config = ft.RateLimitConfig(2, FAR)
            results = [await limiter.check(self.request(), config) for _ in range(3)]
            self.assertEqual([one.allowed for one in results], [True, True, False])
            self.assertEqual(results[0].key, 'fastapi_traffic:ratelimit:192.0.2.1')
            with self.assertRaises(ft.RateLimitExceeded) as refused:
                await limiter.hit(self.request(), config)
            self.assertEqual(refused.exception.limit_info.remaining, 0)
            await limiter.reset(self.request(), config)
            self.assertEqual((await limiter.get_state(self.request(), config)).remaining, 2)
            other = ft.RateLimitConfig(2, FAR, key_prefix='other')
            self.assertEqual((await limiter.hit(self.request(), other)).remaining, 1)
            off = ft.RateLimiter(self.backend, config=ft.GlobalConfig(enabled=False))
            for _ in range(9):
                self.assertTrue((await off.check(self.request(), config)).allowed)
            await limiter.close()
        asyncio.run(main())

    def test_no_header_is_trusted(self):
        request = self.request(**{'x-forwarded-for': '198.51.100.7'})
        self.assertEqual(ft.default_key_extractor(request), '192.0.2.1')

    def test_errors(self):
        async def main():
            with mock.patch.object(self.backend.policies, 'take', side_effect=OSError('broken')):
                limiter = ft.get_limiter()
                with self.assertRaises(ft.BackendError) as failed:
                    await limiter.check(self.request(), ft.RateLimitConfig(1))
                self.assertIsInstance(failed.exception.original_error, OSError)
                lenient = ft.RateLimitConfig(1, skip_on_error=True)
                self.assertTrue((await limiter.check(self.request(), lenient)).allowed)
        asyncio.run(main())


class AppTest(Case):
    def test_decorator(self):
        seen = []

        async def exempt(request):
            return 'exempt' in request.headers

        @self.app.get('/async')
        @ft.rate_limit(2, FAR, exempt_when=exempt, error_message='slow down', status_code=503,
                       on_blocked=lambda request, result: seen.append(result.key))
        async def endpoint(request: Request, q: int = 0):
            return JSONResponse({'q': q})

        @self.app.get('/sync')
        @ft.rate_limit(4, FAR, algorithm=ft.Algorithm.TOKEN_BUCKET, cost=2,
                       key_extractor=lambda request: request.headers['user'])
        def plain(request: Request):
            return {'ok': True}

        @self.app.get('/none')
        @ft.rate_limit(2, FAR)
        async def none():
            return {}
        client = self.client()
        first = client.get('/async?q=7')
        self.assertEqual(first.json(), {'q': 7})
        self.assertEqual((first.headers['X-RateLimit-Limit'],
                          first.headers['X-RateLimit-Remaining']), ('2', '1'))
        client.get('/async')
        refused = client.get('/async')
        self.assertEqual((refused.status_code, refused.json()), (503, {'detail': 'slow down'}))
        self.assertGreater(int(refused.headers['Retry-After']), 0)
        self.assertEqual(seen, ['fastapi_traffic:ratelimit:testclient'])
        self.assertEqual(client.get('/async', headers={'exempt': '1'}).status_code, 200)
        for user in 'ab':
            answers = [client.get('/sync', headers={'user': user}) for _ in range(3)]
            self.assertEqual([one.status_code for one in answers], [200, 200, 429])
            self.assertEqual(answers[0].json(), {'ok': True})
        self.assertEqual(client.get('/none').status_code, 500)
        self.assertEqual([one['name'] for one in client.get('/openapi.json').json()[
            'paths']['/async']['get']['parameters']], ['q'])

    def test_handler(self):
        @self.app.exception_handler(ft.RateLimitExceeded)
        async def handler(request, error):
            return JSONResponse({'error': error.message}, 429, error.limit_info.to_headers())

        @self.app.get('/')
        @ft.rate_limit(1, FAR)
        async def endpoint(request: Request):
            return {}
        client = self.client()
        client.get('/')
        response = client.get('/')
        self.assertEqual(response.json(), {'error': 'Rate limit exceeded'})
        self.assertIn('Retry-After', response.headers)

    def test_dependency(self):
        @self.app.get('/')
        async def endpoint(info: ft.RateLimitInfo = Depends(ft.RateLimitDependency(2, FAR))):
            return {'left': info.remaining}
        client = self.client()
        self.assertEqual([client.get('/').json().get('left') for _ in range(3)], [1, 0, None])
        self.assertNotIn('parameters', client.get('/openapi.json').json()['paths']['/']['get'])

    def test_middleware(self):
        self.app.get('/{name}')(lambda name: name)
        self.app.add_middleware(ft.RateLimitMiddleware, limit=2, window_size=FAR,
                                backend=self.backend, exempt_paths={'/health'},
                                exempt_ips={'198.51.100.0/24'}, error_message='slow down')
        client = self.client()
        answers = [client.get(path) for path in ['/a', '/b', '/c', '/health']]
        self.assertEqual([one.status_code for one in answers], [200, 200, 429, 200])
        self.assertEqual(answers[0].headers['X-RateLimit-Remaining'], '1')
        self.assertEqual(answers[2].json(), {'detail': 'slow down'})
        self.assertNotIn('X-RateLimit-Limit', answers[3].headers)
        middleware = ft.RateLimitMiddleware(None, backend=self.backend,
                                            exempt_ips=['198.51.100.0/24', '192.0.2.9'])
        for host, exempt in [('198.51.100.8', True), ('192.0.2.9', True), ('192.0.2.8', False),
                             ('somewhere', False)]:
            request = Request({'type': 'http', 'path': '/', 'client': (host, 1), 'headers': []})
            self.assertEqual(middleware._exempt(request), exempt, host)
        with self.assertRaises(brim.InvalidArgument):
            ft.RateLimitMiddleware(None, backend=self.backend, exempt_ips=['10.0.0.0/33'])


if __name__ == '__main__':
    unittest.main()
