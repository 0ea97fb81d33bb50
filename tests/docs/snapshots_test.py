#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: what docs/guides/snapshots.md and docs/reference/snapshots.md say is so.

Method: all sh blocks of the guide run as one script, with segment names of this process; its
`sleep` waits for two more snapshots, for a busy machine may need longer than the reader's. The
queries and tables of the reference are compared with a real file, its errors with the sources.
BRIM_TOOL is the command, BRIM_ROOT the source tree, BRIM_RESTORED examples/restored.
"""
import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(os.environ['BRIM_ROOT'])
TOOL = os.environ['BRIM_TOOL']
NAMES = {word: f'{word}-{os.getpid()}' for word in ('shop', 'other')}

PRELUDE = r'''
trap 'kill $(jobs -p) 2>/dev/null || true' EXIT
generation() {
  brim info SHOP --format json | sed -n 's/.*"snapshot_generation": \([0-9]*\).*/\1/p'
}
sleep() {
  local last=$(($(generation) + 2))
  while (($(generation) < last)); do command sleep 0.05; done
}
'''
# For machines without the shell.
SQLITE3 = r'''#!/usr/bin/env python3
import sqlite3, sys
for row in sqlite3.connect(sys.argv[1]).execute(sys.argv[2]):
    print('|'.join(map(str, row)))
'''


def read(path):
    return (ROOT / path).read_text(encoding='utf-8')


def blocks(path, language):
    return re.findall(rf'```{language}\n(.*?)```', read(path), re.S)


class Snapshots(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        self.env = dict(os.environ, PATH=os.pathsep.join(
            [os.path.dirname(TOOL), self.folder, os.environ['PATH']]))
        if shutil.which('sqlite3') is None:
            shell = pathlib.Path(self.folder, 'sqlite3')
            shell.write_text(SQLITE3, encoding='ascii')
            shell.chmod(0o755)
        for name in NAMES.values():
            self.addCleanup(subprocess.run, [TOOL, 'unlink', name], capture_output=True,
                            check=False)

    def brim(self, *words):
        return subprocess.run([TOOL, *words], capture_output=True, text=True, check=True).stdout

    def test_guide(self):
        script = PRELUDE.replace('SHOP', NAMES['shop']) + ''.join(
            re.sub(r'\b(shop|other)\b(?!\.db)', lambda m: NAMES[m.group()], block)
            for block in blocks('docs/guides/snapshots.md', 'sh'))
        self.assertGreater(script.count('brim '), 12)
        done = subprocess.run(['bash', '-eo', 'pipefail', '-c', script], env=self.env,
                              cwd=self.folder, capture_output=True, text=True, check=False)
        told = done.stdout + done.stderr
        self.assertEqual(done.returncode, 0, told)
        self.assertIn('restored 1 keys of snapshot', told)
        self.assertIn('refused: exit status 75', told)
        self.assertRegex(told, r'per_ip\|203\.0\.113\.7\|(6\.|7\.0)')
        self.assertIn('it was renamed to broken.db.corrupt-', told)

    def test_guide_shows_the_example(self):
        shown = blocks('docs/guides/snapshots.md', 'cpp')[0]
        example = read('examples/restored.cc')
        self.assertEqual(shown.strip(), example[example.index('#include'):].strip())

    def test_example(self):
        file = os.path.join(self.folder, 'example.db')
        for left in 19, 14:
            done = subprocess.run([os.environ['BRIM_RESTORED'], NAMES['shop'], file],
                                  capture_output=True, text=True, check=True)
            self.assertTrue(done.stdout.startswith(f'1 allowed, {left} left'), done.stdout)
            self.brim('unlink', NAMES['shop'])

    def test_tables_and_queries(self):
        page = read('docs/reference/snapshots.md')
        file = os.path.join(self.folder, 'r.db')
        self.brim('create', NAMES['shop'], '--policy', 'p=5/h')
        self.brim('try', NAMES['shop'], 'k')
        self.brim('snapshot', 'take', NAMES['shop'], '--file', file)
        database = sqlite3.connect(file)
        self.addCleanup(database.close)
        tables = [name for name, in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'")]
        self.assertEqual(len(tables), 6)
        for table in tables:
            columns = ', '.join(f'`{row[1]}`' for row in
                                database.execute(f'PRAGMA table_info({table})'))
            self.assertIn(f'| `{table}` | {columns} |', page)
        view = ', '.join(row[1] for row in database.execute('PRAGMA table_info(states)'))
        self.assertIn(f'`states({view})`', page)
        for name, in database.execute('SELECT name FROM meta'):
            if not re.fullmatch(r'network_prefixes_[123]', name):
                self.assertIn(f'`{name}`', page)
        version, = database.execute('PRAGMA user_version').fetchone()
        self.assertIn(f'`user_version` {version}', page)
        queries = blocks('docs/reference/snapshots.md', 'sql')[0].strip().splitlines()
        rows = [database.execute(query).fetchall() for query in queries]
        self.assertEqual([len(row) for row in rows], [1, 1, 0, 1])

    def test_errors(self):
        known = set()
        for path in (ROOT / 'src' / 'snapshot').iterdir():
            known |= set(re.findall(r'"(snapshot_[a-z_]+): ', path.read_text(encoding='utf-8')))
        self.assertGreater(len(known), 12)
        for page in 'docs/reference/errors.md', 'docs/reference/snapshots.md':
            named = set(re.findall(r'`(snapshot_[a-z_]+)`', '\n'.join(
                re.findall(r'(?m)^\| `snapshot_\w+`.*$', read(page)))))
            fields = {'snapshot_generation', 'snapshot_age_ns', 'snapshot_duration_ns',
                      'snapshot_rows', 'snapshot_failures'}
            self.assertEqual(named - fields, known, page)


if __name__ == '__main__':
    sys.exit(0 if unittest.main(exit=False).result.wasSuccessful() else 1)
