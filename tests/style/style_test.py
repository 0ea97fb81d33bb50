#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The rules of the tree that a compiler does not check, and a test of each rule.

Goal: whoever reads one folder may rely on what the others do not do. Method: the files are read as
text; every rule is a function from the tree to a list of "file:line: what is wrong". Each rule is
also run on a small tree with a planted violation, which it must report: a rule that finds nothing
proves nothing.

Layers: a file includes its own layer or a lower one, so it can be read, and moved down, without
those above it. What is allowed beyond that is listed here, each with its reason.
"""
import os
import pathlib
import re
import tempfile
import unittest

ROOT = pathlib.Path(os.environ.get('BRIM_ROOT', pathlib.Path(__file__).resolve().parents[2]))

LAYERS = [  # first match wins
    (0, r'src/base/[^/]+'),
    (0, r'include/brim/(address|decision|policy|policy_report)\.h'),
    (5, r'include/brim/brim(_\w+)?\.h'),
    (5, r'src/c_api(_\w+)?\.(cc|h)'),  # stands on the public headers, but for the handles
    (1, r'src/(hash\.h|algo/[^/]+)'),
    (2, r'shm/[^/]+'),
    (3, r'src/(engine|limiter|decide|booking|lease|change|inspect|address|compile|overrides)\.cc'),
    (3, r'src/(state_reader|state_writer|sweep|audit|change_overrides)\.cc'),
    (3, r'src/(override_list|hot_keys|use|strict)\.(cc|h)'),
    (3, r'src/(settle\.cc|cluster\.cc|terms\.h|slot_name\.h)'),
    (3, r'src/(state_reader|state_writer|sweep|pause|follow|route|carry|resize(_\w+)?)\.cc'),
    (3, r'src/(parts(_\w+)?|policy(_\w+)?|verify(_\w+)?|worst_case)\.cc'),
    (3, r'src/(engine|call|cell_context|change|compile|make_rate|overrides|parts|state)\.h'),
    (3, r'src/(policy_\w+|verify(_\w+)?|worst_case|route|carry|resize|audit)\.h'),
    (5, r'include/brim/(limiter|inspect|policy_file|verify|state|snapshot|resize|cluster|tier)\.h'),
    (5, r'src/(snapshot|sync|tier)/[^/]+'),  # libbrim-sync: stands on the public headers
    (6, r'tools/[^/]+'),
    (6, r'examples/.+'),
    (6, r'python/src/[^/]+'),
]

# (file, what it includes) beyond its layer.
INCLUDE_EXCEPTIONS = {
    ('src/hash.h', 'shm/layout.h'):
        'the fingerprint is cut to the bits that layout.h gives it and avoids its two reserved '
        'ids; layout.h includes nothing of the project (checked below)',
    ('src/engine.h', 'include/brim/limiter.h'): 'declares the Engine that the public header names',
    ('src/call.h', 'include/brim/limiter.h'): 'declares what a call asks for',
    ('src/parts.h', 'include/brim/limiter.h'): 'the same, of a call on several rates',
    ('src/decide.cc', 'include/brim/limiter.h'): 'implements it',
    ('src/settle.cc', 'include/brim/limiter.h'): 'implements it',
    ('src/booking.cc', 'include/brim/limiter.h'): 'implements it',
    ('src/lease.cc', 'include/brim/limiter.h'): 'implements it',
    ('src/change.cc', 'include/brim/limiter.h'): 'implements it',
    ('src/change_overrides.cc', 'include/brim/limiter.h'): 'implements it',
    ('src/limiter.cc', 'include/brim/limiter.h'): 'implements it',
    ('src/inspect.cc', 'include/brim/inspect.h'): 'implements it',
    ('src/policy_file.cc', 'include/brim/policy_file.h'): 'implements it',
    ('src/verify.h', 'include/brim/verify.h'): 'implements it',
    ('src/sweep.cc', 'include/brim/limiter.h'): 'implements it',
    ('src/audit.cc', 'include/brim/limiter.h'): 'implements it',
    ('src/audit.cc', 'include/brim/inspect.h'): 'implements it',
    ('src/hot_keys.cc', 'include/brim/inspect.h'): 'implements it',
    ('src/pause.cc', 'include/brim/limiter.h'): 'implements it',
    ('src/resize.cc', 'include/brim/resize.h'): 'implements it',
    ('src/state.h', 'include/brim/state.h'): 'its values, for the arithmetic below',
    ('src/state_reader.cc', 'include/brim/state.h'): 'implements it',
    ('src/cluster.cc', 'include/brim/cluster.h'): 'implements it',
    ('src/strict.cc', 'include/brim/cluster.h'): 'implements it',
    ('src/terms.h', 'include/brim/cluster.h'): 'its values, for the arithmetic',
    ('src/state_writer.cc', 'include/brim/state.h'): 'implements it',
    ('src/policy_file_text.h', 'include/brim/policy_file.h'): 'its reader',
    ('python/src/decider.cc', 'src/c_api.h'): 'the core of one module asks a decider of another',
    ('python/src/tier_decider.cc', 'src/tier/c_api.h'): 'and this is the other',
}

# Token -> the library's files that may use it. A new name here is a decision, not a formality.
ATOMICS = {
    'include/brim/limiter.h',  # the type of a manual clock
    'src/base/clock.h', 'src/base/clock.cc',
    'shm/atomic128.h', 'shm/slot.h', 'shm/table.h', 'shm/counters.h', 'shm/layout.h',
    'shm/registry.h', 'shm/registry.cc', 'shm/segment.h', 'shm/segment.cc', 'shm/attachments.cc',
    'shm/names.h', 'shm/cells.h', 'shm/overrides.h', 'shm/snapshot_status.h',
    'shm/audit.h', 'shm/hot_keys.h', 'shm/consumption.h',
    'src/cluster.cc', 'src/strict.cc',  # words of the board that only count or are for people
    'shm/succession.h',
    'src/engine.h', 'src/follow.cc',  # the way to a table that took the place of this one
    'src/lease.cc',  # numbers this process's holders
    'src/snapshot/sqlite.cc',  # this process's connections
    'src/tier/strict.cc',  # the stores of this process
    'src/c_api_options.h',  # the type of a manual clock
}
ALLOWED = {
    'atomic access': (r'std::atomic|\bmemory_order|__atomic_|__sync_|\basm\b', ATOMICS),
    'inline assembly': (r'\basm\b', {'shm/atomic128.h', 'shm/counters.h'}),
    'memory mapping': (r'\b(mmap|munmap|mremap|madvise|mprotect|mapped_region|file_mapping)\b',
                       {'shm/segment.h', 'shm/segment.cc'}),
    'sleeping': (r'\b(clock_nanosleep|nanosleep|usleep|sleep|poll|select|futex)\s*\(',
                 {'src/booking.cc', 'shm/registry.cc',  # the lock of writers
                  'src/tier/wait.cc'}),  # for another machine, with a deadline
    'clock reading': (r'clock_gettime|rdtsc|\bchrono\b|gettimeofday|\btime\s*\(\s*(NULL|nullptr|0)',
                      {'src/base/clock.h', 'src/base/clock.cc',
                       'src/snapshot/restore.cc',  # the wall clock of a snapshot
                       'src/sync/loop_thread.h',   # a wait for the next round
                       'src/tier/strict.cc', 'src/tier/wait.cc'}),
    'exception': (r'\b(throw|catch|try)\b',
                  {'shm/segment.cc', 'src/sync/loop_thread.h', 'src/follow.cc',
                   'src/tier/strict.cc',
                   'src/c_api.h'}),  # the boundary that none crosses
    'allocation by hand': (r'\bnew\b(?!\s*\()|\bdelete\s|\b(malloc|calloc|realloc|free)\s*\(',
                           # Process-wide lists that must outlive every static destructor.
                           {'shm/segment.cc', 'src/base/lock_descriptors.h',
                            'src/c_api_open.cc', 'src/cluster.cc'}),
}

# Between a request and its decision: nothing that allocates.
REQUEST_PATH = ['src/decide.cc', 'src/settle.cc', 'src/use.cc', 'src/strict.cc',
                'src/hash.h', 'src/policy_words.h', 'src/base/clock.h',
                'src/base/word.h', 'shm/table.h', 'shm/slot.h', 'shm/atomic128.h',
                'shm/counters.h', 'shm/cells.h', 'shm/leases.h', 'shm/overrides.h',
                'src/address.cc', 'src/call.h', 'src/cell_context.h', 'src/overrides.cc',
                'src/parts.h', 'src/parts.cc', 'src/parts_cells.cc']
ALLOCATES = (r'\bstd::(string|vector|map|set|deque|list|function|unordered_\w+|make_shared|'
             r'make_unique|stringstream|ostringstream)\b(?!_view)')

ALGO_INCLUDES = {'algorithm', 'cstdint', 'limits', 'numeric', 'brim/decision.h', 'brim/policy.h'}
ALGO_FORBIDDEN = (r'\b(float|double|throw|try|catch|new|delete|volatile|'
                  r'thread_local|mutable|asm|f?printf|chrono|clock_gettime|atomic\w*|virtual)\b'
                  r'|std::(string|vector|function|cout|cerr|atomic)|__atomic_|__sync_|__rdtsc'
                  r'|\bmalloc\b|\d\.\d|\binline\b(?! constexpr)')

# Spelled in pieces, so that this file does not break its own rule.
MACHINE_PATH = r'(?<![\w./<>-])/(' + '|'.join(['wo' + 'rk', 'ro' + 'ot', 'ho' + 'me/\\w+']) + r')\b'
FORBIDDEN_WORDS = r'\b' + 'T' + r'TL\b'

SPDX = 'SPDX-License-Identifier: MIT'
MAX_COLUMNS = 100
MAX_LINES = 420
MAX_TEST_LINES = 600
CODE_FOLDERS = ['include', 'src', 'shm', 'tools', 'examples', 'python', 'tests', 'benchmarks']
LIBRARY = ('include/', 'src/', 'shm/')


class Tree:
    """The project's own text files under one root, read once."""

    def __init__(self, root):
        self.root = pathlib.Path(root)
        self.text = {}
        for folder in CODE_FOLDERS:
            for path in sorted((self.root / folder).rglob('*')):
                name = path.relative_to(self.root).as_posix()
                if path.is_file() and re.search(r'\.(h|cc|c|py|sh|in)$|/meson\.build$', name):
                    self.text[name] = path.read_bytes().decode('utf-8', 'surrogateescape')
        for name in ['meson.build', 'meson_options.txt']:
            if (self.root / name).is_file():
                self.text[name] = (self.root / name).read_text()

    def files(self, *prefixes, ext=r'(h|cc?)'):
        return [n for n in self.text
                if n.startswith(prefixes or ('',)) and re.search(rf'\.{ext}$', n)]

    def lines(self, name):
        return enumerate(self.text[name].split('\n'), 1)

    def code(self, name):
        """The lines without comments, strings and characters; numbering kept."""
        pattern = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'(?!\d)|//[^\n]*|/\*.*?\*/'

        def blank(match):
            kept = '\n' * match.group().count('\n')
            return '""' + kept if match.group()[0] in '"' else ' ' + kept

        # Digit separators are not characters.
        text = re.sub(r"(?<=\d)'(?=\d)", '', self.text[name])
        keep_includes = re.sub(r'^(\s*#\s*include\s*)"', r'\1<', text, flags=re.M)
        return enumerate(re.sub(pattern, blank, keep_includes, flags=re.S).split('\n'), 1)

    def includes(self, name):
        for number, line in self.lines(name):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if match:
                yield number, match.group(1) == '"', match.group(2)


def layer_of(name):
    return next((n for n, pattern in LAYERS if re.fullmatch(pattern, name)), None)


def resolved(tree, target):
    """The project file an include names, or None for another library's."""
    if target.startswith('brim/'):
        return 'include/' + target
    folders = r'(src|shm|tools|examples|python|tests|benchmarks)/'
    return target if re.match(folders, target) else None


def rule_layers(tree):
    for name in tree.files('include/', 'src/', 'shm/', 'tools/', 'examples/', 'python/'):
        own = layer_of(name)
        if own is None:
            yield f'{name}:1: in no layer: give it one in style_test.py'
            continue
        for number, _, target in tree.includes(name):
            other = resolved(tree, target)
            if other is None or (name, other) in INCLUDE_EXCEPTIONS:
                continue
            layer = layer_of(other)
            if layer is None or layer > own:
                yield f'{name}:{number}: layer {own} includes {target} of layer {layer}'
            elif own == 2 and layer == 1:
                yield f'{name}:{number}: shm/ may not know {target}: the step arrives as a callable'
            elif own == 6 and not other.startswith(('include/brim/', name.split('/')[0] + '/')):
                yield f'{name}:{number}: {target} is internal; tools and examples use brim/*.h'
            elif own in (0, 5) and name.startswith('include/') and not target.startswith('brim/'):
                yield f'{name}:{number}: a public header may not include {target}'


def rule_layout_stands_alone(tree):
    for number, quoted, target in (tree.includes('shm/layout.h')
                                   if 'shm/layout.h' in tree.text else []):
        if quoted:
            yield f'shm/layout.h:{number}: includes {target}; src/hash.h relies on it being a leaf'


def is_c_header(tree, name):
    return 'extern "C"' in tree.text[name]


def rule_public_headers(tree):
    """Public headers name no Boost, shm or system type, are installed, and compile alone."""
    for name in tree.files('include/', ext='h'):
        for number, quoted, target in tree.includes(name):
            if '/' in target and not target.startswith(('brim/', 'absl/')):
                yield f'{name}:{number}: a public header may not include {target}'
            # C has no <cstdint>.
            if not quoted and target.endswith('.h') and not (
                    target in ('stddef.h', 'stdint.h') and is_c_header(tree, name)):
                yield f'{name}:{number}: a public header may not include <{target}>'
        short = name.removeprefix('include/')
        if f"'{short}'" not in tree.text.get('include/meson.build', ''):
            yield f'{name}:1: not in install_headers of include/meson.build'
        if f"'{pathlib.Path(name).stem}'" not in tree.text.get('tests/style/meson.build', ''):
            yield f'{name}:1: not in the headers suite of tests/style/meson.build'


def rule_includes_from_root(tree):
    """From the root; but programs are built like a user's, without it, and name their siblings."""
    siblings = {pathlib.PurePosixPath(n).name: str(pathlib.PurePosixPath(n).parent)
                for n in tree.files('tools/', 'examples/', ext='h')}
    for name in tree.files():
        folder = str(pathlib.PurePosixPath(name).parent)
        for number, quoted, target in tree.includes(name):
            project = resolved(tree, target)
            home = siblings.get(target)
            if quoted and home is not None and (home == folder or name.startswith('tests/')):
                continue
            if '..' in target or target.startswith('./'):
                yield f'{name}:{number}: write the include from the root: {target}'
            elif quoted and project is None and not target.startswith('absl/'):
                yield f'{name}:{number}: write the include from the root, or <...>: {target}'
            elif project is not None and (not quoted or project not in tree.text):
                yield f'{name}:{number}: no such file of the project, or not in quotes: {target}'


def rule_tokens(tree):
    for what, (pattern, allowed) in ALLOWED.items():
        for name in tree.files(*LIBRARY):
            if name in allowed:
                continue
            for number, line in tree.code(name):
                if '#include' not in line and re.search(pattern, line):
                    yield f'{name}:{number}: {what} is not for this file: {line.strip()}'


def rule_request_path(tree):
    for name in REQUEST_PATH:
        for number, line in (tree.code(name) if name in tree.text else []):
            if re.search(ALLOCATES, line):
                yield f'{name}:{number}: may allocate, on the request path: {line.strip()}'


def rule_algo(tree):
    for name in tree.files('src/algo/'):
        if name.endswith('.cc'):
            yield f'{name}:1: algorithms are constexpr headers'
        for number, _, target in tree.includes(name):
            if target not in ALGO_INCLUDES and not target.startswith(('src/algo/', 'src/base/')):
                yield f'{name}:{number}: an algorithm needs no {target}'
            if target.startswith('src/base/') and target not in ('src/base/uint128.h',
                                                                 'src/base/word.h'):
                yield f'{name}:{number}: an algorithm needs no {target}'
        for number, line in tree.code(name):
            found = re.search(ALGO_FORBIDDEN, line)
            if found and '#include' not in line:
                yield f'{name}:{number}: {found.group()} in an algorithm'
            if re.match(r'[A-Za-z_][\w:<>, ]*[ &*]\w+\(', line) and not re.match(
                    r'(constexpr|static_assert|template|requires|namespace)\b', line):
                yield f'{name}:{number}: a function that is not constexpr'


def rule_licence(tree):
    for name in tree.files(ext='(h|cc|c|py|sh|in)'):
        lines = tree.text[name].split('\n')
        first = lines[1] if lines[0].startswith('#!') and len(lines) > 1 else lines[0]
        if first not in (f'// {SPDX}', f'# {SPDX}', f'/* {SPDX}'):
            yield f'{name}:1: does not begin with "{SPDX}"'


def rule_guards(tree):
    for name in tree.files(ext='h'):
        path = re.sub(r'^include/brim/', '', name)
        guard = 'BRIM_' + re.sub(r'[^A-Za-z0-9]', '_', path).upper() + '_'
        text = tree.text[name]
        if not (f'\n#ifndef {guard}\n#define {guard}\n' in text
                and text.rstrip().endswith((f'#endif  // {guard}', f'#endif /* {guard} */'))):
            yield f'{name}:1: header guard is not {guard}'


def rule_text(tree):
    for name in tree.text:
        text = tree.text[name]
        if not text.endswith('\n') and text:
            yield f'{name}:1: does not end with a newline'
        if text.endswith('\n\n'):
            yield f'{name}:1: ends with an empty line'
        for number, line in tree.lines(name):
            if '\t' in line:
                yield f'{name}:{number}: a tab'
            if line != line.rstrip():
                yield f'{name}:{number}: trailing blanks'
            if len(line) > MAX_COLUMNS:
                yield f'{name}:{number}: {len(line)} columns, more than {MAX_COLUMNS}'
            if re.search(MACHINE_PATH, line):
                yield f'{name}:{number}: a path of one machine'
            if re.search(FORBIDDEN_WORDS, line):
                yield f'{name}:{number}: say idle or period; the word is another project\'s'


def rule_sizes(tree):
    for name in tree.files(ext='(h|cc?|py)'):
        most = MAX_TEST_LINES if name.startswith('tests/') else MAX_LINES
        count = tree.text[name].count('\n')
        if count > most:
            yield f'{name}:1: {count} lines, more than {most}: split it by what it does'


def rule_no_dead_files(tree):
    """A source is named in a meson.build: as x.cc, or in a list of names without ending."""
    for name in tree.files(ext='cc?'):
        path = pathlib.PurePosixPath(name)
        stems = {path.stem, path.stem.removesuffix('_test'), path.name}
        # A folder's own meson.build, or one above or beside it that reaches in by path.
        inside = tree.text.get(f'{path.parent}/meson.build', '')
        others = '\n'.join(t for n, t in tree.text.items() if n.endswith('meson.build'))
        if not any(f"'{stem}'" in inside for stem in stems) and \
                not re.search(rf"'[^']*\b{path.parent.name}/{re.escape(path.name)}'", others):
            yield f'{name}:1: no meson.build names it'


RULES = [rule_layers, rule_layout_stands_alone, rule_public_headers, rule_includes_from_root,
         rule_tokens, rule_request_path, rule_algo, rule_licence, rule_guards, rule_text,
         rule_sizes, rule_no_dead_files]


class TheTree(unittest.TestCase):
    """The rules on the project itself: one test each, all findings at once."""


def add_tree_test(rule):
    def test(self):
        found = list(rule(Tree(ROOT)))
        if found:
            self.fail(f'{len(found)} findings\n' + '\n'.join(found))
    setattr(TheTree, 'test_' + rule.__name__[len('rule_'):], test)


for one in RULES:
    add_tree_test(one)

HEADER = '// ' + SPDX + '\n#ifndef {0}\n#define {0}\n{1}\n#endif  // {0}\n'


def header(guard, body):
    return HEADER.format(guard, body)


class TheRules(unittest.TestCase):
    """Each rule on a tree with one planted violation, and on the same tree without it."""

    def found(self, rule, files):
        with tempfile.TemporaryDirectory() as root:
            for name, text in files.items():
                path = pathlib.Path(root) / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return list(rule(Tree(root)))

    def caught(self, rule, name, text, says, **others):
        found = self.found(rule, {name: text, **others})
        self.assertTrue(any(f.startswith(name + ':') and says in f for f in found),
                        f'{rule.__name__} missed it: {found}')

    def clean(self, rule, files):
        self.assertEqual(self.found(rule, files), [])

    def test_layers(self):
        include = '#include "{}"\n'.format
        for name, target, says in [
                ('src/base/word.h', 'shm/layout.h', 'layer 0 includes'),
                ('src/algo/gcra.h', 'shm/layout.h', 'layer 1 includes'),
                ('src/algo/gcra.h', 'brim/limiter.h', 'layer 1 includes'),
                ('shm/table.h', 'src/engine.h', 'layer 2 includes'),
                ('shm/table.h', 'src/hash.h', 'shm/ may not know'),
                ('shm/table.h', 'src/algo/step.h', 'shm/ may not know'),
                ('src/limiter.cc', 'brim/inspect.h', 'layer 3 includes'),
                ('src/limiter.cc', 'tools/output.h', 'layer 3 includes'),
                ('include/brim/limiter.h', 'shm/layout.h', 'public header'),
                ('include/brim/policy.h', 'src/base/word.h', 'public header'),
                ('tools/main.cc', 'src/engine.h', 'is internal'),
                ('tools/main.cc', 'examples/a.h', 'is internal'),
                ('examples/minimal.cc', 'shm/table.h', 'is internal'),
                ('python/src/decide.c', 'src/call.h', 'is internal'),
                ('src/base/word.h', 'src/nowhere/x.h', 'layer None')]:
            self.caught(rule_layers, name, include(target), says)
        self.caught(rule_layers, 'src/surprise.cc', '', 'in no layer')
        self.clean(rule_layers, {
            'src/hash.h': include('shm/layout.h'), 'shm/table.h': include('src/base/word.h'),
            'src/limiter.cc': include('brim/limiter.h') + include('src/algo/step.h'),
            'tools/main.cc': include('brim/limiter.h') + include('tools/output.h'),
            'include/brim/limiter.h': include('brim/policy.h') + include('absl/status/status.h')})

    def test_layout_stands_alone(self):
        self.caught(rule_layout_stands_alone, 'shm/layout.h', '#include "src/base/word.h"\n',
                    'leaf')
        self.clean(rule_layout_stands_alone, {'shm/layout.h': '#include <atomic>\n'})

    def test_public_headers(self):
        name = 'include/brim/limiter.h'
        listed = {'include/meson.build': "'brim/limiter.h'", 'tests/style/meson.build': "'limiter'"}
        for bad in ['<boost/any.hpp>', '<sys/mman.h>', '"shm/layout.h"', '<unistd.h>',
                    '<stdint.h>']:
            self.caught(rule_public_headers, name, f'#include {bad}\n', 'may not include', **listed)
        self.caught(rule_public_headers, name, '', 'install_headers')
        self.caught(rule_public_headers, name, '', 'headers suite')
        self.clean(rule_public_headers, {
            name: '#include <atomic>\n#include "absl/status/status.h"\n', **listed})
        self.clean(rule_public_headers, {name: '#include <stdint.h>\nextern "C" {\n', **listed})

    def test_includes_from_root(self):
        for bad in ['"word.h"', '"../base/word.h"', '"./word.h"', '"gtest/gtest.h"',
                    '<src/base/word.h>', '"src/base/none.h"', '"base/word.h"']:
            self.caught(rule_includes_from_root, 'src/a.cc', f'#include {bad}\n', ':1:')
        self.caught(rule_includes_from_root, 'src/a.cc', '#include "output.h"\n', ':1:',
                    **{'tools/output.h': ''})
        self.caught(rule_includes_from_root, 'tools/a.cc', '#include "none.h"\n', ':1:')
        self.clean(rule_includes_from_root, {
            'src/base/word.h': '', 'include/brim/policy.h': '', 'tools/output.h': '',
            'tools/main.cc': '#include "output.h"\n', 'tests/x_test.cc': '#include "output.h"\n',
            'src/a.cc': '#include <gtest/gtest.h>\n#include "src/base/word.h"\n'
                        '#include "brim/policy.h"\n#include "absl/status/status.h"\n'})

    def test_tokens(self):
        for bad, says in [('std::atomic<int> a;', 'atomic'), ('__atomic_load_n(p, 0);', 'atomic'),
                          ('__sync_synchronize();', 'atomic'), ('asm volatile("");', 'assembly'),
                          ('a.load(std::memory_order_relaxed);', 'atomic'),
                          ('mmap(0, 1, 2, 3, 4, 5);', 'mapping'), ('madvise(p, 1, 2);', 'mapping'),
                          ('boost::interprocess::mapped_region r;', 'mapping'),
                          ('clock_gettime(0, &t);', 'clock'), ('__rdtsc();', 'clock'),
                          ('std::chrono::steady_clock::now();', 'clock'),
                          ('time(nullptr);', 'clock'),
                          ('usleep(1);', 'sleeping'), ('nanosleep(&t, nullptr);', 'sleeping'),
                          ('throw 1;', 'exception'), ('} catch (...) {', 'exception'),
                          ('auto* p = new int;', 'allocation'), ('delete p;', 'allocation'),
                          ('malloc(1);', 'allocation'), ('free(p);', 'allocation')]:
            self.caught(rule_tokens, 'src/inspect.cc', bad + '\n', says)
        self.clean(rule_tokens, {
            'src/inspect.cc': '// a new throw, mmap\n"new throw"; a = delete_all; /* std::atomic\n'
                              'new */ token_clock(now); new_key = 1; A(const A&) = delete;\n',
            'shm/atomic128.h': 'std::atomic<int> a; asm volatile("");\n'})
        self.assertEqual(len(self.found(rule_tokens, {'shm/table.h': 'asm("");\n'})), 1)

    def test_request_path(self):
        for bad in ['std::string s;', 'std::vector<int> v;', 'std::make_shared<int>(1);',
                    'std::function<void()> f;']:
            self.caught(rule_request_path, 'src/decide.cc', bad + '\n', 'may allocate')
        self.clean(rule_request_path, {'src/decide.cc': 'std::string_view s; // std::string\n',
                                       'src/limiter.cc': 'std::string s;\n'})

    def test_algo(self):
        for bad in ['constexpr double f() { return 1; }', 'constexpr int f() { throw 1; }',
                    'constexpr int f() { return 0.5 * 2; }', 'std::atomic<int> a;',
                    'static int* p = new int;', 'int f() { return 1; }',
                    'inline int f() { return 1; }', 'uint64_t g(Word word) noexcept {',
                    '#include <cstdio>', '#include <chrono>', '#include "src/base/clock.h"',
                    'constexpr void f() { printf(""); }',
                    'constexpr auto f() { return __rdtsc(); }']:
            self.caught(rule_algo, 'src/algo/gcra.h', bad + '\n', ':1:')
        self.caught(rule_algo, 'src/algo/gcra.cc', '', 'constexpr headers')
        self.clean(rule_algo, {'src/algo/gcra.h': '#include <cstdint>\n#include "src/base/word.h"\n'
                                                  '// a double, 2.5 times\n'
                                                  'constexpr uint64_t f(Word word) noexcept {\n'
                                                  '  return token_clock(word);\n}\n'
                                                  'inline constexpr int kMax = 2;\n'})

    def test_licence(self):
        self.caught(rule_licence, 'src/a.cc', '// A file.\n', 'does not begin')
        self.caught(rule_licence, 'tests/a.py', '#!/usr/bin/env python3\n"""A."""\n', 'begin')
        self.clean(rule_licence, {'src/a.cc': f'// {SPDX}\n', 'src/meson.build': '',
                                  'tests/a.sh': f'#!/bin/sh\n# {SPDX}\n'})

    def test_guards(self):
        self.caught(rule_guards, 'shm/table.h', header('BRIM_TABLE_H_', ''), 'BRIM_SHM_TABLE_H_')
        self.caught(rule_guards, 'shm/table.h', '#pragma once\n', 'BRIM_SHM_TABLE_H_')
        self.clean(rule_guards, {'shm/table.h': header('BRIM_SHM_TABLE_H_', ''),
                                 'include/brim/policy.h': header('BRIM_POLICY_H_', ''),
                                 'src/algo/gcra.h': header('BRIM_SRC_ALGO_GCRA_H_', '')})

    def test_text(self):
        paths = ['/' + 'work/main/x', '"/' + 'root/.ssh"', '/' + 'home/user/x']
        for bad, says in [('int a;', 'newline'), ('int a;\n\n', 'empty line'),
                          ('\tint a;\n', 'tab'), ('int a; \n', 'trailing'),
                          ('x' * 101 + '\n', '101 columns'),
                          ('// the T' + 'TL of a key\n', 'idle')] + [
                              (f'// see {path}\n', 'one machine') for path in paths]:
            self.caught(rule_text, 'src/a.cc', bad, says)
            self.caught(rule_text, 'tests/meson.build', bad, says)
        self.clean(rule_text, {'src/a.cc': 'x' * 100 + '\n', 'src/b.cc': '// docs/' + 'work/a\n',
                               'src/c.cc': 'é' * 100 + '\n'})

    def test_sizes(self):
        self.caught(rule_sizes, 'src/a.cc', 'int a;\n' * 421, '421 lines')
        self.caught(rule_sizes, 'tests/a.cc', 'int a;\n' * 601, '601 lines')
        self.clean(rule_sizes, {'src/a.cc': 'int a;\n' * 420, 'tests/a.cc': 'int a;\n' * 600})

    def test_no_dead_files(self):
        self.caught(rule_no_dead_files, 'src/a.cc', '', 'no meson.build',
                    **{'src/meson.build': "library('x', 'aa.cc')\n"})
        self.clean(rule_no_dead_files, {'src/a.cc': '', 'shm/b.cc': '', 'shm/c.c': '',
                                        'src/meson.build': "library('x', 'a.cc', '../shm/b.cc',"
                                                           " '../shm/c.c')\n"})


if __name__ == '__main__':
    unittest.main()
