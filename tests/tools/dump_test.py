# SPDX-License-Identifier: MIT
"""Goal: dump shows the keys that were asked for, in the order asked for, while traffic runs, and
its memory is bounded by --limit alone. Method: the real binary on a live segment; rates are per
day, so that no permit comes back while a test runs."""
import base64
import fcntl
import fnmatch
import json
import os
import pty
import random
import re
import struct
import subprocess
import time

from support import BRIM, FILL, USAGE, BrimTest, address_sanitizer, brim, main

SLOW = os.environ.get('BRIM_TEST_SLOW') == '1'


class Dump(BrimTest):
    def keys(self, name, *options):
        done = brim('dump', name, '--format', 'json', *options)
        self.assertEqual(done.code, 0, done.message)
        return json.loads(done.text)

    def names(self, name, *options):
        return [row['key'] for row in self.keys(name, *options)['keys']]


class Filters(Dump):
    def setUp(self):
        self.segment = self.create(policy='p=20/d')
        self.taken = {'a1': 1, 'a2': 20, 'b1': 17, 'b2': 18, 'b3': 19, 'c': 5}
        for key, cost in self.taken.items():
            self.good('try', self.segment, key, '--policy', 'p', '--cost', str(cost))
        self.good('create', self.segment, '--if-missing', '--policy', 'q=1000000/d')
        self.sender = self.load(self.segment, 'q', 30)

    def only(self, *options):
        return self.names(self.segment, '--policy', 'p', *options)

    def test_states(self):
        self.assertEqual(sorted(self.only()), sorted(self.taken))
        self.assertEqual(self.only('--state', 'refused'), ['a2'])
        self.assertEqual(sorted(self.only('--state', 'near')), ['a2', 'b2', 'b3'])
        row, = self.keys(self.segment, '--policy', 'p', '--state', 'refused')['keys']
        self.assertEqual(row['remaining'], 0)
        self.assertGreater(row['retry_after_ns'], 0)
        self.assertLessEqual(row['retry_after_ns'], 86400 * 10**9 // 20)
        table = self.good('dump', self.segment, '--policy', 'p', '--state', 'refused').text
        self.assertIn(' RETRY  KEY', table)
        self.assertNotIn('RETRY', self.good('dump', self.segment, '--policy', 'p').text)

    def test_refused_are_those_that_try_refuses(self):
        name = self.create('--policy', 'window=fixed-window 3/d', '--policy', 'log=sliding-log 3/d',
                           '--policy', 'counter=sliding-counter 3/d', '--policy', 'queue=queue 3/d',
                           '--policy', 'two=3/d; sliding-log 9/d',
                           '--policy', 'bans=3/d ban 1 in 1h for 1d', policy='gcra=3/d')
        policies = ['gcra', 'window', 'log', 'counter', 'queue', 'two', 'bans']
        for policy in policies:
            self.good('try', name, 'some', '--policy', policy, '--cost', '2')
            self.good('try', name, 'all', '--policy', policy, '--cost', '3')
        for _ in range(5):
            brim('try', name, 'over', '--policy', 'bans')
        refused = set()
        for key in 'none', 'some', 'all', 'over':
            rows = json.loads(self.good('get', name, key, '--format', 'json').text)['policies']
            refused |= {(row['policy'], key) for row in rows if row['verdict'] == 'denied'}
        self.assertEqual(len(refused), len(policies))  # a queue lets one more wait
        shown = self.keys(name, '--state', 'refused')['keys']
        self.assertEqual({(row['policy'], row['key']) for row in shown}, refused)
        self.assertIn(('bans', 'over', 7), {(r['policy'], r['key'], r['part']) for r in shown})
        for row in shown:
            self.assertGreater(row['retry_after_ns'], 0, row)

    def test_remaining_under_and_text(self):
        self.assertEqual(sorted(self.only('--remaining-under', '3')), ['a2', 'b2', 'b3'])
        self.assertEqual(self.only('--remaining-under', '0'), [])
        self.assertEqual(sorted(self.only('--prefix', 'b')), ['b1', 'b2', 'b3'])
        self.assertEqual(sorted(self.only('--match', '[!a]?')), ['b1', 'b2', 'b3'])
        self.assertEqual(self.only('--prefix', 'b', '--match', '*[2-2]'), ['b2'])
        self.assertEqual(sorted(self.names(self.segment, '--match', 'load2*')),
                         ['load2'] + [f'load2{i}' for i in range(10)])

    def test_sort(self):
        self.assertEqual(self.only('--sort', 'key'), sorted(self.taken))
        by_use = sorted(self.taken, key=lambda key: -self.taken[key])
        self.assertEqual(self.only('--sort', 'remaining'), by_use)
        done = self.keys(self.segment, '--policy', 'p', '--sort', 'remaining', '--limit', '2')
        self.assertEqual([row['key'] for row in done['keys']], by_use[:2])
        self.assertEqual((done['count'], done['matched'], done['more']), (2, 6, True))
        self.assertEqual(self.only('--sort', 'retry', '--limit', '1'), ['a2'])
        done = brim('dump', self.segment, '--policy', 'p', '--sort', 'key', '--limit', '4')
        self.assertIn('the first 4 of 6 keys', done.message)
        self.assertEqual(len(done.text.splitlines()), 5)

    def test_sort_without_limit_says_where_it_ends(self):
        keys = [b'%05d' % i for i in range(1200)]
        name = self.create('--capacity', '4k')
        random.Random(3).shuffle(keys)
        self.fill(name, keys)
        done = brim('dump', name, '--sort', 'key', '--format', 'json')
        self.assertEqual([row['key'] for row in json.loads(done.text)['keys']],
                         [f'{i:05}' for i in range(1000)])
        self.assertIn('the first 1000 of 1200 keys; give --limit for more', done.message)
        self.assertEqual(len(self.names(name, '--sort', 'key', '--limit', '1200')), 1200)

    def test_wrong_words(self):
        for option, value, words in [('--state', 'dead', 'refused or near'),
                                     ('--sort', 'size', 'remaining, retry or key'),
                                     ('--remaining-under', '-1', 'whole number')]:
            self.bad(USAGE, words, 'dump', self.segment, f'{option}={value}')


class Patterns(Dump):
    def test_any_bytes_match(self):
        """Python's fnmatch on bytes says what matches."""
        generator = random.Random(7)
        alphabet = [b'a', b'b', b'c', b'\x00', b'\xff', b'\n', b'*', b'[', b'-', b'\x1b']
        keys = {b''.join(generator.choices(alphabet, k=generator.randrange(7)))
                for _ in range(300)}
        name = self.create()
        self.fill(name, keys)
        everything = {row['key_base64'] for row in self.keys(name)['keys']}
        self.assertEqual(len(everything), len(keys))
        pieces = [b'a', b'b', b'c', b'\xff', b'\n', b'*', b'*', b'?', b'[ab]', b'[!a-b]',
                  b'[\xf0-\xff]', b'[*]', b'[]a]', b'[']
        matched = 0
        patterns = [b'[!a-b]*', b'*[]a]', b'*[\xf0-\xff]?', b'[*]*', b'*[', b'a*[!ab]*c', b'']
        patterns += [b''.join(generator.choices(pieces, k=generator.randrange(6)))
                     for _ in range(13)]
        for pattern in patterns:
            expected = sorted(key for key in keys if fnmatch.fnmatchcase(key, pattern))
            found = sorted(self.bytes_of(name, '--match', pattern))
            self.assertEqual(found, expected, pattern)
            matched += len(found)
        self.assertGreater(matched, 40)
        self.assertEqual(self.bytes_of(name, '--match', b'\\**', '--prefix', b'*'),
                         self.bytes_of(name, '--prefix', b'*'))
        self.assertEqual(self.bytes_of(name, '--match', b'a\\'), [])

    def bytes_of(self, name, *options):
        return [base64.b64decode(row['key_base64']) for row in self.keys(name, *options)['keys']]

    def test_a_bad_pattern_takes_no_time(self):
        name = self.create()
        self.fill(name, [b'a' * 40 + b'b'])
        self.assertEqual(self.names(name, '--match', '*a' * 20 + 'c'), [])


class Memory(Dump):
    def made(self, count, name_bytes='24'):
        name = self.create('--capacity', str(count + count // 8), '--name-bytes', name_bytes)
        filler = subprocess.Popen([FILL, name, 'p'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for first in range(0, count, 50000):
            keys = range(first, min(first + 50000, count))
            filler.stdin.write(b''.join(struct.pack('<I12s', 12, b'%012d' % i) for i in keys))
        filler.stdin.close()
        self.assertEqual(int(filler.stdout.read()), count)
        filler.stdout.close()
        filler.wait()
        return name

    def peak(self, name, *options):
        """Lines printed, and the most memory of its own (KiB) that was seen while it ran."""
        # A pipe of one page: with a part of that unread, it waits, however little it has to print.
        ours, theirs = os.pipe()
        fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, 4096)
        process = subprocess.Popen([BRIM, 'dump', name, *options], stdout=theirs)
        os.close(theirs)
        lines = most = 0
        size = 1024
        while piece := os.read(ours, size):
            size = 65536
            lines += piece.count(b'\n')
            with open(f'/proc/{process.pid}/status', encoding='ascii') as file:
                status = file.read()
            anonymous = re.search(r'RssAnon:\s+(\d+)', status)
            if anonymous:
                most = max(most, int(anonymous.group(1)))
        os.close(ours)
        self.assertEqual(process.wait(), 0)
        return lines, most

    def test_memory_does_not_grow_with_the_keys(self):
        if address_sanitizer():
            self.skipTest('memory is not measured under the address sanitizer')
        small, large = (20000, 10000000) if SLOW else (20000, 400000)
        few, many = self.made(small), self.made(large)
        for options in [[], ['--format', 'csv'], ['--match', '*7*'],
                        ['--sort', 'key', '--limit', '100']]:
            lines, little = self.peak(few, *options)
            more_lines, much = self.peak(many, *options)
            self.assertGreater(little, 100)  # it measures something
            self.assertLess(much, little + 1024, options)
            if not options:
                self.assertEqual((lines, more_lines), (small + 1, large + 1))
        # A thousand times the limit is more: the measure would see it.
        self.assertGreater(self.peak(many, '--sort', 'key', '--limit', '20000')[1], little + 1024)


class ProgressLine(Dump):
    def shown(self, name, *options, term='xterm', terminal=True):
        """What a terminal at standard error gets while the output waits for a slow reader."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen([BRIM, 'dump', name, *options], stdout=subprocess.PIPE,
                                   stderr=theirs if terminal else subprocess.PIPE,
                                   env=os.environ | {'TERM': term})
        os.close(theirs)
        time.sleep(0.5)  # longer than the line waits; the pipe is full
        count = process.stdout.read().count(b'\n')
        process.stdout.close()
        self.assertEqual(process.wait(), 0)
        if not terminal:
            text = process.stderr.read()
            process.stderr.close()
        else:
            text = b''
            try:
                while piece := os.read(ours, 65536):
                    text += piece
            except OSError:
                pass
        os.close(ours)
        return count, text

    def test_only_where_a_person_watches(self):
        name = self.create('--capacity', '64k')
        self.fill(name, [b'%d' % i for i in range(20000)])
        count, text = self.shown(name)
        self.assertEqual(count, 20001)
        self.assertRegex(text, rb'\r\x1b\[Kbrim: \d+ of \d+ slots read, \d+ %, \d+ keys/s')
        self.assertTrue(text.endswith(b'\r\x1b[K'), text[-80:])  # and is erased
        self.plain(text.replace(b'\r\x1b[K', b''))
        for less in {'term': 'dumb'}, {'terminal': False}:
            count, text = self.shown(name, **less)
            self.assertEqual((count, text), (20001, b''))
        json.loads(self.good('dump', name, '--format', 'json', '--limit', '20000').text)


if __name__ == '__main__':
    main()
