# SPDX-License-Identifier: MIT
"""Goal: each shell completes what the command takes. Method: the real shell reads the script and is
asked; a shell that is not installed is a skip that says so."""
import os
import shutil
import subprocess
import unittest

from support import BRIM, USAGE, BrimTest, main

BASH = r'''
source <(brim completion bash) || exit 1
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_brim
printf '%s\n' "${COMPREPLY[@]}"
'''
FISH = 'brim completion fish | source; complete -C $argv[1]'
# Asks the completion itself: what it would hand to zsh's menu.
ZSH = r'''
compdef() { : }
_describe() { print -l -- ${(P)2} }
compadd() { shift; print -l -- "$@" }
_files() { : }
brim completion zsh > $1 || exit 1
source $1
shift
words=("$@") CURRENT=$#
_brim
'''


class Completion(BrimTest):
    def shell(self, name, script, *arguments):
        if shutil.which(name) is None:
            self.skipTest(f'{name} is not installed')
        path = os.path.dirname(BRIM) + ':' + os.environ['PATH']
        flags = {'bash': ['--norc', '-c', script, 'bash'], 'fish': ['--no-config', '-c', script],
                 'zsh': ['-f', '-c', script, 'zsh']}[name]
        done = subprocess.run([name, *flags, *arguments], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, env={**os.environ, 'PATH': path}, check=True)
        self.assertEqual(done.stderr, b'')
        return [line for line in done.stdout.decode().splitlines() if line]

    def test_bash(self):
        name = self.create()
        ask = lambda *words: self.shell('bash', BASH, *words)
        self.assertEqual(ask('brim', 'unl'), ['unlink'])
        self.assertEqual(ask('brim', 'snapshot', ''), ['take', 'show'])
        self.assertEqual(ask('brim', 'snapshot', 'show', '--fo'), ['--format'])
        self.assertEqual(ask('brim', 'dump', 'x', '--format', ''), ['table', 'json', 'csv'])
        self.assertEqual(ask('brim', 'dump', name), [name])
        self.assertEqual(ask('brim', 'check', name), [])
        everything = self.good('--help').text
        for word in ask('brim', ''):
            self.assertIn(word, everything)

    def test_fish(self):
        name = self.create()
        ask = lambda line: [each.split('\t')[0] for each in self.shell('fish', FISH, line)]
        self.assertEqual(ask('brim unl'), ['unlink'])
        self.assertEqual(ask('brim snapshot ta'), ['take'])
        self.assertIn('--format', ask('brim snapshot show --fo'))
        self.assertIn(name, ask('brim dump ' + name))

    def test_zsh(self):
        name = self.create()
        script = os.path.join('/dev/shm', self.name())
        ask = lambda *words: self.shell('zsh', ZSH, script, *words)
        self.assertIn('unlink:Remove segments by name; attached processes keep theirs until they '
                      'detach', ask('brim', ''))
        self.assertIn('take:Write one snapshot now', ask('brim', 'snapshot', ''))
        self.assertIn(name, ask('brim', 'dump', ''))
        self.assertNotIn(name, ask('brim', 'check', ''))

    def test_unknown_shell(self):
        self.bad(USAGE, ['tcsh', 'bash, zsh or fish'], 'completion', 'tcsh')


if __name__ == '__main__':
    main()
