# SPDX-License-Identifier: MIT
"""Calls ASGI and WSGI apps as a server does, and is strict about what they may send."""
import asyncio
import io
import json
import wsgiref.validate

import sf


class Response:
    """What came back. fields: (name, value) in lower case, in order, each name as often as sent."""

    def __init__(self, status, fields, body, messages=(), unread=()):
        self.status, self.fields, self.body = status, fields, body
        self.messages, self.unread = messages, unread  # of ASGI, sent and not received

    def one(self, name):
        """The field that must be there at most once; None: it is not."""
        found = [value for key, value in self.fields if key == name.lower()]
        if len(found) > 1:
            raise AssertionError(f'{name} {len(found)} times: {found}')
        return found[0] if found else None

    def limits(self):
        """RateLimit as {name: parameters}."""
        return dict(sf.parse_list(self.one('RateLimit') or ''))

    def policies(self):
        return dict(sf.parse_list(self.one('RateLimit-Policy') or ''))

    def problem(self):
        assert self.one('content-type') == 'application/problem+json', self.fields
        assert self.one('content-length') == str(len(self.body))
        return json.loads(self.body)


def scope(path='/', method='GET', headers=(), client=('192.0.2.9', 1234), kind='http', **more):
    made = {'type': kind, 'asgi': {'version': '3.0'}, 'http_version': '1.1', 'path': path,
            'raw_path': path.encode('utf-8', 'replace'), 'query_string': b'', 'root_path': '',
            'headers': [(k.lower().encode('latin-1'), v if isinstance(v, bytes)
                         else v.encode('latin-1')) for k, v in headers],
            'client': client, 'server': ('127.0.0.1', 80), **more}
    if kind == 'http':
        made['method'] = method
    return made


async def asgi(app, path='/', messages=None, **request):
    """One request or connect, to its end."""
    given = scope(path, **request)
    incoming = list(messages or [{'type': 'websocket.connect'} if given['type'] == 'websocket'
                                 else {'type': 'http.request', 'body': b'', 'more_body': False}])
    sent = []

    async def receive():
        return incoming.pop(0) if incoming else {'type': 'http.disconnect'}

    async def send(message):
        sent.append(message)

    await app(given, receive, send)
    starts = [m for m in sent if m['type'].endswith('response.start')]
    assert len(starts) <= 1, sent
    fields = []
    for message in sent:
        for name, value in message.get('headers', ()):
            assert type(name) is bytes and type(value) is bytes and name == name.lower(), name
            assert not set(b'\r\n\0') & set(name + value), (name, value)
            fields.append((name.decode('latin-1'), value.decode('latin-1')))
    body = b''.join(m.get('body', b'') for m in sent)
    return Response(starts[0]['status'] if starts else None, fields, body, sent, incoming)


def asgi_now(app, path='/', **request):
    return asyncio.run(asgi(app, path, **request))


def environ(path='/', method='GET', headers=(), client='192.0.2.9', **more):
    made = {'REQUEST_METHOD': method, 'SCRIPT_NAME': '', 'QUERY_STRING': '',
            'PATH_INFO': path.encode('utf-8', 'replace').decode('latin-1'),
            'SERVER_NAME': 'test', 'SERVER_PORT': '80', 'SERVER_PROTOCOL': 'HTTP/1.1',
            'REMOTE_ADDR': client or '', 'wsgi.version': (1, 0), 'wsgi.url_scheme': 'http',
            'wsgi.input': io.BytesIO(), 'wsgi.errors': io.StringIO(), 'wsgi.multithread': True,
            'wsgi.multiprocess': True, 'wsgi.run_once': False, **more}
    for name, value in headers:
        made['HTTP_' + name.upper().replace('-', '_')] = value
    return made


def wsgi(app, path='/', checked=True, **request):
    """One request, with the standard library's checks of both sides of the border."""
    started, written = [], []

    def start_response(status, fields, exc_info=None):
        if exc_info is None:
            assert not started, 'start_response twice, without exc_info'
        started[:] = [(status, fields)]
        return written.append

    answer = (wsgiref.validate.validator(app) if checked else app)(environ(path, **request),
                                                                   start_response)
    try:
        body = b''.join(answer)
    finally:
        if hasattr(answer, 'close'):
            answer.close()
    status, fields = started[0]
    return Response(int(status[:3]), [(k.lower(), v) for k, v in fields],
                    b''.join(written) + body)
