# SPDX-License-Identifier: MIT
"""Goal: brim doctor finds what is wrong with a machine and with a segment, and says what to do.
Method: the real machine, and made-up ones below a folder (--root); real segments with faults."""
import json
import os
import shutil
import tempfile

from support import FAILURE, OK, USAGE, BrimTest, brim, main

GOOD = {
    'proc/cpuinfo': 'processor : 0\nflags\t\t: fpu cx16 constant_tsc\n',
    'proc/self/mounts': 'tmpfs /dev/shm tmpfs rw,nosuid,nodev 0 0\n',
    'sys/devices/system/clocksource/clocksource0/current_clocksource': 'tsc\n',
    'sys/kernel/mm/transparent_hugepage/shmem_enabled': 'always within_size [advise] never deny\n',
    'sys/fs/cgroup/memory.max': 'max\n',
    'etc/systemd/logind.conf': '[Login]\n#RemoveIPC=yes\n',
}


class Doctor(BrimTest):
    def setUp(self):
        self.root = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, self.root)

    def machine(self, **changed):
        """What is found on a machine with these files; None: without the file."""
        shutil.rmtree(self.root)
        os.makedirs(self.root + '/dev/shm')
        for path, text in {**GOOD, **changed}.items():
            if text is None:
                continue
            os.makedirs(os.path.dirname(os.path.join(self.root, path)), exist_ok=True)
            with open(os.path.join(self.root, path), 'w', encoding='ascii') as file:
                file.write(text)
        return self.findings('--root', self.root, self.create())

    def findings(self, *args):
        done = brim('doctor', '--format', 'json', *args)
        found = json.loads(done.text)['findings']
        bad = any(each['level'] in ('warning', 'error') for each in found)
        self.assertEqual(done.code, FAILURE if bad else OK, done.message)
        for each in found:
            self.assertEqual(each['remedy'] == '', each['level'] == 'ok', each)
        return {each['check']: each for each in found}

    def level(self, check, **changed):
        return self.machine(**changed)[check]['level']

    def test_machines(self):
        good = self.machine(**{'proc/sys/kernel/osrelease': '6.1.0-test\n'})
        self.assertRegex(good['versions']['found'], r'^brim \d+\.\d+\.\d+, Linux 6.1.0-test$')
        self.assertEqual({each['level'] for each in good.values()} - {'ok', 'note'}, set(), good)
        self.assertEqual(good['cpu']['level'], 'ok')
        self.assertEqual(self.level('cpu', **{'proc/cpuinfo': 'flags : fpu\n'}), 'error')
        source = 'sys/devices/system/clocksource/clocksource0/current_clocksource'
        self.assertEqual(good['clocksource']['level'], 'ok')
        self.assertEqual(self.level('clocksource', **{source: 'hpet\n'}), 'note')
        self.assertEqual(self.level('clocksource', **{source: None}), 'note')
        mounts = 'proc/self/mounts'
        self.assertEqual(good['shm_mount']['level'], 'ok')
        self.assertEqual(self.level('shm_mount', **{mounts: '/dev/sda / ext4 rw 0 0\n'}), 'warning')
        self.assertEqual(self.level('shm_mount', **{mounts: 'x /dev/shm ext4 rw 0 0\n'}), 'warning')
        self.assertEqual(self.level('shm_mount', **{mounts: 't /dev/shm tmpfs nodev,ro 0 0\n'}),
                         'error')
        self.assertEqual(good['memory_limit']['level'], 'ok')
        limited = self.machine(**{'sys/fs/cgroup/memory.max': '536870912\n'})['memory_limit']
        self.assertEqual(limited['level'], 'note')
        self.assertIn('512', limited['found'])
        pages = 'sys/kernel/mm/transparent_hugepage/shmem_enabled'
        self.assertEqual(good['huge_pages']['level'], 'ok')
        self.assertEqual(self.level('huge_pages', **{pages: 'always [never] deny\n'}), 'note')
        self.assertEqual(self.level('huge_pages', **{pages: '] odd ['}), 'note')

    def test_logind(self):
        self.assertEqual(self.level('remove_ipc'), 'ok')  # no systemd
        running = {'run/systemd/system/x': ''}
        self.assertEqual(self.level('remove_ipc', **running), 'note')
        later = {**running, 'etc/systemd/logind.conf.d/a.conf': '[Login]\nRemoveIPC=no\n'}
        self.assertEqual(self.level('remove_ipc', **later), 'ok')
        last = {**later, 'etc/systemd/logind.conf.d/b.conf': '[Login]\nRemoveIPC=yes\n'}
        self.assertEqual(self.level('remove_ipc', **last), 'note')

    def test_hostile_files(self):
        odd = ''.join(map(chr, range(1, 127)))
        self.plain(brim('doctor', '--root', self.root).out)
        self.machine(**{path: odd * 100 for path in GOOD})
        self.plain(brim('doctor', '--root', self.root).out)

    def test_segments(self):
        name = self.create('--capacity', '64')
        found = self.findings(name)
        self.assertEqual(found['occupancy']['level'], 'ok')
        self.assertEqual(found['snapshot']['level'], 'note')
        self.assertNotIn('evictions', found)
        self.fill(name, [b'%d' % i for i in range(1000)])
        found = self.findings(name)
        self.assertEqual(found['occupancy']['level'], 'warning')
        self.assertIn('brim resize', found['occupancy']['remedy'])
        self.assertEqual(found['evictions']['level'], 'warning')

    def test_paused(self):
        name = self.create()
        self.assertNotIn('paused', self.findings(name))
        self.assertEqual(brim('pause', name).code, OK)
        self.assertEqual(self.findings(name)['paused']['level'], 'warning')

    def test_full_table(self):
        name = self.create('--capacity', '64', '--on-full', 'deny')
        self.fill(name, [b'%d' % i for i in range(1000)])
        found = self.findings(name)
        self.assertEqual(found['table_full']['level'], 'warning')
        self.assertIn('admitted', found['undecided']['found'])

    def test_dead_process(self):
        name = self.create()
        holder = self.hold(name)
        self.assertIn('1 processes', self.findings(name)['attached']['found'])
        holder.kill()
        holder.wait()
        self.assertEqual(self.findings(name)['stale_attachments']['level'], 'note')

    def test_segments_that_can_not_be_attached(self):
        name = self.create()
        with open('/dev/shm/' + name, 'r+b') as file:
            file.seek(8)
            file.write(b'\xff\xff\xff\xff')  # the layout's version
        found = self.findings(name)
        self.assertEqual(found['attach']['level'], 'error')
        self.assertIn(f'brim doctor', self.good('doctor', '--help').text)
        everything = brim('doctor')
        self.assertIn(name, everything.text)
        self.assertEqual(everything.code, FAILURE)
        missing = self.findings(self.name())
        self.assertIn('segment_not_found', missing['attach']['found'])

    def test_formats(self):
        name = self.create()
        self.assertIn('LEVEL', brim('doctor', name).text)
        self.assertIn('level,subject,check', brim('doctor', name, '--format', 'csv').text)
        self.bad(USAGE, 'xml', 'doctor', '--format', 'xml')


if __name__ == '__main__':
    main()
