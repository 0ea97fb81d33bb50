#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: what docs/guides/redis.md shows is so.

Method: all sh blocks of the guide run as one script, with segment names of this process and a real
redis-server on a unix socket; its `sleep` waits until both segments tell the same, for a busy
machine
may need longer than the reader's. BRIM_TOOL is the command, BRIM_ROOT the source tree.
"""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(os.environ['BRIM_ROOT'])
TOOL = os.environ['BRIM_TOOL']
NAMES = {word: f'{word}-{os.getpid()}' for word in ('shop', 'other', 'old')}

PRELUDE = r'''
trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT
state() { brim tier status "$1" --format json | sed -n 's/.*"state": "\([a-z]*\).*/\1/p'; }
left() { brim try "$1" 203.0.113.7 --cost 0 --peek --format json |
         sed -n 's/.*"remaining": \([0-9]*\).*/\1/p'; }
sleep() {
  local wanted=up name
  command sleep "$1"
  [[ $(jobs -r) =~ redis-server ]] || wanted=down
  for name in SHOP OTHER; do
    until [[ $(state $name) = $wanted ]]; do command sleep 0.05; done
  done
  until [[ $(left SHOP) = $(left OTHER) ]]; do command sleep 0.05; done
}
'''


class Redis(unittest.TestCase):
    def test_guide(self):
        for name in NAMES.values():
            self.addCleanup(subprocess.run, [TOOL, 'unlink', name], capture_output=True,
                            check=False)
        text = (ROOT / 'docs/guides/redis.md').read_text(encoding='utf-8')
        prelude = PRELUDE.replace('SHOP', NAMES['shop']).replace('OTHER', NAMES['other'])
        script = prelude + ''.join(
            re.sub(r'\b(shop|other|old)\b', lambda m: NAMES[m.group()], block)
            for block in re.findall(r'```sh\n(.*?)```', text, re.S))
        self.assertGreater(script.count('brim '), 15)
        with tempfile.TemporaryDirectory() as folder:
            env = dict(os.environ, PATH=os.path.dirname(TOOL) + os.pathsep + os.environ['PATH'])
            done = subprocess.run(['timeout', '300', 'bash', '-eo', 'pipefail', '-c', script],
                                  env=env, cwd=folder,
                                  capture_output=True, text=True, check=False)
        told = done.stdout + done.stderr
        self.assertEqual(done.returncode, 0, told)
        self.assertEqual(told.count('refused: exit status 75'), 2, told)
        self.assertRegex(told, r'(?m)^state +up$')
        self.assertRegex(told, r'(?m)^state +down for ')
        self.assertIn('exit status 1', told)
        self.assertRegex(told, r'tier_store +unix://.*: down for ')
        self.assertEqual(len(re.findall(r'(?m)^[0-9a-f]{32} ', told)), 2, told)
        self.assertEqual(told.count('this one'), 1, told)


if __name__ == '__main__':
    if shutil.which('redis-server') is None:
        print('SKIP: redis-server is not installed (Debian package redis-server)')
        sys.exit(77)
    sys.exit(0 if unittest.main(exit=False).result.wasSuccessful() else 1)
