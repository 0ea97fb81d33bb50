#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim.keys: whom a request is counted for.

Goal: a client can not choose its key, nor another client's. Method: the same requests as an ASGI
scope and as a WSGI environ; addresses through proxies that are trusted, are not, and are lied to.
"""
import pickle
import random
import unittest

import brim
from brim import keys

PROXY = '10.0.0.1'
TRUSTED = ['10.0.0.0/8', 'fd00::/8']
LONG = 'x' * 10_000


class User:
    is_authenticated = True
    display_name = 'alice'


def asgi(peer='192.0.2.9', *headers, **more):
    """headers: lines, as pairs."""
    lines = [(name.lower().encode(), value.encode('latin-1')) for name, value in headers]
    return keys.AsgiRequest({'type': 'http', 'method': 'GET', 'path': '/', 'headers': lines,
                             'client': None if peer is None else [peer, 1234], **more})


def wsgi(peer='192.0.2.9', *headers, **more):
    environ = {'REQUEST_METHOD': 'GET', 'PATH_INFO': '/', 'REMOTE_ADDR': peer or '', **more}
    for name, value in headers:
        variable = 'HTTP_' + name.upper().replace('-', '_')
        environ[variable] = f'{environ[variable]}, {value}' if variable in environ else value
    return keys.WsgiRequest(environ)


class Both(unittest.TestCase):
    def key(self, function, *request):
        """Of the request by either server, which must agree."""
        first, second = function(asgi(*request)), function(wsgi(*request))
        self.assertEqual(first, second)
        return first


class Requests(Both):
    def test_what_they_say(self):
        for request in [asgi('192.0.2.9', ('X-Key', 'a'), ('x-key', 'ü')),
                        wsgi('192.0.2.9', ('X-Key', 'a'), ('x-key', 'ü'))]:
            self.assertEqual((request.method, request.path, request.peer, request.user),
                             ('GET', '/', '192.0.2.9', None))
            self.assertEqual(request.header('X-KEY'), 'a, ü')
            self.assertIsNone(request.header('X-Other'))
        self.assertEqual(keys.AsgiRequest({'type': 'websocket', 'path': '/'}).method, 'WEBSOCKET')
        self.assertEqual(wsgi(CONTENT_TYPE='a/b').header('Content-Type'), 'a/b')

    def test_peers_without_an_address(self):
        for peer in (None, ''):
            self.assertIsNone(asgi(peer).peer)
            self.assertIsNone(wsgi(peer).peer)
        self.assertIsNone(keys.AsgiRequest({'path': '/', 'headers': []}).peer)

    def test_wsgi_paths_are_bytes_as_latin_1(self):
        self.assertEqual(wsgi(PATH_INFO='/caf\u00c3\u00a9').path, '/café')
        self.assertEqual(wsgi(PATH_INFO='/\xff').path, '/\ufffd')
        self.assertEqual(wsgi(PATH_INFO='').path, '/')
        self.assertEqual(wsgi(PATH_INFO='/\u20ac\ud800').path, '/??')  # no WSGI, but no harm

    def test_paths_as_they_are_routed(self):
        for given, path in [('/a', '/a'), ('/a/', '/a/'), ('/a\n', '/a'), ('/a\n\n', '/a\n'),
                            ('//a', '/a'), ('///a//b', '/a//b'), ('a', '/a'), ('\n', '/'),
                            ('/./a', '/./a'), ('/A;x', '/A;x'), ('/%2Fa', '/%2Fa')]:
            for request in (asgi(path=given), wsgi(PATH_INFO=given)):
                self.assertEqual((request.path, request.paths), (path, (path,)), repr(given))
                self.assertEqual(request.plain, path == given)
                self.assertEqual(keys.by_path(request), path)
        self.assertEqual((asgi(method='get').method, wsgi(REQUEST_METHOD='get').method),
                         ('GET', 'GET'))

    def test_paths_within_a_mounted_app(self):
        for root, given, paths in [('/v1', '/v1/a', ('/a', '/v1/a')), ('/v1', '/v1', ('/', '/v1')),
                                   ('/v1', '/v1//a\n', ('/a', '/v1//a')),
                                   ('/v1', '/v12/a', ('/v12/a',)), ('/v1', '/a', ('/a',)),
                                   ('/', '/a', ('/a',)), ('', '/a', ('/a',)),
                                   (None, '/a', ('/a',))]:
            request = asgi(path=given, root_path=root)
            self.assertEqual((request.path, request.paths), (paths[0], paths), (root, given))
        self.assertTrue(asgi(path='/v1/a', root_path='/v1').plain)
        self.assertFalse(asgi(path='/v1//a', root_path='/v1').plain)

    def test_a_peer_that_is_no_text(self):
        for peer in ('\udcff', 'x\ud800', '\0', 'é'):
            for key in (keys.by_address(), keys.by_address(trusted_proxies=TRUSTED),
                        keys.combined(keys.by_address(), keys.by_path)):
                self.assertTrue(key(asgi(peer)))
                self.assertTrue(key(wsgi(peer)))

    def test_users(self):
        self.assertEqual(asgi(user=User()).user, 'alice')
        self.assertEqual(wsgi(REMOTE_USER='alice').user, 'alice')
        stranger = User()
        stranger.is_authenticated = False
        self.assertIsNone(asgi(user=stranger).user)
        self.assertIsNone(asgi(user=object()).user)
        self.assertIsNone(wsgi(REMOTE_USER='').user)


class Addresses(Both):
    def test_the_peer(self):
        key = keys.by_address()
        for peer, wanted in [('192.0.2.9', '192.0.2.9'), ('::ffff:192.0.2.9', '192.0.2.9'),
                             ('2001:DB8:1:2:3::4', '2001:db8:1:2::/64'), (None, 'unix'),
                             ('testclient', 'testclient')]:
            self.assertEqual(self.key(key, peer), wanted)
        # No header counts, whoever sends it.
        for header in ['X-Forwarded-For', 'X-Real-IP', 'X-Client-IP', 'True-Client-IP']:
            self.assertEqual(self.key(key, PROXY, (header, '1.2.3.4')), PROXY)
        self.assertEqual(self.key(key, PROXY, ('Forwarded', 'for=1.2.3.4')), PROXY)

    def test_prefixes(self):
        key = keys.by_address(v4_prefix=24, v6_prefix=48)
        self.assertEqual(self.key(key, '192.0.2.9'), '192.0.2.0/24')
        self.assertEqual(self.key(key, '2001:db8:1:2::1'), '2001:db8:1::/48')
        for bad in [{'v4_prefix': 33}, {'v6_prefix': 129}, {'v4_prefix': 0}]:
            with self.assertRaises(brim.InvalidArgument):
                keys.by_address(**bad)

    def test_options_that_are_wrong_are_refused_at_once(self):
        with self.assertRaises(brim.InvalidArgument):
            keys.by_address(trusted_proxies=['10.0.0.0/33'])
        with self.assertRaises(TypeError):
            keys.by_address(trusted_proxies='10.0.0.0/8')
        with self.assertRaises(ValueError):
            keys.by_address(trusted_proxies=TRUSTED, header='X-Client-IP')

    def test_x_forwarded_for(self):
        key = keys.by_address(trusted_proxies=TRUSTED)

        def told(text, peer=PROXY):
            return self.key(key, peer, ('X-Forwarded-For', text))

        self.assertEqual(told('1.2.3.4'), '1.2.3.4')
        self.assertEqual(told('6.6.6.6, 1.2.3.4'), '1.2.3.4')  # the left is the client's own word
        self.assertEqual(told('6.6.6.6, 1.2.3.4, 10.0.0.2'), '1.2.3.4')
        self.assertEqual(told('6.6.6.6,10.0.0.3\t,fd00::2 '), '6.6.6.6')
        self.assertEqual(told('1.2.3.4', '192.0.2.9'), '192.0.2.9')  # not a trusted peer
        self.assertEqual(told('1.2.3.4', 'fd00::7'), '1.2.3.4')
        self.assertEqual(told('1.2.3.4', '::ffff:10.9.9.9'), '1.2.3.4')
        self.assertEqual(told('10.0.0.3, 10.0.0.2'), '10.0.0.3')  # nobody but proxies
        self.assertEqual(told('2001:db8:1:2:3:4:5:6'), '2001:db8:1:2::/64')
        self.assertEqual(told('[2001:db8::1]:443'), '2001:db8::/64')
        self.assertEqual(told('1.2.3.4:5678'), '1.2.3.4')
        self.assertEqual(self.key(key, PROXY), PROXY)
        # What names no address leaves the hop that wrote it.
        for text in ['', 'unknown', '_hidden', '1.2.3.4,', '1.2.3.4, unknown', ',', LONG,
                     '1.2.3.4\0', '1.2.3', '1.2.3.4 5.6.7.8', '\xff', '1.2.3.4\n']:
            self.assertEqual(told(text), PROXY, text)
        self.assertEqual(told('unknown, 10.0.0.2'), '10.0.0.2')
        lines = [('X-Forwarded-For', '6.6.6.6'), ('X-Forwarded-For', '1.2.3.4')]
        self.assertEqual(self.key(key, PROXY, *lines), '1.2.3.4')

    def test_forwarded(self):
        key = keys.by_address(trusted_proxies=TRUSTED, header='forwarded')

        def told(text):
            return self.key(key, PROXY, ('Forwarded', text))

        self.assertEqual(told('for=192.0.2.60;proto=http;by=203.0.113.43'), '192.0.2.60')
        self.assertEqual(told('For="[2001:db8:cafe::17]:4711"'), '2001:db8:cafe::/64')
        self.assertEqual(told('for=192.0.2.43, for=198.51.100.17'), '198.51.100.17')
        self.assertEqual(told('for=192.0.2.43 , by=x ;for="10.0.0.2:99"'), '192.0.2.43')
        self.assertEqual(told(r'host="a\"b,;";for=192.0.2.43'), '192.0.2.43')
        for text in ['', 'for=unknown', 'for="_gazonk"', 'proto=http', 'for=', 'for', ',', ';',
                     'for=1.2.3.4,', 'for=1.2.3.4;', 'for="1.2.3.4', 'for=1.2.3.4"', '=1.2.3.4',
                     'for=[::1]', 'for=1.2.3.4:80', 'for = 1.2.3.4', 'for=1.2.3.4 5.6.7.8', LONG,
                     'for="1.2.3.4\\', '"for=1.2.3.4"', 'for=1.2.3.4\0', '\xff=1.2.3.4']:
            self.assertEqual(told(text), PROXY, text)

    def test_a_client_can_not_write_into_what_its_proxy_says(self):
        key = keys.by_address(trusted_proxies=TRUSTED, header='forwarded')
        # The proxy appends the true address, and the client's Host as a quoted string.
        for host in ['a;for=6.6.6.6', 'a,for=6.6.6.6', 'a, for=6.6.6.6;b=c', ';for=6.6.6.6;', '"',
                     '",for=6.6.6.6', '";for=6.6.6.6;x="', '\\', '\\",for=6.6.6.6;x=\\"']:
            quoted = host.replace('\\', '\\\\').replace('"', '\\"')
            for sent in ['', 'for=6.6.6.6, ', 'for="6.6.6.6, ', 'a="', 'for=6.6.6.6;a=", ',
                         'for="\\", ', LONG + ', ', 'for=6.6.6.6;b="\\\\", ']:
                for said in [f'for=1.2.3.4;host="{quoted}"',
                             f'host="{quoted}";for=1.2.3.4;proto="https"']:
                    answer = self.key(key, PROXY, ('Forwarded', sent + said))
                    self.assertIn(answer, ('1.2.3.4', PROXY), sent + said)
                    if not sent:
                        self.assertEqual(answer, '1.2.3.4', said)

    def test_x_real_ip(self):
        key = keys.by_address(trusted_proxies=TRUSTED, header='x-real-ip')
        self.assertEqual(self.key(key, PROXY, ('X-Real-IP', '1.2.3.4')), '1.2.3.4')
        self.assertEqual(self.key(key, PROXY, ('X-Real-IP', 'x'), ('X-Real-IP', '1.2.3.4')),
                         '1.2.3.4')
        self.assertEqual(self.key(key, PROXY, ('X-Real-IP', '10.0.0.5')), '10.0.0.5')
        self.assertEqual(self.key(key, PROXY, ('X-Real-IP', 'no')), PROXY)
        self.assertEqual(self.key(key, PROXY, ('X-Forwarded-For', '1.2.3.4')), PROXY)

    def test_unix_sockets(self):
        told = (None, ('X-Forwarded-For', '1.2.3.4'))
        self.assertEqual(self.key(keys.by_address(trusted_proxies=['unix']), *told), '1.2.3.4')
        self.assertEqual(self.key(keys.by_address(trusted_proxies=TRUSTED), *told), 'unix')
        self.assertEqual(self.key(keys.by_address(trusted_proxies=['unix']), PROXY, told[1]), PROXY)

    def test_hostile_headers_take_linear_time(self):
        # 1000 times as long takes 1000 times as long: this ends, whatever the machine.
        draw = random.Random(5)
        for header in ('x-forwarded-for', 'forwarded', 'x-real-ip'):
            key = keys.by_address(trusted_proxies=TRUSTED, header=header)
            for piece in ['10.0.0.1,', 'for=10.0.0.1,', ',', ';', '"', 'a=";', '\\', ' ', 'for=',
                          'a="\\"', '\t,']:
                self.key(key, PROXY, (header, piece * (60_000 // len(piece))))
            for _ in range(200):
                text = ''.join(draw.choice('for="10.,;\\ \t\0\xff') for _ in range(80))
                self.assertIsNotNone(self.key(key, PROXY, (header, text)))


class Others(Both):
    def test_by_header(self):
        key = keys.by_header('X-API-Key')
        self.assertEqual(self.key(key, '192.0.2.9', ('X-API-Key', 'abc')), 'x-api-key=abc')
        # Leaving it out is no way around: then the address counts.
        self.assertEqual(self.key(key, '192.0.2.9'), '192.0.2.9')
        self.assertEqual(self.key(key, '192.0.2.9', ('X-API-Key', '')), '192.0.2.9')
        # And nobody can name another's address.
        self.assertNotEqual(self.key(key, '192.0.2.9', ('X-API-Key', '192.0.2.10')), '192.0.2.10')
        self.assertEqual(self.key(keys.by_header('a', keys.everyone), '192.0.2.9'), '*')

    def test_by_user(self):
        self.assertEqual(keys.by_user()(asgi(user=User())), 'user=alice')
        self.assertEqual(keys.by_user()(wsgi(REMOTE_USER='alice')), 'user=alice')
        self.assertEqual(self.key(keys.by_user(), '192.0.2.9'), '192.0.2.9')

    def test_combined_keys_do_not_meet(self):
        parts = ['', 'a', '|', 'a|', '|a', '\\', '\\|', 'a\\', '\\\\', 'é', '\ud800', b'\xff',
                 b'a||', '|\\']
        made = {keys.combined(lambda _, f=first: f, lambda _, s=second: s)(asgi())
                for first in parts for second in parts}
        self.assertEqual(len(made), len(parts) ** 2)
        self.assertEqual({type(key) for key in made}, {bytes})
        self.assertEqual(keys.combined(keys.by_address(), keys.by_path)(asgi()), b'192.0.2.9|/')
        self.assertIs(keys.combined(keys.by_path, lambda _: keys.UNLIMITED)(asgi()),
                      keys.UNLIMITED)

    def test_unlimited_survives_pickling(self):
        self.assertIs(pickle.loads(pickle.dumps(keys.UNLIMITED)), keys.UNLIMITED)


if __name__ == '__main__':
    unittest.main()
