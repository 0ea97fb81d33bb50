#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the middlewares add to a request, in ns of the thread's time: PYTHONPATH=build/python
benchmarks/bench_web.py [REQUESTS]. The app answers "ok" and no server is about, so the figures are
of the middleware alone; each is the least of seven rounds.
"""
import asyncio
import os
import sys
import time

import brim
from brim import asgi, keys, wsgi
from brim.rules import Rule, Rules

SEGMENT = f'bench-web-{os.getpid()}'
PLENTY = '1000000/s burst 1000000000'
SCOPE = {'type': 'http', 'method': 'GET', 'path': '/api/x', 'client': ('192.0.2.9', 1),
         'headers': [(b'host', b'a'), (b'user-agent', b'b'), (b'x-forwarded-for', b'203.0.113.7')]}
ENVIRON = {'REQUEST_METHOD': 'GET', 'PATH_INFO': '/api/x', 'REMOTE_ADDR': '192.0.2.9',
           'HTTP_X_FORWARDED_FOR': '203.0.113.7'}


async def asgi_app(_scope, _receive, send):
    await send({'type': 'http.response.start', 'status': 200,
                'headers': [(b'content-type', b'text/plain'), (b'content-length', b'2')]})
    await send({'type': 'http.response.body', 'body': b'ok'})


def wsgi_app(_environ, start_response):
    start_response('200 OK', [('Content-Type', 'text/plain'), ('Content-Length', '2')])
    return [b'ok']


async def nothing(*_):
    pass


def least(rounds):
    times = []
    for _ in range(7):
        start = time.thread_time_ns()
        rounds()
        times.append(time.thread_time_ns() - start)
    return min(times)


def time_asgi(app, count):
    async def requests():
        for _ in range(count):
            await app(SCOPE, nothing, nothing)

    return least(lambda: asyncio.run(requests())) / count


def time_wsgi(app, count):
    def requests():
        for _ in range(count):
            app(ENVIRON, lambda *_: None)

    return least(requests) / count


def main():
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    behind = keys.by_address(trusted_proxies=['192.0.2.0/24'])
    cases = {
        'no rule matches': [Rule('a', PLENTY, path='/other')],
        '1 rule': [Rule('a', PLENTY)],
        '1 rule, behind a proxy': [Rule('a', PLENTY, key=behind)],
        '3 rules': [Rule('a', PLENTY), Rule('b', PLENTY, path='/api/*'),
                    Rule('c', PLENTY, methods=['GET'], key=keys.everyone)],
        '1 rule, refused': [Rule('none', 'deny')],
    }
    try:
        bare = time_asgi(asgi_app, count), time_wsgi(wsgi_app, count)
        print(f'{"ns":24} {"ASGI":>7} {"WSGI":>7}\n{"app alone":24} {bare[0]:7.0f} {bare[1]:7.0f}')
        for name, rules in cases.items():
            made = Rules(SEGMENT, rules)
            more = (time_asgi(asgi.RateLimitMiddleware(asgi_app, made), count) - bare[0],
                    time_wsgi(wsgi.RateLimitMiddleware(wsgi_app, made), count) - bare[1])
            print(f'{name:24} {more[0]:+7.0f} {more[1]:+7.0f}')
    finally:
        brim.Limiter.unlink(SEGMENT)


if __name__ == '__main__':
    main()
