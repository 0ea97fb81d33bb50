# SPDX-License-Identifier: MIT
"""Goal: every command does what its help says, with its exit code. Method: the real binary on
real segments, its output read by a parser rather than compared as text."""
import csv
import grp
import io
import json
import os
import pty
import re
import subprocess

from support import (BRIM, FAILURE, INCOMPATIBLE, NO_SEGMENT, OK, REFUSED, USAGE, BrimTest, brim,
                     main)


class Create(BrimTest):
    def test_prints_what_was_made(self):
        name = self.name()
        out = self.good('create', name, '--capacity', '1k', '--policy', 'a=5/10s', '--policy',
                        'b=100/m burst=20').text
        size = os.stat('/dev/shm/' + name).st_size
        self.assertIn(f'created /dev/shm/{name}: 1028 slots for 1024 keys', out)
        self.assertIn(f'({size} bytes)', out)
        self.assertRegex(out, r'\d+\.\d bytes/key')
        self.assertIn('policy b: 100/m burst 20', out)

    def test_options_reach_the_segment(self):
        name = self.name()
        group = grp.getgrgid(os.getegid()).gr_name
        self.good('create', '--policy', 'p=1/s', name, '--capacity', '100', '--name-bytes', '0',
                  '--max-policies', '3', '--hash', 'xxh3', '--on-full', 'deny', '--mode', '0660',
                  '--group', group, '--probe-limit', '7', '--huge-pages')
        info = json.loads(self.good('info', name, '--format', 'json').out)
        for field, value in {'capacity': 100, 'name_bytes': 0, 'max_policies': 3, 'hash': 'xxh3',
                             'on_full': 'deny', 'mode': '0660', 'probe_limit': 7}.items():
            self.assertEqual(info[field], value, field)

    def test_mode_for_a_group_names_the_group(self):
        for mode in '0660', '660', '0640':
            name = self.name()
            self.bad(USAGE, ['--mode', 'name the group'], 'create', name, '--mode', mode)
            self.assertFalse(os.path.exists('/dev/shm/' + name))

    def test_taken_name_is_a_failure_and_if_missing_is_not(self):
        name = self.create('--capacity', '64')
        self.bad(FAILURE, ['segment_exists', name], 'create', name)
        out = self.good('create', name, '--if-missing', '--policy', 'more=7/s').text
        self.assertIn('exists /dev/shm/' + name, out)
        self.assertIn('policy p: ', out)
        self.assertIn('policy more: 7/s', out)
        self.bad(INCOMPATIBLE, ['config_mismatch', 'capacity', '64', '65'], 'create', name,
                 '--if-missing', '--capacity', '65')
        self.bad(INCOMPATIBLE, ['config_mismatch', '7/s', '8/s'], 'create', name, '--if-missing',
                 '--policy', 'more=8/s')
        fresh = self.name()
        self.assertIn('created', self.good('create', fresh, '--if-missing').text)

    def test_recreate_replaces_a_segment_but_no_other_file(self):
        name = self.create('--capacity', '64')
        old = os.stat('/dev/shm/' + name).st_ino
        self.good('create', name, '--recreate', '--capacity', '128')
        self.assertNotEqual(os.stat('/dev/shm/' + name).st_ino, old)
        with open('/dev/shm/' + name, 'wb') as file:
            file.write(b'precious ' * 1000)
        self.bad(INCOMPATIBLE, 'segment_bad_magic', 'create', name, '--recreate')
        self.assertEqual(os.stat('/dev/shm/' + name).st_size, 9000)
        self.bad(USAGE, '--if-missing', 'create', name, '--recreate', '--if-missing')

    def test_a_wrong_policy_leaves_nothing_behind(self):
        for policy in ['p=1', 'p', '=1/s', 'a b=1/s', 'p=1/s burst 0', 'p=0', 'p=1/fortnight']:
            name = self.name()
            self.bad(USAGE, 'invalid_', 'create', name, '--policy', 'ok=1/s', '--policy', policy)
            self.assertFalse(os.path.exists('/dev/shm/' + name), policy)


class Try(BrimTest):
    def test_exit_code_is_the_answer(self):
        name = self.create(policy='p=2/h')
        for code, verdict in [(OK, 'allowed'), (OK, 'allowed'), (REFUSED, 'denied')]:
            result = brim('try', name, 'alice')
            self.assertEqual(result.code, code)
            self.assertRegex(result.text, rf'verdict +{verdict}\n')
        self.assertEqual(brim('try', name, 'bob', '--cost', '2').code, OK)
        self.assertEqual(brim('try', name, 'bob').code, REFUSED)

    def test_json_has_whole_nanoseconds(self):
        name = self.create(policy='p=1/h')
        brim('try', name, 'k')
        answer = json.loads(brim('try', name, 'k', '--format', 'json').out)
        self.assertEqual(answer['version'], 1)
        self.assertEqual((answer['verdict'], answer['admitted'], answer['remaining']),
                         ('denied', False, 0))
        self.assertGreater(answer['retry_after_ns'], 0)
        self.assertLessEqual(answer['retry_after_ns'], 3600 * 10**9)
        never = json.loads(brim('try', name, 'k', '--cost', '2', '--format', 'json').out)
        self.assertEqual((never['reason'], never['retry_after_ns']), ('cost_above_burst', None))
        head, row = csv.reader(io.StringIO(brim('try', name, 'k', '--format', 'csv').text))
        self.assertEqual(dict(zip(head, row))['verdict'], 'denied')

    def test_answers_of_other_policies_have_their_reasons(self):
        def answer(policy, *options, calls=1):
            name = self.create(policy='p=' + policy)
            for _ in range(calls):
                result = brim('try', name, 'k', '--format', 'json', *options)
            return result.code, json.loads(result.out)

        code, shadowed = answer('1/h shadow', calls=2)
        self.assertEqual((code, shadowed['verdict'], shadowed['reason'], shadowed['admitted']),
                         (OK, 'denied', 'shadow', True))
        code, barred = answer('1/h ban 1 in 1m for 1h', calls=3)
        self.assertEqual((code, barred['verdict'], barred['reason']), (REFUSED, 'denied', 'barred'))
        code, exempt = answer('unlimited')
        self.assertEqual((code, exempt['verdict'], exempt['reason']), (OK, 'allowed', 'exempt'))
        code, blocked = answer('deny')
        self.assertEqual((code, blocked['verdict'], blocked['reason'], blocked['retry_after_ns']),
                         (REFUSED, 'denied', 'blocked', None))
        code, unsupported = answer('concurrency 2')
        self.assertEqual((unsupported['verdict'], unsupported['reason']),
                         ('unavailable', 'unsupported'))
        code, queued = answer('queue 1/h burst 5', calls=2)
        self.assertEqual((code, queued['verdict']), (OK, 'allowed'))
        self.assertGreater(queued['delay_ns'], 3000 * 10**9)
        code, second = answer('100/s; 1/h', calls=2)
        self.assertEqual((code, second['verdict'], second['part']), (REFUSED, 'denied', 1))
        name = self.create(policy='p=queue 1/h burst 5')
        self.good('try', name, 'k')
        self.assertRegex(self.good('try', name, 'k').text, r'start after +\d')

    def test_peek_and_cost_zero_take_nothing(self):
        name = self.create(policy='p=1/h')
        for _ in range(3):
            self.assertEqual(brim('try', name, 'k', '--peek').code, OK)
            self.assertEqual(brim('try', name, 'k', '--cost', '0').code, OK)
        self.assertEqual(brim('try', name, 'k').code, OK)
        self.assertEqual(brim('try', name, 'k', '--peek').code, REFUSED)

    def test_policy_may_be_left_out_only_if_there_is_one(self):
        name = self.name()
        self.good('create', name)
        self.bad(FAILURE, ['no_policy', '--policy'], 'try', name, 'k')
        self.good('create', name, '--if-missing', '--policy', 'a=1/s')
        self.good('try', name, 'k')
        self.good('create', name, '--if-missing', '--policy', 'b=1/s')
        self.bad(USAGE, ['policy_needed', 'a, b', '--policy'], 'try', name, 'k')
        self.bad(USAGE, ['policy_not_found', "'c'", 'a, b'], 'try', name, 'k', '--policy', 'c')
        self.good('try', name, 'k', '--policy', 'b')

    def test_keys_that_look_like_something_else(self):
        name = self.create()
        for key in ['', 'list', 'dump', 'help', '-', '[a,b]', '{}', 'a=b', '%41', 'a b']:
            self.good('try', name, key)
        self.good('try', name, '--', '--help')
        keys = {row['key_base64'] for row in
                json.loads(self.good('dump', name, '--format', 'json').out)['keys']}
        self.assertEqual(len(keys), 11)

    def test_key_from_a_file_keeps_every_byte(self):
        name = self.create(policy='p=1/h')
        key = bytes(range(256)) + b'\n'
        self.assertEqual(brim('try', name, '--key-file', '-', stdin=key).code, OK)
        self.assertEqual(brim('try', name, '--key-file', '-', stdin=key).code, REFUSED)
        self.assertEqual(brim('try', name, '--key-file', '-', stdin=key[:-1]).code, OK)
        self.bad(FAILURE, ['key_unreadable', '/no/such'], 'try', name, '--key-file', '/no/such')
        self.bad(USAGE, ['invalid_key', '--key-file'], 'try', name, 'k', '--key-file', '-')
        self.bad(USAGE, ['invalid_key', 'KEY'], 'try', name)

    def test_unavailable_follows_the_policy(self):
        for on_full, code in [('allow', OK), ('deny', REFUSED)]:
            name = self.create('--capacity', '4', '--on-full', on_full)
            self.fill(name, [b'%d' % i for i in range(4)])
            result = brim('try', name, 'one more', '--format', 'json')
            answer = json.loads(result.out)
            self.assertEqual((answer['verdict'], answer['reason']), ('unavailable', 'full'))
            self.assertEqual(result.code, code)


class Look(BrimTest):
    def test_list(self):
        name = self.create('--capacity', '64')
        self.assertRegex(self.good('list').text, rf'(?m)^{name} .* ok$')
        listed = json.loads(self.good('list', '--format', 'json').out)
        self.assertEqual(listed['version'], 1)
        mine = [s for s in listed['segments'] if s['name'] == name]
        self.assertEqual(len(mine), 1)
        self.assertEqual(mine[0]['size_bytes'], os.stat('/dev/shm/' + name).st_size)
        rows = list(csv.DictReader(io.StringIO(self.good('list', '--format', 'csv').text)))
        self.assertIn(name, [row['name'] for row in rows])

    def test_list_says_why_a_segment_can_not_be_attached(self):
        name = self.create()
        with open('/dev/shm/' + name, 'r+b') as file:
            file.seek(8)
            file.write(b'\x63')
        self.assertRegex(self.good('list').text, rf'(?m)^{name} .* segment_version_mismatch$')

    def test_info(self):
        name = self.create('--capacity', '1k')
        self.fill(name, [b'a', b'b', b'a'])
        info = json.loads(self.good('info', name, '--format', 'json').out)
        self.assertEqual(info['path'], '/dev/shm/' + name)
        self.assertEqual(info['size_bytes'], os.stat('/dev/shm/' + name).st_size)
        self.assertTrue(info['linked'])
        self.assertEqual(info['policies'][0]['counters']['allowed'], 3)
        self.assertEqual(info['policies'][0]['period_ns'], 3600 * 10**9)
        self.assertEqual(info['policies'][0]['rates'],
                         [{'limit': 1, 'period_ns': 3600 * 10**9, 'burst': 1000}])
        self.assertEqual(info['policies'][0]['factor_ppm'], 1000000)
        self.assertEqual(info['occupancy']['live'], 2)
        self.assertEqual(sum(info['occupancy'].values()), info['slots'])
        self.assertIn('probe_0', [counter['name'] for counter in info['counters']])
        table = self.good('info', name).text
        self.assertRegex(table, r'(?m)^p +3 +0 +0 +0 +0 +0 +0 +0 +0  1/h burst 1000$')
        rows = list(csv.reader(io.StringIO(self.good('info', name, '--format', 'csv').text)))
        self.assertIn(['policy', 'p', 'allowed', '3'], rows)
        self.assertEqual({len(row) for row in rows}, {4})

    def test_info_shows_attached_processes(self):
        name = self.create()
        holder = self.hold(name)
        attached = json.loads(self.good('info', name, '--format', 'json').out)['attached']
        self.assertEqual([(p['pid'], p['alive']) for p in attached], [(holder.pid, True)])
        self.assertIn(str(holder.pid), self.good('info', name).text)

    def test_absolute_path(self):
        self.bad(USAGE, 'invalid_name', 'info', '/dev/shm/../shm/x')
        directory = f'/dev/shm/brim-tools-dir-{os.getpid()}'
        os.mkdir(directory)
        self.addCleanup(self.remove, directory)
        self.good('create', directory + '/seg')
        self.good('info', directory + '/seg')
        self.good('unlink', directory + '/seg')

    def test_unlink(self):
        first, second = self.create(), self.create()
        self.good('unlink', first, second)
        self.assertFalse(os.path.exists('/dev/shm/' + first))
        self.bad(NO_SEGMENT, ['segment_not_found', first], 'unlink', first)
        third = self.create()
        self.bad(NO_SEGMENT, first, 'unlink', first, third)  # and goes on
        self.assertFalse(os.path.exists('/dev/shm/' + third))

    def test_unlink_refuses_what_is_not_a_segment(self):
        name = self.name()
        with open('/dev/shm/' + name, 'wb') as file:
            file.write(b'not a segment at all')
        self.bad(INCOMPATIBLE, 'segment_bad_magic', 'unlink', name)
        self.assertTrue(os.path.exists('/dev/shm/' + name))
        link = self.name()
        os.symlink('/dev/shm/' + name, '/dev/shm/' + link)
        self.bad(INCOMPATIBLE, 'segment_not_regular', 'unlink', link)
        self.assertTrue(os.path.lexists('/dev/shm/' + link))


class CommandLine(BrimTest):
    def test_help_and_version(self):
        self.assertRegex(self.good('--version').text, r'^brim \d+\.\d+\.\d+\n$')
        top = self.good('--help').text
        for command in ['create', 'list', 'info', 'dump', 'try', 'unlink', 'replay']:
            self.assertRegex(top, rf'(?m)^  {command} ')
            usage = self.good(command, '--help').text
            self.assertIn(f'  brim {command}', usage[usage.index('Example'):])
            self.assertEqual(usage, self.good('help', command).text)

    def test_usage_errors(self):
        name = self.name()
        for words, args in [
                (['give a command', 'dump'], []),
                (["unknown command 'dmp'", "did you mean 'dump'?"], ['dmp']),
                (["unknown command 'crate'", "did you mean 'create'?"], ['crate', name]),
                (["unknown command 'xyzzy'", 'brim --help'], ['xyzzy']),
                ("unknown command ''", ['']),
                ("unknown command '%1B[2J'", ['\x1b[2J']),
                (['--formt', "did you mean '--format'?"], ['dump', name, '--formt', 'json']),
                (["unknown option '--nonsense'", 'brim dump --help'], ['dump', name, '--nonsense']),
                ("unexpected argument 'more'", ['dump', name, 'more']),
                ('--limit needs a value', ['dump', name, '--limit']),
                (['NAME is required', 'brim info --help'], ['info']),
                ('NAME is required', ['unlink']),
                (["'xml'", 'table, json or csv'], ['list', '--format', 'xml']),
                (["'xml'", 'table, json or csv'], ['info', name, '--format', 'xml']),
                (["'xml'", 'table, json or csv'], ['dump', name, '--format', 'xml']),
                (["'dead'", 'live, idle or all'], ['dump', name, '--state', 'dead']),
                (["'-1'", 'whole number'], ['dump', name, '--limit=-1']),
                (["'-1'", 'whole number'], ['try', name, 'k', '--cost=-1']),
                (["'4294967296'", '4294967295'], ['try', name, 'k', '--cost', '4294967296']),
                (["'nobody-of-this-name'", 'user'],
                 ['info', name, '--owner', 'nobody-of-this-name'])]:
            self.bad(USAGE, words, *args)

    def test_bad_names(self):
        for bad in ['', 'a/b', '..', '.', '.hidden', 'n' * 300, 'a b', 'naïve', '/', '/a/../b',
                    'x\x1b]0;title\x07']:
            for args in [['create', bad], ['info', bad], ['dump', bad], ['try', bad, 'k'],
                         ['try', bad, 'k', '--peek'], ['unlink', bad]]:
                self.bad(USAGE, ['invalid_name', 'A-Z a-z 0-9'], *args)

    def test_bad_create_values(self):
        for option, values in {
                '--capacity': ['', '0', '-1', '1.5', '12x', '1kk', 'k', ' 5', '17179869185',
                               '99999999999999999999', '18014398509481985k'],
                '--name-bytes': ['65521', 'x', '64k'],
                '--max-policies': ['0', '4097', '1M'],
                '--probe-limit': ['0', '256', '1k'],
                '--hash': ['', 'md5', 'SIPHASH'],
                '--on-full': ['', 'drop'],
                '--mode': ['', '0644', '0666', '0777', '9', 'rw', '00600', '-600'],
                '--group': ['no-such-group-here'],
                '--policy': ['', 'p', 'p=', 'p=fast', '=1/s', 'x' * 48 + '=1/s', 'ä=1/s',
                             'p=1/\x1b[31m']}.items():
            for value in values:
                name = self.name()
                given = [f'{option}={value}'] if value else [option, value]
                self.bad(USAGE, 'invalid_', 'create', name, *given)
                self.assertFalse(os.path.exists('/dev/shm/' + name), (option, value))
        name = self.name()
        self.bad(USAGE, ['each name once', "'p'"], 'create', name, '--policy', 'p=1/s', '--policy',
                 'p=2/s')
        self.bad(USAGE, ['--max-policies', 'at least 2'], 'create', name, '--max-policies', '1',
                 '--policy', 'p=1/s', '--policy', 'q=2/s')
        self.bad(FAILURE, ['no_directory', '/no/such/place'], 'create', '/no/such/place')

    def test_unknown_segment_is_not_created(self):
        name = self.name()
        for args in [['info', name], ['dump', name], ['try', name, 'k', '--peek'],
                     ['try', name, 'k'], ['try', name, 'k', '--policy', 'p'], ['unlink', name]]:
            self.bad(NO_SEGMENT, ['segment_not_found', '/dev/shm/' + name, 'brim create'], *args)
            self.assertFalse(os.path.exists('/dev/shm/' + name), args)

    def test_lost_output_is_a_failure(self):
        name = self.create()
        self.fill(name, [b'k'])
        for args in [['list'], ['info', name], ['dump', name], ['try', name, 'k'], ['--help']]:
            with open('/dev/full', 'wb') as full:
                self.bad(FAILURE, 'write_failed', *args, stdout=full)

    def test_colour_only_on_a_terminal_and_not_with_no_color(self):
        def on_terminal(**env):
            ours, theirs = pty.openpty()
            subprocess.run([BRIM, 'list'], stdout=theirs, check=True,
                           env={k: v for k, v in os.environ.items() if k != 'NO_COLOR'} | env)
            os.close(theirs)
            text = os.read(ours, 4096)
            os.close(ours)
            return text
        self.assertIn(b'\x1b[1mNAME', on_terminal())
        self.assertNotIn(b'\x1b', on_terminal(NO_COLOR='1'))
        self.assertNotIn(b'\x1b', self.good('list').out)


if __name__ == '__main__':
    main()
