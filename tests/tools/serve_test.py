# SPDX-License-Identifier: MIT
"""brim serve: what it tells agrees with the other commands while traffic runs, it tells only those
it should, and no client keeps it from the others.

Method: the real program on a port of its own; requests of a library and bytes that no library
would send. BRIM_TOOL is the command, BRIM_FILL takes permits.
"""
import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import threading

from serve_support import Load, Server, need, wait_for
from support import BRIM, FAILURE, USAGE, BrimTest, brim, main

KEYS = [b'<script>alert(1)</script>', b'=HYPERLINK("http://x")', b'\x1b]0;owned\x07\xff\xfe',
        b'"},{"x":"\\', b'a\nb,c%41', b'198.51.100.7']
GUARDS = {'X-Content-Type-Options': 'nosniff', 'Cache-Control': 'no-store',
          'Cross-Origin-Resource-Policy': 'same-origin', 'Referrer-Policy': 'no-referrer'}


class Told(BrimTest):
    """The answers."""

    def test_info_is_that_of_the_command(self):
        name = self.create('--policy', 'q=5/d', policy='p=3/d')
        self.fill(name, KEYS * 5)
        server = Server(self, name)
        told = server.json(f'/api/{name}/info.json')
        printed = json.loads(self.good('info', name, '--format', 'json').text)
        self.assertEqual(told, printed)
        self.assertEqual(server.json(f'/api/{name}/policies.json')['policies'], told['policies'])
        with_worker = self.hold(name)
        attached = wait_for(lambda: server.json(f'/api/{name}/attached.json')['attached'])
        self.assertEqual([each['pid'] for each in attached], [with_worker.pid])
        self.assertEqual(server.json('/api/segments.json')['segments'],
                         [{'name': name, 'status': 'ok'}])

    def test_keys(self):
        name = self.create(policy='p=10/d')
        self.fill(name, KEYS * 10 + [b'near'] * 9 + [b'far'] * 2)
        server = Server(self, name)

        def keys(query):
            return server.json(f'/api/{name}/keys.json{query}')
        self.assertEqual({base64.b64decode(each['key_base64']) for each in keys('')['keys']},
                         set(KEYS))
        near = keys('?state=near')  # fewest left first; nothing left is near, too
        self.assertEqual((near['count'], near['keys'][-1]['key']), (len(KEYS) + 1, 'near'))
        self.assertEqual(keys('?state=live')['count'], len(KEYS) + 2)
        self.assertEqual((len(keys('?limit=2')['keys']), keys('?limit=2')['count']), (2, len(KEYS)))
        by_dump = {each['key_base64']: each for each in json.loads(
            self.good('dump', name, '--format', 'json').text)['keys']}
        for each in keys('?state=live')['keys']:
            row = by_dump[each['key_base64']]
            times = {field: each[field] for field in ('reset_after_ns', 'retry_after_ns')}
            self.assertEqual(each, row | times)
        for query in ('?limit=0', '?limit=1001', '?limit=x', '?state=all', '?limit=-1'):
            self.assertEqual(server.ask(f'/api/{name}/keys.json{query}')[0], 400, query)

    def test_states_are_those_of_dump(self):
        """Whatever the algorithm: small windows, logs, bursts below ten, bans."""
        policies = {'window': 'fixed-window 5/d first-hit', 'log': 'sliding-log 4/d',
                    'bucket': '20/d burst 3', 'counter': 'sliding-counter 12/d',
                    'lease': 'concurrency 3'}
        name = self.create(*(word for each in policies.items()
                             for word in ('--policy', '='.join(each))))
        for policy in policies:
            self.fill(name, [b'all'] * 20 + [b'one'] + [b'most'] * 11, policy)
        self.good('ban', name, 'barred')
        server = Server(self, name)
        for state in ('refused', 'near', 'live'):
            shown = server.json(f'/api/{name}/keys.json?state={state}')
            printed = json.loads(
                self.good('dump', name, '--state', state, '--format', 'json').text)['keys']
            rows = [sorted((row['policy'], row['part'], row['key'], row.get('remaining', -1))
                           for row in each) for each in (shown['keys'], printed)]
            self.assertEqual(rows[0], rows[1], state)
            self.assertEqual(shown['count'], len(printed))
            if state == 'refused':
                self.assertLessEqual({('window', 'all'), ('log', 'all'), ('bucket', 'all'),
                                      ('counter', 'all')}, {(row[0], row[2]) for row in rows[0]})

    def test_long_keys_are_cut(self):
        """So that a thousand of them are no answer of 64 MB; their length is told."""
        name = self.create('--name-bytes', '2000', policy='p=100000000/d')
        key = bytes(range(256)) * 6
        self.fill(name, [key] * 20000)
        server = Server(self, name)
        told, = server.json(f'/api/{name}/keys.json?state=live')['keys']
        self.assertEqual((base64.b64decode(told['key_base64']), told['key_length'],
                          told['key_cut']), (key[:1024], 1536, True))
        told, = server.json(f'/api/{name}/hot.json')['keys']
        self.assertEqual((base64.b64decode(told['key_base64']), told['key_stored'],
                          told['key_cut']), (key[:1024], 1536, True))

    def test_many_keys_are_bounded(self):
        name = self.create('--capacity', '20000', policy='p=1/d')
        self.fill(name, [b'%d' % i for i in range(5000)])
        told = Server(self, name).json(f'/api/{name}/keys.json?limit=1000')
        self.assertEqual((told['count'], len(told['keys'])), (5000, 1000))
        times = [each['retry_after_ns'] for each in told['keys']]
        self.assertEqual(times, sorted(times, reverse=True))

    def test_metrics_are_those_of_the_command(self):
        name = self.create(policy='p=3/d')
        self.fill(name, KEYS * 5)
        server = Server(self, name, name)
        status, headers, body = server.ask('/metrics')
        self.assertEqual((status, headers['Content-Type']),
                         (200, 'text/plain; version=0.0.4; charset=utf-8'))
        self.assertEqual(body, self.good('metrics', name).out)

    def test_a_segment_that_goes_and_comes(self):
        name = self.create(policy='p=3/d')
        gone = self.name()
        server = Server(self, name, gone)

        def up():
            lines = server.ask('/metrics')[2].decode().splitlines()
            return [int(line[-1]) for line in lines if line.startswith('brim_up{')]

        def uuid(of):
            status, _, body = server.ask(f'/api/{of}/info.json')
            return json.loads(body)['uuid'] if status == 200 else status
        self.assertEqual((up(), uuid(gone)), ([1, 0], 404))
        first = uuid(name)
        self.good('create', gone, '--policy', 'p=1/d')
        self.good('create', name, '--recreate', '--policy', 'p=1/d')
        self.assertTrue(wait_for(lambda: up() == [1, 1]))
        self.assertTrue(wait_for(lambda: uuid(name) not in (first, 404)))
        self.good('unlink', name)
        self.assertTrue(wait_for(lambda: up() == [0, 1] and uuid(name) == 404))
        self.assertEqual([each['status'] for each in server.json('/api/segments.json')['segments']],
                         ['segment_not_found', 'ok'])

    def test_a_path_as_name(self):
        with tempfile.TemporaryDirectory(dir='/dev/shm') as folder:
            for part in ('plain', 'a b\x1b"<'):
                os.mkdir(os.path.join(folder, part))
                path = os.path.join(folder, part, 'seg')
                self.good('create', path, '--policy', 'p=1/d')
                server = Server(self, path)
                shown = server.json('/api/segments.json')['segments'][0]['name']
                quoted = ''.join(c if c.isalnum() else f'%{ord(c):02X}' for c in shown)
                self.assertEqual(server.json(f'/api/{quoted}/info.json')['path'], shown)
                self.assertEqual(server.end(), 0)

    def test_under_load(self):
        name = self.create('--policy', 'q=5/d', policy='p=1000000/d')
        server = Server(self, name)
        Load(self, name, 'p', [b'key%d' % i for i in range(100)] + KEYS)

        def allowed():
            policy = server.json(f'/api/{name}/policies.json')['policies'][0]
            return policy['counters']['allowed']
        seen = [allowed()]
        for _ in range(3):
            wait_for(lambda: allowed() > seen[-1])
            seen.append(allowed())
            for what in ('info', 'policies', 'keys', 'hot', 'attached'):
                server.json(f'/api/{name}/{what}.json')
        self.assertEqual(seen, sorted(set(seen)))

    def test_hot_keys(self):
        """Half of all calls are for one key, a quarter for a hostile one that is refused."""
        name = self.create('--policy', 'q=1/d', policy='p=100000000/d')
        server = Server(self, name)
        Load(self, name, 'p', [b'hot'])
        Load(self, name, 'q', [KEYS[0]])
        Load(self, name, 'p', [b'cold%d' % i for i in range(5000)])

        def hot(least=0):
            told = server.json(f'/api/{name}/hot.json?limit=2')
            return told if told['samples'] >= least else None
        told = wait_for(lambda: hot(40))
        self.assertEqual(told['sample_rate'], 1024)
        keys = {each['key']: each for each in told['keys']}
        self.assertEqual(set(keys), {'hot', KEYS[0].decode()})
        self.assertEqual((keys['hot']['policy'], keys['hot']['denied']), ('p', 0))
        self.assertGreater(keys['hot']['allowed'], 0)
        self.assertEqual((keys[KEYS[0].decode()]['policy'], keys[KEYS[0].decode()]['allowed']),
                         ('q', 0))

    def test_nothing_is_written(self):
        name = self.create(policy='p=3/d')
        self.fill(name, KEYS)
        with open('/dev/shm/' + name, 'rb') as file:
            before = file.read()
        server = Server(self, name)
        for path in ('/', '/metrics', *(f'/api/{name}/{what}.json' for what in
                                        ('info', 'policies', 'keys', 'hot', 'attached'))):
            self.assertEqual(server.ask(path)[0], 200, path)
        with open('/dev/shm/' + name, 'rb') as file:
            self.assertEqual(file.read(), before)


class Guarded(BrimTest):
    """Who is told, and what can be asked."""

    def setUp(self):
        self.segment = self.create(policy='p=3/d')
        self.server = Server(self, self.segment)

    def test_headers(self):
        for path in ('/', '/page.js', '/page.css', '/metrics', '/healthz', '/api/segments.json',
                     f'/api/{self.segment}/info.json', '/none', '/favicon.ico'):
            status, headers, _ = self.server.ask(path)
            self.assertEqual(status, {'/none': 404, '/favicon.ico': 204}.get(path, 200), path)
            self.assertTrue(headers['Content-Security-Policy'].startswith("default-src 'none'; "))
            self.assertNotIn('unsafe', headers['Content-Security-Policy'])
            for name, value in GUARDS.items():
                self.assertEqual(headers[name], value, (path, name))
            self.assertFalse([name for name in headers if name.startswith('Access-Control')])

    def test_the_page_names_nothing_outside(self):
        for path in ('/', '/page.js', '/page.css'):
            text = self.server.ask(path)[2].decode('ascii', 'replace')
            self.assertEqual(text.replace('http://www.w3.org/2000/svg', '').count('//www'), 0)
            self.assertNotIn('innerHTML', text)
            self.assertNotRegex(text.replace('http://www.w3.org/2000/svg', ''), r'https?:|@import')

    def test_methods(self):
        for method in ('POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS', 'CONNECT', 'TRACE'):
            for path in ('/', '/metrics', f'/api/{self.segment}/info.json'):
                self.assertIn(self.server.ask(path, method, body=b'x' * 100)[0], (405, 400),
                              (method, path))
        self.assertEqual(self.server.ask('/', 'POST')[1]['Allow'], 'GET, HEAD')
        status, headers, body = self.server.ask('/', 'HEAD')
        self.assertEqual((status, body), (200, b''))
        self.assertGreater(int(headers['Content-Length']), 1000)

    def test_names_of_others(self):
        port = self.server.port
        for host in ('evil.example', f'evil.example:{port}', 'localhost.evil.example', '', '[::1',
                     '127.0.0.1.evil.example', '127.0.0.1:x', '10.0.0.1', 'localhost@evil.example',
                     '127.0.0.1:1:2', '[::1]x'):
            for path in ('/', '/metrics', f'/api/{self.segment}/info.json', '/healthz'):
                status, _, body = self.server.ask(path, headers={'Host': host})
                self.assertEqual(status, 421, host)
                self.assertNotIn(self.segment.encode(), body)
        for host in ('localhost', f'localhost:{port}', 'LocalHost:1', '127.0.0.1', '[::1]:80'):
            self.assertEqual(self.server.ask('/healthz', headers={'Host': host})[0], 200, host)
        for lines in (b'', b'Host: localhost\r\nHost: evil.example\r\n'):
            self.assertIn(b' 421 ', self.raw(b'GET / HTTP/1.1\r\n' + lines + b'\r\n'))
        other = Server(self, self.segment, '--host', 'metrics.example')
        self.assertEqual(other.ask('/', headers={'Host': 'metrics.example:80'})[0], 200)
        # In any case, in the option as in the request.
        other = Server(self, self.segment, '--host', 'Metrics.Example')
        for host in ('metrics.example', 'Metrics.Example', 'METRICS.EXAMPLE:80'):
            self.assertEqual(other.ask('/', headers={'Host': host})[0], 200, host)

    def test_pages_of_others(self):
        path = f'/api/{self.segment}/keys.json'
        self.assertEqual(self.server.ask(path, headers={'Sec-Fetch-Site': 'cross-site'})[0], 403)
        self.assertEqual(self.server.ask(path, headers={'Sec-Fetch-Site': 'same-origin'})[0], 200)

    def test_traversal(self):
        segment = self.segment
        for path in ('/../../etc/passwd', '/%2e%2e/%2e%2e/etc/passwd', '//etc/passwd',
                     '/etc/passwd',
                     '/api/../../dev/shm/' + segment, f'/api/{segment}/../{segment}/info.json',
                     f'/api/{segment}/info.json/', f'/api/{segment}x/info.json', '/api//info.json',
                     '/api/%2Fdev%2Fshm%2F' + segment + '/info.json', '/page.js%00', '/%', '/%zz',
                     '/?x', '/index.html', '/api/' + 'a' * 4000 + '/info.json', '/' + '%41' * 2000):
            status, _, body = self.server.ask(path)
            self.assertEqual(status, 200 if path == '/?x' else 404, path)
            self.assertNotIn(b'root:', body)

    def test_ranges_cost_nothing(self):
        ranges = 'bytes=' + ','.join(['0-'] * 2000)
        status, headers, body = self.server.ask('/page.js', headers={'Range': ranges})
        self.assertIn(status, (200, 416))
        self.assertLess(len(body), 100000)
        headers = self.server.ask('/page.js', headers={'Accept-Encoding': 'br, gzip'})[1]
        self.assertNotIn('Content-Encoding', headers)

    def test_metrics_only(self):
        server = Server(self, self.segment, '--metrics-only')
        for path, status in (('/metrics', 200), ('/healthz', 200), ('/', 404), ('/page.js', 404),
                             ('/api/segments.json', 404),
                             (f'/api/{self.segment}/keys.json', 404)):
            self.assertEqual(server.ask(path)[0], status, path)

    def raw(self, data, end=True):
        """What the server says to these bytes until it closes."""
        with socket.create_connection(('127.0.0.1', self.server.port), 60) as connection:
            answer = b''
            try:
                connection.sendall(data)
                if end:
                    connection.shutdown(socket.SHUT_WR)
                while True:
                    got = connection.recv(65536)
                    if not got:
                        break
                    answer += got
            except (ConnectionResetError, BrokenPipeError):
                pass
            return answer

    def test_bad_bytes(self):
        host = b'Host: localhost\r\n'
        many = b''.join(b'X-%d: y\r\n' % i for i in range(1000))
        for data, says in [
                (b'GET / HTTP/1.1\r\n' + host + b'X: ' + b'y' * 20000 + b'\r\n\r\n', b' 431 '),
                (b'GET / HTTP/1.1\r\n' + host + many * 20 + b'\r\n', b' 431 '),
                (b'GET / HTTP/1.1\r\n' + host + b'X: ' + b'y' * 10000 + b'\r\n\r\n', b' 400 '),
                (b'GET /' + b'a' * 15000 + b' HTTP/1.1\r\n' + host + b'\r\n', b' 414 '),
                (b'GET /' + b'a' * 200000, b' 431 '), (b'\r\n\r\n', b' 400 '),
                (b'\x16\x03\x01\x02\x00' * 4000, b' 431 '), (b'hello\r\n\r\n', b' 400 '),
                (b'GET / HTTP/9.9\r\n' + host + b'\r\n', b' 400 '),
                (b'GET / HTTP/1.1\r\n' + host, b''), (b'', b''), (b'\0' * 100, b''),
                (b'POST / HTTP/1.1\r\n' + host + b'Transfer-Encoding: chunked\r\n\r\n' +
                 b'ffffffffffffffff\r\n' * 100, b' 405 '),
                (b'POST / HTTP/1.1\r\n' + host + b'Content-Length: 99999999999\r\n\r\n', b' 405 '),
                (b'GET / HTTP/1.0\r\n' + host + b'\r\n', b' 200 ')]:
            answer = self.raw(data)
            self.assertIn(says, answer[:40], data[:60])
            self.assertEqual(answer == b'', says == b'', data[:60])
        self.assertEqual(self.server.ask('/healthz')[0], 200)

    def test_slow_and_silent_clients(self):
        """Many that say nothing, and some that say a byte now and then: others are answered."""
        address = ('127.0.0.1', self.server.port)
        silent = [socket.create_connection(address, 60) for _ in range(200)]
        ending = threading.Event()

        def drip():
            with socket.create_connection(address, 60) as connection:
                try:
                    for byte in b'GET / HTTP/1.1\r\nX: ' + b'y' * 5000:
                        connection.send(bytes([byte]))
                        if ending.wait(0.03):
                            break
                except OSError:
                    pass
        dripping = [threading.Thread(target=drip) for _ in range(20)]
        for thread in dripping:
            thread.start()
        try:
            for _ in range(2):
                self.assertEqual(self.server.ask('/healthz')[0], 200)
        finally:
            ending.set()
            for connection in silent:
                connection.close()
            for thread in dripping:
                thread.join()

    def test_many_at_once(self):
        statuses = []

        def ask(path):
            for _ in range(10):  # in a crowd whoever is slow to speak is sent away
                try:
                    statuses.append(self.server.ask(path)[0])
                    return
                except (http.client.HTTPException, OSError):
                    pass
        paths = ['/', '/metrics', f'/api/{self.segment}/keys.json', '/api/segments.json']
        threads = [threading.Thread(target=ask, args=(paths[i % 4],)) for i in range(200)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(statuses, [200] * 200)

    def test_a_reader_that_does_not_read(self):
        self.fill(self.segment, [b'%0200d' % i for i in range(3000)])
        with socket.create_connection(('127.0.0.1', self.server.port), 60) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.sendall(b'GET /api/%s/keys.json?state=live&limit=1000 HTTP/1.1\r\n'
                               b'Host: localhost\r\n\r\n' % self.segment.encode())
            for _ in range(3):
                self.assertEqual(self.server.ask('/metrics')[0], 200)


class Started(BrimTest):
    """How it begins and ends."""

    def test_signals(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            server = Server(self, self.create())
            with socket.create_connection(('127.0.0.1', server.port)):  # that says nothing
                server.process.send_signal(number)
                self.assertEqual(server.process.wait(60), 0)
            self.assertEqual(server.process.stderr.read(), b'')

    def test_addresses(self):
        name = self.create()
        for listen in ('0.0.0.0:0', '[::]:0', '192.0.2.1:9464', '[2001:db8::1]:80'):
            self.bad(USAGE, 'listen_remote', 'serve', name, '--listen', listen)
        for listen in ('', '127.0.0.1', '127.0.0.1:', '127.0.0.1:65536', '127.0.0.1:-1', ':80',
                       'example.org:80', '[::1', '::1:80', '127.0.0.1:80x', '\x1b[2J:1'):
            self.bad(USAGE, 'invalid_option', 'serve', name, '--listen', listen)
        self.assertEqual(brim('serve').code, USAGE)

    def test_a_port_in_use(self):
        name = self.create()
        port = Server(self, name).port
        self.bad(FAILURE, 'listen_failed', 'serve', name, '--listen', f'127.0.0.1:{port}')

    def test_remote_is_loud(self):
        """In a network of its own, which nobody else can reach."""
        command = ['unshare', '-rn', BRIM, 'serve', self.create(), '--listen', '0.0.0.0:0',
                   '--allow-remote']
        if subprocess.run([*command[:2], 'true'], capture_output=True, check=False).returncode != 0:
            self.skipTest('unshare may not make a network')
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as server:
            self.assertIn(b'serving http://0.0.0.0:', server.stdout.readline())
            server.terminate()
            self.assertIn(b'brim: warning: others can reach', server.stderr.read())
        self.assertEqual(server.returncode, 0)


if __name__ == '__main__':
    need()
    main()
