# SPDX-License-Identifier: MIT
"""Goal (F44): no byte of a key reaches the terminal unescaped or breaks JSON or CSV, and none is
lost. Method: keys made of what terminals, spreadsheets and parsers act upon, through the real
binary; its output is checked byte by byte and read back with Python's own parsers."""
import base64
import csv
import io
import json
import os
import pty
import random
import re
import subprocess
import urllib.parse

from support import BRIM, OK, REFUSED, BrimTest, brim, main

HOSTILE = [
    b'\x1b]0;owned\x07', b'\x1b[2J', b'\x1b[31mred\x1b[0m', b'\x9b2J', b'\x9b31m', b'\xc2\x9b2J',
    '\u202egpj.exe'.encode(), '\u2066\u200b'.encode(), b'=HYPERLINK("http://x","y")', b'+1+1',
    b'-2+3', b'@SUM(A1)', b'\t=1', b'\r=1', b"'quoted", b"''", b'"', b'""', b'\\', b'\\u0000', b',',
    b'a,b', b'a b', b' ', b'\n', b'a\r\nb', b'\r', b'\x00', b'a\x00b', b'\x7f', b'\xff\xfe\xfa',
    b'\xc3\x28', b'\xed\xa0\x80', b'%', b'%41', b'%00', b'#', b'#0123456789abc', b'',
    'schlüssel'.encode(), b'</script><script>', b'$(reboot)', b'`id`', b'{"a":1}', b'[]', b'null',
    bytes(range(256))]


def unescape(text):
    return urllib.parse.unquote_to_bytes(text)


class Keys(BrimTest):
    def setUp(self):
        self.segment = self.create('--name-bytes', '256')
        generator = random.Random(44)
        self.keys = HOSTILE + [generator.randbytes(generator.randrange(1, 60)) for _ in range(300)]
        self.assertEqual(self.fill(self.segment, self.keys), len(self.keys))

    def test_json_gives_back_the_bytes(self):
        out = self.good('dump', self.segment, '--format', 'json').out
        self.plain(out)
        dump = json.loads(out)
        self.assertEqual((dump['version'], dump['segment'], dump['more']), (1, self.segment, False))
        self.assertEqual(dump['count'], len(self.keys))
        self.assertEqual(sorted(base64.b64decode(row['key_base64'], validate=True)
                                for row in dump['keys']), sorted(self.keys))
        for row in dump['keys']:
            self.assertEqual(unescape(row['key']), base64.b64decode(row['key_base64']))
            self.assertRegex(row['key'], r'^[!#$&-\[\]-~%]*$')
            self.assertNotIn(',', row['key'])
            self.assertEqual((row['policy'], row['state'], row['limit'], row['burst']),
                             ('p', 'live', 1, 1000))
            self.assertEqual(row['remaining'], 999)
            self.assertEqual(row['key_length'], len(unescape(row['key'])))
            self.assertIs(row['key_cut'], False)

    def test_csv_gives_back_the_bytes_and_holds_no_formula(self):
        out = self.good('dump', self.segment, '--format', 'csv').out
        self.plain(out, b'\r\n')
        self.assertEqual(out.count(b'\n'), len(self.keys) + 1)
        self.assertEqual(out.count(b'\r\n'), out.count(b'\n'))
        rows = list(csv.DictReader(io.StringIO(out.decode('ascii'), newline=''), strict=True))
        found = []
        for row in rows:
            self.assertNotIn(None, row)
            self.assertNotIn(row['key'][:1], ['=', '+', '-', '@', '\t', '\r'])
            found.append(unescape(row['key'].removeprefix("'")))
        self.assertEqual(sorted(found), sorted(self.keys))

    def test_table_is_one_plain_line_a_key(self):
        out = self.good('dump', self.segment).out
        self.plain(out)
        lines = out.decode('ascii').splitlines()[1:]
        columns = [line.split() for line in lines]
        self.assertEqual({len(row) for row in columns}, {5})
        found = [b'' if row[4] == '""' else unescape(row[4]) for row in columns]
        self.assertEqual(sorted(found), sorted(self.keys))
        self.assertFalse([row[4] for row in columns if row[4].startswith('#')])

    def test_terminal_sees_only_our_own_bold(self):
        ours, theirs = pty.openpty()
        process = subprocess.Popen([BRIM, 'dump', self.segment], stdout=theirs)
        os.close(theirs)
        text = b''
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            text += piece
        os.close(ours)
        self.assertEqual(process.wait(), OK)
        self.plain(re.sub(rb'\x1b\[[01]m', b'', text, count=2), b'\r\n')

    def test_try_takes_and_prints_them_safely(self):
        name = self.create('--name-bytes', '256', policy='p=1/h')
        for key in HOSTILE:
            for code in [OK, REFUSED]:
                result = brim('try', name, '--key-file', '-', stdin=key)
                self.assertEqual(result.code, code, key)
                self.plain(result.out + result.err)
            if b'\0' not in key and len(key) < 200:
                self.assertEqual(brim('try', name, '--peek', '--', key).code, REFUSED, key)

    def test_each_rate_and_the_bans_of_a_policy_have_a_row(self):
        name = self.create(policy='p=7/h; sliding-log 3/d ban 9 in 1h for 1h')
        for _ in range(4):
            brim('try', name, 'k')
        rows = {row['part']: row for row in
                json.loads(self.good('dump', name, '--format', 'json').out)['keys']}
        self.assertEqual(sorted(rows), [0, 1, 7])
        self.assertEqual({row['key'] for row in rows.values()}, {'k'})
        self.assertEqual([rows[0][field] for field in ['limit', 'burst', 'remaining']], [7, 7, 4])
        self.assertEqual((rows[1]['limit'], 'remaining' in rows[1]), (3, False))
        self.assertEqual(('limit' in rows[7], rows[7]['reset_after_ns']), (False, 0))  # no ban yet
        table = self.good('dump', name).text
        for row in ['p/0 +live +4 ', 'p/1 +live +- ', 'p/ban +live +- ']:
            self.assertRegex(table, '(?m)^' + row)
        table = csv.DictReader(io.StringIO(self.good('dump', name, '--format', 'csv').text))
        self.assertEqual({(row['part'], row['limit'], row['remaining']) for row in table},
                         {('0', '7', '4'), ('1', '3', ''), ('7', '', '')})

    def test_limit_policy_and_state(self):
        self.good('create', self.segment, '--if-missing', '--policy', 'quick=1000000000/s')
        self.fill(self.segment, [b'gone'], policy='quick')
        dump = lambda *options: json.loads(
            brim('dump', self.segment, '--format', 'json', *options).out)
        self.assertEqual(dump('--policy', 'quick')['keys'], [])
        idle = dump('--policy', 'quick', '--state', 'idle')['keys']
        self.assertEqual([row['key'] for row in idle], ['gone'])
        self.assertEqual((idle[0]['remaining'], idle[0]['reset_after_ns']), (1000000000, 0))
        self.assertEqual(dump('--state', 'all')['count'], len(self.keys) + 1)
        some = dump('--limit', '7')
        self.assertEqual((len(some['keys']), some['more']), (7, True))
        self.assertIs(dump('--limit', str(len(self.keys)))['more'], False)
        result = brim('dump', self.segment, '--limit', '2')
        self.assertEqual(len(result.text.splitlines()), 3)
        self.assertIn('more keys', result.message)
        self.bad(2, ["policy 'none'", 'p, quick'], 'dump', self.segment, '--policy', 'none')


class LongKeys(BrimTest):
    LONG = b'\x1b[2J' + bytes(i * 7 % 256 for i in range(69996))

    def dump(self, name):
        return json.loads(self.good('dump', name, '--format', 'json').out)['keys']

    def test_seventy_thousand_bytes(self):
        name = self.create('--capacity', '16', '--name-bytes', '65520', policy='p=1/h')
        self.good('try', name, '--key-file', '-', stdin=self.LONG)
        row, = self.dump(name)
        self.assertEqual(base64.b64decode(row['key_base64']), self.LONG[:65520 - 8])
        self.assertEqual((row['key_length'], row['key_cut']), (70000, True))
        table = self.good('dump', name).out
        self.plain(table)
        self.assertTrue(table.endswith(b' (first 65512 of 70000 bytes)\n'))
        out = self.good('dump', name, '--format', 'csv').out
        self.plain(out, b'\r\n')
        csv.field_size_limit(1 << 24)
        csv_row, = csv.DictReader(io.StringIO(out.decode('ascii'), newline=''))
        self.assertEqual(unescape(csv_row['key']), self.LONG[:65520 - 8])
        self.assertEqual((csv_row['key_length'], csv_row['key_cut']), ('70000', 'true'))
        # Cut in the dump, but all its bytes count.
        other = self.LONG[:-1] + b'!'
        self.assertEqual(brim('try', name, '--key-file', '-', stdin=other).code, OK)
        self.assertEqual(brim('try', name, '--key-file', '-', stdin=self.LONG).code, REFUSED)

    def test_keys_without_text_show_their_fingerprint(self):
        name = self.create('--name-bytes', '0')
        self.good('try', name, 'secret')
        row, = self.dump(name)
        self.assertEqual((row['key'], row['key_base64'], row['key_length']), (None, None, None))
        self.assertRegex(row['fingerprint'], r'^[0-9a-f]{13}$')
        self.assertRegex(self.good('dump', name).text, f' #{row["fingerprint"]}\n')
        self.assertIn(f',#{row["fingerprint"]},', self.good('dump', name, '--format', 'csv').text)

    def test_an_altered_text_is_not_shown(self):
        name = self.create()
        self.good('try', name, 'innocent-customer')
        path = '/dev/shm/' + name
        with open(path, 'r+b') as file:
            at = file.read().index(b'innocent-customer')
            file.seek(at)
            file.write(b'somebody')
        row, = self.dump(name)
        self.assertIsNone(row['key'])
        self.assertNotIn('somebody', self.good('dump', name).text)


if __name__ == '__main__':
    main()
