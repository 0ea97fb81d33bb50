#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim agent, snapshot, restore and create --restore: real processes, real database files."""
import json
import os
import random
import signal
import sqlite3
import stat
import subprocess
import tempfile
import time

from support import BRIM, BrimTest, FAILURE, INCOMPATIBLE, NO_SEGMENT, REFUSED, USAGE, brim, main


class SnapshotTest(BrimTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.file = os.path.join(self.folder, 's.db')

    def remaining(self, name, key='k', policy='p'):
        out = self.good('try', name, key, '--policy', policy, '--peek', '--cost', '0', '--format',
                        'json').text
        return json.loads(out)['remaining']

    def take(self, name, file=None):
        return self.good('snapshot', 'take', name, '--file', file or self.file)

    def again(self, name, *options):
        self.good('unlink', name)
        return self.good('create', name, '--restore', self.file, *options)

    def agent(self, name, *options):
        agent = subprocess.Popen([BRIM, 'agent', name, '--file', self.file, *options],
                                 stderr=subprocess.PIPE)
        self.addCleanup(agent.stderr.close)
        self.addCleanup(agent.wait)
        self.addCleanup(agent.kill)
        return agent

    def wait_until(self, true):
        for _ in range(1500):
            if true():
                return
            time.sleep(0.02)
        self.fail('it did not come to pass')

    def generation(self):
        done = brim('snapshot', 'show', self.file, '--format', 'json')
        return json.loads(done.text)['generation'] if done.code == 0 else 0

    def test_state_survives_the_segment(self):
        name = self.create('--policy', 'log=sliding-log 5/h', '--policy',
                           'two=5/d burst 5; 100/d', policy='p=10/d burst 10')
        self.good('try', name, 'alice', '--policy', 'p', '--cost', '7')
        self.good('try', name, b'\xff\x00'.replace(b'\x00', b'\x01'), '--policy', 'p')
        self.good('try', name, 'k' * 300, '--policy', 'p', '--cost', '9')
        for _ in range(4):
            self.good('try', name, 'l', '--policy', 'log')
        self.good('try', name, 't', '--policy', 'two', '--cost', '3')
        self.good('override', 'set', name, 'p', 'vip', '--use', 'unlimited')
        self.good('factor', name, 'two', '0.5')
        self.take(name)
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o600)
        shown = json.loads(self.good('snapshot', 'show', self.file, '--format', 'json').text)
        used = {(row['policy'], row['rate'], row['key']): row['permits_used']
                for row in shown['keys']}
        self.assertAlmostEqual(used['p', 0, 'alice'], 7, delta=0.01)
        self.assertEqual(used['log', 0, 'l'], 4)
        self.again(name)
        self.assertEqual(self.remaining(name, 'alice'), 3)
        self.assertEqual(self.remaining(name, 'k' * 300), 1)
        self.assertEqual(self.remaining(name, 'l', 'log'), 1)
        self.assertEqual(self.remaining(name, 't', 'two'), 2)
        self.assertIn('exempt', self.good('try', name, 'vip', '--policy', 'p', '--format',
                                          'json').text)

    def test_a_cut_key_survives_twice(self):
        """A key of which only the beginning is kept is found by the next snapshot too, with as much
        room for its name or less."""
        name = self.create('--policy', 'log=sliding-log 9/h', policy='p=10/h burst 10')
        self.good('try', name, 'k' * 300, '--policy', 'p', '--cost', '6')
        for _ in range(4):
            self.good('try', name, 'k' * 300, '--policy', 'log')
        for options in ((), (), ('--name-bytes', '24'), ()):
            self.take(name)
            self.again(name, *options)
            self.assertEqual(self.remaining(name, 'k' * 300), 4)
            self.assertEqual(self.remaining(name, 'k' * 300, 'log'), 5)

    def test_into_another_size_and_hash(self):
        name = self.create(policy='p=10/h burst 10')
        for i in range(20):
            self.good('try', name, f'key{i}', '--cost', '4')
        self.take(name)
        self.again(name, '--capacity', '200', '--hash', 'xxh3')
        for i in range(20):
            self.assertEqual(self.remaining(name, f'key{i}'), 6)

    def test_live_merge_takes_the_stricter(self):
        name = self.create(policy='p=10/h burst 10')
        self.good('try', name, 'a', '--cost', '5')
        self.good('try', name, 'b', '--cost', '5')
        self.take(name)
        self.good('try', name, 'a', '--cost', '3')
        for _ in range(2):
            self.good('restore', name, self.file)
            self.assertEqual(self.remaining(name, 'a'), 2)
            self.assertEqual(self.remaining(name, 'b'), 5)
        other = self.create(policy='p=10/h burst 10')
        self.good('restore', other, self.file)
        self.assertEqual(self.remaining(other, 'a'), 5)
        gone = self.create(policy='q=10/h')
        self.assertIn('2 of policies that are gone', self.good('restore', gone, self.file).text)

    def test_readable_with_sqlite(self):
        name = self.create(policy='p=100/h burst 100')
        self.good('try', name, 'alice', '--cost', '42')
        self.take(name)
        database = sqlite3.connect(self.file)
        row = database.execute('SELECT policy, key, kind, permits_used FROM states').fetchone()
        database.close()
        self.assertEqual(row[:3], ('p', 'alice', 'bucket'))
        self.assertAlmostEqual(row[3], 42, delta=0.1)

    def test_no_program_in_the_file_is_run(self):
        """F48, F50: what runs somebody else's SQL when the file is read or written is refused."""
        name = self.create(policy='p=100/h burst 100')
        self.good('try', name, 'alice')
        endless = ('WITH RECURSIVE n(i) AS (VALUES(1) UNION ALL SELECT i + 1 FROM n) '
                   'SELECT i AS name, i AS value FROM n WHERE i < 0')
        for change in ('CREATE TRIGGER t BEFORE DELETE ON meta BEGIN DELETE FROM keys; END',
                       'CREATE TABLE extra(a CHECK(a > 0))',
                       'ALTER TABLE keys ADD COLUMN more AS (used + 1)',
                       f'DROP VIEW states; DROP TABLE meta; CREATE VIEW meta AS {endless}'):
            for tail in ('', '-wal', '-shm'):
                if os.path.exists(self.file + tail):
                    os.unlink(self.file + tail)
            self.take(name)
            database = sqlite3.connect(self.file)
            database.executescript(change)
            database.close()
            self.bad(INCOMPATIBLE, 'snapshot_corrupt', 'snapshot', 'show', self.file)

    def test_damage_is_found_and_set_aside(self):
        """F48: every flipped bit that changes a value, every cut, and what is no snapshot."""
        name = self.create(policy='p=100/h burst 100')
        self.fill(name, [b'key%d' % i for i in range(600)])
        self.take(name)
        with open(self.file, 'rb') as file:
            good = file.read()
        chance = random.Random(5)
        spoilt = [good[:size] for size in (1, 100, 4096, len(good) // 2)]
        for _ in range(60):
            at = chance.randrange(len(good))
            spoilt.append(good[:at] + bytes([good[at] ^ (1 << chance.randrange(8))]) +
                          good[at + 1:])
        sound = self.good('snapshot', 'show', self.file, '--format', 'csv').text
        found = 0
        for bytes_ in spoilt:
            with open(self.file, 'wb') as file:
                file.write(bytes_)
            shown = brim('snapshot', 'show', self.file, '--format', 'csv')
            if shown.code == 0:
                self.assertEqual(shown.text, sound)
            else:
                self.assertIn('snapshot_', shown.message)
                found += 1
        self.assertGreater(found, 20)
        with open(self.file, 'wb') as file:
            file.write(b'not a database, but large enough to be read as one' * 100)
        result = brim('snapshot', 'take', name, '--file', self.file)
        self.assertEqual(result.code, 0, result.message)
        self.assertIn('was renamed to', result.message)
        aside = [each for each in os.listdir(self.folder) if '.corrupt-' in each]
        self.assertEqual(len(aside), 1)
        with open(os.path.join(self.folder, aside[0]), 'rb') as file:
            self.assertTrue(file.read().startswith(b'not a database'))
        self.good('snapshot', 'show', self.file)

    def test_foreign_databases_are_set_aside(self):
        name = self.create()
        for sql in ['CREATE TABLE t(x)', 'PRAGMA user_version = 99; PRAGMA application_id = '
                    f'{0x6272696d}; CREATE TABLE meta(x)']:
            database = sqlite3.connect(self.file)
            database.executescript(sql)
            database.close()
            self.bad(INCOMPATIBLE, 'snapshot_', 'snapshot', 'show', self.file)
            self.assertIn('was renamed to',
                          brim('snapshot', 'take', name, '--file', self.file).message)
            os.unlink(self.file)

    def test_bad_input(self):
        name = self.create()
        self.bad(FAILURE, 'snapshot_not_found', 'snapshot', 'show', self.file)
        self.bad(FAILURE, 'snapshot_not_found', 'restore', name, self.file)
        self.bad(NO_SEGMENT, 'segment_not_found', 'snapshot', 'take', self.name(), '--file',
                 self.file)
        os.symlink('/etc/passwd', self.file)
        self.bad(INCOMPATIBLE, 'snapshot_symlink', 'snapshot', 'take', name, '--file', self.file)
        os.unlink(self.file)
        self.bad(FAILURE, 'snapshot_unwritable', 'snapshot', 'take', name, '--file',
                 '/nowhere/at/all.db')
        self.bad(USAGE, '--interval', 'agent', name, '--file', self.file, '--interval', 'often')
        self.take(name)
        other = self.create()
        self.bad(INCOMPATIBLE, 'snapshot_other_segment', 'snapshot', 'take', other, '--file',
                 self.file)

    def test_one_agent_writes(self):
        """F47: the second waits; it takes over when the first is killed."""
        name = self.create(policy='p=10/h burst 10')
        first = self.agent(name, '--interval', '100ms')
        self.wait_until(lambda: self.generation() > 0)
        second = self.agent(name, '--interval', '100ms')
        self.assertIn(b'snapshot_not_leader: process %d' % first.pid, second.stderr.readline())
        first.kill()
        first.wait()
        before = self.generation()
        self.good('try', name, 'k', '--cost', '4')
        self.wait_until(lambda: self.generation() > before)
        second.send_signal(signal.SIGTERM)
        self.assertEqual(second.wait(30), 0)
        self.again(name)
        self.assertEqual(self.remaining(name), 6)

    def test_clean_stop_forgives_nothing(self):
        name = self.create(policy='p=10/h burst 10')
        agent = self.agent(name, '--interval', '1h')
        self.wait_until(lambda: self.generation() > 0)
        self.good('try', name, 'k', '--cost', '9')
        agent.send_signal(signal.SIGTERM)
        self.assertEqual(agent.wait(30), 0)
        self.again(name)
        self.assertEqual(self.remaining(name), 1)
        self.good('try', name, 'k')
        self.assertEqual(brim('try', name, 'k').code, REFUSED)

    def test_an_emptied_segment_takes_the_file_over(self):
        """A new segment of the name, made by workers that know no file, does not lose the old."""
        name = self.create(policy='p=10/h burst 10')
        self.good('try', name, 'k', '--cost', '7')
        self.take(name)
        self.good('unlink', name)
        self.good('create', name, '--policy', 'p=10/h burst 10')
        self.good('try', name, 'k')
        self.take(name)
        self.assertEqual(self.remaining(name), 3)


if __name__ == '__main__':
    main()
