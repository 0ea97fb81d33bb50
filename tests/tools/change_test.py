#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim change, factor, override and apply on a live segment."""
import json
import os
import tempfile

from support import BrimTest, INCOMPATIBLE, NO_SEGMENT, REFUSED, USAGE, brim, main


class ChangeTest(BrimTest):
    def remaining(self, name, key='k', policy='p'):
        out = self.good('try', name, key, '--policy', policy, '--peek', '--cost', '0',
                        '--format', 'json').text
        return json.loads(out)['remaining']

    def test_change_keeps_what_was_used(self):
        name = self.create(policy='p=10/h')
        self.good('try', name, 'k', '--cost', '6')
        self.assertEqual(self.good('change', name, 'p', '20/h').text, 'policy p: 20/h\n')
        self.assertEqual(self.remaining(name), 14)
        self.good('change', name, 'p', '200/h', '--proportional')
        self.assertEqual(self.remaining(name), 140)
        self.good('change', name, 'p', 'fixed-window 5/h', '--reset')
        self.assertEqual(self.remaining(name), 5)

    def test_change_says_what_it_can_not_do(self):
        name = self.create(policy='p=10/h')
        self.bad(INCOMPATIBLE, ['policy_change_unfit', 'reset'], 'change', name, 'p',
                 'fixed-window 9/h')
        self.bad(USAGE, ['invalid_policy', 'column'], 'change', name, 'p', '10/fortnight')
        self.bad(NO_SEGMENT, 'segment_not_found', 'change', self.name(), 'p', '1/s')
        self.bad(USAGE, '', 'change', name, 'p', '1/s', '--reset', '--proportional')
        self.assertEqual(self.remaining(name), 10)

    def test_factor(self):
        name = self.create(policy='p=10/h')
        for text, ppm in [('0.25', 250000), ('25%', 250000), ('1', 1000000), ('0', 0),
                          ('0.000001', 1), ('12.5%', 125000), ('100%', 1000000)]:
            self.assertIn(f'factor {ppm} parts', self.good('factor', name, 'p', text).text)
        for text in ['1.1', '-1', '', '%', '101%', '0.0000001', 'half', '1e-3', '1.2.3']:
            self.bad(USAGE, '', 'factor', name, 'p', '--', text)

    def test_override_by_key_and_network(self):
        name = self.create('--policy', 'vip=5/h', policy='p=1/h')
        self.good('override', 'set', name, 'p', 'alice', '--use', 'vip')
        self.good('override', 'set', name, 'p', '--network', '10.0.0.0/8', '--use', 'unlimited')
        self.good('override', 'set', name, '*', 'mallory', '--use', 'deny')
        self.assertEqual(self.remaining(name, 'alice'), 5)
        self.assertEqual(self.remaining(name, 'bob'), 1)
        for _ in range(5):
            self.good('try', name, '10.1.2.3', '--policy', 'p')
        self.assertEqual(brim('try', name, 'mallory', '--policy', 'vip').code, REFUSED)
        self.good('override', 'rm', name, '*', 'mallory')
        self.good('try', name, 'mallory', '--policy', 'vip')
        self.bad(USAGE, 'override_not_found', 'override', 'rm', name, '*', 'mallory')
        self.bad(USAGE, 'key_needed', 'override', 'set', name, 'p', '--use', 'deny')
        self.bad(USAGE, '--use', 'override', 'set', name, 'p', 'a')
        self.bad(USAGE, '10.0.0.0/8', 'override', 'set', name, 'p', '--network', '10.0.0.1/8',
                 '--use', 'deny')

    def test_apply_makes_changes_and_keeps(self):
        name = self.name()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'limits.toml')
            with open(path, 'w', encoding='utf-8') as file:
                file.write('[segment]\ncapacity = 1000\n[policies]\np = "10/h"\n'
                           'log = "sliding-log 4/m"\n[[override]]\npolicy = "p"\n'
                           'key = "alice"\nuse = "log"\n')
            self.assertIn('2 policies and 1 overrides', self.good('apply', name, path).text)
            self.good('try', name, 'k', '--policy', 'p', '--cost', '6')
            self.assertEqual(self.remaining(name, 'alice'), 4)
            with open(path, 'w', encoding='utf-8') as file:
                file.write('[policies]\np = "20/h"\nnew = "3/s"\n')
            out = self.good('apply', name, path).text
            self.assertIn('changed p: 20/h\n', out)
            self.assertIn('defined new: 3/s\n', out)
            self.assertEqual(self.remaining(name), 14)
            self.assertEqual(self.remaining(name, 'k', 'log'), 4)
            with open(path, 'w', encoding='utf-8') as file:
                file.write('[policies]\np = "20/fortnight"\n')
            self.bad(USAGE, ['policy_file_invalid', '2:'], 'apply', name, path)
            self.assertEqual(self.remaining(name), 14)


main()
