#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A man page for each C function, from functions.scd and the headers.

functions.py SOURCE HEADER... --list              the pages' names, a line each
functions.py SOURCE HEADER... -- SCDOC DIRECTORY  writes NAME.3 for each

Prototypes, structs and what each function does are the headers'; they are nowhere else. It is an
error if a function is on no page, or has no comment.
"""
import pathlib
import re
import subprocess
import sys

FUNCTION = re.compile(r'(?m)(?:/\*((?:(?!\*/).)*)\*/\n)?'
                      r'^((?:int|void|const char\*) (brim_\w+)\([^;{]*\);)$', re.S | re.M)
STRUCT = re.compile(r'(?m)^typedef struct (brim_\w+) \{\n.*?^\} \1;$', re.S)
CODE = re.compile(r'BRIM_E_(\w+) = -\d+,? */\* ([^*]+?) \*/')
WORDS = {'STRUCT_SIZE': 'a struct\'s size is no size of its type, or a field is set that this library '
                        'does not know',
         'NO_MEMORY': 'an allocation failed'}


class Headers:
    def __init__(self, paths):
        self.functions = {}  # name -> (prototype, comment)
        self.structs = {}
        self.codes = dict(WORDS)
        for path in paths:
            text = pathlib.Path(path).read_text(encoding='ascii')
            self.codes |= dict(CODE.findall(text))
            for match in STRUCT.finditer(text):
                self.structs[match.group(1)] = match.group()
            for match in FUNCTION.finditer(text):
                comment = ' '.join(re.sub(r'\n \*', '\n', match.group(1) or '').split())
                self.functions[match.group(3)] = (match.group(2), comment)


def escaped(text):
    """Words of a header as scdoc takes them."""
    text = re.sub(r'([\\*<`~#])', r'\\\1', text)
    return re.sub(r'(?<!\w)_|_(?!\w)', r'\\_', text)


def pages(source):
    """The source's pages: (name, what, {functions, header, errors}, text)."""
    for part in re.split(r'(?m)^# ', source)[1:]:
        head, _, text = part.partition('\n\n')
        title, *fields = head.split('\n')
        name, what = title.split(' - ', 1)
        yield name, what, dict(line.split(': ', 1) for line in fields), text.strip()


def types_of(headers, prototypes):
    """The structs that the prototypes name, and those that these name, in the headers' order."""
    wanted, grown = set(), prototypes
    while grown:
        found = {name for name in re.findall(r'\bbrim_\w+', grown)
                 if name in headers.structs} - wanted
        wanted |= found
        grown = '\n'.join(headers.structs[name] for name in found)
    return [text for name, text in headers.structs.items() if name in wanted]


def page(headers, name, what, fields, text):
    functions = fields['functions'].split()
    prototypes = [headers.functions[each][0] for each in functions]
    library = '-lbrim-sync -lbrim' if re.search('snapshot|tier', fields['header']) else '-lbrim'
    intro, *rest = re.split(r'(?m)^(?=## )', text)
    out = [f'{name}(3)', '# NAME', f'{", ".join(functions)} - {what}', '# SYNOPSIS',
           f'```\n#include <{fields["header"]}>\n\n' + '\n'.join(prototypes) + '\n```',
           f'Link with {library}: _pkg-config --cflags --libs {library.split()[0][2:]}_',
           '# DESCRIPTION', intro.strip()]
    out += [f'*{each}*(): {escaped(headers.functions[each][1])}' for each in functions]
    types = types_of(headers, '\n'.join(prototypes))
    if types:
        out += ['# TYPES', '```\n' + '\n\n'.join(types) + '\n```',
                'Set _struct_size_ to the struct\'s size: *BRIM_INIT(*_type_*)* does, and leaves all '
                'else zero.']
    if any(each.startswith('int ') for each in prototypes) and 'errors' in fields:
        out += ['# RETURN VALUE', '0 if nothing else is said; a negative code after an error, whose '
                'message is *brim_last_error*(3).', '# ERRORS']
        out += [f'*BRIM_E_{code}*\n\t{escaped(headers.codes[code])}'
                for code in fields['errors'].split()]
    elif 'errors' not in fields:
        out += ['# RETURN VALUE', 'As said above. None of them fails.']
    out += [each.strip().replace('## ', '# ', 1) for each in rest]
    out += ['# SEE ALSO', '*brim*(1), *brim_open*(3), *brim_try_acquire*(3), *brim_strerror*(3); '
            f'the rules that hold for all functions are in <brim/brim.h>']
    return '\n\n'.join(out) + '\n'


def main():
    split = sys.argv.index('--' if '--' in sys.argv else '--list')
    headers = Headers(sys.argv[2:split])
    made = list(pages(pathlib.Path(sys.argv[1]).read_text(encoding='ascii')))
    listed = [each for _, _, fields, _ in made for each in fields['functions'].split()]
    if sorted(listed) != sorted(headers.functions):
        sys.exit(f'{sys.argv[1]}: not exactly once: '
                 f'{sorted(set(listed) ^ set(headers.functions)) or "a function is twice"}')
    silent = [each for each, (_, comment) in headers.functions.items() if not comment]
    if silent:
        sys.exit(f'without a comment in its header: {silent}')
    if sys.argv[split] == '--list':
        print('\n'.join(listed))
        return
    scdoc, folder = sys.argv[split + 1], pathlib.Path(sys.argv[split + 2])
    for name, what, fields, text in made:
        done = subprocess.run([scdoc], input=page(headers, name, what, fields, text).encode(),
                              stdout=subprocess.PIPE, check=True)
        (folder / f'{name}.3').write_bytes(done.stdout)
        for each in fields['functions'].split():
            if each != name:
                (folder / f'{each}.3').write_text(f'.so man3/{name}.3\n', encoding='ascii')


if __name__ == '__main__':
    main()
