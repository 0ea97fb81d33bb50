# SPDX-License-Identifier: MIT
"""Goal: what is built and installed has the protections that the build asks for, and the
libraries export the functions of include/brim and nothing else.

Method: readelf and nm on the libraries and the command as built and as installed, readelf on the
library's objects, and the compile commands themselves. Each check is also shown a file or a text
that it must refuse. Skipped where a sanitizer replaces what is looked for.

BRIM_LIB, BRIM_SYNC_LIB and BRIM_TOOL are the binaries, BRIM_BUILD the build directory, BRIM_ROOT
the source tree, BRIM_CC the compiler, BRIM_SANITIZE, BRIM_LTO and BRIM_OPTIMIZATION the options of
the build.
"""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

LIB, SYNC, TOOL = (os.environ[f'BRIM_{name}'] for name in ('LIB', 'SYNC_LIB', 'TOOL'))
BUILD, ROOT = os.environ['BRIM_BUILD'], pathlib.Path(os.environ['BRIM_ROOT'])
COMPILER = os.environ['BRIM_CC'].split()
LTO, OPTIMIZED = os.environ['BRIM_LTO'] == 'true', os.environ['BRIM_OPTIMIZATION'] != '0'
SKIP = 77  # as meson understands it

PUBLIC_CLASSES = {LIB: ['Limiter', 'PolicyHandle', 'Inspector', 'StateReader', 'StateWriter',
                        'ClusterView'],
                  SYNC: ['Snapshotter', 'SnapshotLoop', 'SnapshotThread', 'TierLoop',
                         'TierThread']}
SYNC_HEADERS = {'snapshot.h', 'brim_snapshot.h', 'tier.h', 'brim_tier.h'}  # others: libbrim.so's
# What a symbol's version must be: for C the interface's, for C++ the release's.
VERSION = re.compile(r'@@BRIM_(1\.\d+|CXX_[\w.]+)$')


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True,
                          env=dict(os.environ, LC_ALL='C')).stdout


def faults(path, program):
    """What is weak in an ELF file, as a list of short names."""
    header, dynamic = run('readelf', '-hW', path), run('readelf', '-dW', path)
    found = []
    if not re.search(r'Type:\s+DYN', header) or (program and not re.search(r'NOW.* PIE', dynamic)):
        found.append('not position independent')
    segments = run('readelf', '-lW', path)
    for kind, flags in re.findall(r'^  (\w+) +(?:0x\w+ +){5}([RWE ]{3})', segments, re.M):
        if 'W' in flags and 'E' in flags:
            found.append('executable stack' if kind == 'GNU_STACK' else 'writable code')
    if 'GNU_STACK' not in segments:
        found.append('executable stack')
    if 'GNU_RELRO' not in segments:
        found.append('no relro')
    if not re.search(r'\(FLAGS(_1)?\).*\bNOW\b', dynamic):
        found.append('lazy binding')
    if 'TEXTREL' in dynamic:
        found.append('text relocations')
    path_entry = re.search(r'\((?:RPATH|RUNPATH)\).*\[(.*)\]', dynamic)
    if path_entry:
        found.append('search path ' + path_entry.group(1))
    imported = run('nm', '-D', '--undefined-only', path)
    if '__stack_chk_fail' not in imported:
        found.append('no stack protector')
    # libbrim-sync calls nothing that could be fortified; test_flags has its flags.
    if OPTIMIZED and 'brim-sync' not in str(path) and \
            not re.search(r'\b__(?!stack_)\w+_chk\b', imported):
        found.append('not fortified')
    return found


def control_flow(path):
    """The control-flow marks of an ELF file or object: a subset of IBT, SHSTK."""
    marks = re.search(r'x86 feature: ([\w, ]+)', run('readelf', '-nW', path))
    return set(marks.group(1).replace(',', ' ').split()) if marks else set()


def exported(path):
    """Names with their versions; a version itself is a symbol (A)."""
    return [line.split(None, 2)[2] for line in
            run('nm', '-DC', '--defined-only', path).splitlines() if line.split()[1] != 'A']


def declared(library):
    """Names of the functions that a library's headers declare and do not define."""
    functions, members = set(), {}
    for header in sorted((ROOT / 'include/brim').glob('*.h')):
        if (header.name in SYNC_HEADERS) != (library == SYNC):
            continue
        text = re.sub(r'//[^\n]*|/\*.*?\*/', '', header.read_text(), flags=re.S)
        functions |= set(re.findall(r'^(?!inline|constexpr|using|static_assert|#)\w[\w:<>,&* ]*?'
                                    r'[ &*](\w+)\((?:[^;{}]|{})*\)[ \w]*;', text, re.M))
        for name in PUBLIC_CLASSES[library]:
            body = re.search(rf'^class {name} {{\n(.*?)^}};', text, re.M | re.S)
            if body:
                public = body.group(1).split(' private:')[0]
                members[name] = set(re.findall(
                    r'^  \w[\w:<>,&* ]*?[ &*](\w+)\((?:[^;{}]|{})*\)[ \w]*;', public, re.M))
    return functions, members


def leaks(symbols, library=LIB):
    """Exported names that no header of the library declares."""
    functions, _ = declared(library)
    inner = re.compile(rf'brim::(?:{"|".join(PUBLIC_CLASSES[library])})::(?!Impl)')
    outer = re.compile(r'(?:brim::(\w+)(?:\[abi:cxx11\])?\(|(brim_\w+)@@BRIM_1)')

    def is_declared(name):
        match = outer.match(name)
        return bool(match) and (match.group(1) or match.group(2)) in functions
    return [name for name in symbols if not VERSION.search(name) or
            (name.startswith('brim::') != ('@@BRIM_CXX_' in name)) or
            not (inner.match(name) or is_declared(name))]


class Hardening(unittest.TestCase):
    def test_built(self):
        for library in (LIB, SYNC):
            self.assertEqual([each for each in faults(library, program=False)
                              if each != 'search path $ORIGIN/'], [], library)
        # Finds the library in the build tree; gone when installed.
        self.assertEqual(faults(TOOL, program=True), ['search path $ORIGIN/../src'])

    def test_installed(self):
        with tempfile.TemporaryDirectory() as folder:
            run('meson', 'install', '-C', BUILD, '--no-rebuild', '--quiet', '--tags', 'runtime',
                '--destdir', folder)
            files = [path for path in pathlib.Path(folder).rglob('*')
                     if path.is_file() and not path.is_symlink()]
            libraries = [path for path in files if '.so' in path.name]
            programs = [path for path in files if path.name in ('brim', 'brim-serve')]
            self.assertEqual(len(libraries), 2, files)
            # The second one only where there is the HTTP library.
            self.assertEqual({path.name for path in programs} - {'brim-serve'}, {'brim'}, files)
            for library in libraries:
                self.assertEqual(faults(library, program=False), [], library)
            for program in programs:
                self.assertEqual(faults(program, program=True), [], program)
            for path in files:
                self.assertEqual(path.stat().st_mode & 0o6022, 0, path)

    def test_control_flow_marks(self):
        if LTO:
            self.skipTest('objects hold no code under LTO')
        objects = sorted(pathlib.Path(BUILD, 'src').glob('libbrim_*core.a.p/*.o'))
        self.assertGreater(len(objects), 5)
        for path in objects:
            self.assertEqual(control_flow(path), {'IBT', 'SHSTK'}, path)
        # The linker keeps a mark only if every input has it, the system's start files too.
        start = run(*COMPILER, '-print-file-name=crti.o').strip()
        if control_flow(start):
            self.assertEqual(control_flow(LIB), control_flow(start))
        else:
            print('note: this system\'s crti.o has no control-flow marks, so no binary here can')

    def test_flags(self):
        wanted = ['-fstack-protector-strong', '-fstack-clash-protection', '-fcf-protection']
        if OPTIMIZED:
            wanted.append('-D_FORTIFY_SOURCE=3')
        seen = 0
        with open(os.path.join(BUILD, 'compile_commands.json'), encoding='utf-8') as file:
            for entry in json.load(file):
                path = os.path.relpath(os.path.join(entry['directory'], entry['file']), ROOT)
                if path.split('/')[0] not in ('src', 'shm', 'tools'):
                    continue
                seen += 1
                words = entry['command'].split()
                for flag in wanted:
                    self.assertIn(flag, words, path)
        self.assertGreater(seen, 40)

    def test_exports(self):
        for library, least in ((LIB, 12), (SYNC, 3)):
            symbols = exported(library)
            self.assertEqual(leaks(symbols, library), [])
            functions, members = declared(library)
            self.assertGreater(len(functions), least)
            self.assertEqual(sorted(members), sorted(PUBLIC_CLASSES[library]))
            for name in functions:
                self.assertTrue([s for s in symbols if re.match(rf'(brim::)?{name}\b', s)], name)
            for owner, names in members.items():
                # A thread has nothing but its beginning and its end.
                least = -1 if owner in ('SnapshotThread', 'TierThread') else 1
                self.assertGreater(len(names), least, owner)
                for name in names:
                    self.assertTrue([s for s in symbols
                                     if re.match(rf'brim::{owner}::{name}\b', s)],
                                    f'{owner}::{name}')


class TheChecksThemselves(unittest.TestCase):
    """A check that finds nothing proves nothing: each is given what it must refuse."""

    def build(self, folder, name, *flags):
        source = os.path.join(folder, 'weak.cc')
        with open(source, 'w', encoding='ascii') as file:
            file.write('#include <cstring>\n'
                       'extern "C" int f(const char* s) { char b[64]; strcpy(b, s); return b[3]; }'
                       '\nint main(int, char** v) { return f(v[0]); }\n')
        out = os.path.join(folder, name)
        run(*COMPILER, source, '-o', out, *flags)
        return out

    def test_a_weak_program_is_refused(self):
        with tempfile.TemporaryDirectory() as folder:
            weak = self.build(folder, 'weak', '-O2', '-U_FORTIFY_SOURCE', '-fno-stack-protector',
                              '-no-pie', '-Wl,-z,norelro', '-Wl,-z,lazy', '-Wl,-z,execstack',
                              '-Wl,-rpath,/tmp', '-fcf-protection=none')
            found = faults(weak, program=True)
            for fault in ['not position independent', 'executable stack', 'no relro',
                          'lazy binding', 'search path /tmp', 'no stack protector']:
                self.assertIn(fault, found)
            if OPTIMIZED:
                self.assertIn('not fortified', found)
            self.assertEqual(control_flow(weak), set())

    def test_leaks_are_found(self):
        inner = [name + '@@BRIM_CXX_0.1.0' for name in (
            'brim::shm::Segment::map(brim::shm::Access const&)', 'absl::Status::~Status()',
            'brim_toml::v3::node::node()', 'brim::internal::clock_anchors',
            'boost::interprocess::mapped_region::~mapped_region()', 'brim_open',
            'brim::compile(brim::Policy const&)', 'vtable for brim::x')]
        inner += ['brim_unheard@@BRIM_1.0', 'brim_open', 'brim::validate(brim::Policy const&)',
                  'brim::validate(brim::Policy const&)@@BRIM_1.0']
        self.assertEqual(leaks(inner + ['brim::validate(brim::Policy const&)@@BRIM_CXX_0.1.0',
                                        'brim_open@@BRIM_1.0']), inner)


if __name__ == '__main__':
    if os.environ['BRIM_SANITIZE'] != 'none':
        print('skipped: a sanitizer replaces the protections that are looked for')
        sys.exit(SKIP)
    sys.exit(0 if unittest.main(exit=False, verbosity=1).result.wasSuccessful() else 1)
