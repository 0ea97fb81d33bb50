#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim get, reset, set and metrics on a live segment."""
import json
import os
import re
import shutil
import subprocess
import tempfile

from support import BrimTest, FAILURE, NO_SEGMENT, REFUSED, USAGE, brim, main

POLICIES = ['--policy', 'log=sliding-log 5/h', '--policy', 'window=fixed-window 8/d']


class KeysTest(BrimTest):
    def get(self, name, key, *options):
        done = self.good('get', name, key, '--format', 'json', *options)
        return {row['policy']: row for row in json.loads(done.text)['policies']}

    def test_get_tells_without_taking(self):
        name = self.create(*POLICIES, policy='p=10/d')
        self.good('try', name, 'alice', '--policy', 'p', '--cost', '10')
        self.good('try', name, 'alice', '--policy', 'log', '--cost', '2')
        for _ in range(3):
            rows = self.get(name, 'alice')
            self.assertEqual({n: row['remaining'] for n, row in rows.items()},
                             {'p': 0, 'log': 3, 'window': 8})
            self.assertEqual({n: row['verdict'] for n, row in rows.items()},
                             {'p': 'denied', 'log': 'allowed', 'window': 'allowed'})
            self.assertGreater(rows['p']['retry_after_ns'], 0)
        self.assertEqual(list(self.get(name, 'alice', '--policy', 'log')), ['log'])
        self.assertIn('allowed', self.good('get', name, 'bob').text)
        self.assertEqual(self.good('get', name, 'bob', '--format', 'csv').text.count('\r\n'), 4)

    def test_get_any_bytes(self):
        name = self.create(policy='p=10/d')
        with tempfile.NamedTemporaryFile() as file:
            file.write(b'\x00\xff\x1b[2J=1+1')
            file.flush()
            self.good('try', name, '--key-file', file.name, '--cost', '4')
            shown = self.good('get', name, '--key-file', file.name)
            self.plain(shown.out)
            self.assertIn('6', shown.text)

    def test_reset_one_key(self):
        name = self.create(*POLICIES, policy='p=10/d')
        for key in ('alice', 'bob'):
            for policy in ('p', 'log', 'window'):
                self.good('try', name, key, '--policy', policy, '--cost', '3')
        self.assertIn('p: reset', self.good('reset', name, 'alice', '--policy', 'p').text)
        self.assertEqual(self.get(name, 'alice')['p']['remaining'], 10)
        self.assertEqual(self.get(name, 'alice')['log']['remaining'], 2)
        text = self.good('reset', name, 'alice').text
        self.assertIn('p: owed nothing', text)
        self.assertIn('log: reset', text)
        self.assertEqual([row['remaining'] for row in self.get(name, 'alice').values()],
                         [10, 5, 8])
        self.assertEqual([row['remaining'] for row in self.get(name, 'bob').values()], [7, 2, 5])

    def test_reset_lifts_a_ban(self):
        name = self.create(policy='p=1/d ban 1 in 1h for 1h')
        self.good('try', name, 'k')
        self.assertEqual(brim('try', name, 'k').code, REFUSED)
        self.assertEqual(self.get(name, 'k')['p']['reason'], 'barred')
        self.good('reset', name, 'k')
        self.good('try', name, 'k')

    def test_reset_all_keys_of_a_policy(self):
        name = self.create(*POLICIES, policy='p=10/d')
        for policy in ('p', 'log', 'window'):
            for i in range(20):
                self.good('try', name, f'key{i}', '--policy', policy, '--cost', '3')
            self.good('reset', name, '--policy', policy, '--all')
        for i in range(20):
            self.assertEqual([row['remaining'] for row in self.get(name, f'key{i}').values()],
                             [10, 5, 8])
        # A log's keys are reset one by one, which needs their text.
        self.good('try', name, 'k' * 300, '--policy', 'log')
        self.bad(FAILURE, ['reset_partial', '1 keys'], 'reset', name, '--policy', 'log', '--all')
        self.good('reset', name, 'k' * 300, '--policy', 'log')
        self.assertEqual(self.get(name, 'k' * 300)['log']['remaining'], 5)

    def test_set(self):
        name = self.create(*POLICIES, policy='p=10/d')
        for policy, most in (('p', 10), ('log', 5), ('window', 8)):
            for wanted in (2, most, 0, 1):
                done = self.good('set', name, 'k', '--policy', policy, '--remaining', str(wanted))
                self.assertIn(f'remaining {wanted},', done.text)
                self.assertEqual(self.get(name, 'k')[policy]['remaining'], wanted)
            self.bad(FAILURE, 'set_partial', 'set', name, 'k', '--policy', policy, '--remaining',
                     str(most + 1))
        self.bad(USAGE, 'policy_needed', 'set', name, 'k', '--remaining', '1')

    def test_bad_input(self):
        name = self.create(policy='p=10/d')
        self.bad(USAGE, 'key_needed', 'get', name)
        self.bad(USAGE, 'key_needed', 'reset', name, 'k', '--key-file', '-')
        self.bad(NO_SEGMENT, 'segment_not_found', 'get', self.name(), 'k')
        self.bad(USAGE, ['policy_not_found', 'it has: p'], 'get', name, 'k', '--policy', 'q')
        self.bad(USAGE, '--remaining', 'set', name, 'k', '--remaining', 'many')
        self.bad(USAGE, '--remaining', 'set', name, 'k')
        self.bad(USAGE, '--all', 'reset', name, '--all')
        self.bad(USAGE, '--all', 'reset', name, 'k', '--policy', 'p', '--all')
        self.bad(USAGE, 'format', 'get', name, 'k', '--format', 'xml')


class MetricsTest(BrimTest):
    def samples(self, text):
        found = {}
        for line in text.splitlines():
            if not line.startswith('#'):
                match = re.fullmatch(r'(\w+)\{(.*)\} (\S+)', line)
                self.assertIsNotNone(match, line)
                labels = tuple(re.findall(r'(\w+)="([^"]*)"', match.group(2)))
                self.assertNotIn((match.group(1), labels), found)
                found[match.group(1), labels] = float(match.group(3))
        return found

    def test_the_counters(self):
        name = self.create(*POLICIES, policy='p=3/d')
        for _ in range(5):
            brim('try', name, 'k', '--policy', 'p')
        done = self.good('metrics', name)
        found = self.samples(done.text)

        def decisions(verdict):
            return found['brim_decisions_total',
                         (('segment', name), ('policy', 'p'), ('verdict', verdict))]
        self.assertEqual((decisions('allowed'), decisions('denied')), (3, 2))
        self.assertEqual(found['brim_slots', (('segment', name), ('state', 'live'))], 1)
        self.assertEqual(found['brim_snapshot_generation', (('segment', name),)], 0)
        self.assertEqual(found['brim_policy_factor', (('segment', name), ('policy', 'p'))], 1)
        with tempfile.TemporaryDirectory() as folder:
            self.good('snapshot', 'take', name, '--file', os.path.join(folder, 's.db'))
            found = self.samples(self.good('metrics', name).text)
            self.assertEqual(found['brim_snapshot_rows', (('segment', name),)], 1)
            self.assertGreater(found['brim_snapshot_age_seconds', (('segment', name),)], 0)

    def test_several_segments_and_a_file(self):
        names = [self.create(policy='p=3/d') for _ in range(3)]
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'brim.prom')
            for _ in range(2):
                self.assertEqual(self.good('metrics', *names, '--output', path).text, '')
            self.assertEqual(os.listdir(folder), ['brim.prom'])
            with open(path, encoding='ascii') as file:
                text = file.read()
            self.assertEqual(text.count('# TYPE brim_slots gauge\n'), 1)
            self.assertEqual({dict(labels).get('segment') for _, labels in self.samples(text)},
                             {*names, None})  # None: of the program itself
            self.bad(FAILURE, 'output_unwritable', 'metrics', names[0], '--output',
                     os.path.join(folder, 'no', 'brim.prom'))
        # A segment that is gone is told of, and does not hide the others.
        gone = self.name()
        done = self.bad(NO_SEGMENT, 'segment_not_found', 'metrics', names[0], gone, names[0])
        found = self.samples(done.text)
        self.assertEqual([found['brim_up', (('segment', each),)] for each in (names[0], gone)],
                         [1, 0])

    def test_prometheus_agrees(self):
        promtool = shutil.which('promtool')
        if promtool is None:
            self.skipTest('promtool is not installed')
        name = self.create(*POLICIES, policy='p=3/d')
        done = subprocess.run([promtool, 'check', 'metrics'],
                              input=self.good('metrics', name).out, capture_output=True,
                              check=False)
        self.assertEqual((done.returncode, done.stderr), (0, b''))


if __name__ == '__main__':
    main()
