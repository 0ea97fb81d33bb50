#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the commands of README.md and docs/start.md work, and README shows examples/minimal.cc.

Method: runs every line of their sh blocks that begins with `brim`, in order, with a segment name of
this process; `brim try` may also answer 75. BRIM_TOOL is the command, BRIM_ROOT the source tree.
"""
import os
import re
import subprocess
import sys
import unittest

ROOT = os.environ['BRIM_ROOT']
TOOL = os.environ['BRIM_TOOL']


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


class Docs(unittest.TestCase):
    def run_blocks(self, path):
        name = f'shop-{os.getpid()}'
        ran = 0
        env = dict(os.environ, PATH=os.path.dirname(TOOL) + os.pathsep + os.environ['PATH'])
        try:
            for block in re.findall(r'```sh\n(.*?)```', read(path), re.S):
                for line in block.splitlines():
                    if not line.startswith('brim '):
                        continue
                    command = re.sub(r'\bshop\b', name, line)
                    done = subprocess.run(['bash', '-c', command], env=env, capture_output=True,
                                          check=False)
                    allowed = (0, 75) if line.startswith('brim try') else (0,)
                    self.assertIn(done.returncode, allowed, f'{path}: {line}: {done.stderr}')
                    ran += 1
        finally:
            subprocess.run([TOOL, 'unlink', name], capture_output=True, check=False)
        self.assertGreater(ran, 3, path)

    def test_readme(self):
        self.run_blocks('README.md')

    def test_start(self):
        self.run_blocks('docs/start.md')

    def test_readme_shows_the_example(self):
        shown = re.search(r'```cpp\n(.*?)```', read('README.md'), re.S).group(1)
        example = read('examples/minimal.cc')
        self.assertEqual(shown.strip(), example[example.index('#include'):].strip())


if __name__ == '__main__':
    sys.exit(0 if unittest.main(exit=False).result.wasSuccessful() else 1)
