# SPDX-License-Identifier: MIT
"""Goal (F44, P15): no byte that somebody else chose reaches a terminal, a log or a spreadsheet as
anything but plain text, whatever command prints it and whether it succeeds or fails.

Method: each command is given arguments, files, directories and a segment made of what terminals,
spreadsheets and parsers act upon; all that it writes to standard output and standard error is
checked byte by byte, JSON and CSV are read back. Keys have a test of their own, tools/keys_test.py.
"""
import csv
import io
import json
import os
import shutil
import tempfile
import unittest

from support import BRIM, BrimTest, brim, main

# Few texts with much in them: each costs hundreds of runs of the command.
HOSTILE = [b'\x1b]0;owned\x07\x1b[2J\x9b31m\xc2\x9b2J\x7f\xe2\x80\xaegpj.exe',
           b'=HYPERLINK("http://x","y")', b'a\nbrim: forged\r\t\x08', b'\xff\xfe"\\\',%41',
           b'@SUM(A1)']
if os.environ['BRIM_SANITIZE'] != 'none':
    HOSTILE = HOSTILE[0::3]  # a run takes ten times as long; fuzzing calls the same code in place
FORMULA = ('=', '+', '-', '@', '\t', '\r')
FORMATS = ['table', 'json', 'csv']


class Outputs(BrimTest):
    def check(self, *args, stdin=b'', formats=('',), option='--format'):
        """Runs it, whatever the result, and looks at every byte."""
        for kind in formats:
            more = [option, kind] if kind else []
            result = brim(*args, *more, stdin=stdin)
            self.plain(result.out, b'\r\n' if kind == 'csv' else b'\n')
            self.plain(result.err)
            self.assertGreaterEqual(result.code, 0, 'killed by a signal')
            if result.complaint:
                # One line a message, and no line of it can be forged.
                self.assertRegex(result.message, r'\A(brim: [^\n]*\n){1,2}\Z')
                self.assertNotIn('\nbrim: forged', result.message)
            if kind == 'json' and result.out:
                json.loads(result.out)
            if kind == 'csv' and result.out:
                for row in csv.reader(io.StringIO(result.text, newline=''), strict=True):
                    for field in row:
                        self.assertFalse(field.startswith(FORMULA), row)

    def test_arguments(self):
        name = self.create()
        for text in HOSTILE:
            for args in [[text], [text, name], ['help', text], ['info', text], ['dump', text],
                         ['create', text], ['create', name, '--policy', text],
                         ['create', name, '--policy', text + b'=1/s'],
                         ['create', name, '--policy', b'p=' + text],
                         ['create', name, '--mode', text], ['create', name, '--group', text],
                         ['create', name, '--hash', text], ['create', name, '--capacity', text],
                         ['dump', name, '--policy', text], ['dump', name, '--state', text],
                         ['dump', name, '--limit', text], ['dump', name, '--owner', text],
                         ['dump', name, '--sort', text], ['dump', name, b'--match=' + text],
                         ['dump', name, b'--remaining-under=' + text, b'--prefix=' + text],
                         ['stats', text], ['stats', name, '--interval', text],
                         ['stats', name, b'--count=' + text],
                         ['top', text], ['top', name, '--interval', text],
                         ['top', name, b'--count=' + text],
                         ['watch', text, 'k'], ['watch', name, '--count', '1', b'--', text],
                         ['watch', name, 'k', '--policy', text],
                         ['verify', text], ['verify', name, '--format', text],
                         ['verify', name, '--limit', text], ['verify', name, '--memory', text],
                         ['info', name, '--format', text], ['info', name, '--' + str(text)],
                         ['try', name, 'k', '--policy', text], ['try', name, 'k', '--cost', text],
                         ['try', name, '--key-file', text], ['try', text, 'k'],
                         ['change', name, 'p', b'--', text], ['change', name, b'--', text, '1/s'],
                         ['factor', name, 'p', b'--', text],
                         ['override', 'set', name, 'p', '--use', 'deny', '--', text],
                         ['override', 'set', name, 'p', 'k', b'--use=' + text],
                         ['override', 'set', name, 'p', b'--network=' + text, '--use', 'deny'],
                         ['override', 'rm', name, '--', text, 'k'], ['override', text],
                         ['override', 'list', name, '--policy', text],
                         ['ban', name, '--for', '1h', '--', text], ['ban', text, 'k'],
                         ['ban', name, 'k', '--for', text], ['ban', name, b'--network=' + text],
                         ['ban', name, 'k', '--policy', text], ['unban', name, b'--', text],
                         ['unban', name, 'k', '--policy', text],
                         ['policy', text], ['policy', 'show', name, b'--', text],
                         ['policy', 'set', name, b'--', text, '1/s'],
                         ['policy', 'set', name, 'p', b'--', text],
                         ['policy', 'rm', name, b'--', text], ['policy', 'diff', name, text],
                         ['policy', 'list', text], ['policy', 'load', name, text],
                         ['pause', text], ['resume', text], ['resize', text, '--capacity', '9'],
                         ['resize', name, '--capacity', text],
                         ['log', text], ['log', name, '--limit', text],
                         ['export', text], ['export', name, '--policy', text],
                         ['export', name, '--output', b'/nowhere/' + text],
                         ['import', name, text], ['import', text, '/nowhere/x'],
                         ['get', text, 'k'], ['get', name, text, '--format', text],
                         ['get', name, b'--', text], ['reset', name, b'--', text],
                         ['reset', name, 'k', '--policy', text],
                         ['set', name, b'--remaining', '1', b'--', text],
                         ['set', name, 'k', '--remaining', text], ['metrics', text],
                         ['metrics', name, '--output', b'/nowhere/' + text],
                         ['serve', text, '--listen', text], ['serve', name, '--listen', text],
                         ['serve', name, '--listen', '1.1.1.1:1', b'--host=' + text],
                         ['agent', name, '--file', '/nowhere/x', '--interval', text],
                         ['agent', text, '--file', text, '--synchronous', text],
                         ['agent', name, b'--tier-share=' + text, '--tier', 'redis://127.0.0.1:1'],
                         ['tier', text], ['tier', 'status', text],
                         ['tier', 'status', name, '--format', text],
                         ['tier', 'nodes', name, b'--tier=' + text],
                         ['tier', 'nodes', text, '--tier', 'redis://127.0.0.1:1'],
                         ['tier', 'nodes', name, b'--tier-url-file=/nowhere/' + text],
                         ['tier', 'remove', '--tier', 'redis://127.0.0.1:1', b'--', text],
                         ['resize', text, '--cluster'],
                         ['snapshot', text], ['snapshot', 'show', text],
                         ['snapshot', 'take', text, '--file', '/nowhere/x'],
                         ['snapshot', 'take', name, '--file', b'/nowhere/' + text],
                         ['restore', name, text], ['restore', text, '/nowhere/x'],
                         ['create', name, '--restore', text],
                         ['apply', name, text], ['check', text], ['unlink', text],
                         ['replay', text, '--policy', 'p=1/s'],
                         ['replay', '-', b'--policy=' + text],
                         ['replay', '-', '--policy', 'p=1/s', b'--fields=' + text],
                         ['replay', '-', '--policy', 'p=1/s', b'--key=' + text],
                         ['replay', '-', '--policy', 'p=1/s', b'--percentile=' + text]]:
                self.check(*args)

    def test_paths(self):
        with tempfile.TemporaryDirectory(dir='/dev/shm') as folder:
            for i, text in enumerate(HOSTILE):
                directory = os.path.join(folder.encode(), b'%d' % i + text.replace(b'/', b'_'))
                os.mkdir(directory)
                path = os.path.join(directory, b'seg')
                self.check('create', path, '--policy', 'p=1/h')
                self.check('create', path)
                self.check('info', path, formats=FORMATS)
                self.check('dump', path, formats=FORMATS)
                self.check('stats', path, formats=FORMATS)
                self.check('top', path, '--count', '1', '--interval', '10ms')
                self.check('watch', path, 'k', '--count', '1', formats=FORMATS)
                self.check('verify', path, formats=FORMATS)
                self.check('try', path, 'k', formats=FORMATS)
                self.check('try', path, 'k', '--policy', 'none')
                self.check('change', path, 'none', '1/s')
                self.check('create', path, '--if-missing', '--capacity', '7')
                policies = os.path.join(directory, b'limits.toml')
                with open(policies, 'wb') as file:
                    file.write(b'[policies]\np = "1/h"\n')
                self.check('check', policies, formats=['text', 'json'])
                self.check('apply', path, policies)
                self.check('policy', 'diff', path, policies)
                self.check('export', path)
                self.check('log', path, formats=FORMATS)
                log = os.path.join(directory, b'access.log')
                with open(log, 'wb') as file:
                    file.write(b'no such line\n')
                self.check('replay', log, '--policy', 'p=1/s', formats=['table', 'json'],
                           option='--output')
                # Damaged in turn: each message names the path.
                os.chmod(path, 0o666)
                self.check('info', path)
                os.chmod(path, 0o600)
                for size in [5000, 100, 0]:
                    os.truncate(path, size)
                    self.check('info', path)
                self.check('unlink', path)
                self.check('info', path)

    def test_list_shows_no_hostile_file_names(self):
        good = self.create()
        made = []
        try:
            for i, text in enumerate(HOSTILE):
                path = b'/dev/shm/brim-security-%d-%d-' % (os.getpid(), i) + text.replace(b'/', b'')
                shutil.copy(b'/dev/shm/' + good.encode(), path)
                os.chmod(path, 0o600)
                made.append(path)
            self.check('list', formats=FORMATS)
            for kind in FORMATS:
                self.assertNotIn('brim-security-%d-0-' % os.getpid(),
                                 self.good('list', '--format', kind).text)
        finally:
            for path in made:
                os.unlink(path)

    def test_hostile_segment(self):
        """A writer has put other bytes where the policies' names and texts are."""
        for text in HOSTILE:
            for target in [b'VICTIMNAME', b'1/h burst 1000']:
                name = self.create('--policy', 'VICTIMNAME=2/h', policy='p=1/h burst 1000')
                self.good('try', name, 'k', '--policy', 'VICTIMNAME')
                self.good('override', 'set', name, 'p', 'k', '--use', 'VICTIMNAME')
                with open('/dev/shm/' + name, 'r+b') as file:
                    image = file.read()
                    at = image.find(target)
                    self.assertGreaterEqual(at, 0, target)
                    while at >= 0:
                        file.seek(at)
                        file.write(text[:len(target)].ljust(len(target), b'\x1b'))
                        at = image.find(target, at + 1)
                self.check('info', name, formats=FORMATS)
                self.check('dump', name, '--state', 'all', formats=FORMATS)
                self.check('dump', name, '--state', 'near', '--sort', 'key', formats=['json'])
                self.check('stats', name, formats=FORMATS)
                self.check('top', name, '--count', '1', '--interval', '10ms')
                self.check('watch', name, 'k', '--count', '1', formats=FORMATS)
                self.check('verify', name, formats=FORMATS)
                self.check('get', name, 'k', formats=FORMATS)
                self.check('metrics', name)
                self.check('policy', 'list', name, formats=FORMATS)
                self.check('policy', 'show', name, 'p', formats=FORMATS)
                self.check('override', 'list', name, formats=FORMATS)
                self.check('export', name)
                self.check('list', formats=FORMATS)
                self.check('try', name, 'k')
                self.check('try', name, 'k', '--policy', 'p', formats=FORMATS)
                self.check('dump', name, '--policy', 'none')
                self.check('create', name, '--if-missing', '--policy', 'p=3/s')
                self.check('change', name, 'p', '2/h')

    def test_hostile_tier(self):
        """What an agent left came from a store, or from a writer who is none."""
        name = self.create('--policy', 'q=2/h scope cluster')
        for text in HOSTILE:
            for more in [], [b'down=5000'], [b'alive=90000']:
                self.tier(name, b'store=' + text, b'error=' + text, *more)
                self.check('tier', 'status', name, formats=FORMATS)
                self.check('info', name, formats=FORMATS)
                self.check('doctor', name, formats=FORMATS)
                self.check('top', name, '--count', '1', '--interval', '10ms')
                self.check('metrics', name)

    def test_hostile_policy_file(self):
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'limits.toml')
            segment = self.create()
            for text in HOSTILE:
                escaped = ''.join(f'\\u{ord(c):04x}' for c in text.decode('latin-1')).encode()
                for content in [text, b'[' + text + b']\n', b'[policies]\n' + text + b' = "1/s"\n',
                                b'[policies]\np = "' + text + b'"\n',
                                b'[policies]\np = "' + escaped + b'"\n',
                                b'[policies]\n"' + escaped + b'" = "1/s"\n',
                                b'[policies]\np = {"' + escaped + b'" = 1}\n',
                                b'[policies]\np = {limit = 1, period = "' + escaped + b'"}\n',
                                b'[segment]\n"' + escaped + b'" = 1\n',
                                b'[segment]\nhash = "' + escaped + b'"\n',
                                b'[policies]\np = "1/h"\n[[override]]\npolicy = "p"\nkey = "' +
                                escaped + b'"\nuse = "deny"\n',
                                b'[policies]\np = "1/h"\n[[override]]\nkey = "k"\nuse = "' +
                                escaped + b'"\n',
                                b'[policies]\np = "1/h"\n[[override]]\nnetwork = "' + escaped +
                                b'"\nuse = "deny"\n']:
                    with open(path, 'wb') as file:
                        file.write(content)
                    self.check('check', path, formats=['text', 'json'])
                    self.check('policy', 'diff', segment, path)
                    self.check('apply', segment, path)

    def test_hostile_keys_that_are_noted(self):
        """Commands that change a segment note the key: on standard error, and for the log."""
        name = self.create('--policy', 'q=1/h')
        for text in HOSTILE:
            for args in [['override', 'set', name, 'p', '--key-file', '-', '--use', 'deny'],
                         ['override', 'rm', name, 'p', '--key-file', '-'],
                         ['ban', name, '--key-file', '-', '--for', '1h'],
                         ['try', name, '--key-file', '-', '--policy', 'q'],
                         ['set', name, '--key-file', '-', '--policy', 'q', '--remaining', '0'],
                         ['reset', name, '--key-file', '-']]:
                self.check(*args, stdin=text)
            self.check('override', 'list', name, formats=FORMATS)
            self.check('log', name, formats=FORMATS)
            self.check('unban', name, '--key-file', '-', stdin=text)
            for line in [text, b'{"type": "export", "format": 1, "uuid": "", "wall_ns": 1}\n' +
                         text]:
                self.check('import', name, stdin=line)

    def test_hostile_log(self):
        line = b'%s - - [10/Oct/2025:13:55:36 +0000] "GET /%s HTTP/1.1" 200 5 "%s" "%s"\n'
        log = b''.join(line % (text.replace(b'\n', b'').replace(b' ', b''), text, text, text)
                       for text in HOSTILE for _ in range(9)) + b'\n'.join(HOSTILE) + b'\n'
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, 'access.log')
            with open(path, 'wb') as file:
                file.write(log)
            for key in ['addr', 'request', 'user_agent']:
                self.check('replay', path, '--policy', 'p=1/h', '--key', key,
                           formats=['table', 'json'], option='--output')
            self.check('replay', '-', '--policy', 'p=1/h', stdin=log, formats=['table', 'json'],
                       option='--output')
            # None of it would be a poor test.
            self.assertIn('%1B', self.good('replay', path, '--policy', 'p=1/h').text)

    def test_the_check_itself(self):
        with self.assertRaises(AssertionError):
            self.plain(b'\x1b[2J')
        with self.assertRaises(AssertionError):
            self.plain(b'\xc2\x9b')


if __name__ == '__main__':
    main()
