# SPDX-License-Identifier: MIT
"""Goal: looking at a segment changes nothing in it (F20), and whatever bytes a segment file holds
the command answers with a sentence and never crashes (F16, P7). Method: the files themselves are
compared, replaced, cut and altered under the real binary."""
import grp
import json
import os
import random
import stat
import struct
import subprocess

from support import (BRIM, FAILURE, INCOMPATIBLE, NO_SEGMENT, OK, REFUSED, USAGE, BrimTest, brim,
                     main, sections)

LOOKS = [['info'], ['info', '--format', 'json'], ['info', '--format', 'csv'], ['dump'],
         ['dump', '--format', 'json', '--state', 'all'], ['dump', '--format', 'csv']]


def looks_at(name):
    for first, *more in LOOKS:
        yield [first, name, *more]
    yield ['try', name, 'k', '--peek', '--policy', 'p']
    yield ['try', name, 'k', '--peek']


class ReadOnly(BrimTest):
    def test_looking_changes_no_byte_and_no_time(self):
        name = self.create()
        self.fill(name, [b'%d' % i for i in range(200)])
        path = '/dev/shm/' + name
        with open(path, 'rb') as file:
            before, times = file.read(), os.stat(path)
        for args in [['list'], *looks_at(name)]:
            self.good(*args)
        with open(path, 'rb') as file:
            self.assertEqual(file.read(), before)
        self.assertEqual((os.stat(path).st_mtime_ns, os.stat(path).st_ctime_ns),
                         (times.st_mtime_ns, times.st_ctime_ns))

    def test_looking_works_where_writing_is_forbidden(self):
        # Root may write anything, so the command runs as somebody else if the test is root.
        name = self.create()
        self.fill(name, [b'k'])
        path = '/dev/shm/' + name
        as_user = {}
        if os.geteuid() == 0:
            os.chown(path, 65534, 65534)
            as_user = {'user': 65534, 'group': 65534, 'extra_groups': []}
            try:
                self.assertEqual(brim('--version', **as_user).code, OK)
            except OSError:
                self.skipTest('another user can not run this build')
        os.chmod(path, 0o400)
        for args in [['list'], *looks_at(name)]:
            self.good(*args, **as_user)
        self.bad(FAILURE, ['permission_denied', path], 'try', name, 'k', '--policy', 'p', **as_user)
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o400)

    def stopped_dump(self, name):
        """A dump that waits in the middle because nobody reads its output."""
        process = subprocess.Popen([BRIM, 'dump', name, '--format', 'json'], bufsize=0,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        process.stdout.read(1)
        return process

    def filled(self):
        name = self.create('--capacity', '16k')
        self.fill(name, [b'%040d' % i for i in range(6000)])
        return name

    def test_mapping_is_read_only(self):
        name = self.filled()
        process = self.stopped_dump(name)
        with open(f'/proc/{process.pid}/maps') as maps:
            modes = [line.split()[1] for line in maps if '/dev/shm/' + name in line]
        process.communicate()
        self.assertNotEqual(modes, [])
        self.assertEqual(set(modes), {'r--s'})

    def test_cut_while_it_is_read(self):
        name = self.filled()
        process = self.stopped_dump(name)
        os.truncate('/dev/shm/' + name, 4096)
        _, errors = process.communicate()
        self.assertEqual(process.returncode, NO_SEGMENT, errors)
        self.assertTrue(errors.startswith(b'brim: segment_truncated: '), errors)
        self.assertEqual(errors.count(b'\n'), 1)

    def test_removed_while_it_is_read(self):
        name = self.filled()
        process = self.stopped_dump(name)
        os.unlink('/dev/shm/' + name)
        out, errors = process.communicate()
        self.assertEqual((process.returncode, errors), (OK, b''))
        self.assertEqual(json.loads(b'{' + out)['count'], 6000)


class Foreign(BrimTest):
    def test_owner_is_trusted_only_on_request(self):
        if os.geteuid() != 0:
            self.skipTest('needs root to make a segment of another user')
        name = self.create()
        os.chown('/dev/shm/' + name, 65533, 65533)
        self.bad(FAILURE, ['segment_foreign_owner', '65533'], 'try', name, 'k')
        self.good('try', name, 'k', '--owner', '65533')
        self.good('try', name, 'k', '--owner', '65533', '--peek')
        self.good('info', name)  # root reads everybody's
        self.good('dump', name, '--owner', '65533')

    def test_group_is_trusted_only_on_request(self):
        if os.geteuid() != 0:
            self.skipTest('needs root to make a segment of another user')
        group = grp.getgrnam('daemon')
        name = self.create()
        os.chown('/dev/shm/' + name, 65533, group.gr_gid)
        os.chmod('/dev/shm/' + name, 0o660)
        member = {'user': 65534, 'group': 65534, 'extra_groups': [group.gr_gid]}
        try:
            self.assertEqual(brim('--version', **member).code, OK)
        except OSError:
            self.skipTest('another user can not run this build')
        for args in [*looks_at(name), ['try', name, 'k']]:
            self.bad(FAILURE, 'segment_foreign_owner', *args, **member)
            self.good(*args, '--group', 'daemon', **member)

    def test_a_segment_open_to_others_is_refused(self):
        name = self.create()
        os.chmod('/dev/shm/' + name, 0o666)
        for args in looks_at(name):
            self.bad(FAILURE, ['segment_unsafe_mode', '0666', 'chmod'], *args)


class Damaged(BrimTest):
    def refuse_all(self, name, error):
        for args in [*looks_at(name), ['try', name, 'k'], ['try', name, 'k', '--policy', 'p'],
                     ['create', name, '--if-missing']]:
            result = self.bad(INCOMPATIBLE, error, *args)
            self.assertEqual(result.out, b'', args)
        self.good('list')

    def test_files_that_are_no_segment(self):
        whole = self.create()
        with open('/dev/shm/' + whole, 'rb') as file:
            content = file.read()
        generator = random.Random(10)
        for error, damaged in [
                ('segment_truncated', b''),
                ('segment_truncated', content[:100]),
                ('segment_size_mismatch', content[:4096]),
                ('segment_size_mismatch', content[:-1]),
                ('segment_size_mismatch', content + b'\0'),
                ('segment_bad_magic', bytes(len(content))),
                ('segment_bad_magic', generator.randbytes(8192)),
                ('segment_bad_magic', b'\xff' * 8192)]:
            name = self.name()
            with open('/dev/shm/' + name, 'wb') as file:
                os.fchmod(file.fileno(), 0o600)
                file.write(damaged)
            self.refuse_all(name, error)
            with open('/dev/shm/' + name, 'rb') as file:
                self.assertEqual(file.read(), damaged)

    def test_things_that_are_no_file(self):
        for make in [os.mkdir, os.mkfifo, lambda path: os.symlink('/dev/zero', path)]:
            name = self.name()
            make('/dev/shm/' + name)
            for args in [*looks_at(name), ['try', name, 'k'], ['unlink', name]]:
                self.bad(INCOMPATIBLE, 'segment_not_regular', *args)

    def test_header_fields(self):
        # Offsets are those of HeaderFields in shm/layout.h.
        for error, offset, form, value in [
                ('segment_bad_magic', 0, '<Q', 1),
                ('segment_version_mismatch', 8, '<I', 99),
                ('segment_endian_mismatch', 12, '<I', 0x04030201),
                ('segment_unknown_feature', 16, '<Q', 1 << 63),
                ('segment_size_mismatch', 32, '<Q', 1 << 62),
                ('segment_corrupt', 40, '<I', 0),
                ('segment_corrupt', 44, '<I', 0xffffffff),
                ('segment_other_boot', 64, '<Q', 1),
                ('segment_corrupt', 116, '<I', 9),
                ('segment_corrupt', 120, '<I', 9),
                ('segment_corrupt', 124, '<I', 256),
                ('segment_corrupt', 136, '<Q', 1 << 60),
                ('segment_corrupt', 144, '<I', 0),
                ('segment_corrupt', 148, '<I', 0xfffffff0),
                ('segment_corrupt', 152, '<I', 0),
                ('segment_corrupt', 368 + 8, '<Q', 1 << 63),
                ('segment_corrupt', 368 + 16, '<Q', 1 << 60)]:
            name = self.create('--capacity', '64')
            with open('/dev/shm/' + name, 'r+b') as file:
                file.seek(offset)
                file.write(struct.pack(form, value))
            self.refuse_all(name, error)
            # The remedy the messages give, where the file is a segment still.
            if error == 'segment_bad_magic':
                self.bad(INCOMPATIBLE, error, 'create', name, '--recreate')
            else:
                self.good('create', name, '--recreate', '--policy', 'p=1/s')
                self.good('try', name, 'k')

    def test_a_policy_of_hostile_name_and_text(self):
        name = self.create('--capacity', '64')
        self.good('try', name, 'k')
        path = '/dev/shm/' + name
        with open(path, 'r+b') as file:
            content = file.read()
            _, record, _ = next(sections(content))
            file.seek(record + 16)
            file.write(b'\x1b]0;x\x07"\\,\n\xff\0')
            text = content.index(b'1/h burst 1000')
            file.seek(text)
            file.write(b'\x1b[2J"\\\n\x9b')
        for args in looks_at(name):
            result = brim(*args)
            self.assertIn(result.code, [OK, USAGE])
            self.plain(result.out + result.err, b'\r\n')
            if 'json' in args:
                json.loads(result.out)

    def test_altered_bytes_never_crash_a_reader(self):
        name = self.create('--capacity', '256', '--policy', 'q=5/s burst 9')
        self.fill(name, [b'%d' % i for i in range(150)])
        path = '/dev/shm/' + name
        with open(path, 'rb') as file:
            content = file.read()
        generator = random.Random(7)
        # Headers, policy records, the slots and their names; most of the file is counters.
        parts = [(0, 1408), (1408, 4096), (len(content) - 256 * 80, len(content))]
        answers = {OK, FAILURE, USAGE, INCOMPATIBLE, REFUSED}
        for round_ in range(40):
            damaged = bytearray(content)
            low, high = parts[round_ % len(parts)]
            for _ in range(generator.choice([1, 4, 64, 1000])):
                damaged[generator.randrange(low, high)] = generator.randrange(256)
            with open(path, 'r+b') as file:
                file.write(damaged)
            for args in [['info', name, '--format', 'json'],
                         ['dump', name, '--format', 'json', '--state', 'all'], ['dump', name],
                         ['try', name, 'k', '--policy', 'p', '--peek'],
                         ['try', name, 'k', '--policy', 'q'], ['list']]:
                result = brim(*args)
                self.assertIn(result.code, answers, (round_, args, result.message))
                self.plain(result.out + result.err)
                if 'json' in args and result.code == OK:
                    json.loads(result.out)


if __name__ == '__main__':
    main()
