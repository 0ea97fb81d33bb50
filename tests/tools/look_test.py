# SPDX-License-Identifier: MIT
"""Goal: stats, list and watch tell what is so, while traffic runs and when the segment is replaced
under its name. Method: the real binary on a live segment; the sender of traffic says what it sent.
Waits are for lines, not for times."""
import base64
import csv
import io
import json
import os
import pty
import re
import select
import signal
import subprocess
import time

from support import BRIM, FAILURE, NO_SEGMENT, USAGE, BrimTest, brim, main


class LookTest(BrimTest):
    def start(self, *args, stdout=subprocess.PIPE):
        process = subprocess.Popen([BRIM, *args], stdout=stdout, stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        if process.stdout:
            self.addCleanup(process.stdout.close)
        return process

    def line(self, process):
        """The next line, which must come: a minute is for a machine that has other things to do."""
        ready, _, _ = select.select([process.stdout], [], [], 60)
        self.assertTrue(ready, 'no line came')
        return process.stdout.readline()


class Stats(LookTest):
    def stats(self, name, *options):
        read = json.loads(self.good('stats', name, '--format', 'json', *options).text)
        return {(each['policy'], each['name']): each for each in read['counters']}

    def test_each_counter_describes_itself(self):
        name = self.create('--policy', 'q=5/d', policy='p=3/d')
        for _ in range(5):
            brim('try', name, 'k', '--policy', 'p')
        holder = self.hold(name)
        read = json.loads(self.good('stats', name, '-1', '--format', 'json').text)
        self.assertEqual((read['version'], read['segment'], read['linked']), (1, name, True))
        counters = self.stats(name)
        for each in counters.values():
            self.assertEqual(set(each), {'name', 'policy', 'kind', 'unit', 'value', 'rate',
                                         'average', 'description'})
            self.assertGreater(len(each['description']), 10)
            self.assertIn(each['kind'], ['counter', 'gauge'])
            self.assertIsNone(each['rate'])
            self.assertEqual(each['average'] is None, each['kind'] == 'gauge', each)
        self.assertEqual([counters['p', each]['value'] for each in ('allowed', 'denied')], [3, 2])
        self.assertEqual(counters['q', 'allowed']['value'], 0)
        self.assertEqual(counters[None, 'slots_live']['value'], 1)
        self.assertEqual(counters[None, 'attached']['value'], 1)
        self.assertEqual(counters[None, 'reach']['unit'], 'groups')
        self.assertEqual(sum(counters[None, 'slots_' + each]['value'] for each in
                             ('live', 'idle', 'tentative', 'free', 'virgin')),
                         counters[None, 'slots']['value'])
        info = json.loads(self.good('info', name, '--format', 'json').text)
        for each in info['counters']:
            self.assertEqual(counters[None, each['name']]['description'], each['description'])
        holder.stdin.close()
        holder.wait()
        self.assertEqual(self.stats(name)[None, 'attached']['value'], 0)
        self.assertRegex(self.good('stats', name).text, r'(?m)^p +denied +2 +- +[0-9.]+  calls ref')

    def test_rates_and_formats_under_load(self):
        name = self.create(policy='p=100/d')
        sender = self.load(name)
        done = self.good('stats', name, '--count', '3', '--interval', '100ms', '--format', 'json')
        readings = [json.loads(line) for line in done.text.splitlines()]
        self.assertEqual(len(readings), 3)
        denied = [next(each for each in reading['counters'] if each['name'] == 'denied')
                  for reading in readings]
        self.assertIsNone(denied[0]['rate'])
        for before, after, first, second in zip(denied, denied[1:], readings, readings[1:]):
            self.assertGreater(after['value'], before['value'])
            seconds = (second['wall_ns'] - first['wall_ns']) / 1e9
            grown = after['value'] - before['value']
            self.assertAlmostEqual(after['rate'] / (grown / seconds), 1, delta=0.2)
        rows = list(csv.DictReader(io.StringIO(self.good(
            'stats', name, '--count', '2', '--interval', '50ms', '--format', 'csv').text)))
        self.assertEqual([row['rate'] == '' for row in rows if row['name'] == 'allowed'],
                         [True, False])
        sender.stdin.close()
        allowed, refused = map(int, sender.stdout.read().split())
        counters = self.stats(name)
        self.assertEqual((counters['p', 'allowed']['value'], counters['p', 'denied']['value']),
                         (allowed, refused))

    def test_follows_the_name(self):
        name = self.create(policy='p=100/d')
        self.good('try', name, 'k')
        process = self.start('stats', name, '--count', '100000', '--interval', '20ms',
                             '--format', 'json')
        first = json.loads(self.line(process))
        self.good('create', name, '--recreate', '--policy', 'other=1/d')
        while (reading := json.loads(self.line(process)))['uuid'] == first['uuid']:
            pass
        self.assertEqual({each['policy'] for each in reading['counters']}, {None, 'other'})
        self.assertTrue(all(each['rate'] is None for each in reading['counters']))
        self.good('unlink', name)
        while json.loads(self.line(process))['linked']:
            pass
        self.assertFalse(json.loads(self.line(process))['linked'])  # it goes on
        self.good('create', name, '--policy', 'third=1/d')
        while '"third"' not in self.line(process).decode():
            pass
        process.send_signal(signal.SIGTERM)
        process.stdout.read()
        self.assertEqual(process.wait(), 0)
        said = process.stderr.read().decode().splitlines()
        self.assertEqual([re.match(r'brim: (\w+):', line).group(1) for line in said],
                         ['segment_replaced', 'segment_unlinked', 'segment_replaced'])

    def test_on_a_terminal_it_repeats_until_it_is_stopped(self):
        name = self.create()
        ours, theirs = pty.openpty()
        process = self.start('stats', name, '--interval', '20ms', stdout=theirs)
        os.close(theirs)
        text = b''
        while text.count(b'MEANING') < 3:
            text += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        try:
            while os.read(ours, 65536):
                pass
        except OSError:
            pass
        os.close(ours)
        self.assertEqual((process.wait(), process.stderr.read()), (0, b''))
        self.plain(re.sub(rb'\x1b\[[01]m', b'', text), b'\r\n')

    def test_wrong_words(self):
        name = self.create()
        for options in ['--interval', '0s'], ['--interval', 'soon'], ['--count', '0']:
            self.bad(USAGE, options[0], 'stats', name, *options)
        self.bad(NO_SEGMENT, 'segment_not_found', 'stats', self.name())
        with open('/dev/full', 'wb') as full:
            self.bad(FAILURE, 'write_failed', 'stats', name, '--count', '5', stdout=full)


class List(LookTest):
    def listed(self, name):
        found = json.loads(self.good('list', '--format', 'json').text)['segments']
        return {each['name']: each for each in found}.get(name)

    def test_attached_orphaned_and_age(self):
        name = self.create()
        row = self.listed(name)
        self.assertEqual((row['state'], row['attached'], row['status']), ('orphaned', 0, 'ok'))
        holder = self.hold(name)
        row = self.listed(name)
        self.assertEqual((row['state'], row['attached'], row['attached_elsewhere']), ('ok', 1, 0))
        self.assertGreater(row['age_ns'], 0)
        self.assertEqual((row['owner_uid'], row['mode']), (os.geteuid(), '0600'))
        holder.kill()  # it leaves its entry behind
        holder.wait()
        self.assertEqual(self.listed(name)['state'], 'orphaned')
        self.assertRegex(self.good('list').text, rf'(?m)^{name} .* \d+s  orphaned +ok$')

    def damaged(self, offset, content):
        name = self.create()
        with open('/dev/shm/' + name, 'r+b') as file:
            file.seek(offset)
            file.write(content)
        return self.listed(name)

    def test_stale_and_why(self):
        row = self.damaged(8, b'\x63')
        self.assertEqual((row['state'], row['status']), ('stale', 'segment_version_mismatch'))
        self.assertNotIn('attached', row)
        row = self.damaged(64, b'another boot id!')  # shm/layout.h: boot_id
        self.assertEqual((row['state'], row['status']), ('stale', 'segment_other_boot'))
        self.assertGreater(row['age_ns'], 0)
        name = self.create()
        os.truncate('/dev/shm/' + name, 2000)
        self.assertEqual(self.listed(name)['state'], 'stale')
        os.chmod('/dev/shm/' + self.create(), 0o666)
        states = {each['status']: each['state'] for each in
                  json.loads(self.good('list', '--format', 'json').text)['segments']}
        self.assertEqual(states.get('segment_unsafe_mode'), 'unreadable')


class Watch(LookTest):
    def test_a_line_when_something_changed(self):
        name = self.create('--policy', 'q=7/d', policy='p=3/d')
        process = self.start('watch', name, 'k', '--policy', 'p', '--interval', '20ms', '--format',
                             'json')
        sender = self.load(name, 'q')  # what befalls others does not show
        first = json.loads(self.line(process))
        self.assertEqual((first['verdict'], first['remaining'], first['policy']),
                         ('allowed', 3, 'p'))
        self.assertEqual(base64.b64decode(first['key_base64']), b'k')
        for remaining, verdict in (2, 'allowed'), (1, 'allowed'), (0, 'denied'), (3, 'allowed'):
            self.good('reset' if remaining == 3 else 'try', name, 'k', '--policy', 'p')
            row = json.loads(self.line(process))
            self.assertEqual((row['remaining'], row['verdict']), (remaining, verdict))
            self.assertEqual(row['retry_after_ns'] > 0, remaining == 0)
        time.sleep(0.2)  # ten looks at a key that nothing happens to
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.stdout.read(), b'')
        self.assertEqual((process.wait(), process.stderr.read()), (0, b''))
        sender.stdin.close()

    def test_all_policies_any_bytes_and_the_count(self):
        name = self.create('--policy', 'q=7/d', policy='p=3/d')
        key = b'\x1b]0;owned\x07\x00=1+1'
        for kind in 'table', 'csv', 'json':
            done = self.good('watch', name, '--key-file', '-', '--count', '2', '--format', kind,
                             stdin=key)
            self.plain(done.out, b'\r\n' if kind == 'csv' else b'\n')
        rows = [json.loads(line) for line in done.text.splitlines()]
        self.assertEqual([(row['policy'], base64.b64decode(row['key_base64'])) for row in rows],
                         [('p', key), ('q', key)])
        self.assertRegex(self.good('watch', name, 'k', '--count', '1').text,
                         r'(?m)^20\S+Z  p +allowed +none +3 +0s +\S+$')

    def test_follows_the_name(self):
        name = self.create(policy='p=3/d')
        process = self.start('watch', name, 'k', '--interval', '20ms', '--format', 'json')
        self.assertEqual(json.loads(self.line(process))['remaining'], 3)
        self.good('create', name, '--recreate', '--policy', 'other=8/d')
        row = json.loads(self.line(process))
        self.assertEqual((row['policy'], row['remaining']), ('other', 8))
        process.terminate()
        process.wait()
        self.assertIn(b'segment_replaced', process.stderr.read())

    def test_wrong_words(self):
        name = self.create()
        self.bad(USAGE, 'key_needed', 'watch', name)
        self.bad(USAGE, 'policy_not_found', 'watch', name, 'k', '--policy', 'q')
        self.bad(USAGE, '--interval', 'watch', name, 'k', '--interval', '1')
        self.bad(NO_SEGMENT, 'segment_not_found', 'watch', self.name(), 'k')


if __name__ == '__main__':
    main()
