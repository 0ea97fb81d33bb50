# SPDX-License-Identifier: MIT
"""Goal: `brim check` reads a file of policies, prints what it guarantees and costs, and its exit
code tells whether it may be used. Method: the real binary on small files; JSON read by a parser."""
import json
import os
import re
import tempfile

from support import FAILURE, OK, USAGE, BrimTest, brim, main

GOOD = '''\
[segment]
capacity = "1k"
name_bytes = 0

[policies]
api = "10/s burst 5; 400/m burst 50"
wait = "rate=10r/s burst=5"

[policies.login]
rates = ["5/m", "20/h"]
algorithm = "sliding-log"
ban = {after = 20, within = "1m", for = "2h", factor = 2}

[policies.jobs]
concurrency = 8
ttl = "30s"

[[override]]
policy = "api"
cidr = "10.0.0.0/8"
use = "unlimited"

[[override]]
key = "a b"
use = "deny"
'''


class Check(BrimTest):
    def file(self, text):
        handle, path = tempfile.mkstemp(suffix='.toml')
        self.addCleanup(os.unlink, path)
        with os.fdopen(handle, 'wb') as out:
            out.write(text if isinstance(text, bytes) else text.encode())
        return path

    def findings(self, policy):
        path = self.file(f"[policies]\np = '{policy}'\n")
        report = json.loads(self.good('check', path, '--format', 'json').out)
        return {finding['name']: finding['severity']
                for finding in report['policies'][0]['findings']}

    def test_text(self):
        out = self.good('check', self.file(GOOD)).text
        self.plain(out.encode())
        for line in [r'policy api \(line 6\): 10/s burst 5; 400/m burst 50',
                     r'  10/s burst 5 +16 bytes/key +at most 15 in any 1s',
                     r'  400/m burst 50 +16 bytes/key +at most 450 in any 1m',
                     r'  in all +32 bytes/key +at most 15 in any 1s, 450 in any 1m',
                     r'  queue 10/s burst 5 +16 bytes/key +at most 16 in any 1s, of which 11 st.*',
                     r'  sliding-log 5/m +56 bytes/key +at most 5 in any 1m',
                     r'  in all +248 bytes/key +at most 5 in any 1m, 20 in any 1h',
                     r'  concurrency 8 ttl 30s +144 bytes/key +at most 8 at once',
                     r'override \(line 18\): network 10.0.0.0/8 of policy api uses unlimited',
                     r'override \(line 23\): key a%20b of every policy uses deny',
                     r'4 policies, 2 overrides, 0 warnings, \d+ notes?']:
            self.assertRegex(out, re.compile(f'^{line}$', re.M))

    def test_json(self):
        report = json.loads(self.good('check', self.file(GOOD), '--format', 'json').out)
        self.assertEqual(report['version'], 1)
        self.assertEqual(report['warnings'], 0)
        self.assertEqual(report['capacity'], 1024)
        self.assertEqual(report['slot_bytes'], 16 + 8 * 20)
        policies = {policy['name']: policy for policy in report['policies']}
        self.assertEqual(list(policies), ['api', 'wait', 'login', 'jobs'])
        self.assertEqual(policies['login']['policy'],
                         'sliding-log 5/m; sliding-log 20/h ban 20 in 1m for 2h times 2')
        self.assertEqual(policies['login']['bytes_per_key'], 56 + 176 + 16)
        rate = policies['api']['rates'][1]
        self.assertEqual([rate['most_admitted'], rate['most_by_policy'], rate['period_ns']],
                         [450, 450, 60 * 10**9])
        self.assertEqual(policies['jobs']['rates'][0]['most_at_once'], 8)
        self.assertIsNone(policies['jobs']['rates'][0]['most_admitted'])
        self.assertEqual([entry['use'] for entry in report['overrides']], ['unlimited', 'deny'])

    def test_each_trap_is_told(self):
        for policy, name, severity in [
                ('100/m', 'burst_adds', 'note'),
                ('100/m burst 1', 'cost_one', 'note'),
                ('10/s forward', 'any_cost', 'note'),
                ('queue 10/s', 'any_cost', 'note'),
                ('fixed-window 10/s', 'window_boundary', 'note'),
                ('calendar-window 10/month', 'window_boundary', 'note'),
                ('sliding-counter 10/s count-denied', 'count_denied', 'note'),
                ('10/s; 10000/m', 'never_binds', 'warning'),
                ('sliding-log 129/m', 'log_memory', 'warning'),
                ('5/500us', 'short_period', 'warning'),
                ('queue 5/s delay-after 5', 'nothing_waits', 'warning'),
                ('5/s shadow', 'shadow', 'warning'),
                ('5/s enforce 20%', 'partly_enforced', 'warning'),
                ('5/s classes 10 50 100', 'class_shut_out', 'warning'),
                ('sliding-log 5/h ban 3 in 1m for 10m', 'ban_short', 'warning'),
                ('5/s ban 3 in 1m for 10m times 2 max 10m', 'ban_capped', 'warning')]:
            self.assertEqual(self.findings(policy).get(name), severity, policy)
        for policy in ['sliding-log 100/m', 'deny', 'unlimited', 'concurrency 4']:
            self.assertEqual(self.findings(policy), {}, policy)

    def test_strict(self):
        path = self.file("[policies]\np = '5/s shadow'\n")
        self.assertEqual(brim('check', path).code, OK)
        self.assertEqual(brim('check', path, '--strict').code, FAILURE)
        self.assertEqual(brim('check', self.file(GOOD), '--strict').code, OK)

    def test_errors_have_line_and_column(self):
        path = self.file("[policies]\napi = '10/s'\nlogin = '5/m bursts 3'\n")
        self.bad(USAGE, ['policy_file_invalid', f'{path}:3:14:', "did you mean 'burst'?"],
                 'check', path)
        self.bad(USAGE, ':2:1:', 'check', self.file("[segment]\ncapcity = 3\n"))
        self.bad(USAGE, ':1:', 'check', self.file(b'\xff\xfe\x1b]0;x\x07'))
        self.bad(USAGE, ':1:1:', 'check', self.file(''))
        self.bad(USAGE, '--format', 'check', path, '--format', 'csv')
        self.bad(FAILURE, 'policy_file_not_found', 'check', path + '.none')
        self.bad(FAILURE, 'policy_file_unreadable', 'check', '/')
        self.bad(USAGE, 'FILE', 'check')


if __name__ == '__main__':
    main()
