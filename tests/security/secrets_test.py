# SPDX-License-Identifier: MIT
"""Goal: the hash key of a segment, with which one can choose colliding keys, is in nothing that the
command prints; no option takes a secret, since every local user can read a command line; and the
segment is left out of a process's core dump.

Method: reads the key from the segment's bytes and looks for it, in the ways one writes bytes, in
all output of all commands; reads the VmFlags of a process that has the segment attached. That no
other memory of a process holds the key is tests/segment/secret_test.cc.
"""
import base64
import os
import re
import unittest

from support import BrimTest, brim, main

KEY_AT, SECRET_AT = 160, 176  # as layout.h asserts


def spellings(secret):
    """The bytes and each half as text might show them."""
    found = [secret, base64.b64encode(secret).rstrip(b'='), repr(secret).encode()[2:-1]]
    for part in [secret, secret[:8], secret[8:16]]:
        for one in [part, part[::-1]]:
            found += [one.hex().encode(), b' '.join(b'%02x' % byte for byte in one),
                      b','.join(b'%d' % byte for byte in one)]
        for order in ['little', 'big']:
            found.append(b'%d' % int.from_bytes(part, order))
            found.append(b'%d' % int.from_bytes(part, order, signed=True))
    return [one.lower() for one in found]


class Secrets(BrimTest):
    def test_in_no_output(self):
        for kind in ['siphash', 'xxh3']:
            name = self.create('--hash', kind)
            self.fill(name, [b'key%d' % i for i in range(50)])
            with open('/dev/shm/' + name, 'rb') as file:
                image = file.read(4096)
            wanted = []
            for at in [KEY_AT, SECRET_AT]:
                self.assertGreater(len(set(image[at:at + 16])), 3, 'not random at all')
                wanted += spellings(image[at:at + 16])
            output = b''
            for form in ['table', 'json', 'csv']:
                for args in [['info', name], ['dump', name, '--state', 'all'], ['list'],
                             ['try', name, 'key1'], ['try', name, 'key1', '--peek']]:
                    result = brim(*args, '--format', form)
                    output += result.out + result.err
            os.chmod('/dev/shm/' + name, 0o666)
            for damage in [[], [8], [16], [40], [64]]:
                for at in damage:
                    with open('/dev/shm/' + name, 'r+b') as file:
                        file.seek(at)
                        file.write(b'\xee')
                    os.chmod('/dev/shm/' + name, 0o600)
                for command in ['info', 'dump', 'create']:
                    result = brim(command, name)
                    output += result.out + result.err
            self.assertGreater(len(output), 5000)
            for one in wanted:
                self.assertNotIn(one, output.lower())
            uuid = re.search(rb'[0-9a-f]{32}', output)
            self.assertIsNotNone(uuid, 'what is printed in hexadecimal would be found')

    def test_no_option_takes_a_secret(self):
        help_text = self.good('--help').text
        commands = re.findall(r'^  ([a-z]+) {3}', help_text.split('Subcommands:')[1], re.M)
        self.assertGreater(len(commands), 9)
        for command in commands:
            text = self.good(command, '--help').text
            for option in re.findall(r'--[\w-]+', text):
                if option.endswith('-file'):
                    continue  # where the secret is, for whoever may read it
                self.assertNotRegex(option, r'secret|seed|passw|token|credential|hash-key')
        # A key need not be on the command line either.
        self.assertIn('--key-file', self.good('try', '--help').text)

    def test_segment_is_left_out_of_core_dumps(self):
        name = self.create()
        holder = self.hold(name)
        with open(f'/proc/{holder.pid}/smaps', encoding='ascii') as file:
            text = file.read()
        mappings = re.findall(rf'/dev/shm/{name}\n(?:.*\n)*?VmFlags:(.*)', text)
        self.assertEqual(len(mappings), 1, text)
        self.assertIn('dd', mappings[0].split())
        self.assertNotIn('ex', mappings[0].split())


if __name__ == '__main__':
    main()
