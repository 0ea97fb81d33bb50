#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: docs/design/faults.md names a test for each fault and promise whose part exists, and every
test it names exists.

Method: reads the tables; a test `Suite.Name` must be a TEST of the file named before it, a
`test_name` a method; the number of the fault must be in one of the files of its row. BRIM_ROOT is
the source tree.
"""
import os
import pathlib
import re
import sys
import unittest

ROOT = pathlib.Path(os.environ['BRIM_ROOT'])
# Listed with the part that they wait for.
LATER = {'P13', 'P14'}


def problems(text, root=ROOT):
    """What is wrong with the tables, and the numbers they have."""
    found, numbers = [], set()
    for row in re.findall(r'^\| ([FP]\d.*) \|$', text, re.M):
        heads = re.findall(r'[FP]\d+', row.split(' |')[0])
        heads = heads[:1] if heads[0][0] == 'F' else heads
        numbers |= set(heads)
        files, tests, path = [], 0, None
        for word in re.findall(r'`([^`]+)`', row):
            if word.startswith('tests/'):
                path = root / word
                files.append(path)
                if not path.is_file():
                    found.append(f'{heads[0]}: there is no {word}')
                    path = None
            elif path is not None and re.fullmatch(r'\w+\.\w+|test_\w+', word):
                tests += 1
                suite, _, name = word.rpartition('.')
                pattern = (rf'^ *def {name}\(' if not suite else
                           rf'^TEST(_F|_P)?\({suite}, {name}\)')
                if not re.search(pattern, path.read_text(), re.M):
                    found.append(f'{heads[0]}: {path.name} has no test {word}')
        if set(heads) <= LATER:
            continue
        if tests == 0:
            found.append(f'{heads[0]}: no test')
        if heads[0][0] == 'F' and not any(covers(path.read_text(), heads[0]) for path in files
                                          if path.is_file()):
            found.append(f'{heads[0]}: its number is in none of its files')
    return found, numbers


def covers(text, number):
    """The number itself, or a range such as F18 to F20 that has it."""
    if re.search(rf'{number}(?!\d)', text):
        return True
    return any(int(a) <= int(number[1:]) <= int(b)
               for a, b in re.findall(r'F(\d\d) to F(\d\d)', text))


class Faults(unittest.TestCase):
    def test_tables(self):
        found, numbers = problems((ROOT / 'docs/design/faults.md').read_text(encoding='utf-8'))
        self.assertEqual(found, [])
        self.assertEqual(numbers, {f'F{n:02}' for n in range(1, 51)} |
                         {f'P{n}' for n in range(1, 17)})

    def test_the_check_itself(self):
        row = '| F01 x | y | `tests/segment/race_test.cc` `F01.AllOpenersShareOneSegment` |'
        self.assertEqual(problems(row), ([], {'F01'}))
        for old, new in [('AllOpeners', 'NoOpeners'), ('race_test', 'no_test'),
                         ('`F01.AllOpenersShareOneSegment`', ''), ('F01 x', 'F51 x')]:
            self.assertNotEqual(problems(row.replace(old, new))[0], [], new)


if __name__ == '__main__':
    sys.exit(0 if unittest.main(exit=False).result.wasSuccessful() else 1)
