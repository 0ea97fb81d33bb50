# SPDX-License-Identifier: MIT
"""The types of the package: true of the code, and of use to who writes against them.

Method: `mypy --strict` on the package; stubtest, which compares the .pyi files with the extension
modules as they are loaded; a file of right uses that mypy must pass, and one of wrong uses of which
it must find each. Skipped with a line where mypy is not installed.
"""
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

HERE = pathlib.Path(__file__).resolve().parent
PACKAGE = pathlib.Path(os.environ['PYTHONPATH'].split(':')[0])
HAS_MYPY = subprocess.run([sys.executable, '-c', 'import mypy.stubtest'],
                          capture_output=True).returncode == 0


@unittest.skipUnless(HAS_MYPY, 'mypy is not installed')
class Types(unittest.TestCase):

    def setUp(self):
        # Neither tool may find the source folder, which has no extension module, first.
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_python(self, *arguments, path=PACKAGE):
        environment = {**os.environ, 'MYPYPATH': str(path), 'PYTHONPATH': str(path)}
        done = subprocess.run([sys.executable, '-m', *arguments], env=environment, text=True,
                              cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.returncode, done.stdout

    def mypy(self, *arguments):
        return self.run_python('mypy', '--strict', '--no-error-summary', '--cache-dir',
                               str(PACKAGE.parent / 'mypy'), *arguments)

    def test_package(self):
        self.assertEqual(self.mypy('-p', 'brim'), (0, ''))

    def test_stubs(self):
        code, output = self.run_python('mypy.stubtest', 'brim._brim', 'brim._snapshot',
                                       'brim._tier')
        self.assertEqual(code, 0, output)

    def test_stubs_can_fail(self):
        """A copy of the package with a stub that lies."""
        copy = pathlib.Path(self.folder, 'copy', 'brim')
        copy.mkdir(parents=True)
        for file in PACKAGE.glob('brim/*'):
            if file.is_file() and file.name != '_brim.pyi':
                (copy / file.name).symlink_to(file)
        stub = (PACKAGE / 'brim' / '_brim.pyi').read_text()
        (copy / '_brim.pyi').write_text(stub.replace('def peek(self, key: Key, cost: int = 0)',
                                                     'def peek(self, key: Key, price: int = 0)'))
        code, output = self.run_python('mypy.stubtest', 'brim._brim', path=copy.parent)
        self.assertEqual(code, 1, output)
        self.assertIn('Policy.peek', output)

    def test_right_uses(self):
        self.assertEqual(self.mypy(str(HERE / 'typed' / 'use.py')), (0, ''))

    def test_wrong_uses(self):
        file = HERE / 'typed' / 'misuse.py'
        _, output = self.mypy(str(file))
        found = {(int(line), code) for line, code in
                 re.findall(r'misuse\.py:(\d+): error: .*\[([a-z-]+)\]', output)}
        wanted = {(number, match[1]) for number, line in enumerate(file.read_text().split('\n'), 1)
                  if (match := re.search(r'# finds: ([a-z-]+)', line))}
        self.assertEqual(found, wanted, output)


if __name__ == '__main__':
    unittest.main()
