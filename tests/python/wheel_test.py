# SPDX-License-Identifier: MIT
"""A wheel, built by meson-python without a network, and used far from the source tree.

Method: a copy of the tree (the build writes beside it), a wheel of it, a look at what is in that,
`pip install` of it into an empty folder, and a script that runs with nothing else. Compiles the
core anew: minutes without a compiler cache. Skipped where pip or meson-python is not installed.
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import textwrap
import unittest
import zipfile

ROOT = pathlib.Path(os.environ['BRIM_ROOT'])
PIP = [sys.executable, '-m', 'pip', '--disable-pip-version-check']
MISSING = subprocess.run([sys.executable, '-c', 'import mesonpy, pip'],
                         capture_output=True).returncode != 0

SCRIPT = textwrap.dedent('''
    import os, sys, brim, brim.snapshot, brim.tier
    name = f'python-wheel-{os.getpid()}'
    try:
        limiter = brim.open(name, policies={'p': '2/365d'})
        got = [bool(limiter.try_acquire('p', 'a')) for _ in range(3)]
        brim.snapshot.once(name, sys.argv[1])
        assert not brim.tier.status(name).kept
    finally:
        brim.Limiter.unlink(name)
    print(brim.__version__, got, brim.__file__)
''')


def run(*command, folder, **environment):
    done = subprocess.run(command, cwd=folder, env={**os.environ, **environment}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode != 0:
        raise AssertionError(f'{command}:\n{done.stdout[-5000:]}')
    return done.stdout


@unittest.skipIf(MISSING, 'pip or meson-python is not installed')
class Wheel(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def build(self):
        source = self.folder / 'source'
        shutil.copytree(ROOT, source, symlinks=True,
                        ignore=shutil.ignore_patterns('build*', '.git', '__pycache__', '.mypy*'))
        cached = {'CC': 'ccache cc', 'CXX': 'ccache c++'} if shutil.which('ccache') else {}
        # What `pip wheel` calls; pip with meson-python 0.12 calls it twice, once for the metadata.
        (self.folder / 'out').mkdir()
        run(sys.executable, '-c', 'import mesonpy, sys; mesonpy.build_wheel(sys.argv[1], '
            '{"compile-args": ["-j2"]})', self.folder / 'out', folder=source, **cached)
        wheel, = (self.folder / 'out').iterdir()
        return wheel

    def test_wheel(self):
        wheel = self.build()
        # One for every CPython from 3.11 on.
        self.assertRegex(wheel.name, r'^brim-\d+\.\d+\.\d+-cp311-abi3-\w+\.whl$')
        names = set(zipfile.ZipFile(wheel).namelist())
        self.assertEqual({name.split('/')[0].split('-')[0] for name in names}, {'brim'})
        package = {name for name in names if name.startswith('brim/')}
        source = {'brim/' + str(p.relative_to(ROOT / 'python' / 'brim'))
                  for p in (ROOT / 'python' / 'brim').rglob('*')
                  if p.suffix in ('.py', '.pyi', '.typed')}
        self.assertEqual(package, source | {
            f'brim/{module}.abi3.so' for module in ('_brim', '_snapshot', '_tier')})

        installed = self.folder / 'installed'
        run(*PIP, 'install', wheel, '--no-deps', '--no-index', '--target', installed,
            folder=self.folder)
        out = run(sys.executable, '-c', SCRIPT, self.folder / 'x.db', folder='/',
                  PYTHONPATH=str(installed))
        self.assertIn('[True, True, False]', out)
        self.assertIn(str(installed), out)
        for module in ['_brim', '_snapshot', '_tier']:
            needs = run('ldd', installed / 'brim' / f'{module}.abi3.so', folder='/')
            self.assertNotIn('libbrim', needs)
            self.assertNotIn('not found', needs)
            self.assertEqual('sqlite' in needs, module == '_snapshot')
            self.assertEqual('hiredis' in needs, module == '_tier')


if __name__ == '__main__':
    unittest.main()
