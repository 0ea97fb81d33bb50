#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: docs/concepts/algorithms.md says what the limiter does.

Method: draws its pictures again from real decisions and compares the bytes with the committed ones;
creates a segment with every policy text of the page; looks up every rule of the public enum, every
clause of the reference and every picture in the page. BRIM_TIMELINE is examples/timeline, BRIM_ROOT
the source tree.
"""
import os
import pathlib
import re
import subprocess
import sys
import unittest
import xml.etree.ElementTree

ROOT = pathlib.Path(os.environ['BRIM_ROOT'])
PROGRAM = os.environ['BRIM_TIMELINE']
PAGE = ROOT / 'docs/concepts/algorithms.md'
IMAGES = ROOT / 'docs/concepts/img'
TOOL = ROOT / 'docs/tools/timeline.py'
SVG = '{http://www.w3.org/2000/svg}'

# A rate: with its number and unit, so a formula (`W L / P`) or a clause (`burst B`) is none.
POLICY = r'(rate=)?([a-z-]+ )?\d+r?/\d*[a-z]+\b.*|concurrency \d+.*|unlimited|deny'


def load_tool():
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(TOOL.parent))
    return __import__(TOOL.stem)


def spans(text):
    """What stands in code: indented blocks by line, and between backquotes."""
    blocks = re.findall(r'^ {4}(\S.*)$', text, re.M)
    inline = re.findall(r'`([^`\n]+)`', re.sub(r'^ {4}.*$', '', text, flags=re.M))
    return blocks, inline


def policies(text):
    blocks, inline = spans(text)
    return sorted({span for span in blocks + inline if re.fullmatch(POLICY, span)})


def define(policy):
    """What creating a segment with this policy ends with: exit status, message."""
    done = subprocess.run([PROGRAM, policy], capture_output=True, text=True, check=False)
    return done.returncode, done.stderr.strip()


class Pictures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.drawn = load_tool().draw_all(PROGRAM)

    def test_are_the_committed_ones(self):
        for name, text in self.drawn.items():
            kept = (IMAGES / name).read_bytes() if (IMAGES / name).exists() else b''
            self.assertEqual(kept, text.encode(),
                             f'{name} shows other decisions: look at them, then run '
                             f'docs/tools/timeline.py {PROGRAM}')
        self.assertEqual({path.name for path in IMAGES.iterdir()}, set(self.drawn))

    def test_do_not_depend_on_the_moment(self):
        self.assertEqual(load_tool().draw_all(PROGRAM), self.drawn)

    def test_say_in_words_what_they_show(self):
        for name, text in self.drawn.items():
            root = xml.etree.ElementTree.fromstring(text)
            ids = {child.get('id') for child in root if child.tag in (SVG + 'title', SVG + 'desc')}
            self.assertEqual(set(root.get('aria-labelledby').split()), ids, name)
            self.assertRegex(root.find(SVG + 'desc').text, r'\d of \d at (0\.9 s|25\.2 days)', name)
            self.assertIn('prefers-color-scheme: dark', root.find(SVG + 'style').text, name)

    def test_show_decisions(self):
        """The facts of the page, read from the pictures' own words."""
        def admitted(name):
            words = xml.etree.ElementTree.fromstring(self.drawn[name]).find(SVG + 'desc').text
            return [int(n) for n in re.findall(r'(\d+) of \d+ at', words)]
        for name, first_two in [('gcra', [5, 0]), ('debt', [8, 0]), ('forward', [2, 0]),
                                ('queue', [6, 0]), ('fixed-window', [5, 5]), ('first-hit', [5, 0]),
                                ('calendar-window', [5, 5]), ('sliding-log', [5, 0]),
                                ('sliding-counter', [5, 0]), ('concurrency', [3, 0])]:
            self.assertEqual(admitted(f'{name}.svg')[:2], first_two, name)
        self.assertEqual(sum(admitted('ban.svg')[1:-1]), 0)
        self.assertLess(sum(admitted('warm-up.svg')), sum(admitted('gcra.svg')))


class Page(unittest.TestCase):
    def setUp(self):
        self.text = PAGE.read_text(encoding='utf-8')

    def test_every_policy_is_one(self):
        found = policies(self.text)
        self.assertGreater(len(found), 40)
        for policy in found:
            with self.subTest(policy):
                self.assertEqual(define(policy), (0, ''))

    def test_the_check_finds_wrong_policies(self):
        found = policies('`5/s bursts 3` and `W L / P`, `burst B`, `queue 5/s`\n\n'
                         '    sliding-log 0.5/s\n    owed + c <= B + D\n    5/min ban 3\n')
        self.assertEqual(found, ['5/min ban 3', '5/s bursts 3', 'queue 5/s'])
        self.assertEqual([define(policy)[0] for policy in found], [1, 1, 0])
        self.assertIn('invalid_policy', define('5/s bursts 3')[1])

    def test_names_every_rule_of_the_enum(self):
        header = (ROOT / 'include/brim/policy.h').read_text(encoding='utf-8')
        enum = re.search(r'enum class Algorithm[^{]*\{(.*?)\};', header, re.S).group(1)
        names = re.findall(r'^\s*k(\w+) = ', enum, re.M)
        self.assertGreaterEqual(len(names), 11)
        headings = ' '.join(re.findall(r'^#+ (.*)$', self.text, re.M)).lower()
        for name in names:
            word = re.sub(r'(?<!^)(?=[A-Z])', '-', name).lower()
            self.assertIn(word, headings, f'{name} has no section')

    def test_names_every_clause_of_the_reference(self):
        reference = (ROOT / 'docs/reference/policies.md').read_text(encoding='utf-8')
        tables = reference[reference.index('| clause |'):reference.index('## The worst case')]
        clauses = re.findall(r'^\| `([a-z-]+)', tables, re.M)
        self.assertGreater(len(clauses), 15)
        code = ' '.join(sum(spans(self.text), []))
        for clause in clauses:
            if clause == 'aligned':  # the default, not written
                continue
            self.assertRegex(code, rf'(^|[ ]){clause}\b', f'{clause} is not in the page')

    def test_shows_every_picture(self):
        shown = re.findall(r'!\[[^\]]+\]\(img/([^)]+)\)', self.text)
        self.assertEqual(sorted(shown), sorted(path.name for path in IMAGES.iterdir()))

    def test_links_lead_somewhere(self):
        for link in re.findall(r'\]\(([^)#]+)\)', self.text):
            self.assertTrue((PAGE.parent / link).exists(), link)


if __name__ == '__main__':
    sys.exit(0 if unittest.main(exit=False).result.wasSuccessful() else 1)
