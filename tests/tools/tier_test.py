# SPDX-License-Identifier: MIT
"""Goal: what a segment shares with other nodes is told by every command that tells of it, and where
the store is can be said without telling the whole machine a password. Method: the real binary on
segments in which tier_segment.cc left what an agent would; no store. tests/tier has those with
one."""
import csv
import io
import json
import os
import stat
import tempfile

from support import FAILURE, INCOMPATIBLE, NO_SEGMENT, OK, USAGE, BrimTest, brim, main

SECRET = 'p4ssw0rd-of-the-store'


class TierTest(BrimTest):
    def shared(self, *options, policy='p=3/d scope cluster'):
        return self.create(*options, policy=policy)

    def told(self, name):
        result = brim('tier', 'status', name, '--format', 'json')
        self.assertEqual(result.complaint, b'')
        return result.code, json.loads(result.text)['tier']


class Room(TierTest):
    def test_made_with_it(self):
        kept = lambda name: json.loads(self.good('info', name, '--format', 'json').text)
        plain = kept(self.create())
        self.assertEqual((plain['cluster'], plain['tier']), (False, {'kept': False}))
        self.assertEqual(plain['policies'][0]['scope'], 'node')
        by_policy = kept(self.shared('--policy', 'q=3/d scope cluster strict'))
        self.assertEqual((by_policy['cluster'], by_policy['tier']['state']), (True, 'none'))
        self.assertEqual([each['scope'] for each in by_policy['policies']], ['cluster', 'strict'])
        by_option = kept(self.create('--cluster'))
        self.assertTrue(by_option['cluster'])
        self.assertEqual(by_option['size_bytes'], by_policy['size_bytes'])
        self.assertGreater(by_option['size_bytes'] - plain['size_bytes'], 32 * plain['capacity'])

    def test_given_later(self):
        name = self.create()
        self.bad(INCOMPATIBLE, ['cluster_not_kept', 'resize'],
                 'policy', 'set', name, 'q', '3/d scope cluster')
        self.bad(INCOMPATIBLE, ['cluster_not_kept', 'brim resize ' + name], 'tier', 'status', name)
        self.good('try', name, 'k', '--cost', '7')
        self.good('resize', name, '--cluster')
        self.good('policy', 'set', name, 'q', '3/d scope cluster')
        self.assertEqual(self.told(name)[1]['state'], 'none')
        self.assertIn('remaining    993',
                      self.good('try', name, 'k', '--policy', 'p', '--cost', '0').text)

    def test_policy_file(self):
        with tempfile.NamedTemporaryFile('w', suffix='.toml', encoding='ascii') as file:
            file.write('[segment]\ncluster = true\nname_bytes = 0\n[policies]\np = "1/s"\n'
                       's = {rate = "5/s burst 9", scope = "cluster"}\n'
                       't = {rate = "5/s", scope = "cluster strict", on_unavailable = "deny"}\n')
            file.flush()
            report = json.loads(self.good('check', file.name, '--format', 'json').text)
            self.assertEqual(report['slot_bytes'], 16 + 32)
            policies = {each['name']: each for each in report['policies']}
            self.assertEqual(policies['t']['policy'],
                             '5/s scope cluster strict on-unavailable deny')
            self.assertEqual([policies[name]['bytes_per_key'] for name in 'pst'], [16, 48, 48])
            notes = {each['name']: each['message'] for each in policies['s']['findings']}
            self.assertIn('two of them together may admit 9 more', notes['cluster_excess'])
            notes = {each['name']: each['message'] for each in policies['t']['findings']}
            self.assertIn('refused if that does not answer', notes['cluster_strict'])
            file.seek(0)
            file.truncate()
            file.write('[segment]\ncluster = "yes"')
            file.flush()
            self.bad(USAGE, "'cluster' needs true or false", 'check', file.name)


class Status(TierTest):
    def test_states(self):
        name = self.shared()
        self.assertEqual(self.told(name)[0], FAILURE)
        self.tier(name, 'alive=-3600000', 'calls=12')
        code, told = self.told(name)
        self.assertEqual((code, told['state'], told['nodes'], told['calls'], told['error']),
                         (OK, 'up', 3, 12, ''))
        self.assertEqual((told['down_for_ns'], told['share_ppm']), (None, 1000000))
        self.tier(name, 'alive=-3600000', 'down=90000', 'exchanged=95000', 'share=250000',
                  'error=tier_timeout: no answer')
        code, told = self.told(name)
        self.assertEqual((code, told['state'], told['error']),
                         (FAILURE, 'down', 'tier_timeout: no answer'))
        self.assertGreater(told['exchange_age_ns'], 95e9)
        text = brim('tier', 'status', name).text
        self.assertRegex(text, r'(?m)^state +down for 1m3\ds$')
        self.assertRegex(text, r'(?m)^last exchange +1m3\ds ago$')
        self.assertRegex(text, r'(?m)^share +25 % of each rate$')
        self.assertRegex(text, r'(?m)^last error +tier_timeout: no answer$')
        self.assertRegex(text, r'(?m)^store +redis://127.0.0.1:6379$')
        self.tier(name, 'alive=11000')
        self.assertEqual(self.told(name)[1]['state'], 'dead')
        rows = list(csv.reader(io.StringIO(brim('tier', 'status', name, '--format', 'csv').text)))
        self.assertIn(['state', 'dead'], rows)
        self.assertIn(['down_for_ns', ''], rows)

    def test_any_numbers(self):
        """Whoever may write to the segment may have written them."""
        for number in -2**63, -1, 0, 2**63 - 1:
            name = self.shared()
            self.tier(name, f'all={number}')
            for form in 'table', 'json', 'csv':
                self.plain(brim('tier', 'status', name, '--format', form).out, b'\r\n')
            self.told(name)
            self.assertEqual(brim('metrics', name).code, OK)
            self.assertEqual(brim('info', name).code, OK)
            self.plain(brim('doctor', name).out)

    def test_no_segment(self):
        self.bad(NO_SEGMENT, 'segment_not_found', 'tier', 'status', self.name())
        self.bad(USAGE, 'table, json or csv', 'tier', 'status', self.shared(), '--format', 'yaml')

    def test_others_tell_it(self):
        name = self.shared()
        self.tier(name, 'alive=-3600000', 'overshoot=7')
        top = self.good('top', name, '--count', '1', '--interval', '10ms').text
        self.assertRegex(top, r'(?m)^tier    up, last exchange \S+ ago, lag 0s, 3 nodes, whole')
        self.assertRegex(self.good('info', name).text, r'(?m)^cluster +yes: up$')
        metrics = self.good('metrics', name).text
        for line in 'up{segment="%s"} 1', 'overshoot_permits{segment="%s"} 7':
            self.assertIn('\nbrim_tier_' + line % name + '\n', metrics)
        # What shares nothing has nothing to tell.
        for name in self.create(), self.create('--cluster'):
            self.assertNotIn('brim_tier', self.good('metrics', name).text)
            self.assertNotIn('\ntier', self.good('top', name, '--count', '1', '--interval',
                                                 '10ms').text)


class Doctor(TierTest):
    def found(self, name):
        found = json.loads(brim('doctor', name, '--format', 'json').text)['findings']
        for each in found:
            self.assertEqual(each['remedy'] == '', each['level'] == 'ok', each)
        return {each['check']: (each['level'], each['found']) for each in found
                if each['check'].startswith('tier_')}

    def test_each(self):
        name = self.shared()
        self.assertEqual(list(self.found(name)), ['tier_agent'])
        self.assertEqual(self.found(name)['tier_agent'][0], 'error')
        self.tier(name, 'alive=-3600000')
        self.assertEqual(self.found(name)['tier_store'][0], 'ok')
        self.tier(name, 'alive=-3600000', 'down=12000', 'share=500000', 'error=tier_auth: no')
        found = self.found(name)
        self.assertEqual({check: level for check, (level, _) in found.items()},
                         {'tier_store': 'error', 'tier_share': 'warning'})
        self.assertRegex(found['tier_store'][1],
                         r'^redis://127\.0\.0\.1:6379: down for 1\d\.?\d?s: tier_auth: no$')
        self.tier(name, 'alive=12000', 'overshoot=9')
        found = self.found(name)
        self.assertEqual({check: level for check, (level, _) in found.items()},
                         {'tier_agent': 'error', 'tier_overshoot': 'note'})
        self.assertIn('no agent has been at work for 12', found['tier_agent'][1])
        self.assertIn('(p)', found['tier_agent'][1])
        unused = self.create('--cluster')
        self.assertEqual(self.found(unused), {})
        self.tier(unused, 'alive=-3600000')
        self.assertEqual({check: level for check, (level, _) in self.found(unused).items()},
                         {'tier_store': 'ok', 'tier_policies': 'note'})


class Where(TierTest):
    """The options that say where the store is."""

    def test_none(self):
        name = self.shared()
        for args in ['tier', 'nodes', name], ['tier', 'remove', '0' * 32]:
            self.bad(USAGE, ['--tier URL', 'BRIM_TIER_URL'], *args)
        self.bad(USAGE, ['--file', '--tier'], 'agent', name)
        self.bad(USAGE, '--restore', 'agent', name, '--restore', '--tier', 'redis://127.0.0.1:1')

    def test_wrong_words(self):
        name = self.shared()
        here = ['--tier', 'redis://127.0.0.1:1']
        for option, value in [('--tier-interval', '0s'), ('--tier-interval', 'often'),
                              ('--tier-hold', '-1s'), ('--tier-forget', '1ms'),
                              ('--tier-timeout', '0'), ('--tier-share', '0%'),
                              ('--tier-share', '101%'), ('--tier-share', 'x'),
                              ('--tier-share', '1e1'), ('--tier-share', '1.2.3')]:
            self.bad(USAGE, ['invalid_option', option], 'agent', name, *here,
                     f'{option}={value}')

    def test_file_of_the_url(self):
        name = self.shared()
        self.bad(USAGE, ['--tier-url-file', 'No such file'],
                 'tier', 'nodes', name, '--tier-url-file', '/nowhere/x')
        with tempfile.NamedTemporaryFile('w', encoding='ascii') as file:
            self.bad(USAGE, 'it is empty', 'tier', 'nodes', name, '--tier-url-file', file.name)

    def test_no_password_is_told(self):
        """Not even where the URL is wrong, or nobody answers; in an argument it is warned of."""
        name = self.shared()
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'secret')
            for url in (f'redis://:{SECRET}@127.0.0.1:1', f'redis://:{SECRET}@127.0.0.1:1:1',
                        f'wrong://:{SECRET}@x', f'redis://h,h/0?sentinel_password={SECRET}'):
                with open(path, 'w', encoding='ascii') as file:
                    file.write(url + '\n')
                os.chmod(path, stat.S_IRUSR)
                for args, env in ([['--tier', url], {}], [['--tier-url-file', path], {}],
                                  [[], {'BRIM_TIER_URL': url}],
                                  [['--tier', 'redis://127.0.0.1:1'],
                                   {'BRIM_TIER_PASSWORD': SECRET}],
                                  [['--tier', 'redis://127.0.0.1:1', '--tier-password-file', path],
                                   {}]):
                    result = brim('tier', 'nodes', name, '--tier-timeout', '100ms', *args,
                                  env={**os.environ, **env})
                    self.assertNotIn(SECRET.encode(), result.out + result.err)
                    self.assertEqual(b'every user of this machine' in result.err,
                                     SECRET in ' '.join(args), result.err)


if __name__ == '__main__':
    main()
