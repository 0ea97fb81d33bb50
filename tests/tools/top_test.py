# SPDX-License-Identifier: MIT
"""Goal: top shows what happens, on a terminal of any size, and leaves the terminal as it found it
however it ends. Method: the real binary under load; in tmux, whose screen is read back, on a bare
pty, whose every byte is looked at, and without a terminal. Waits are for what is to be seen."""
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import tempfile
import termios
import time

from support import BRIM, NO_SEGMENT, USAGE, BrimTest, brim, main

HOSTILE = [b'\x1b]0;owned\x07', b'\x1b[2J', b'\x9b31m', b'=HYPERLINK("x")', b'\xff\xfe',
           b'\n\r\x00']
HOT = b'\x1b]0;owned\x07\x1b[2J=\xff'
SHOWN = b'%1B]0;owned%07%1B[2J=%FF'
MINUTE = 60


def wait_for(what, look):
    """Until look() is true: a minute is for a machine that has other things to do."""
    end = time.monotonic() + MINUTE
    while not look():
        if time.monotonic() > end:
            raise AssertionError('did not see ' + what)
        time.sleep(0.02)


class Batch(BrimTest):
    @staticmethod
    def number(text):
        factor = {'k': 1e3, 'M': 1e6, 'G': 1e9}.get(text[-1])
        return float(text[:-1]) * factor if factor else float(text)

    def test_rates_under_load(self):
        name = self.create('--policy', 'idle=7/h', policy='p=100/d')
        sender = self.load(name)
        text = self.good('top', name, '--batch', '--interval', '400ms', '--count', '4').text
        self.assertEqual(text.count('brim top ' + name), 4)
        self.assertEqual(len(re.findall(r'(?m)^POLICY +ALLOWED/S +DENIED/S', text)), 4)
        rows = re.findall(r'(?m)^(p|idle) +(\S+) +(\S+) +(\S+) +(\S+) %  (.*)$', text)
        self.assertEqual(sorted(row[0] for row in rows), ['idle'] * 4 + ['p'] * 4)
        self.assertEqual({row[2] for row in rows if row[0] == 'idle'}, {'0'})
        denied = [row[2] for row in rows if row[0] == 'p' and row[2] != '0']
        self.assertTrue(denied, text)
        self.assertIn(['p', 'idle'], [[row[0] for row in rows[i:i + 2]] for i in (0, 2, 4, 6)])
        # Two thirds of the calls are for one key, and nearly all of those are refused.
        last = text[text.rindex('brim top'):]
        hot = re.findall(r'(?m)^ +~(\S+) +~(\S+)  p +hot$', last)
        self.assertEqual(len(hot), 2, text)
        share = self.number(hot[0][0]) / (sum(map(self.number, denied)) / len(denied))
        self.assertGreater(share, 0.1)
        self.assertLess(share, 3)
        self.assertRegex(last, r'HOTTEST [^\n]+\n +~\S+ +~\S+  p +hot\n')
        self.assertRegex(last, r'(?m)^ +~\S+ +(~\S+|-)  p +load\d+$')
        self.assertRegex(last, r'MOST REFUSED [^\n]+\n +~\S+ +~\S+  p +hot\n')
        self.assertRegex(text, r'1 attached')
        self.assertRegex(text, r'groups from home: 0: \d+\.\d %')
        sender.stdin.close()
        # Without a terminal it is batch mode anyway.
        self.assertNotIn('\x1b', self.good('top', name, '--interval', '50ms', '--count', '1').text)

    def test_stops_when_asked(self):
        name = self.create()
        process = subprocess.Popen([BRIM, 'top', name, '--interval', '20ms'],
                                   stdout=subprocess.PIPE)
        for _ in range(20):
            self.assertTrue(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        process.stdout.close()
        self.assertEqual(process.wait(), 0)

    def test_wrong_words(self):
        name = self.create()
        self.bad(USAGE, '--interval', 'top', name, '--interval', '0')
        self.bad(USAGE, '--count', 'top', name, '--count', 'x')
        self.bad(NO_SEGMENT, 'segment_not_found', 'top', self.name())


class Pty(BrimTest):
    """A terminal of which every byte is seen."""

    def start(self, *args, rows=24, columns=80, **env):
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', rows, columns, 0, 0))
        self.before = termios.tcgetattr(theirs)
        process = subprocess.Popen([BRIM, 'top', *args], stdin=theirs, stdout=theirs,
                                   stderr=subprocess.PIPE,
                                   env={k: v for k, v in os.environ.items() if k != 'NO_COLOR'}
                                   | {'TERM': 'xterm'} | env)
        self.text = b''
        self.ours, self.theirs = ours, theirs
        self.addCleanup(os.close, ours)
        self.addCleanup(os.close, theirs)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def pump(self):
        while select.select([self.ours], [], [], 0.02)[0]:
            self.text += os.read(self.ours, 65536)
        return self.text

    def ended(self, process, code=0):
        wait_for('the end', lambda: self.pump() is not None and process.poll() is not None)
        self.pump()
        self.assertEqual(process.returncode, code)
        self.assertTrue(self.text.rstrip().endswith(b'\x1b[?25h\x1b[?1049l'), self.text[-60:])
        self.assertEqual(termios.tcgetattr(self.theirs), self.before)

    def test_hostile_keys_in_every_size(self):
        name = self.create('--name-bytes', '256', policy='p=1/d')
        self.fill(name, HOSTILE)
        self.load(name, hot=HOT)
        for rows, columns in (24, 80), (5, 20), (1, 1), (2, 3), (500, 1000), (0, 0):
            process = self.start(name, '--interval', '20ms', rows=rows, columns=columns)
            wait_for('frames', lambda: self.pump().count(b'\x1b[H') > 5 and
                     (rows not in (24, 500) or SHOWN in self.text))
            os.write(self.ours, b'q')
            self.ended(process)
            frames = self.text.split(b'\x1b[2J', 1)[1].split(b'\x1b[?25h')[0].split(b'\x1b[H')[1:]
            for frame in frames:
                plain = re.sub(rb'\x1b\[(K|J|1m|0m)', b'', frame)
                self.plain(plain, b'\r\n')
                lines = re.split(rb'\r+\n', plain)
                self.assertLessEqual(len(lines), rows or 24)
                self.assertLessEqual(max(map(len, lines)), columns or 80)

    def test_signals_leave_the_terminal_as_it_was(self):
        name = self.create()
        for number in signal.SIGINT, signal.SIGTERM, signal.SIGHUP:
            process = self.start(name, '--interval', '1h')
            wait_for('a frame', lambda: b'slots' in self.pump())
            self.assertNotEqual(termios.tcgetattr(self.theirs), self.before)
            process.send_signal(number)
            self.ended(process)

    def test_a_segment_that_is_cut(self):
        name = self.create()
        process = self.start(name, '--interval', '20ms')
        wait_for('a frame', lambda: b'slots' in self.pump())
        os.truncate('/dev/shm/' + name, 0)
        self.ended(process, NO_SEGMENT)
        self.assertIn(b'segment_truncated', process.stderr.read())

    def test_count_colour_and_dumb_terminals(self):
        name = self.create()
        self.ended(self.start(name, '--interval', '20ms', '--count', '3'))
        self.assertIn(b'\x1b[1mPOLICY', self.text)
        self.ended(self.start(name, '--interval', '20ms', '--count', '3', NO_COLOR='1'))
        self.assertNotIn(b'\x1b[1m', self.text)
        process = self.start(name, '--interval', '20ms', '--count', '3', TERM='dumb')
        wait_for('the end', lambda: process.poll() is not None)
        self.plain(self.pump(), b'\r\n')

    def test_follows_the_name(self):
        name = self.create(policy='first=1/d')
        process = self.start(name, '--interval', '20ms')
        wait_for('the policy', lambda: b'first' in self.pump())
        self.good('unlink', name)
        wait_for('the name gone', lambda: b'NAME GONE' in self.pump())
        self.good('create', name, '--policy', 'second=1/d')
        wait_for('the other', lambda: b'second' in self.pump())
        os.write(self.ours, b'q')
        self.ended(process)


class Tmux(BrimTest):
    def setUp(self):
        if shutil.which('tmux') is None:
            self.skipTest('tmux is not installed')
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.socket = f'brim-top-{os.getpid()}'
        self.addCleanup(self.tmux, 'kill-server', check=False)
        self.segment = self.create('--name-bytes', '256', policy='p=100/d')
        self.fill(self.segment, HOSTILE)
        self.load(self.segment)
        self.tmux('-f', '/dev/null', 'new-session', '-d', '-x', '90', '-y', '12',
                  'PS1="ready> " bash --norc --noprofile -i')
        wait_for('a shell', lambda: 'ready>' in self.screen())

    def tmux(self, *args, check=True):
        return subprocess.run(['tmux', '-L', self.socket, *args], check=check,
                              env={k: v for k, v in os.environ.items() if k != 'TMUX'} |
                              {'LC_ALL': 'C', 'HISTFILE': '/dev/null'},
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout

    def screen(self):
        return self.tmux('capture-pane', '-p').decode('utf-8', 'replace')

    def type(self, text):
        self.tmux('send-keys', text, 'Enter')

    def settings(self, name):
        path = os.path.join(self.folder.name, name)
        self.type(f'stty -a > {path}; echo done-{name}')
        wait_for('the settings', lambda: f'\ndone-{name}' in self.screen())
        with open(path, encoding='ascii') as file:
            return re.sub(r'rows \d+; columns \d+;', '', file.read())

    def test_sizes_stop_and_quit(self):
        before = self.settings('before')
        # Nothing is drawn again but for a key or a new size.
        self.type(f'{BRIM} top {self.segment} --interval 1h')
        wait_for('top', lambda: self.screen().startswith('brim top'))
        self.tmux('send-keys', 'Space')
        wait_for('the rates', lambda: re.search(r'\np +\S+ +[1-9]\S* ', self.screen()))
        self.assertNotIn('done-before', self.screen())  # another screen
        for columns, rows, words in [(200, 60, 'MOST REFUSED'), (20, 5, 'POLICY'),
                                     (3, 2, 'bri'), (120, 30, 'HOTTEST')]:
            self.tmux('resize-window', '-x', str(columns), '-y', str(rows))
            wait_for(f'{columns}x{rows}', lambda: words in self.screen() and
                     len(self.screen().splitlines()) <= rows)
            lines = self.screen().splitlines()
            self.assertTrue(lines[0].startswith('brim top'[:columns]), lines)
            self.assertLessEqual(max(map(len, lines)), columns)
        self.tmux('resize-window', '-x', '90', '-y', '12')
        self.tmux('send-keys', 'C-z')
        wait_for('the shell', lambda: 'Stopped' in self.screen())
        self.assertIn('done-before', self.screen())
        self.assertEqual(self.settings('stopped'), before)
        self.type('fg')
        wait_for('top again', lambda: self.screen().startswith('brim top') and
                 'Stopped' not in self.screen())
        self.tmux('send-keys', 'q')
        wait_for('the end', lambda: self.screen().rstrip().endswith('ready>'))
        self.type('echo exit $?')
        wait_for('the status', lambda: '\nexit ' in self.screen())
        self.assertIn('\nexit 0\n', self.screen())
        self.assertEqual(self.settings('after'), before)


if __name__ == '__main__':
    main()
