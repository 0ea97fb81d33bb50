#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: each command that changes a live segment does what it says, to a segment that processes use
meanwhile, and leaves a line of who did what.

Method: the real binary on live segments. The commands that `brim --help` lists are held against a
table of this test: a new command has to say whether it changes a segment, and to leave its line.
"""
import csv
import io
import json
import os
import pwd
import re
import subprocess
import tempfile
import threading

from support import (BRIM, FAILURE, INCOMPATIBLE, NO_SEGMENT, OK, REFUSED, USAGE, BrimTest, brim,
                     main)


class TouchTest(BrimTest):
    def file(self, text):
        file = tempfile.NamedTemporaryFile('w', suffix='.toml', encoding='utf-8')
        self.addCleanup(file.close)
        file.write(text)
        file.flush()
        return file.name

    def log(self, name, *options):
        return json.loads(self.good('log', name, '--format', 'json', *options).text)['entries']

    def whats(self, name):
        return [entry['what'] for entry in self.log(name)]

    def code(self, name, key, policy='p'):
        return brim('try', name, key, '--policy', policy, '--cost', '0').code


class PolicyTest(TouchTest):
    def test_set_list_show_rm(self):
        name = self.create(policy='p=10/d')
        self.good('try', name, 'k', '--cost', '6')
        done = self.good('policy', 'set', name, 'p', '20/d')
        self.assertEqual((done.text, done.audit), ('policy p: 20/d\n', ['change policy p: 20/d']))
        self.assertIn('remaining 14,', self.good('set', name, 'k', '--remaining', '14').text)
        done = self.good('policy', 'set', name, 'new', '3/h')
        self.assertEqual(done.audit, ['define policy new: 3/h'])
        self.good('policy', 'set', name, 'p', '200/d', '--proportional')
        self.good('policy', 'set', name, 'p', 'fixed-window 9/d', '--reset')
        self.good('factor', name, 'new', '50%')
        rows = json.loads(self.good('policy', 'list', name, '--format', 'json').text)['policies']
        self.assertEqual([(row['name'], row['text'], row['factor_ppm']) for row in rows],
                         [('p', 'fixed-window 9/d', 1000000), ('new', '3/h', 500000)])
        self.assertEqual((rows[0]['allowed'], rows[0]['denied']), (1, 0))
        table = list(csv.reader(io.StringIO(
            self.good('policy', 'list', name, '--format', 'csv').text)))
        self.assertEqual(table[1:], [['p', 'fixed-window 9/d', '1000000', '1', '0'],
                                     ['new', '3/h', '500000', '0', '0']])
        self.assertIn('fixed-window 9/d', self.good('policy', 'list', name).text)
        shown = json.loads(self.good('policy', 'show', name, 'new', '--format', 'json').text)
        self.assertEqual(shown['text'], '3/h')
        self.assertIn('allowed', [each['name'] for each in shown['counters']])
        self.assertTrue(all(each['description'] for each in shown['counters']))
        self.assertIn('policy new: 3/h', self.good('policy', 'show', name, 'new').text)
        self.good('override', 'set', name, 'p', 'k', '--use', 'new')
        self.bad(INCOMPATIBLE, 'policy_in_use', 'policy', 'rm', name, 'new')
        self.good('override', 'rm', name, 'p', 'k')
        self.assertEqual(self.good('policy', 'rm', name, 'new').audit, ['remove policy new'])
        self.bad(USAGE, 'policy_not_found', 'try', name, 'k', '--policy', 'new')
        self.bad(USAGE, 'policy_not_found', 'policy', 'rm', name, 'new')

    def test_names_that_were_probably_meant(self):
        name = self.create('--policy', 'per_user=9/h', policy='per_ip=10/d')
        for args in [['policy', 'show', name, 'per_pi'], ['policy', 'rm', name, 'per_pi'],
                     ['change', name, 'per_pi', '1/s'], ['factor', name, 'per_pi', '1'],
                     ['reset', name, 'k', '--policy', 'per_pi'], ['get', name, 'k', '--policy',
                                                                  'per_pi'],
                     ['reset', name, '--all', '--policy', 'per_pi'],
                     ['override', 'set', name, 'per_pi', 'k', '--use', 'deny'],
                     ['override', 'set', name, 'per_user', 'k', '--use', 'per_pi'],
                     ['ban', name, 'k', '--policy', 'per_pi']]:
            done = self.bad(USAGE, ['policy_not_found', "did you mean 'per_ip'?"], *args)
            self.assertEqual(done.audit, [])
        self.assertNotIn('did you', self.bad(USAGE, 'policy_not_found', 'policy', 'rm', name,
                                             'xxxxxxxx').message)
        self.assertEqual(self.log(name), [])

    def test_load_and_diff(self):
        name = self.create('--policy', 'log=sliding-log 4/h', policy='p=10/d')
        self.good('override', 'set', name, 'p', 'bob', '--use', 'deny')
        same = self.file('[policies]\np = "10/d"\n[[override]]\npolicy = "p"\nkey = "bob"\n'
                         'use = "deny"\n')
        self.assertEqual(self.good('policy', 'diff', name, same).text, '')
        other = self.file('[policies]\np = "20/d"\nnew = "3/s"\n[[override]]\npolicy = "p"\n'
                          'key = "bob"\nuse = "unlimited"\n[[override]]\ncidr = "10.0.0.0/8"\n'
                          'use = "deny"\n')
        done = brim('policy', 'diff', name, other)
        self.assertEqual((done.code, done.err), (1, b''))
        self.assertEqual(done.text, '-p: 10/d\n+p: 20/d\n+new: 3/s\n'
                         '-override of p: key bob uses deny\n'
                         '+override of p: key bob uses unlimited\n'
                         '+override of *: network 10.0.0.0/8 uses deny\n')
        self.assertEqual(len(self.good('policy', 'load', name, other).audit), 4)
        self.assertEqual(self.good('policy', 'diff', name, other).text, '')
        # What is so already is neither done again nor noted.
        self.assertEqual(self.good('policy', 'load', name, other).audit, [])
        self.good('policy', 'check', other)
        self.assertEqual(brim('policy', 'diff', name, '/nowhere/x').code, USAGE)
        self.assertEqual(brim('policy', 'diff', self.name(), other).code, NO_SEGMENT)
        self.bad(USAGE, 'policy_file_invalid', 'policy', 'check', self.file('[policies]\np = 1\n'))
        made = self.name()
        self.good('policy', 'load', made, other)
        self.assertEqual(self.good('policy', 'diff', made, other).text, '')


class OverrideTest(TouchTest):
    def entries(self, name, *options):
        text = self.good('override', 'list', name, '--format', 'json', *options).text
        return json.loads(text)['overrides']

    def test_list(self):
        name = self.create('--policy', 'vip=5/h', policy='p=1/h')
        self.bad(USAGE, ['policy_not_found', "did you mean 'vip'?"], 'override', 'list', name,
                 '--policy', 'vjp')
        strange = b'\x1b[2J\xff=1'
        self.good('override', 'set', name, 'p', '--key-file', '-', '--use', 'vip', stdin=strange)
        self.good('override', 'set', name, '*', '--network', '10.0.0.0/8', '--use', 'unlimited')
        self.good('override', 'set', name, 'p', 'k' * 500, '--use', 'deny')
        self.good('ban', name, 'eve', '--for', '2h')
        self.good('ban', name, 'mallory', '--policy', 'p')
        rows = {(row['policy'], row['use'], row['network'], row['ban'], row['key_length'])
                for row in self.entries(name)}
        self.assertEqual(rows, {('p', 'vip', False, False, 7), ('*', 'unlimited', True, False, 10),
                                ('p', 'deny', False, False, 500), ('*', 'banned', False, True, 3),
                                ('p', 'banned', False, True, 7)})
        ends = {row['key']: row['ends_in_ns'] for row in self.entries(name) if row['ban']}
        self.assertIsNone(ends['mallory'])
        self.assertTrue(0 < ends['eve'] <= 7201 * 10**9)
        self.assertEqual(len(self.entries(name, '--policy', '*')), 2)
        for kind in ('table', 'csv'):
            done = self.good('override', 'list', name, '--format', kind)
            self.plain(done.out, b'\r\n')
            self.assertIn('10.0.0.0/8', done.text)
            self.assertIn('%1B[2J%FF=1', done.text)
        self.good('override', 'rm', name, '*', '--network', '10.0.0.0/8')
        self.assertEqual(len(self.entries(name)), 4)

    def test_ban_and_unban(self):
        name = self.create('--policy', 'q=9/h', policy='p=9/h')
        self.assertEqual(self.good('ban', name, '192.0.2.7', '--for', '10m').audit,
                         ['ban key 192.0.2.7 policy * for 10m0s'])
        for policy in 'pq':
            self.assertEqual(self.code(name, '192.0.2.7', policy), REFUSED)
            self.assertEqual(self.code(name, '192.0.2.8', policy), OK)
        self.good('ban', name, '--network', '192.0.2.0/24', '--policy', 'q')
        self.assertEqual((self.code(name, '192.0.2.8', 'q'), self.code(name, '192.0.2.8')),
                         (REFUSED, OK))
        self.good('unban', name, '--network', '192.0.2.0/24')
        self.good('unban', name, '192.0.2.7')
        for policy in 'pq':
            self.assertEqual(self.code(name, '192.0.2.7', policy), OK)
        self.bad(USAGE, 'ban_not_found', 'unban', name, '192.0.2.7')
        self.bad(USAGE, 'ban_not_found', 'unban', name, '192.0.2.7', '--policy', 'p')
        self.bad(USAGE, 'key_needed', 'ban', name)
        self.bad(USAGE, 'key_needed', 'ban', name, 'k', '--network', '10.0.0.0/8')
        self.bad(USAGE, '--for', 'ban', name, 'k', '--for', 'ever')
        self.bad(USAGE, '10.0.0.0/8', 'ban', name, '--network', '10.0.0.1/8')

    def test_unban_ends_what_a_policy_did(self):
        name = self.create('--policy', 'q=9/h', policy='p=1/d ban 1 in 1h for 1h')
        self.good('try', name, 'k', '--policy', 'p')
        self.assertEqual(brim('try', name, 'k', '--policy', 'p').code, REFUSED)
        self.good('unban', name, 'k')
        get = json.loads(self.good('get', name, 'k', '--format', 'json').text)['policies']
        self.assertNotIn('barred', [row['reason'] for row in get])

    def test_overrides_go_along_with_an_export(self):
        name = self.create('--policy', 'vip=5/h', policy='p=1/h')
        self.good('override', 'set', name, 'p', 'alice', '--use', 'vip')
        self.good('override', 'set', name, '*', '--network', '10.0.0.0/8', '--use', 'unlimited')
        self.good('ban', name, 'eve', '--for', '2h')
        self.good('ban', name, 'mallory')
        text = self.good('export', name).out
        other = self.create('--policy', 'vip=5/h', policy='p=1/h')
        self.good('override', 'set', other, 'p', 'alice', '--use', 'deny')
        for _ in range(2):
            self.good('import', other, stdin=text)
        got = {(row['policy'], row['key'], row['use'], row['network'], row['ban'])
               for row in self.entries(other)}
        self.assertEqual(got, {('p', 'alice', 'deny', False, False),
                               ('*', '10.0.0.0/8', 'unlimited', True, False),
                               ('*', 'eve', 'banned', False, True),
                               ('*', 'mallory', 'banned', False, True)})
        for _ in range(3):
            self.good('try', other, '10.1.2.3', '--policy', 'p')
        self.assertEqual(self.code(other, 'eve'), REFUSED)
        # Longer than what is kept of its text: told, and left out.
        self.good('override', 'set', name, 'p', 'k' * 500, '--use', 'deny')
        done = brim('export', name)
        self.assertEqual(done.code, FAILURE)
        self.assertIn('export_partial: 1 overrides', done.message)
        self.good('import', other, stdin=done.out)


class AuditTest(TouchTest):
    # Commands that change no live segment. `create` and `unlink` make and remove the name (but
    # see below), `try` is a request, and the others only look.
    READ = {'create', 'unlink', 'try', 'list', 'info', 'dump', 'metrics', 'get', 'replay', 'check',
            'log', 'export', 'agent', 'completion', 'doctor', 'stats', 'watch', 'top', 'serve',
            'snapshot take', 'snapshot show', 'policy list', 'policy show', 'policy check',
            'policy diff', 'override list', 'tier status', 'tier nodes',
            'tier remove'}  # that one changes the store

    def commands(self):
        def below(*path):
            text = self.good(*path, '--help').text
            if 'Subcommands:' not in text:
                return [' '.join(path)]
            part = text[text.index('Subcommands:'):]
            names = re.findall(r'(?m)^  ([a-z]+) ', part[:part.find('Exit status')]
                               if 'Exit status' in part else part)
            return [each for name in names for each in below(*path, name)]
        return set(below())

    def test_every_command_that_changes_something_leaves_its_line(self):
        name = self.create('--policy', 'q=9/h', policy='p=10/d')
        source = self.create(policy='p=10/d')
        self.good('try', source, 'k', '--policy', 'p', '--cost', '5')
        exported = self.good('export', source).out
        limits = self.file('[policies]\np = "11/d"\n')
        more = self.file('[policies]\np = "12/d"\n')
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        snapshot = os.path.join(folder.name, 's.db')
        self.good('snapshot', 'take', source, '--file', snapshot)
        steps = [
            ('change', [name, 'p', '20/d'], 'change policy p: 20/d'),
            ('factor', [name, 'p', '0.5'], 'policy p: factor 500000 parts per million'),
            ('apply', [name, limits], 'change policy p: 11/d'),
            ('policy load', [name, more], 'change policy p: 12/d'),
            ('policy set', [name, 'r', '1/h'], 'define policy r: 1/h'),
            ('policy rm', [name, 'r'], 'remove policy r'),
            ('set', [name, 'k 1', '--policy', 'q', '--remaining', '3'],
             'set key k%201 policy q remaining 3, was 9'),
            ('reset', [name, 'k 1', '--policy', 'q'], 'reset key k%201 policy q'),
            ('reset', [name, '--policy', 'q', '--all'], 'reset all keys of policy q'),
            ('override set', [name, 'p', 'k', '--use', 'deny'],
             'override key k policy p uses deny'),
            ('override rm', [name, 'p', 'k'], 'remove override key k policy p'),
            ('ban', [name, 'k'], 'ban key k policy * until it is unbanned'),
            ('unban', [name, 'k'], 'unban key k policy *'),
            ('restore', [name, snapshot], 'restore 1 keys of snapshot 1'),
            ('import', [name], 'import ended: 1 keys, '),
            ('pause', [name], 'pause'),
            ('resume', [name], 'resume'),
            ('resize', [name, '--capacity', '1000'], 'resize '),
        ]
        verify = {'verify'}  # with --repair, of damage: below
        touched = {command for command, _, _ in steps} | verify
        self.assertEqual(self.commands() - self.READ - touched, set(),
                         'commands that this test does not know')
        for command, args, line in steps:
            done = brim(*command.split(), *args, stdin=exported)
            self.assertEqual(done.code, OK, done.message)
            self.assertEqual(len(done.audit), 2 if command == 'import' else 1, (command, done.err))
            self.assertTrue(done.audit[-1].startswith(line), done.audit)
            last = self.log(name)[-1]
            self.assertEqual(last['what'], done.audit[-1])
            self.assertEqual((last['uid'], last['user']),
                             (os.geteuid(), pwd.getpwuid(os.geteuid()).pw_name))
            # And none if nothing was done.
            gone = brim(*command.split(), self.name(), *args[1:], stdin=exported)
            if command not in ('apply', 'policy load'):
                self.assertEqual((gone.code, gone.audit), (NO_SEGMENT, []), command)

    def test_policies_that_create_adds(self):
        name = self.create(policy='p=10/d')
        again = ['create', name, '--if-missing', '--policy', 'p=10/d']
        self.assertEqual(self.good(*again).audit, [])
        self.assertEqual(self.good(*again, '--policy', 'q=3/h').audit, ['define policy q: 3/h'])
        self.assertEqual(self.whats(name), ['define policy q: 3/h'])

    def test_repair(self):
        name = self.create(policy='p=10/d')
        self.good('try', name, 'k')
        self.assertEqual(brim('verify', name, '--repair').audit, [])
        path = '/dev/shm/' + name
        with open(path, 'r+b') as file:
            image = file.read()
            at = image.find(b'k\0\0\0\0\0\0\0', 8192)
            self.assertGreater(at, 0)
            file.seek(at)
            file.write(b'j')
        done = brim('verify', name, '--repair')
        if 'repaired' in done.text and ' 0 repaired' not in done.text:
            self.assertRegex(done.audit[0], r'verify repaired \d+ findings')
            self.assertEqual(self.whats(name), done.audit)

    def test_the_log(self):
        name = self.create(policy='p=10/d')
        strange = b'\x1b[2J' + b'\xff' * 300
        self.good('override', 'set', name, 'p', '--key-file', '-', '--use', 'deny', stdin=strange)
        what = self.whats(name)[0]
        self.assertTrue(what.startswith('override key %1B[2J%FF'), what)
        self.assertTrue(what.endswith('... policy p uses deny'), what)
        for i in range(5):
            self.good('factor', name, 'p', f'0.{i + 1}')
        self.assertEqual([entry['what'].split()[3] for entry in self.log(name, '--limit', '2')],
                         ['400000', '500000'])
        self.assertEqual(self.log(name, '--limit', '0'), [])
        self.assertEqual(len(self.log(name, '--limit', '99')), 6)
        sequences = [entry['sequence'] for entry in self.log(name)]
        self.assertEqual(sequences, sorted(sequences))
        for kind in ('table', 'csv'):
            done = self.good('log', name, '--format', kind)
            self.plain(done.out, b'\r\n')
            self.assertEqual(done.text.count('\n'), 7)
        self.bad(USAGE, '--limit', 'log', name, '--limit', 'few')
        self.bad(NO_SEGMENT, 'segment_not_found', 'log', self.name())


class WholeSegmentTest(TouchTest):
    def test_pause(self):
        name = self.create(policy='p=1/d')
        self.good('try', name, 'k')
        self.assertEqual(brim('try', name, 'k').code, REFUSED)
        done = brim('pause', name)
        self.assertEqual(done.code, OK)
        self.assertIn('NOTHING IS LIMITED', done.message)
        for _ in range(3):
            self.good('try', name, 'k')
        info = json.loads(self.good('info', name, '--format', 'json').text)
        self.assertIs(info['paused'], True)
        self.assertIn('PAUSED:', self.good('info', name).text)
        self.assertIn('already', brim('pause', name).text)
        self.assertEqual(self.good('resume', name).audit, ['resume'])
        self.assertEqual(brim('try', name, 'k').code, REFUSED)
        self.assertIn('was not paused', self.good('resume', name).text)
        self.assertEqual(self.whats(name), ['pause', 'resume'])
        self.assertNotIn('PAUSED:', self.good('info', name).text)

    def test_resize(self):
        name = self.create('--capacity', '1000', '--policy', 'w=fixed-window 9/d', policy='p=10/d')
        for i in range(50):
            self.good('try', name, f'key{i}', '--policy', 'p', '--cost', '7')
        self.good('try', name, 'k', '--policy', 'w', '--cost', '4')
        self.good('ban', name, 'eve')
        holder = self.hold(name)
        done = self.good('resize', name, '--capacity', '64k', '--name-bytes', '16')
        self.assertIn('51 keys carried over', done.text)
        self.assertIn('1 processes follow', done.text)
        self.assertIsNone(holder.poll())
        info = json.loads(self.good('info', name, '--format', 'json').text)
        self.assertEqual((info['capacity'], info['name_bytes']), (65536, 16))
        for i in range(50):
            self.assertEqual(brim('try', name, f'key{i}', '--policy', 'p', '--cost', '4').code,
                             REFUSED)
        self.assertEqual(self.code(name, 'eve'), REFUSED)
        self.good('resize', name, '--max-policies', '99')
        self.bad(USAGE, '--capacity', 'resize', name)
        self.bad(USAGE, '--capacity', 'resize', name, '--capacity', 'big')
        self.bad(NO_SEGMENT, 'segment_not_found', 'resize', self.name(), '--capacity', '1k')

    def test_under_load(self):
        """Workers go on while all this is done; nothing is forgiven, nobody stops."""
        name = self.create('--policy', 'q=1/d', policy='p=fixed-window 1000000/d first-hit')
        stop = threading.Event()
        codes = [[], []]

        def work(number):
            while not stop.is_set():
                codes[number].append(brim('try', name, f'worker{number}', '--policy', 'p').code)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
        for thread in threads:
            thread.start()
        try:
            for round_ in range(3):
                self.good('ban', name, 'x')
                text = f'fixed-window {1000000 + round_}/d first-hit'
                self.good('policy', 'set', name, 'p', text)
                self.good('import', name, stdin=self.good('export', name).out)
                self.good('override', 'set', name, 'q', 'x', '--use', 'p')
                self.good('unban', name, 'x')
                self.good('override', 'rm', name, 'q', 'x')
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        for number, answers in enumerate(codes):
            self.assertEqual(set(answers), {OK})
            got = json.loads(self.good('get', name, f'worker{number}', '--policy', 'p', '--format',
                                       'json').text)
            self.assertEqual(got['policies'][0]['remaining'], 1000002 - len(answers))
        done = subprocess.run([BRIM, 'verify', name], capture_output=True, check=False)
        self.assertEqual(done.returncode, OK, done.stdout)


if __name__ == '__main__':
    main()
