# SPDX-License-Identifier: MIT
"""What the tests of the brim command share: running it, and segments that go away by themselves."""
import os
import struct
import subprocess
import sys
import unittest

BRIM = os.environ['BRIM_TOOL']
FILL = os.environ['BRIM_FILL']
LOAD = os.environ.get('BRIM_LOAD', '')
TIER = os.environ.get('BRIM_TIER_SEGMENT', '')

OK, FAILURE, USAGE, NO_SEGMENT, INCOMPATIBLE, REFUSED = 0, 1, 2, 3, 4, 75


def address_sanitizer():
    """Whether the command was built with it: it keeps freed memory, and much of its own."""
    with open(BRIM, 'rb') as file:
        return b'__asan_init' in file.read()


class Result:
    def __init__(self, done):
        self.code = done.returncode
        self.out = done.stdout or b''
        self.err = done.stderr
        # What was changed is told there, too.
        lines = done.stderr.splitlines(True)
        self.audit = [line[13:-1].decode('ascii', 'backslashreplace') for line in lines
                      if line.startswith(b'brim: audit: ')]
        self.complaint = b''.join(line for line in lines if not line.startswith(b'brim: audit: '))
        self.text = self.out.decode('ascii', 'backslashreplace')
        self.message = self.complaint.decode('ascii', 'backslashreplace')


def brim(*args, stdin=b'', **more):
    """Runs the command; arguments may be str or bytes."""
    more.setdefault('stdout', subprocess.PIPE)
    return Result(subprocess.run([BRIM, *args], input=stdin, stderr=subprocess.PIPE, **more))


def packed(keys):
    return b''.join(struct.pack('<I', len(key)) + key for key in keys)


def sections(header):
    """Type, offset and count of each section that a segment's header names: shm/layout.h."""
    for at in range(368, 368 + 16 * 24, 24):
        kind, _, offset, count = struct.unpack_from('<IIQQ', header, at)
        yield kind, offset, count


class BrimTest(unittest.TestCase):
    made = 0

    def name(self):
        """A fresh segment name, removed at the end of the test."""
        BrimTest.made += 1
        name = f'brim-tools-{os.getpid()}-{BrimTest.made}'
        self.addCleanup(self.remove, '/dev/shm/' + name)
        return name

    def remove(self, path):
        if os.path.lexists(path):
            is_directory = os.path.isdir(path) and not os.path.islink(path)
            (os.rmdir if is_directory else os.unlink)(path)

    def create(self, *options, policy='p=1/h burst 1000'):
        name = self.name()
        self.good('create', name, '--policy', policy, *options)
        return name

    def good(self, *args, **more):
        result = brim(*args, **more)
        self.assertEqual(result.code, OK, (args, result.message))
        self.assertEqual(result.complaint, b'', args)
        return result

    def bad(self, code, words, *args, **more):
        """Fails with this code and one sentence on standard error that has all the words."""
        result = brim(*args, **more)
        self.assertEqual(result.code, code, (args, result.message))
        self.assertTrue(result.message.startswith('brim: '), (args, result.message))
        self.assertEqual(result.message.count('\n'), 1, (args, result.message))
        self.plain(result.err)
        for word in [words] if isinstance(words, str) else words:
            self.assertIn(word, result.message, args)
        return result

    def plain(self, output, allowed=b'\n'):
        """No byte a terminal could take for a command."""
        strange = {byte for byte in output if not 0x20 <= byte <= 0x7e and byte not in allowed}
        self.assertEqual(strange, set(), output[:200])

    def fill(self, name, keys, policy='p'):
        done = subprocess.run([FILL, name, policy], input=packed(keys), stdout=subprocess.PIPE,
                              check=True)
        return int(done.stdout)

    def tier(self, name, *fields):
        """Leaves in the segment what an agent would: see tier_segment.cc."""
        subprocess.run([TIER, name, *fields], check=True)

    def hold(self, name, policy='p'):
        """A process that has the segment attached; close its stdin to end it."""
        holder = subprocess.Popen([FILL, name, policy], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        self.addCleanup(holder.stdout.close)
        self.addCleanup(holder.wait)
        self.addCleanup(holder.stdin.close)
        holder.stdin.write(b'\xff\xff\xff\xff')
        holder.stdin.flush()
        holder.stdout.readline()
        return holder

    def load(self, name, policy='p', keys=50, hot=b'hot'):
        """A process that sends traffic; close its stdin to end it and read what it counted."""
        sender = subprocess.Popen([LOAD, name, policy, str(keys), hot], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)
        self.addCleanup(sender.stdout.close)
        self.addCleanup(sender.wait)
        self.addCleanup(sender.stdin.close)
        self.assertEqual(sender.stdout.readline(), b'runs\n')
        return sender


def main():
    done = unittest.main(exit=False, verbosity=1).result
    print(f'{done.testsRun} tests, {len(done.failures) + len(done.errors)} failed, '
          f'{len(done.skipped)} skipped')
    sys.exit(0 if done.wasSuccessful() and done.testsRun > 0 else 1)
