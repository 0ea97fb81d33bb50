#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the commands of README.md, docs/start.md and the guides to operations and metrics work, and
README shows examples/minimal.cc.

Method: runs every line of their sh blocks that begins with `brim`, in order, with segment names of
this process, and the heredocs before them; `brim try` may also answer 75. BRIM_TOOL is the command,
BRIM_ROOT the source tree.
"""
import os
import re
import subprocess
import sys
import tempfile
import unittest

ROOT = os.environ['BRIM_ROOT']
TOOL = os.environ['BRIM_TOOL']


def read(path):
    with open(os.path.join(ROOT, path), encoding='utf-8') as file:
        return file.read()


class Docs(unittest.TestCase):
    def commands(self, path):
        """The brim lines and the files that cat writes for them, in order."""
        for block in re.findall(r'```sh\n(.*?)```', read(path), re.S):
            lines = iter(block.splitlines())
            for line in lines:
                if line.startswith('cat >'):
                    for more in lines:
                        line += '\n' + more
                        if more == 'END':
                            break
                    yield line
                elif line.startswith('brim '):
                    yield line

    def run_blocks(self, path, least=4):
        names = {word: f'{word}-{os.getpid()}' for word in ('shop', 'api')}
        ran = 0
        env = dict(os.environ, PATH=os.path.dirname(TOOL) + os.pathsep + os.environ['PATH'])
        with tempfile.TemporaryDirectory() as folder:
            try:
                for line in self.commands(path):
                    command = re.sub(r'\b(shop|api)\b', lambda m: names[m.group()], line)
                    done = subprocess.run(['bash', '-c', command], env=env, capture_output=True,
                                          cwd=folder, check=False)
                    allowed = {'brim try': (0, 75), 'brim doctor': (0, 1)}.get(
                        ' '.join(line.split()[:2]), (0,))
                    self.assertIn(done.returncode, allowed, f'{path}: {line}: {done.stderr}')
                    ran += 1
            finally:
                for name in names.values():
                    subprocess.run([TOOL, 'unlink', name], capture_output=True, check=False)
        self.assertGreaterEqual(ran, least, path)

    def test_readme(self):
        self.run_blocks('README.md')

    def test_start(self):
        self.run_blocks('docs/start.md')

    def test_operations(self):
        self.run_blocks('docs/guides/operations.md')

    def test_metrics(self):
        self.run_blocks('docs/guides/metrics.md', 3)

    def test_readme_shows_the_example(self):
        shown = re.search(r'```cpp\n(.*?)```', read('README.md'), re.S).group(1)
        example = read('examples/minimal.cc')
        self.assertEqual(shown.strip(), example[example.index('#include'):].strip())


if __name__ == '__main__':
    sys.exit(0 if unittest.main(exit=False).result.wasSuccessful() else 1)
