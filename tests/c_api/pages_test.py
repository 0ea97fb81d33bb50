#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: `man brim_X` answers for each function that the libraries export, and C++ programs of
another release are turned away while C programs go on.

Method: the exported symbols beside the pages that an installation has; each page, or the one that
it refers to, has its parts and is taken by groff without a warning. For the releases a copy of the
library in which the C++ symbols have another one's name is put before two of the examples.

BRIM_LIB, BRIM_SYNC_LIB: the libraries. BRIM_BUILD: the build directory. BRIM_GATE, BRIM_MINIMAL:
the examples in C and in C++. BRIM_PAGES: "true" if there are pages. BRIM_SANITIZE: of the build.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

LIB, SYNC = os.environ['BRIM_LIB'], os.environ['BRIM_SYNC_LIB']
PARTS = ['NAME', 'SYNOPSIS', 'DESCRIPTION', 'RETURN VALUE', 'SAFETY', 'SEE ALSO']


def run(*command, **others):
    return subprocess.run(command, capture_output=True, text=True, check=False, **others)


def exported():
    return {name for library in (LIB, SYNC) for name in
            re.findall(r' T (brim_\w+)@@', run('nm', '-D', '--defined-only', library).stdout)}


@unittest.skipUnless(os.environ['BRIM_PAGES'] == 'true', 'there is no scdoc')
class Pages(unittest.TestCase):
    def setUp(self):
        installed = json.loads(run('meson', 'introspect', '--installed',
                                   os.environ['BRIM_BUILD']).stdout)
        self.pages = {pathlib.Path(target).stem: pathlib.Path(built)
                      for built, target in installed.items() if '/man3/' in target}

    def test_each_function_has_one(self):
        self.assertGreater(len(exported()), 70)
        self.assertEqual(set(self.pages), exported())

    def test_their_parts(self):
        for name, path in self.pages.items():
            text = path.read_text()
            refers = re.fullmatch(r'\.so man3/(\w+)\.3\n', text)
            if refers:
                text = self.pages[refers.group(1)].read_text()
            for part in PARTS:
                self.assertRegex(text, rf'\n\.SH {part}\n', name)
            self.assertIn(name, re.search(r'\.SH NAME\n(?:\.\w+\n)*(.*)', text).group(1).split(
                ' - ')[0].replace(',', ' ').replace('\\', '').split())
            self.assertRegex(text, rf'\\fB{name}\\fR\(\): \w')  # what it does
            if 'int ' in text and 'ERRORS' in text:
                self.assertIn('BRIM_E_INVALID', text)

    @unittest.skipUnless(shutil.which('groff'), 'there is no groff')
    def test_groff_takes_them(self):
        pages = [str(path) for path in self.pages.values()
                 if not path.read_text().startswith('.so')]
        done = run('groff', '-man', '-Tutf8', '-ww', '-z', *pages)
        self.assertEqual((done.returncode, done.stderr), (0, ''))


@unittest.skipIf(os.environ['BRIM_SANITIZE'] != 'none', 'a sanitizer has to be loaded first')
class Releases(unittest.TestCase):
    def start(self, library):
        segment = f'brim-release-{os.getpid()}'
        others = dict(env=dict(os.environ, LD_PRELOAD=str(library), LC_ALL='C'),
                      input='192.0.2.1\n')
        try:
            return (run(os.environ['BRIM_GATE'], segment, '2/h', **others),
                    run(os.environ['BRIM_MINIMAL'], segment + '-cxx', **others))
        finally:
            for each in (segment, segment + '-cxx'):
                pathlib.Path('/dev/shm', each).unlink(missing_ok=True)

    def test_another_release(self):
        with tempfile.TemporaryDirectory() as folder:
            other = pathlib.Path(folder, 'libbrim.so.1')
            code = pathlib.Path(LIB).read_bytes()
            release = re.search(rb'\0BRIM_CXX_[\w.]+\0', code).group()
            for name, starts in ((release, True), (release[:-2] + b'X\0', False)):
                other.write_bytes(code.replace(release, name))
                c_program, cxx_program = self.start(other)
                self.assertIn('192.0.2.1 passes, 1 left', c_program.stdout, c_program.stderr)
                if starts:
                    self.assertEqual(cxx_program.returncode, 0, cxx_program.stderr)
                else:
                    self.assertNotEqual(cxx_program.returncode, 0)
                    self.assertIn(release[1:-1].decode(), cxx_program.stderr)


if __name__ == '__main__':
    unittest.main()
