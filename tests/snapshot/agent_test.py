#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""F45, F46, F47, F50: brim agent as a process that is killed, stopped, and robbed of its disk.

Each test begins with its goal; `brim snapshot show` checks all sums of a file before it prints.
BRIM_TEST_SLOW=1 asks for the long variants.
"""
import json
import os
import random
import resource
import signal
import sqlite3
import stat
import subprocess
import tempfile
import threading
import time

from support import BRIM, BrimTest, FAILURE, INCOMPATIBLE, brim, main

SLOW = 'BRIM_TEST_SLOW' in os.environ


class Lines:
    """What a pipe gives, read by a thread as it comes."""

    def __init__(self, pipe):
        self.lines = []
        self._thread = threading.Thread(target=self._read, args=[pipe], daemon=True)
        self._thread.start()

    def _read(self, pipe):
        for line in pipe:
            self.lines.append(line)

    def join(self):
        self._thread.join(60)


class AgentTest(BrimTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(dir='/dev/shm')
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.file = os.path.join(self.folder, 's.db')

    def agent(self, name, *options, **more):
        """A running agent; `said` grows by what it says."""
        agent = subprocess.Popen([BRIM, 'agent', name, '--file', self.file, '--synchronous', 'off',
                                  *options], stderr=subprocess.PIPE, **more)
        agent.said = Lines(agent.stderr)
        self.addCleanup(self.end, agent)
        return agent

    def end(self, agent, how=signal.SIGKILL):
        if agent.poll() is None:
            agent.send_signal(how)
            agent.send_signal(signal.SIGCONT)
        code = agent.wait(60)
        agent.said.join()
        agent.stderr.close()
        return code

    def wait_until(self, true):
        for _ in range(3000):
            if true():
                return
            time.sleep(0.02)
        self.fail('it did not come to pass')

    def show(self, file=None):
        return json.loads(self.good('snapshot', 'show', file or self.file, '--format',
                                    'json').text)

    def generation(self):
        done = brim('snapshot', 'show', self.file, '--format', 'json')
        return json.loads(done.text)['generation'] if done.code == 0 else 0

    def info(self, name):
        return json.loads(self.good('info', name, '--format', 'json').text)

    def remaining(self, name, key='k', policy='p'):
        out = self.good('try', name, key, '--policy', policy, '--peek', '--cost', '0', '--format',
                        'json').text
        return json.loads(out)['remaining']

    def test_killed_at_random_moments(self):
        """F45: after kill -9 the file passes all checks, and is as new as the agent ever said."""
        name = self.create('--capacity', '20000', policy='p=24/d burst 1000')
        self.fill(name, [b'key%d' % i for i in range(3000)])
        chance = random.Random()
        last = 0
        rounds = 1000 if SLOW else 25
        for _ in range(rounds):
            agent = self.agent(name, '--interval', '10ms')
            for _ in range(chance.randrange(4)):
                self.fill(name, [b'key%d' % chance.randrange(3000) for _ in range(300)])
            time.sleep(chance.random() * 0.06)
            self.end(agent)
            told = [int(line.split()[3].rstrip(b':')) for line in agent.said.lines
                    if b': snapshot ' in line]
            last = max([last, *told])
            shown = brim('snapshot', 'show', self.file, '--format', 'json')
            if last == 0 and shown.code != 0:
                continue  # killed before its first snapshot
            self.assertEqual(shown.code, 0, shown.message)
            generation = json.loads(shown.text)['generation']
            self.assertGreaterEqual(generation, last)
            last = generation
        self.assertGreater(last, rounds / 4)
        self.assertEqual([each for each in os.listdir(self.folder) if 'corrupt' in each], [])

    def failing(self, name, words, agent):
        """The agent fails, says why, counts it, and waits longer; workers notice nothing."""
        self.fill(name, [b'more%d' % i for i in range(5000)])
        self.wait_until(lambda: self.info(name).get('snapshot_failures', 0) >= 2)
        self.assertTrue(any(words in line for line in agent.said.lines), agent.said.lines)
        self.assertEqual(self.fill(name, [b'worker%d' % i for i in range(100)]), 100)
        before, failed = self.show(), self.info(name)['snapshot_failures']
        told = len(agent.said.lines)
        self.assertLess(before['rows'], 5000)
        self.wait_until(lambda: self.info(name)['snapshot_failures'] > failed)
        self.assertEqual(self.show(), before)
        self.assertEqual(len(agent.said.lines), told, 'it is told once, however often it happens')
        self.assertIsNone(agent.poll())
        return before

    def recovers(self, name, before):
        """Without anyone's help: the next snapshot is whole, and holds what was missed."""
        self.wait_until(lambda: self.generation() > before['generation'])
        self.wait_until(lambda: self.info(name).get('snapshot_failures', 0) == 0)
        self.assertGreater(self.show()['rows'], 5000)

    def mounted(self, *options):
        if os.geteuid() != 0:
            self.skipTest('only root can mount')
        folder = os.path.join(self.folder, 'mounted')
        os.mkdir(folder)
        if subprocess.run(['mount', '-t', 'tmpfs', *options, 'tmpfs', folder],
                          stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.skipTest('mount is not allowed here')
        self.addCleanup(subprocess.run, ['umount', '-l', folder], check=True)
        self.file = os.path.join(folder, 's.db')
        return folder

    def started(self, policy='p=24/d burst 1000', **more):
        name = self.create('--capacity', '20000', policy=policy)
        self.fill(name, [b'first'])
        agent = self.agent(name, '--interval', '50ms', **more)
        self.wait_until(lambda: self.generation() > 0)
        return name, agent

    def test_full_disk(self):
        """F46: the last snapshot stays, the agent tries again and recovers."""
        folder = self.mounted('-o', 'size=400k')
        name, agent = self.started()
        before = self.failing(name, b'snapshot_no_space', agent)
        subprocess.run(['mount', '-o', 'remount,size=64m', folder], check=True)
        self.recovers(name, before)

    def test_read_only_file_system(self):
        """F46: the same where the file system turned read-only."""
        folder = self.mounted()
        name, agent = self.started()
        self.end(agent, signal.SIGTERM)
        subprocess.run(['mount', '-o', 'remount,ro', folder], check=True)
        agent = self.agent(name, '--interval', '50ms')
        before = self.failing(name, b'snapshot_unwritable', agent)
        other = self.name()  # a file that nobody can write to is good to restore from
        self.good('create', other, '--restore', self.file)
        subprocess.run(['mount', '-o', 'remount,rw', folder], check=True)
        self.recovers(name, before)

    def test_error_of_the_device(self):
        """F46: a write that fails as on a broken disk; here beyond a limit on the file's size."""
        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (300000, resource.RLIM_INFINITY))
        name, agent = self.started(preexec_fn=limited)
        before = self.failing(name, b'snapshot_io', agent)
        resource.prlimit(agent.pid, resource.RLIMIT_FSIZE,
                         (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self.recovers(name, before)

    def test_locked_by_another_program(self):
        """F50: a program that holds the file is waited for, then told of; later all goes on."""
        name, agent = self.started()
        self.end(agent, signal.SIGTERM)
        other = sqlite3.connect(self.file, isolation_level=None)
        other.execute('BEGIN EXCLUSIVE')
        self.fill(name, [b'meanwhile'])
        self.bad(FAILURE, 'snapshot_busy', 'snapshot', 'take', name, '--file', self.file,
                 '--busy-timeout', '50ms')
        agent = self.agent(name, '--interval', '50ms', '--busy-timeout', '20ms')
        self.wait_until(lambda: any(b'snapshot_busy' in line for line in agent.said.lines))
        before = self.show()
        self.assertGreater(self.info(name)['snapshot_failures'], 0)
        other.execute('ROLLBACK')
        other.close()
        self.wait_until(lambda: self.generation() > before['generation'])
        self.assertEqual(self.show()['rows'], 2)

    def test_paths_that_are_no_file(self):
        """F50: links, folders and pipes are refused by name, never followed, never waited for."""
        name = self.create()
        target = os.path.join(self.folder, 'target')
        os.symlink(target, self.file)
        os.mkdir(os.path.join(self.folder, 'folder'))
        os.mkfifo(os.path.join(self.folder, 'fifo'))
        for path, word in [('s.db', 'snapshot_symlink'), ('folder', 'snapshot_not_regular'),
                           ('fifo', 'snapshot_not_regular')]:
            path = os.path.join(self.folder, path)
            before = os.lstat(path)
            for words in [['snapshot', 'show', path], ['restore', name, path],
                          ['create', self.name(), '--restore', path]]:
                self.bad(INCOMPATIBLE, word, *words)
            self.bad(INCOMPATIBLE, word, 'snapshot', 'take', name, '--file', path)
            self.assertEqual(os.lstat(path).st_ino, before.st_ino, 'it was moved')
        self.assertFalse(os.path.exists(target))

    def test_modes_and_owners(self):
        """F50: the file holds the hash key: 0600 whatever it was; of another user it is no good."""
        name = self.create()
        self.good('snapshot', 'take', name, '--file', self.file)
        os.chmod(self.file, 0o666)
        self.good('snapshot', 'take', name, '--file', self.file)
        self.assertEqual(stat.S_IMODE(os.stat(self.file).st_mode), 0o600)
        for umask in (0, 0o777):
            file = os.path.join(self.folder, f'umask{umask}')
            old = os.umask(umask)
            try:
                done = brim('snapshot', 'take', name, '--file', file)
            finally:
                os.umask(old)
            if done.code == 0:
                self.assertEqual(stat.S_IMODE(os.stat(file).st_mode) & 0o077, 0)
        if os.geteuid() != 0:
            self.skipTest('only root can be two users')
        os.chmod(self.folder, 0o777)
        os.chmod(self.file, 0o666)
        os.chown(self.file, 12345, 12345)

        def other():
            os.setgid(23456)
            os.setuid(23456)
        done = brim('snapshot', 'show', self.file, preexec_fn=other)
        self.assertNotEqual(done.code, 0)
        self.assertIn('snapshot_foreign_owner', done.message)

    def test_stopped_agent(self):
        """F47: a stopped leader keeps the lock: its pid is told, nobody overtakes it."""
        name, first = self.started()
        first.send_signal(signal.SIGSTOP)
        second = self.agent(name, '--interval', '50ms')
        words = b'snapshot_not_leader: process %d' % first.pid
        self.wait_until(lambda: any(words in line for line in second.said.lines))
        before = self.generation()
        self.fill(name, [b'while it is stopped'])
        time.sleep(0.3)
        self.assertEqual(self.generation(), before)
        first.send_signal(signal.SIGCONT)
        self.wait_until(lambda: self.generation() > before)
        self.assertEqual(len(second.said.lines), 1, second.said.lines)

    def test_file_removed_under_an_agent(self):
        """F47: the next snapshot is a whole one in a new file; of a lock file nobody depends."""
        name, agent = self.started()
        self.fill(name, [b'key%d' % i for i in range(200)])
        self.wait_until(lambda: brim('snapshot', 'show', self.file).code == 0 and
                        self.show()['rows'] == 201)
        os.unlink(self.file)
        self.fill(name, [b'one more'])
        self.wait_until(lambda: os.path.exists(self.file) and self.generation() > 0 and
                        self.show()['rows'] == 202)
        os.unlink(self.file + '.lock')
        before = self.generation()
        self.fill(name, [b'and another'])
        self.wait_until(lambda: self.generation() > before)
        self.assertEqual(self.end(agent, signal.SIGTERM), 0)
        self.assertEqual(self.show()['rows'], 203)

    def test_resized_under_an_agent(self):
        """What an operator does right after a resize stays: the file is no earlier segment's."""
        name = self.create('--policy', 'vip=48/d burst 2000', policy='p=24/d burst 1000')
        self.good('ban', name, 'banned')
        self.good('override', 'set', name, 'p', 'guest', '--use', 'vip')
        self.good('factor', name, 'p', '0.5')
        for key in ('k', 'other'):
            self.good('try', name, key, '--policy', 'p', '--cost', '400')
        agent = self.agent(name, '--interval', '50ms')
        self.wait_until(lambda: self.generation() > 0 and self.show()['rows'] == 2)
        before = self.show()
        # Stopped, it sees the resize and all that comes after it at once.
        agent.send_signal(signal.SIGSTOP)
        self.good('resize', name, '--capacity', '5000')
        self.good('unban', name, 'banned')
        self.good('override', 'rm', name, 'p', 'guest')
        self.good('factor', name, 'p', '1')
        self.good('reset', name, 'k')
        agent.send_signal(signal.SIGCONT)
        self.wait_until(lambda: self.show()['uuid'] != before['uuid'])
        after = self.show()
        self.assertGreater(after['generation'], before['generation'])
        self.assertEqual((after['overrides'], after['rows']), (0, 1))
        left = json.loads(self.good('override', 'list', name, '--format', 'json').text)
        self.assertEqual(left['overrides'], [])
        live = json.loads(self.good('policy', 'list', name, '--format', 'json').text)['policies']
        self.assertEqual([each['factor_ppm'] for each in live], [1000000, 1000000])
        self.good('try', name, 'banned', '--policy', 'p', '--peek')
        self.assertEqual(self.remaining(name), 1000)
        self.assertEqual(self.remaining(name, 'other'), 600)
        self.assertEqual(self.end(agent, signal.SIGTERM), 0)
        self.assertEqual(self.info(name)['snapshot_generation'], self.generation())
        self.assertFalse(any(b'was removed' in line for line in agent.said.lines), agent.said.lines)

    def test_agent_sweeps(self):
        """agent --sweep frees what has been idle, and nothing that owes."""
        name = self.create('--policy', 'quick=1000/s burst 5', policy='p=10/h burst 10')
        self.fill(name, [b'q%d' % i for i in range(300)], policy='quick')
        self.good('try', name, 'k', '--policy', 'p', '--cost', '4')
        agent = self.agent(name, '--interval', '50ms', '--sweep', '10ms')
        self.wait_until(lambda: any(b'idle keys' in line for line in agent.said.lines))
        self.assertEqual(self.end(agent, signal.SIGTERM), 0)
        self.assertEqual(sum(int(line.split()[3]) for line in agent.said.lines
                             if b'swept ' in line), 300)
        self.assertEqual(self.remaining(name), 6)


if __name__ == '__main__':
    main()
