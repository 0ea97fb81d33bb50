#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: what `brim export` writes, `brim import` gives to another segment: nothing owed is
forgiven, twice is once, and no line of a file, whoever wrote it, does more than be refused.

Method: the real binary on live segments. What a key has left is read before and after; hostile
lines are made by changing good ones at random.
"""
import base64
import json
import os
import random
import resource
import subprocess
import tempfile

from support import (BRIM, FAILURE, INCOMPATIBLE, NO_SEGMENT, OK, REFUSED, USAGE, BrimTest,
                     address_sanitizer, brim, main)

POLICIES = {'p': '1000/d', 'w': 'fixed-window 50/d', 'c': 'sliding-counter 40/d',
            'l': 'sliding-log 9/d', 'two': '10/d; 100/w', 'b': '1/d ban 2 in 1h for 12h',
            'q': 'queue 20/d burst 5'}
HOSTILE_KEY = b'\x1b[2J\xff\x00=1+1,"\n'


def rows(text):
    return [json.loads(line) for line in text.splitlines()]


class ExportTest(BrimTest):
    def make(self, *options):
        name = self.name()
        self.good('create', name, *[word for policy, text in POLICIES.items()
                                    for word in ('--policy', f'{policy}={text}')], *options)
        return name

    def use(self, name):
        for policy, cost in [('p', 123), ('w', 7), ('c', 11), ('l', 4), ('two', 3), ('q', 1)]:
            for key in (b'alice', b'', HOSTILE_KEY):
                self.good('try', name, '--key-file', '-', '--policy', policy, '--cost', str(cost),
                          stdin=key)
        for _ in range(4):
            brim('try', name, 'mallory', '--policy', 'b')

    def left(self, name, key, policy):
        done = brim('try', name, '--key-file', '-', '--policy', policy, '--peek', '--cost', '0',
                    '--format', 'json', stdin=key)
        self.assertIn(done.code, (OK, REFUSED), done.message)
        answer = json.loads(done.text)
        return answer['remaining'], answer['verdict']

    def all_left(self, name):
        found = {}
        for key in (b'alice', b'', HOSTILE_KEY, b'mallory', b'nobody'):
            done = self.good('get', name, '--key-file', '-', '--format', 'json', stdin=key)
            for row in json.loads(done.text)['policies']:
                if row['policy'] in POLICIES:
                    found[row['policy'], key] = row['remaining'], row['verdict']
        return found

    def test_every_kind_of_state_goes_along(self):
        a = self.make()
        self.use(a)
        self.good('factor', a, 'w', '0.5')
        b = self.make('--capacity', '1000', '--name-bytes', '64')
        text = self.good('export', a).out
        lines = rows(text.decode('ascii'))
        self.assertEqual([line['type'] for line in lines].count('key'), 5 * 3 + 2 * 3 + 2)
        self.assertEqual({line['kind'] for line in lines if line['type'] == 'key'},
                         {'bucket', 'window', 'counter', 'log', 'ban'})
        self.assertEqual((lines[0]['type'], lines[-1]['type']), ('export', 'end'))
        self.assertNotIn('hash_key_base64', lines[0])
        self.assertEqual(lines[-1]['keys'], 23)
        before = self.all_left(a)
        for _ in range(2):  # twice is once
            done = self.good('import', b, '-', stdin=text)
            self.assertIn('imported 23 keys', done.text)
            self.assertEqual(done.audit[1:], [
                'import ended: 23 keys, 0 overrides, 7 policies looked at'])
            self.assertEqual(self.all_left(b), before)
        # The stricter one wins.
        self.good('try', b, 'alice', '--policy', 'p', '--cost', '100')
        self.good('try', a, 'nobody', '--policy', 'p', '--cost', '500')
        self.good('import', b, stdin=self.good('export', a).out)
        self.assertEqual(self.left(b, b'alice', 'p')[0], 1000 - 223)
        self.assertEqual(self.left(b, b'nobody', 'p')[0], 500)

    def test_through_a_pipe_and_with_policies(self):
        a = self.make()
        self.use(a)
        b = self.create('--policy', 'l=sliding-log 9/d', policy='p=1000/d')
        one = subprocess.Popen([BRIM, 'export', a], stdout=subprocess.PIPE)
        two = subprocess.run([BRIM, 'import', b, '--define'], stdin=one.stdout,
                             capture_output=True, check=False)
        one.stdout.close()
        self.assertEqual((one.wait(), two.returncode), (0, 0), two.stderr)
        self.assertEqual(self.all_left(b), self.all_left(a))
        c = self.create(policy='p=1000/d')
        done = brim('import', c, stdin=self.good('export', a).out)
        self.assertEqual(done.code, OK)
        self.assertIn('--define', done.message)
        self.assertIn('20 of policies that are not here', done.text)
        d = self.create(policy='p=1000/d')
        done = self.good('import', d, stdin=self.good('export', a, '--policy', 'p').out)
        self.assertIn('imported 3 keys', done.text)

    def test_a_file(self):
        a = self.make()
        self.use(a)
        b = self.make()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'a.jsonl')
            self.assertEqual(self.good('export', a, '--output', path).out, b'')
            self.assertEqual(os.listdir(folder), ['a.jsonl'])
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            self.good('import', b, path)
            self.assertEqual(self.all_left(b), self.all_left(a))
            self.bad(FAILURE, 'output_unwritable', 'export', a, '--output',
                     os.path.join(folder, 'no', 'x'))
            self.bad(FAILURE, 'import_unreadable', 'import', b, os.path.join(folder, 'none'))
        with open('/dev/full', 'wb') as full:
            self.bad(FAILURE, 'write_failed', 'export', a, stdout=full)
        self.bad(USAGE, ['policy_not_found', "did you mean 'two'"], 'export', a, '--policy', 'tow')
        self.bad(NO_SEGMENT, 'segment_not_found', 'export', self.name())
        self.bad(NO_SEGMENT, 'segment_not_found', 'import', self.name())

    def test_keys_whose_text_is_cut(self):
        a = self.create('--name-bytes', '16', policy='p=100/d')
        long = b'k' * 100
        self.good('try', a, '--key-file', '-', '--cost', '40', stdin=long)
        plain = brim('export', a)
        self.assertEqual(plain.code, OK)
        self.assertIn('export_cut_keys', plain.message)
        # The segment itself can take it back, and one that has the hash key; no other.
        self.good('reset', a, '--key-file', '-', stdin=long)
        self.assertIn('imported 1 keys', self.good('import', a, stdin=plain.out).text)
        self.assertEqual(self.left(a, long, 'p')[0], 60)
        b = self.name()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 's.db')
            self.good('snapshot', 'take', a, '--file', path)
            self.good('create', b, '--restore', path)
        self.good('reset', b, '--key-file', '-', stdin=long)
        self.assertIn('1 without their whole key', self.good('import', b, stdin=plain.out).text)
        self.assertEqual(self.left(b, long, 'p')[0], 100)
        secret = self.good('export', a, '--cut-keys').out
        self.assertIn('imported 1 keys', self.good('import', b, stdin=secret).text)
        self.assertEqual(self.left(b, long, 'p')[0], 60)
        c = self.create(policy='p=100/d')
        self.assertIn('1 without their whole key', self.good('import', c, stdin=secret).text)

    def test_time_that_passed(self):
        a = self.make()
        self.use(a)
        lines = self.good('export', a).text.splitlines()
        head = json.loads(lines[0])
        for days, left in [(400, 1000), (-400, 877)]:
            old = dict(head, wall_ns=head['wall_ns'] - days * 86400 * 10**9)
            b = self.make()
            done = brim('import', b, stdin='\n'.join([json.dumps(old)] + lines[1:]).encode())
            self.assertEqual(done.code, OK)
            self.assertEqual('wall clock' in done.message, days < 0)
            self.assertEqual(self.left(b, b'alice', 'p')[0], left)

    def test_damage(self):
        a = self.make()
        self.use(a)
        lines = self.good('export', a).out.splitlines(True)
        good = len(lines) - 2 - len(POLICIES)
        head = lines[0]
        bad = [(b'', USAGE, 'import_invalid'), (b'{}\n', USAGE, 'import_invalid'),
               (b''.join(lines[1:]), USAGE, 'import_invalid'),
               (head.replace(b'"format": 1', b'"format": 2'), INCOMPATIBLE, 'import_version'),
               (b''.join(lines[:-1]), FAILURE, 'import_incomplete'),
               (b''.join(lines[:9] + lines[10:]), FAILURE, 'import_incomplete'),
               (head, FAILURE, 'import_incomplete'),
               (b''.join(lines + lines[-2:-1]), FAILURE, f'import_damaged: line {len(lines) + 1}'),
               (b''.join(lines[:2] + lines[:1] + lines[2:]), FAILURE, 'import_damaged: line 3')]
        for text, code, word in bad:
            self.bad(code, word, 'import', self.make(), stdin=text)
        # The other lines are taken, whatever is between them.
        junk = [b'\n', b'null\n', b'[]\n', b'{"type": "key"}\n', b'{"type": 7}\n', b'\x00\xff\n',
                b'[' * 500000 + b'\n', b'{"a":' * 100000 + b'\n', b'"' + b'x' * (2 << 20) + b'"\n',
                lines[10][:-2] + b'\n', lines[2]]
        key = next(row for row in map(json.loads, lines) if row.get('policy') == 'p' and
                   row.get('key_base64') == base64.b64encode(b'alice').decode())
        for values in [{'rate': 8}, {'rate': 2**64}, {'rate': -1}, {'used': 1.5}, {'used': None},
                       {'until_ns': 2**63}, {'key_base64': 'YQ='}, {'key_base64': 'YR=='},
                       {'key_base64': 'Y\u00fc=='}, {'kind': 'bucke'}, {'policy': 'none'},
                       {'kind': 'ban'}, {'left_ns': [0] * 257}, {'left_ns': [-1]},
                       {'left_ns': 'x'}, {'barred': 1}, {'key_length': 0}, {'after_ns': -1}]:
            junk.append(json.dumps(dict(key, **values)).encode() + b'\n')
        b = self.make()
        done = brim('import', b, stdin=b''.join(lines[:-1] + junk + lines[-1:]))
        self.assertEqual(done.code, FAILURE)
        self.assertIn(f'imported {good} keys', done.text)
        self.assertIn(f'{len(junk)} damaged lines', done.text)
        self.assertIn(f'import_damaged: line {len(lines)}:', done.message)
        self.assertIn(f'{len(junk) - 20} more damaged lines', done.message)
        self.plain(done.err)
        self.assertEqual(self.all_left(b), self.all_left(a))

    def test_hostile_values(self):
        """Any numbers at all: the import ends by itself, and the segment is sound after it."""
        a = self.make()
        self.use(a)
        source = self.good('export', a, '--cut-keys').text.splitlines()
        seed = int.from_bytes(os.urandom(4), 'little')
        dice = random.Random(seed)
        edges = [0, 1, 2, 7, 63, 64, 2**31, 2**32 - 1, 2**32, 2**49, 2**53, 2**62, 2**63 - 1,
                 2**63, 2**64 - 1]

        def number():
            return dice.choice(edges) if dice.random() < 0.7 else dice.getrandbits(64)

        def changed(value):
            if isinstance(value, bool):
                return not value
            if isinstance(value, int):
                return number()
            if isinstance(value, list) and value and isinstance(value[0], dict):
                return [mutated(each) for each in value]
            if isinstance(value, list):
                return [number() for _ in range(dice.randrange(257))]
            return dice.choice([value, base64.b64encode(dice.randbytes(9)).decode(), 'f' * 13])

        def mutated(row):
            row = dict(row)
            for field in dice.sample(sorted(row), dice.randrange(1, 4)):
                if field not in ('type', 'rate', 'policy', 'kind', 'name'):
                    row[field] = changed(row[field])
            return row

        def torn(line):
            line = bytearray(line.encode())
            for _ in range(dice.randrange(3)):
                line[dice.randrange(len(line))] = dice.randrange(256)
            return bytes(line)

        for round_ in range(3):
            b = self.make('--capacity', '4000')
            head = json.loads(source[0])
            head['wall_ns'] = head['wall_ns'] if round_ % 2 else min(number(), 2**63 - 1)
            policies = [json.loads(line) for line in source[1:1 + len(POLICIES)]]
            lines = [json.dumps(head).encode()]
            lines += [json.dumps(mutated(policy)).encode() for policy in policies]
            for _ in range(300):
                row = json.dumps(mutated(json.loads(dice.choice(source[8:]))))
                lines.append(torn(row) if dice.random() < 0.2 else row.encode())
            done = brim('import', b, stdin=b'\n'.join(lines))
            self.assertIn(done.code, (OK, FAILURE), (seed, done.err[-300:]))
            self.plain(done.err)
            verified = brim('verify', b)
            self.assertEqual(verified.code, OK, (seed, verified.text))
            for policy in POLICIES:
                self.assertIn(brim('try', b, 'fresh', '--policy', policy).code, (OK, REFUSED), seed)

    def test_constant_memory(self):
        if address_sanitizer():
            self.skipTest('memory is not measured under the address sanitizer')

        def limited():
            resource.setrlimit(resource.RLIMIT_DATA, (12 << 20, 12 << 20))

        big = self.create('--capacity', '1M', '--name-bytes', '16', policy='p=10/d')
        self.assertEqual(self.fill(big, [b'%d' % i for i in range(20000)]), 20000)
        target = self.create('--capacity', '64k', '--name-bytes', '16', policy='p=10/d')
        one = subprocess.Popen([BRIM, 'export', big], stdout=subprocess.PIPE, preexec_fn=limited)
        two = subprocess.run([BRIM, 'import', target], stdin=one.stdout, capture_output=True,
                             check=False, preexec_fn=limited)
        one.stdout.close()
        self.assertEqual((one.wait(), two.returncode), (0, 0), two.stderr)
        self.assertIn(b'imported 20000 keys', two.stdout)


if __name__ == '__main__':
    main()
