#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""brim agent as a service: what it tells systemd, the unit that starts it, what it makes of a file
and what it leaves alone. Method: the real binary; this test is the other end of NOTIFY_SOCKET."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile

from support import BRIM, BrimTest, INCOMPATIBLE, main

OTHERS = 65533, 65534  # user ids that no account here needs


class AgentTest(BrimTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.file = os.path.join(self.folder, 's.db')

    def agent(self, name, *options, **more):
        agent = subprocess.Popen([BRIM, 'agent', name, '--file', self.file, *options],
                                 stderr=subprocess.PIPE, **more)
        self.addCleanup(agent.stderr.close)
        self.addCleanup(agent.wait)
        self.addCleanup(agent.kill)
        return agent

    def says(self, agent, words):
        """Reads what it says until a line has the words; returns all lines."""
        lines = []
        for line in agent.stderr:
            lines.append(line.decode())
            if words in lines[-1]:
                return lines
        self.fail(f'the agent ended without {words!r}: {lines}')
        return lines

    def end(self, agent):
        agent.send_signal(signal.SIGTERM)
        self.assertEqual(agent.wait(), 0)

    def listener(self, address):
        own = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(own.close)
        own.bind(address)
        own.settimeout(300)
        return own

    def told(self, own, last):
        """The messages up to one that begins with `last`."""
        messages = []
        while not messages or not messages[-1].startswith(last):
            messages.append(own.recv(65536).decode())
        return messages

    def notifies(self, address, environment):
        own = self.listener(address)
        name = self.create()
        agent = self.agent(name, '--interval', '1h', env=dict(os.environ, **environment))
        first = self.told(own, 'READY=1')
        self.assertRegex(first[0], r'^STATUS=snapshot 1 \(full\): 0 keys')
        self.assertEqual(first[1:], ['READY=1'])
        self.good('try', name, 'k')
        agent.send_signal(signal.SIGTERM)
        last = self.told(own, 'STATUS=')
        self.assertEqual(last[0], 'STOPPING=1')
        self.assertRegex(last[1], r'^STATUS=snapshot 2: 1 keys')
        self.assertEqual(agent.wait(), 0)

    def test_notify_socket_at_a_path(self):
        address = os.path.join(self.folder, 'notify')
        self.notifies(address, {'NOTIFY_SOCKET': address})

    def test_notify_socket_in_the_abstract_space(self):
        address = f'brim-agent-{os.getpid()}'
        self.notifies('\0' + address, {'NOTIFY_SOCKET': '@' + address})

    def test_ready_though_there_is_no_segment_yet(self):
        """Or a service that is started after the agent, and makes the segment, would never be."""
        address = os.path.join(self.folder, 'notify')
        own = self.listener(address)
        agent = self.agent(self.name(), env=dict(os.environ, NOTIFY_SOCKET=address))
        first = self.told(own, 'READY=1')
        self.assertIn('STATUS=segment_not_found', first[0])
        self.end(agent)

    def test_ended_before_its_first_round(self):
        """A worker that ends at once has a last snapshot, too: what it did may be in no other."""
        def pending():
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
            os.kill(os.getpid(), signal.SIGTERM)

        name = self.create()
        self.good('try', name, 'k')
        agent = self.agent(name, preexec_fn=pending)
        self.assertEqual(agent.wait(), 0)
        shown = json.loads(self.good('snapshot', 'show', self.file, '--format', 'json').text)
        self.assertEqual([row['key'] for row in shown['keys']], ['k'])

    def test_ended_though_there_is_no_segment(self):
        name = self.name()
        agent = self.agent(name, '--restore')
        self.says(agent, 'segment_not_found')
        self.end(agent)
        self.assertFalse(os.path.exists('/dev/shm/' + name))

    def test_priorities_for_the_journal(self):
        agent = self.agent(self.name(), env=dict(os.environ, JOURNAL_STREAM='8:1'))
        self.assertTrue(self.says(agent, 'segment_not_found')[0].startswith('<6>'))
        self.end(agent)

    def test_restore_without_a_file_waits(self):
        """An empty segment of default size would be in the way of those who know its policies."""
        name = self.name()
        agent = self.agent(name, '--restore', '--interval', '10ms')
        self.assertIn('segment_not_found', self.says(agent, '')[0])
        self.assertFalse(os.path.exists('/dev/shm/' + name))
        self.good('create', name, '--policy', 'p=5/m', '--capacity', '100')
        self.says(agent, '(full)')
        self.end(agent)

    def test_restore_of_a_damaged_file_waits(self):
        with open(self.file, 'wb') as file:
            file.write(b'no database' * 100)
        name = self.name()
        agent = self.agent(name, '--restore', '--interval', '10ms')
        self.assertIn('it was renamed to', self.says(agent, '')[0])
        self.assertIn('segment_not_found', self.says(agent, '')[0])
        self.assertFalse(os.path.exists('/dev/shm/' + name))
        self.good('create', name, '--policy', 'p=5/m')
        self.says(agent, '(full)')
        self.end(agent)

    def test_restore_gives_the_group_what_it_had(self):
        if os.geteuid() != 0:
            self.skipTest('only root can give files to groups')
        name = self.create('--group', 'www-data')
        self.good('snapshot', 'take', name, '--file', self.file, '--group', 'www-data')
        for options, mode in (('--group', 'www-data'), '0660'), ((), '0600'):
            self.good('unlink', name)
            agent = self.agent(name, '--restore', *options)
            self.says(agent, '(full)')
            info = json.loads(self.good('info', name, '--format', 'json', *options).text)
            self.assertEqual(info['mode'], mode)
            self.end(agent)

    def test_another_users_file_is_left_alone(self):
        """In a directory that two share, one could take the other's file for a damaged one."""
        if os.geteuid() != 0:
            self.skipTest('only root can start processes of others')
        os.chmod(self.folder, 0o777)
        name = self.create()
        self.good('snapshot', 'take', name, '--file', self.file)
        self.good('unlink', name)
        os.chown(self.file, OTHERS[0], OTHERS[0])
        with open(self.file, 'rb') as file:
            before = file.read()
        try:
            agent = self.agent(name, '--restore', user=OTHERS[1], group=OTHERS[1],
                               extra_groups=[])
        except PermissionError:
            self.skipTest('others may not run the binary here')
        self.assertIn('snapshot_foreign_owner', self.says(agent, '')[0])
        agent.kill()
        with open(self.file, 'rb') as file:
            self.assertEqual(file.read(), before)
        self.assertEqual([each for each in os.listdir(self.folder) if 'corrupt' in each], [])

    def test_keys_that_find_no_place_are_kept(self):
        """A segment made by hand, whose policies come later, does not cost the old one's states."""
        name = self.create(policy='p=10/h')
        self.good('try', name, 'k', '--cost', '7')
        self.good('snapshot', 'take', name, '--file', self.file)
        self.good('unlink', name)
        self.good('create', name)
        agent = self.agent(name)
        self.assertIn('1 keys of the earlier segment in ' + self.file + ' found no place',
                      self.says(agent, '')[0])
        self.says(agent, '(full)')
        self.end(agent)
        self.assertEqual(os.stat(self.file + '.1').st_mode & 0o777, 0o600)
        self.good('apply', name, self.policies('p = "10/h"'))
        self.assertIn('restored 1 keys', self.good('restore', name, self.file + '.1').text)

    def policies(self, line):
        path = os.path.join(self.folder, 'p.toml')
        with open(path, 'w', encoding='ascii') as file:
            file.write('[policies]\n' + line + '\n')
        return path

    def test_directories_may_be_links(self):
        """/var/run is one, and /var/lib on some machines; the file itself must not be."""
        os.mkdir(os.path.join(self.folder, 'real'))
        os.symlink('real', os.path.join(self.folder, 'link'))
        self.file = os.path.join(self.folder, 'link', 's.db')
        name = self.create()
        self.good('snapshot', 'take', name, '--file', self.file)
        self.good('snapshot', 'show', self.file)
        inside = dict(cwd=os.path.join(self.folder, 'real'))
        self.good('snapshot', 'show', 's.db', **inside)
        os.symlink('s.db', os.path.join(self.folder, 'real', 't.db'))
        self.bad(INCOMPATIBLE, 'snapshot_symlink', 'snapshot', 'show', 't.db', **inside)

    def unit(self):
        with open(os.environ['BRIM_UNIT'], encoding='ascii') as file:
            return file.read()

    def test_unit_starts_what_there_is(self):
        """ExecStart is a command line that this binary takes."""
        line = re.search(r'(?m)^ExecStart=(\S+)/brim agent (.*)$', self.unit())
        self.assertTrue(line.group(1).startswith('/'))
        self.good('create', name := self.name(), '--policy', 'p=5/m')
        words = line.group(2).replace('%i', name).replace('${STATE_DIRECTORY}', self.folder)
        words = words.replace('$BRIM_AGENT_OPTIONS', '--interval 1h').split()
        agent = subprocess.Popen([BRIM, 'agent', *words], stderr=subprocess.PIPE)
        self.addCleanup(agent.stderr.close)
        self.addCleanup(agent.wait)
        self.addCleanup(agent.kill)
        self.says(agent, 'snapshot 1 (full)')
        self.end(agent)
        self.good('snapshot', 'show', os.path.join(self.folder, name + '.db'))

    def test_unit_hides_no_shared_memory(self):
        unit = re.sub(r'(?m)^#.*$', '', self.unit())
        for word in 'DynamicUser', 'RootDirectory', 'RootImage', 'TemporaryFileSystem', '/dev/shm':
            self.assertNotIn(word, unit)
        self.assertIn('RemoveIPC=no', unit)
        self.assertIn('Type=notify', unit)

    def test_unit_is_one_that_systemd_takes(self):
        analyze = shutil.which('systemd-analyze')
        if analyze is None:
            self.skipTest('systemd-analyze is not installed')
        path = os.path.join(self.folder, 'brim-agent@.service')
        with open(path, 'w', encoding='ascii') as file:
            file.write(re.sub(r'ExecStart=\S+', 'ExecStart=' + BRIM, self.unit()))
        done = subprocess.run([analyze, 'verify', '--man=no', '--recursive-errors=no',
                               path.replace('@', '@api')], capture_output=True, text=True,
                              check=False)
        told = [line for line in done.stderr.splitlines() if 'brim-agent' in line]
        self.assertEqual((done.returncode, told), (0, []), done.stderr)


if __name__ == '__main__':
    main()
