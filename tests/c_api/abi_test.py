#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: a C program that was compiled against libbrim.so.1 once works with every later one.

Method: abi/LIBRARY.abi holds the functions, structs and constants that such programs rely on, as
abidw writes them; abidiff compares it with what the headers say now. What abidw reads is a library
of empty functions made from the headers, in C and with debug information: the real one's would be
that of every C++ type inside, and its functions are compiled against the same headers, so they can
not differ. That it exports exactly those functions, under BRIM_1.x, is compared as well.

Any difference is red until the baseline is renewed (ninja abi-renew), additions too: whoever adds a
function or field decides so, and its review sees it. Skipped without abidw and abidiff.

BRIM_LIB, BRIM_SYNC_LIB: the libraries. BRIM_ROOT: the source tree. BRIM_CC: a C compiler.
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
COMPILER = os.environ['BRIM_CC'].split()
REMEDY = ('If anything was removed, moved or changed, programs break: undo it. If there are '
          'additions only (functions, constants, fields at the end of a struct that begins with '
          'struct_size): ninja abi-renew, and commit.')
SKIP = 77  # as meson understands it
LIBRARIES = {'libbrim.so.1': (os.environ['BRIM_LIB'], ['brim.h', 'brim_inspect.h']),
             'libbrim-sync.so.1': (os.environ['BRIM_SYNC_LIB'], ['brim_snapshot.h', 'brim_tier.h'])}
FUNCTION = re.compile(r'^((?:int|void|const char\*) (brim_\w+)\([^;{]*\));$', re.M)


def run(*command, ok=(0,), cwd=None):
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd,
                          env=dict(os.environ, LC_ALL='C'))
    if done.returncode not in ok:
        raise RuntimeError(f'{command}: {done.returncode}\n{done.stdout}{done.stderr}')
    return done


def headers():
    return {path.name: path.read_text() for path in (ROOT / 'include/brim').glob('brim*.h')}


def soname(library):
    return re.search(r'SONAME.*\[(.*)\]', run('readelf', '-dW', library).stdout).group(1)


def exported(library):
    """The C functions that a library exports, with the node of each."""
    lines = run('nm', '-D', '--defined-only', library).stdout.splitlines()
    return dict(re.findall(r' T (brim_\w+)@@(\w+\.\d+)$', '\n'.join(lines), re.M))


def describe(texts, name, out):
    """What programs rely on, as abidw writes it, of these headers' texts."""
    library, own = LIBRARIES[name]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / 'brim').mkdir()
        constants = 0
        for header, text in texts.items():
            # A constant is seen if something has its type.
            parts = re.split(r'^enum \{', text, flags=re.M)
            marked = parts[0]
            for part in parts[1:]:
                variable = f'brim_{header[:-2]}_{constants}'
                constants += 1
                shown = '' if header not in own else f' {variable}'
                marked += f'enum {variable} {{' + part.replace('};', f'}}{shown};', 1)
            (folder / 'brim' / header).write_text(marked)
        bodies = ''.join(f'{prototype} {{ {"return 0;" * (prototype[:4] != "void")} }}\n'
                         for header in own for prototype, _ in FUNCTION.findall(texts[header]))
        includes = ''.join(f'#include <brim/{header}>\n' for header in own)
        (folder / 'abi.c').write_text(includes + bodies)
        run(*COMPILER, '-std=c99', '-g', '-O0', '-fcommon', '-shared', '-fPIC', '-w',
            '-I.', 'abi.c', '-o', 'abi.so', f'-Wl,-soname,{soname(library)}', cwd=folder)
        run('abidw', '--no-show-locs', '--no-comp-dir-path', '--no-corpus-path', '--no-elf-needed',
            '--type-id-style', 'hash', '--out-file', str(out), str(folder / 'abi.so'))


def difference(name, now):
    """abidiff's report; empty if there is none."""
    baseline = str(ROOT / 'abi' / f'{name}.abi')
    done = run('abidiff', '--harmless', '--no-show-locs', baseline, str(now), ok=range(16))
    return done.stdout if done.returncode else ''


class TheBaseline(unittest.TestCase):
    def test_unchanged(self):
        for name in LIBRARIES:
            with tempfile.NamedTemporaryFile(suffix='.abi') as now:
                describe(headers(), name, now.name)
                report = difference(name, now.name)
            self.assertEqual(report, '', f'{name}: {REMEDY}\n{report}')

    def test_the_library_has_these_functions(self):
        for name, (library, own) in LIBRARIES.items():
            declared = {function for header in own
                        for _, function in FUNCTION.findall(headers()[header])}
            self.assertGreater(len(declared), 5)
            found = exported(library)
            self.assertEqual(set(found), declared)
            self.assertEqual({node.rsplit('.', 1)[0] for node in found.values()}, {'BRIM_1'})
            baseline = (ROOT / 'abi' / f'{name}.abi').read_text()
            known = re.findall(r"<function-decl name='(brim_\w+)'", baseline)
            self.assertEqual(set(known), declared)
            self.assertEqual(soname(library), name)
            # No path of the machine that made it.
            self.assertEqual(re.findall(r"='/[^']*", baseline), [])


class TheCheckItself(unittest.TestCase):
    """Changes made to the headers, several at once, are all told."""

    def told(self, changes):
        texts = headers()
        for what, old, new, _ in changes:
            self.assertEqual(len(re.findall(old, texts['brim.h'], re.M)), 1, what)
            texts['brim.h'] = re.sub(old, new, texts['brim.h'], flags=re.M)
        with tempfile.NamedTemporaryFile(suffix='.abi') as now:
            describe(texts, 'libbrim.so.1', now.name)
            report = difference('libbrim.so.1', now.name)
        for what, _, _, says in changes:
            with self.subTest(what):
                self.assertRegex(report, re.compile(says, re.S))

    def test_what_breaks_programs(self):
        self.told([
            ('a removed function', r'^int brim_refund\([^;]*\);\n', '', r'Removed.*brim_refund\('),
            ('a changed parameter', r'(brim_set_factor\(.*)uint32_t parts', r'\1uint64_t parts',
             r"brim_set_factor\([^\[]*parameter 3 of type '[\w ]*uint32_t' changed"),
            ('one parameter less', r'brim_sweep\(.*, uint64_t\* freed\)',
             'brim_sweep(brim_limiter* limiter, int64_t idle_ns)',
             r"brim_sweep\([^\[]*parameter 3 of type 'uint64_t\*' was removed"),
            ('another result', r'^int brim_linked', 'const char* brim_linked',
             r'brim_linked\([^\[]*return type changed'),
            ('a removed field', r'^ *int64_t delay_ns;.*\n', '', r"deletion:\s+'int64_t delay_ns'"),
            ('a field in the middle', r'^( *)uint32_t place;', r'\1uint32_t place, more;',
             r"insertion:\s+'uint32_t more'.*'int64_t expires_ns' offset changed"),
            ('a field of another type', r'uint64_t capacity;', 'uint32_t capacity, high;',
             r"type of 'uint64_t capacity' changed"),
            ('a removed constant', r',\n *BRIM_REASON_TIER_UNAVAILABLE = 14\n', '',
             r"deletion:\s+'[\w:]*BRIM_REASON_TIER_UNAVAILABLE' value '14'"),
            ('another value', r'BRIM_E_BUSY = -6', 'BRIM_E_BUSY = -16',
             r"BRIM_E_BUSY' from value '-6' to '-16'")])

    def test_additions(self):
        self.told([
            ('a function', r'^(int brim_linked\(.*)$', r'\1\nint brim_new(int x);',
             r'1 Added.*brim_new\('),
            ('a field at the end', r'^} brim_options;', 'uint64_t more;\n} brim_options;',
             r"brim_options' changed:.*insertion:\s+'uint64_t more'"),
            ('a constant', r'(BRIM_REASON_MOVED = 13)', r'\1, BRIM_REASON_NEW = 15',
             r"insertion:\s+'[\w:]*BRIM_REASON_NEW' value '15'")])


if __name__ == '__main__':
    if not all(map(shutil.which, ('abidw', 'abidiff'))):
        print('skipped: abigail-tools is not installed')
        sys.exit(SKIP)
    if sys.argv[1:] == ['--renew']:
        for each in LIBRARIES:
            describe(headers(), each, ROOT / 'abi' / f'{each}.abi')
        sys.exit(0)
    sys.exit(0 if unittest.main(exit=False, verbosity=1).result.wasSuccessful() else 1)
