# SPDX-License-Identifier: MIT
"""Goal: `brim replay` refuses exactly the requests a token bucket would, and says what it did.
Method: a seeded log of 200,000 lines and a small real-looking one, against the model in model.py;
then options, broken input, exit codes, terminals and kill -9."""
import json
import os
import pty
import subprocess
import sys
import tempfile
import unittest
from fractions import Fraction

import generate_log
import model

BRIM, SAMPLE = sys.argv[1:3]
LINES = 60000
COMBINED = b'%s - - [10/Oct/2023:00:00:%02d +0000] "GET / HTTP/1.1" 200 1 "-" "-"\n'


def run(*args, data=None, code=0):
    done = subprocess.run([BRIM, 'replay', *args], input=data, capture_output=True, check=False)
    assert done.returncode == code, (done.returncode, args, done.stdout, done.stderr)
    return done


def replay(*args, data=None):
    return json.loads(run(*args, '--output', 'json', '--top', '1000000', data=data).stdout)


def refused(policy):
    return {client['client']: client['refused'] for client in policy['top']}


def leftovers():
    return [name for name in os.listdir('/dev/shm') if name.startswith('brim-replay-')]


class Exact(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.log = os.path.join(cls.directory.name, 'access.log')
        generate_log.write(cls.log, LINES)
        cls.raw, cls.broken = model.read(cls.log)
        cls.requests = model.reorder(cls.raw, 5)

    @classmethod
    def tearDownClass(cls):
        cls.directory.cleanup()

    def check(self, report, requests, texts, percent):
        """Every number of the report against the model; texts: {name: (limit, period, burst)}."""
        clients = {key for _, key in requests}
        self.assertEqual(report['clients'], len(clients))
        for window in report['peaks']:
            most, together = model.peaks(requests, window['window_ns'] // 10**9)
            self.check_window(window, most, together, percent)
        for policy in report['policies']:
            limit, period, burst = texts[policy['name']]
            expected = model.refusals(requests, limit, period, burst)
            self.assertEqual(refused(policy), expected)
            self.assertEqual(policy['refused'], sum(expected.values()))
            self.assertEqual(policy['admitted'], len(requests) - sum(expected.values()))
            self.assertEqual(policy['clients_refused'], len(expected))
            self.assertEqual((policy['evicted'], policy['undecided']), (0, 0))
            most, together = model.peaks(requests, period)
            self.check_window(policy['period_peak'], most, together, percent)
            needs = model.least_bursts(requests, limit, period)
            self.check_distribution(policy['least_burst'], needs.values(), percent)
            suggestion = policy['suggestion']
            self.assertEqual(suggestion['limit'], model.percentile(most.values(), percent))
            needs = model.least_bursts(requests, suggestion['limit'], period)
            self.assertEqual(suggestion['burst'], model.percentile(needs.values(), percent))

    def check_window(self, window, most, together, percent):
        self.assertEqual(window['all'], together)
        self.check_distribution(window['client'], most.values(), percent)

    def check_distribution(self, got, values, percent):
        self.assertEqual(got['most'], max(values))
        self.assertEqual(got['percentile'], model.percentile(values, percent))
        self.assertEqual(got['median'], model.percentile(values, '50'))

    def test_generated_log(self):
        report = replay('--policy', 'a=100/m burst 20', '--policy', 'b=7/10s', '--policy',
                        'c=3/s burst 1', '--policy', 'd=leaky-bucket 1000/h burst 50',
                        '--percentile', '97.5', self.log)
        requests = [(time, key[0]) for time, key in self.requests]
        self.check(report, requests, {'a': (100, 60, 20), 'b': (7, 10, 7), 'c': (3, 1, 1),
                                      'd': (1000, 3600, 50)}, '97.5')
        log = report['log']
        self.assertEqual(log['requests'], LINES)
        self.assertEqual(log['broken'], len(self.broken))
        self.assertEqual([line['line'] for line in log['first_broken']], self.broken[:20])
        self.assertEqual(log['lines'], LINES + len(self.broken))
        self.assertEqual(log['late'], 0)
        newest, disorder = 0, 0
        for time, _ in self.raw:
            disorder += time < newest
            newest = max(newest, time)
        self.assertEqual(log['out_of_order'], disorder)
        self.assertGreater(disorder, 300)

    def test_key_of_two_fields_from_standard_input(self):
        with open(self.log, 'rb') as log:
            report = replay('--policy', 'a=20/m burst 3', '--key', 'addr+path', data=log.read())
        requests = [(time, ' '.join(key)) for time, key in self.requests]
        self.check(report, requests, {'a': (20, 60, 3)}, '99')

    def test_suggestions_keep_their_word(self):
        for percent in ('50', '90', '99', '100'):
            for text in ('10/s', '50/m burst 7'):
                period = text.split()[0].split('/')[1]
                first = replay('--policy', 'p=' + text, '--percentile', percent, self.log)
                suggestion = first['policies'][0]['suggestion']
                again = replay('--policy', 'p=' + suggestion['policy'], self.log)
                allowed = first['clients'] * (100 - Fraction(percent)) / 100
                clients_refused = again['policies'][0]['clients_refused']
                self.assertEqual(clients_refused, suggestion['clients_refused'])
                self.assertLessEqual(clients_refused, allowed)
                if suggestion['burst'] > 1:  # and it is the least burst that does
                    burst = suggestion['burst'] - 1
                    less = '%d/%s burst %d' % (suggestion['limit'], period, burst)
                    again = replay('--policy', 'p=' + less, self.log)
                    self.assertGreater(again['policies'][0]['clients_refused'], allowed)

    def test_sample(self):
        raw, broken = model.read(SAMPLE)
        report = replay('--policy', 'a=2/s burst 3', '--policy', 'b=5/m', SAMPLE)
        requests = [(time, key[0]) for time, key in model.reorder(raw, 5)]
        self.check(report, requests, {'a': (2, 1, 3), 'b': (5, 60, 5)}, '99')
        self.assertEqual([line['line'] for line in report['log']['first_broken']], broken)
        self.assertEqual((len(raw), len(broken), report['log']['empty']), (22, 4, 1))

    def test_policies_that_are_no_plain_bucket(self):
        """Refusals are counted for every kind; what can not be computed is left out and said."""
        texts = {'log': 'sliding-log 5/m', 'window': 'fixed-window 5/m', 'two': '2/s burst 3; 5/m',
                 'quiet': '5/m shadow', 'all': 'unlimited', 'none': 'deny'}
        report = replay(*(option for name, text in texts.items()
                          for option in ('--policy', name + '=' + text)), SAMPLE)
        raw, _ = model.read(SAMPLE)
        requests = [(time, key[0]) for time, key in model.reorder(raw, 5)]
        policies = {policy['name']: policy for policy in report['policies']}
        log = model.log_refusals(requests, 5, 60)
        self.assertEqual(refused(policies['log']), log)
        self.assertEqual(refused(policies['quiet']), {})
        self.assertEqual(policies['quiet']['shadow'],
                         sum(model.refusals(requests, 5, 60, 5).values()))
        self.assertEqual(refused(policies['two']),
                         model.refusals_of_all(requests, [(2, 1, 3), (5, 60, 5)]))
        self.assertEqual(policies['all']['refused'], 0)
        self.assertEqual(policies['none']['admitted'], 0)
        for policy in policies.values():
            self.assertEqual((policy['least_burst'], policy['suggestion']), (None, None))
            self.assertTrue(policy['not_computed'])
        most, together = model.peaks(requests, 60)
        self.check_window(policies['log']['period_peak'], most, together, '99')
        self.assertIsNone(policies['two']['period_peak'])
        self.assertEqual([warning for warning in report['warnings'] if 'policy window' in warning],
                         report['warnings'])
        self.assertEqual(len(report['warnings']), 1)
        out = run('--policy', 'two=2/s; 5/m', SAMPLE).stdout.decode()
        self.assertIn('suggested: none; several rates decide together', out)

    def test_late_lines(self):
        data = b''.join(COMBINED % (b'a', s) for s in (10, 11, 30, 12, 31, 50, 20, 25, 40, 49, 46))
        for window in (0, 3, 5, 20, 40):
            report = replay('--policy', 'a=1/4s', '--reorder', str(window), data=data)
            requests = []
            for line in data.splitlines():
                time, address, _ = model.parse(line)
                requests.append((time, address))
            self.assertEqual(refused(report['policies'][0]),
                             model.refusals(model.reorder(requests, window), 1, 4, 1), window)
            self.assertEqual(report['log']['late'] == 0, report['warnings'] == [])
            self.assertEqual(report['log']['late'] == 0, window >= 20)

    def test_table_is_the_same_story(self):
        out = run('--policy', 'a=5/m', SAMPLE).stdout.decode()
        for text in ('22 requests, 4 broken', 'combined.log:14: ',
                     '21 admitted, 1 refused (4.55 %)', "suggested: --policy 'a=6/m'",
                     'whole seconds', '7 clients'):
            self.assertIn(text, out)


class Options(unittest.TestCase):
    def test_spread(self):
        data = (COMBINED % (b'a', 1)) * 10
        report = replay('--policy', 'a=10/s burst 1', data=data)
        self.assertEqual(report['policies'][0]['refused'], 9)
        report = replay('--policy', 'a=10/s burst 1', '--spread', data=data)
        self.assertEqual(report['policies'][0]['refused'], 0)
        self.assertIs(report['log']['spread'], True)

    def test_fields_and_any_bytes_in_keys(self):
        key = bytes(c for c in range(256) if c not in b'"\\\n')
        data = b''.join(b'971211336.%d "%s"\n' % (100 + i, key) for i in range(5))
        report = replay('--policy', 'a=1/100ms burst 1', '--fields', '$msec "$http_x_key"', '--key',
                        'http_x_key', data=data)
        self.assertEqual(refused(report['policies'][0]), {model.escape(key): 4})
        self.assertEqual(report['log']['resolution_ns'], 10**6)

    def test_small_capacity_is_reported(self):
        data = b''.join(COMBINED % (b'client%d' % (i % 500), 1) for i in range(1000))
        report = replay('--policy', 'a=1/m burst 1', '--capacity', '4', data=data)
        self.assertGreater(report['policies'][0]['evicted'], 0)
        self.assertIn('capacity was too small', report['warnings'][0])
        report = replay('--policy', 'a=1/m burst 1', data=data)
        self.assertEqual((report['policies'][0]['refused'], report['warnings']), (500, []))

    def test_usage_errors(self):
        good = ('--policy', 'a=1/s')
        for args, text in (((), '--policy'), (('--policy', '1/s'), 'NAME=RATE'),
                           (('--policy', 'a=10/fortnight'), 'column 4'),
                           (('--policy', 'a b=1/s'), 'invalid_policy_name'),
                           (('--policy', 'a=concurrency 5'), 'unsupported_policy'),
                           (good + good, 'twice'), (good + ('--key', 'nose'), "no field 'nose'"),
                           (good + ('--format', 'xml'), 'invalid_format'),
                           (good + ('--fields', '$host'), 'no time'),
                           (good + ('--percentile', '0'), 'invalid_percentile'),
                           (good + ('--output', 'xml'), '--output'),
                           (good + ('--top', 'x'), '--top'),
                           (good + ('--reorder', '-1'), '--reorder'),
                           (good + ('--capacity', '0'), '--capacity')):
            done = run(*args, data=b'', code=2)
            self.assertIn(text, done.stderr.decode())
            self.assertEqual(done.stdout, b'')
        self.assertEqual(leftovers(), [])

    def test_nothing_to_read(self):
        for data in (b'', b'\n\n', b'what\nis\nthis\n\x00\n', b'z' * 200000):
            done = run('--policy', 'a=1/s', data=data, code=1)
            self.assertIn('no_requests', done.stderr.decode())
            self.assertEqual(done.stdout, b'')
        self.assertIn('/no/such', run('--policy', 'a=1/s', '/no/such', code=1).stderr.decode())
        self.assertIn('directory', run('--policy', 'a=1/s', '/', code=1).stderr.decode())
        done = run('--policy', 'a=1/s', data=b'\x1f\x8b\x08', code=1)
        self.assertIn('zcat', done.stderr.decode())

    def test_no_room_for_the_requests(self):
        environment = dict(os.environ, TMPDIR='/no/such')
        done = subprocess.run([BRIM, 'replay', '--policy', 'a=1/s', SAMPLE], env=environment,
                              capture_output=True, check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b'TMPDIR', done.stderr)


class Surroundings(unittest.TestCase):
    def test_progress_only_on_a_terminal(self):
        data = (COMBINED % (b'a', 1)) * 5000
        self.assertEqual(run('--policy', 'a=1/s', data=data).stderr, b'')
        master, slave = pty.openpty()
        with subprocess.Popen([BRIM, 'replay', '--policy', 'a=1/s'], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL, stderr=slave) as process:
            process.communicate(data)
        os.close(slave)
        shown = b''
        try:
            while chunk := os.read(master, 65536):
                shown += chunk
        except OSError:  # the other side is closed
            pass
        os.close(master)
        self.assertEqual(process.returncode, 0)
        self.assertIn(b'\rreplay: 1024 lines', shown)
        self.assertTrue(shown.endswith(b' \r'), shown)

    def test_kill_leaves_nothing_behind(self):
        with subprocess.Popen([BRIM, 'replay', '--policy', 'a=1/s'], stdin=subprocess.PIPE,
                              stdout=subprocess.DEVNULL) as process:
            process.stdin.write(COMBINED % (b'a', 1))
            process.stdin.flush()
            mapped = ''
            while '(deleted)' not in mapped:  # the segment is there and its name is gone
                self.assertIsNone(process.poll())
                with open('/proc/%d/maps' % process.pid, encoding='utf-8') as maps:
                    mapped = ''.join(line for line in maps if 'brim-replay-' in line)
            process.kill()
        self.assertEqual([name for name in leftovers() if '-%d-' % process.pid in name], [])


if __name__ == '__main__':
    unittest.main(argv=sys.argv[:1])
