# SPDX-License-Identifier: MIT
"""Goal: `brim verify` tells damage by its exit code and in every format, changes nothing without
--repair, and leaves a clean segment with it. Method: bytes are planted in the files of live
segments; offsets are those of shm/layout.h."""
import json
import os
import re
import struct

from support import FAILURE, INCOMPATIBLE, NO_SEGMENT, USAGE, BrimTest, brim, main, sections

SLOTS = 4  # SectionType::kSlots
FREE = struct.pack('<QQ', 1, 0)


class Verify(BrimTest):
    def segment(self, *options):
        name = self.create('--capacity', '256', *options)
        self.fill(name, [b'%d' % i for i in range(50)])
        return name

    def slots(self, name):
        """The offset of the slots and their number."""
        with open('/dev/shm/' + name, 'rb') as file:
            header = file.read(1024)
        for kind, offset, count in sections(header):
            if kind == SLOTS:
                return offset, count
        raise AssertionError('no slots')

    def read(self, name):
        offset, count = self.slots(name)
        with open('/dev/shm/' + name, 'rb') as file:
            file.seek(offset)
            return [struct.unpack('<QQ', file.read(16)) for _ in range(count)]

    def plant(self, name, slot, *words):
        with open('/dev/shm/' + name, 'r+b') as file:
            file.seek(self.slots(name)[0] + 16 * slot)
            file.write(struct.pack('<QQ', *words))

    def first(self, name, used):
        return next(i for i, (id_, _) in enumerate(self.read(name)) if (id_ > 1) == used)

    def test_clean(self):
        name = self.segment()
        result = self.good('verify', name)
        self.assertIn('50 in use; 50 known by name and found in their place, 0 unchecked',
                      result.text)
        self.assertIn('0 errors, 0 warnings, 0 notes; 0 repaired', result.text)
        report = json.loads(self.good('verify', name, '--format', 'json').out)
        self.assertEqual((report['findings'], report['used'], report['checked'], report['errors']),
                         ([], 50, 50, 0))
        self.assertEqual(self.good('verify', name, '--format', 'csv').text.count('\n'), 1)
        self.assertIn('50 unchecked', self.good('verify', self.segment('--name-bytes', '0')).text)

    def test_error_repair_and_clean_again(self):
        name = self.segment()
        slot = self.first(name, True)
        self.plant(name, slot, self.read(name)[slot][0], (1 << 63) - 1)
        with open('/dev/shm/' + name, 'rb') as file:
            before = file.read()
        for form in ['table', 'json', 'csv']:
            result = brim('verify', name, '--format', form)
            self.assertEqual((result.code, result.err), (FAILURE, b''))
            self.assertIn('impossible_word', result.text)
            self.plain(result.out, b'\r\n')
        with open('/dev/shm/' + name, 'rb') as file:
            self.assertEqual(file.read(), before)
        result = self.good('verify', name, '--repair', '--format', 'json')
        report = json.loads(result.out)
        self.assertEqual((report['errors'], report['errors_remaining'], report['repaired']),
                         (1, 0, 1))
        finding = report['findings'][0]
        self.assertEqual((finding['slot'], finding['policy'], finding['repaired']),
                         (slot, 'p', True))
        self.assertRegex(finding['key'], r'^\d+$')
        self.assertRegex(finding['fingerprint'], r'^[0-9a-f]{13}$')
        self.assertIn('0 errors', self.good('verify', name).text)
        self.assertRegex(self.good('info', name).text, r'healed +1 ')

    def test_notes_and_warnings_are_no_failure(self):
        name = self.segment('--name-bytes', '0')
        used, slots = self.first(name, True), self.read(name)
        other = next(i for i, slot in enumerate(slots) if slot == (0, 0) and i // 4 != used // 4)
        self.plant(name, other, *slots[used])
        result = self.good('verify', name)
        self.assertIn('suspect_copy', result.text)
        self.assertIn('1 warnings', result.text)
        self.assertEqual(brim('verify', name, '--strict').code, FAILURE)
        self.plant(name, other, slots[used][0], 1 << 63)
        result = self.good('verify', name, '--strict')
        self.assertIn('dead_tentative', result.text)

    def test_what_is_left_fails(self):
        name = self.segment()
        path = '/dev/shm/' + name
        with open(path, 'r+b') as file:
            text = file.read().index(b'1/h burst 1000')
            file.seek(text)
            file.write(b'\x1b[2J')
        result = brim('verify', name, '--repair')
        self.assertEqual(result.code, FAILURE)
        self.assertIn('policy_text_invalid', result.text)
        self.assertIn('brim change', result.text)
        self.plain(result.out)

    def test_limit(self):
        name = self.segment()
        for slot in range(8):
            self.plant(name, slot, 1, 5)
        result = brim('verify', name, '--limit', '3')
        self.assertEqual(result.code, FAILURE)
        self.assertEqual(len(re.findall(r'(?m)^error +malformed_slot', result.text)), 3)
        self.assertIn('8 findings', result.message)
        self.assertIn('8 errors', result.text)
        report = json.loads(brim('verify', name, '--limit', '3', '--format', 'json').out)
        self.assertEqual((len(report['findings']), report['more'], report['errors']), (3, True, 8))

    def test_hostile_key(self):
        name = self.create('--capacity', '64')
        self.fill(name, [b'\x1b]0;x\x07=",\n\xff'])
        slot = self.first(name, True)
        self.plant(name, slot, self.read(name)[slot][0], (1 << 63) - 1)
        for form in ['table', 'json', 'csv']:
            result = brim('verify', name, '--format', form)
            self.plain(result.out, b'\r\n')
            self.assertIn('%1B]0;x%07', result.text)

    def test_what_can_not_be_attached(self):
        self.bad(NO_SEGMENT, 'segment_not_found', 'verify', self.name())
        name = self.segment()
        self.bad(USAGE, 'invalid_option', 'verify', name, '--memory', 'x')
        os.truncate('/dev/shm/' + name, 4096)
        for args in [[], ['--repair'], ['--format', 'json']]:
            self.bad(INCOMPATIBLE, 'segment_size_mismatch', 'verify', name, *args)


if __name__ == '__main__':
    main()
