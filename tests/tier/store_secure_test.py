#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The store behind passwords, rights and TLS, and servers that are none.

Goal: F57 (wrong password, too few rights, a certificate that is over or of another host: a named
error at once, the secret nowhere) and F58 (whatever a hostile server sends: an error and bounded
memory). Method: real servers set up in each way; a socket that says anything.
"""
import contextlib
import pathlib
import random
import socket
import tempfile
import threading
import unittest

from driver import Driver
from redis_servers import Certificates, Single

NODE = '1' * 32
RATE = {'units_per_us': 1, 'permit_units': 10 ** 6, 'capacity_units': 5 * 10 ** 6, 'nonce': 9}
PASSWORD = 'correct-horse-battery'
RIGHTS = ('~brim:* resetchannels -@all +ping +eval +evalsha +time +hmget +hset +hlen +hkeys +hdel '
          '+hgetall +pexpire +get +set')


class Logins(unittest.TestCase):
    def server(self, rights=RIGHTS):
        return Single(users=[f'user brim on >{PASSWORD} {rights}'], password='other-secret')

    def refused(self, driver, server_says, name, secret=PASSWORD):
        answer = driver.push(RATE)
        self.assertEqual(answer['code'], 'PERMISSION_DENIED', answer)
        self.assertRegex(answer['message'], f'^{name}: ')
        self.assertRegex(answer['message'], server_says)
        self.assertNotIn(secret, str(answer))
        for file in 'cmdline', 'environ':
            said = pathlib.Path(f'/proc/{driver.child.pid}/{file}').read_bytes()
            self.assertNotIn(secret.encode(), said)

    def test_passwords(self):
        with self.server() as server:
            for options in ({'url': server.url(f'brim:{PASSWORD}@')},
                            {'url': server.url('x:y@'), 'user': 'brim', 'password': PASSWORD},
                            {'url': server.url(':other-secret@')},
                            {'url': f'unix://brim:{PASSWORD}@{server.socket}?db=0'}):
                with Driver(node=NODE, **options) as driver:
                    self.assertEqual(driver.push(RATE)['code'], 'OK')
            wrong = 'wrong%2fhorse'
            with Driver(server.url(f'brim:{wrong}@'), node=NODE) as driver:
                self.refused(driver, 'WRONGPASS', 'tier_auth', 'wrong')
                self.assertEqual(driver.counts()['refusals'][5], 1)
            with Driver(f'redis://127.0.0.1:{server.port}', node=NODE) as driver:
                self.refused(driver, 'NOAUTH', 'tier_auth')
        with Single() as server, Driver(server.url(f':{PASSWORD}@'), node=NODE) as driver:
            self.refused(driver, 'without any password', 'tier_auth')
        with Single() as server, Driver(server.url('', '/99'), node=NODE) as driver:
            self.assertRegex(driver.push(RATE)['message'], '^tier_refused: .*DB index')

    def test_urls_tell_no_secret(self):
        for url in (f'redis://:{PASSWORD}@', f'redis://:{PASSWORD}/x@host', f'redi://{PASSWORD}@h',
                    f'redis://:a?{PASSWORD}@host', f'redis://h:{PASSWORD}', f'redis://h/{PASSWORD}',
                    f'redis://h?{PASSWORD}=1', f'redis://a:%{PASSWORD}@h', f'unix://{PASSWORD}/p',
                    f'redis://:a#{PASSWORD}@host', f'unix://:a/{PASSWORD}@/p', PASSWORD):
            with Driver(url) as driver:
                self.assertRegex(driver.opened['message'], '^tier_url: ', url)
                self.assertNotIn(PASSWORD, driver.opened['message'])

    def test_rights(self):
        """Those that src/tier/redis_store.h lists suffice, and none of them can go."""
        words = [word for word in RIGHTS.split() if word.startswith('+')]
        with self.server() as server, Driver(server.url(f'brim:{PASSWORD}@'), node=NODE) as driver:
            admin = server.client()

            def all_of_it():
                admin.flushdb()
                admin.script_flush()
                answers = driver.exchange([{'rates': [RATE, {**RATE, 'part': 1}], 'cost': 1}])
                key = 'brim:api:{0000000000000000}'
                admin.hset(key, mapping={f'{i:032x}.2': 1 for i in range(1000)})
                answers += driver.exchange([{'rates': [{**RATE, 'nonce': 11}]}])
                answers += [driver.meet(NODE), driver.meet(NODE), driver.say(forget=NODE)]
                return answers

            self.assertEqual({a['code'] for a in all_of_it()}, {'OK'})
            self.assertEqual(driver.say(warning=1)['warning'], '')
            for word in words:
                admin.execute_command('ACL', 'SETUSER', 'brim', '-' + word[1:])
                with Driver(server.url(f'brim:{PASSWORD}@'), node=NODE) as fresh:
                    old, driver = driver, fresh
                    failed = [a for a in all_of_it() if a['code'] != 'OK']
                    self.assertTrue(failed, word)
                    self.assertRegex(failed[0]['message'], '^tier_noperm: ', word)
                    self.assertEqual(failed[0]['code'], 'PERMISSION_DENIED')
                    driver = old
                admin.execute_command('ACL', 'SETUSER', 'brim', word)
            admin.execute_command('ACL', 'SETUSER', 'brim', 'resetkeys', '~other:*')
            self.assertRegex(driver.push(RATE)['message'], '^tier_noperm: ')


class Certified(unittest.TestCase):
    def test_certificates(self):
        with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as stack:
            good = Certificates(directory + '/good')
            over = Certificates(directory + '/over', days=0, authority=good)
            other = Certificates(directory + '/other', names='DNS:other.example', authority=good)
            strict = Certificates(directory + '/strict', clients=True, authority=good)
            foreign = Certificates(directory + '/foreign')

            def outcome(tls, host='127.0.0.1', **options):
                server = stack.enter_context(Single(tls=tls))
                with Driver(f'rediss://{host}:{server.port}', node=NODE, **options) as driver:
                    if driver.opened['code'] != 'OK':
                        return driver.opened['message']
                    answer = driver.push(RATE)
                    tls_said = answer['message'].startswith('tier_tls')
                    self.assertEqual(answer['code'] == 'PERMISSION_DENIED', tls_said, answer)
                    return answer['message']

            self.assertEqual(outcome(good, ca_file=good.ca), '')
            self.assertEqual(outcome(good, 'localhost', ca_file=good.ca), '')
            self.assertEqual(outcome(other, insecure=True), '')
            for said, tls in (('expired', over), ('IP address mismatch', other),
                              ('unable to get|self-signed', foreign)):
                self.assertRegex(outcome(tls, ca_file=good.ca), f'^tier_tls: .*({said})')
            self.assertRegex(outcome(other, 'localhost', ca_file=good.ca),
                             '^tier_tls: .*[Hh]ostname mismatch')
            self.assertEqual(outcome(strict, ca_file=good.ca, cert_file=good.cert,
                                     key_file=good.key), '')
            self.assertRegex(outcome(strict, ca_file=good.ca),
                             '^tier_(tls|connect): .*(certificate required|demand a certificate)')
            self.assertRegex(outcome(good, ca_file=directory + '/none'), '^tier_tls: .*/none')
            self.assertRegex(outcome(good, ca_file=good.ca, cert_file=good.cert,
                                     key_file=foreign.key), '^tier_tls: the key')

    def test_many_over_tls(self):
        """More than a record, more than the socket takes: in both directions."""
        with tempfile.TemporaryDirectory() as directory:
            tls = Certificates(directory)
            with Single(tls=tls) as server, Driver(server.url(), node=NODE, ca_file=tls.ca) as one:
                answers = one.exchange([{'rates': [RATE] * 3, 'identity': i, 'text': 'x' * 1000}
                                        for i in range(3000)])
                self.assertEqual({a['code'] for a in answers}, {'OK'})
                server.kill()
                self.assertEqual(one.push(RATE)['code'], 'UNAVAILABLE')
                server.start()
                self.assertEqual(one.push(RATE)['code'], 'OK')

    def test_no_tls_there(self):
        with Single() as server, Driver(f'rediss://127.0.0.1:{server.port}', node=NODE) as driver:
            self.assertRegex(driver.push(RATE)['message'], '^tier_(tls|connect|timeout): ')


class Hostile:
    """Answers +PONG to the first command, then sends `said` to whoever says something."""

    def __init__(self, said, greet=True):
        self.said, self.greet = said, greet

    def __enter__(self):
        self.listener = socket.create_server(('127.0.0.1', 0))
        threading.Thread(target=self.serve, daemon=True).start()
        return f'redis://127.0.0.1:{self.listener.getsockname()[1]}'

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def serve(self):
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self.talk, args=(self.listener.accept()[0],),
                                 daemon=True).start()

    def talk(self, client):
        with client, contextlib.suppress(OSError):
            client.settimeout(30)
            if self.greet:
                client.recv(65536)
                client.sendall(b'+PONG\r\n')
            client.recv(65536)
            for piece in self.said() if callable(self.said) else [self.said]:
                client.sendall(piece)
            client.recv(1)


def peak_kib(pid):
    for line in pathlib.Path(f'/proc/{pid}/status').read_text().splitlines():
        if line.startswith('VmHWM'):
            return int(line.split()[1])
    raise LookupError('VmHWM')


class F58(unittest.TestCase):
    def endless(self, head, piece):
        return lambda: (head if i == 0 else piece for i in range(4000))  # 256 MB at most

    def test_hostile_servers(self):
        answers = {
            'a bulk of 512 MB': self.endless(b'$536870912\r\n', b'x' * 65536),
            'a line without end': self.endless(b'+', b'x' * 65536),
            'a huge array': b'*2147483647\r\n',
            'many items': b'*5000\r\n' + b':1\r\n' * 5000,
            'arrays in arrays': b'*1\r\n' * 4096,
            'arrays of arrays': (b'*64\r\n' * 3 + b':1\r\n' * 64) * 64,
            'negative sizes': b'*-5\r\n$-7\r\n',
            'another grammar': b'%1\r\n+a\r\n+b\r\n',
            'a web server': b'HTTP/1.1 400 Bad Request\r\n\r\n',
            'wrong types': b'+OK\r\n', 'too few': b'*2\r\n:0\r\n:0\r\n',
            'texts': b'*3\r\n$1\r\n0\r\n$1\r\n0\r\n$1\r\n5\r\n',
            'negative levels': b'*3\r\n:0\r\n:0\r\n:-5\r\n',
            'a level too high': b'*3\r\n:0\r\n:0\r\n:9223372036854775807\r\n',
            'nil': b'*-1\r\n', 'bytes of zero': b'\0' * 1000,
            'an end': b'*3\r\n:0\r\n',
        }
        for name, said in answers.items():
            with self.subTest(name), Hostile(said) as url, Driver(url, node=NODE) as driver:
                answer = driver.push(RATE, cost=1, more={'timeout_ms': 3000})
                self.assertEqual(answer['code'], 'UNKNOWN', answer)
                self.assertRegex(answer['message'],
                                 '^tier_unknown: tier_(protocol|connect|timeout): ')
                self.assertLess(peak_kib(driver.child.pid), 60000)
                for text in answer['message']:
                    self.assertTrue(' ' <= text <= '~', repr(answer['message']))

    def test_hostile_logins(self):
        for said in (b'*1\r\n' * 4096, b'HTTP/1.1 400 Bad\r\n', b'-ERR \x1b[2J\r\n',
                     b'$9999999\r\n', b'-MOVED 1 10.0.0.1:1\r\n', b''):
            with self.subTest(said[:20]), Hostile(said, greet=False) as url, \
                    Driver(url, node=NODE) as driver:
                answer = driver.push(RATE, more={'timeout_ms': 300})
                self.assertRegex(answer['message'],
                                 '^tier_(protocol|refused|timeout|redirects): ', said)
                self.assertNotIn('\x1b', answer['message'])

    def test_hostile_clusters(self):
        """Nodes that lead nowhere, or in circles."""
        maps = (b'*0\r\n', b'*1\r\n:5\r\n', b'*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\na\r\n:1\r\n',
                b'*1\r\n*3\r\n:0\r\n:9\r\n*2\r\n$1\r\na\r\n:99999\r\n', b'-ERR no\r\n', b'+OK\r\n',
                b'*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n*0\r\n:1\r\n')
        for said in maps:
            with self.subTest(said), Hostile(said) as url, \
                    Driver(url + '?cluster=1', node=NODE) as driver:
                answer = driver.push(RATE, more={'timeout_ms': 300})
                self.assertNotEqual(answer['code'], 'OK')
                self.assertRegex(answer['message'], '^tier_')

    def test_random_bytes(self):
        rng = random.Random(58)
        pieces = [b'*3\r\n', b':0\r\n', b'$5\r\n', b'-ERR a\r\n', b'*1\r\n', b'$-1\r\n', b'\r\n',
                  b'x']
        for _ in range(60):
            said = b''.join(rng.choice(pieces) for _ in range(rng.randrange(1, 40)))
            said += bytes(rng.randrange(256) for _ in range(20))
            with Hostile(said) as url, Driver(url, node=NODE) as driver:
                answer = driver.push(RATE, more={'timeout_ms': 100})
                self.assertTrue(answer['code'] == 'OK' or answer['message'].startswith('tier_'))


if __name__ == '__main__':
    unittest.main()
