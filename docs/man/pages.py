#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A man page for each command, cut from the one source of them all.

pages.py SOURCE --list              the commands, a line each
pages.py SOURCE SCDOC DIRECTORY     writes brim-COMMAND.1 for each

A command's section in SOURCE begins with a comment, "; What it does", which is what the command's
--help says, too.
"""
import os
import re
import subprocess
import sys

SECTION = re.compile(r'(?m)^# ([A-Z ]+)\n\n(?:; (.+)\n)?')


def commands(source):
    """Command -> (what it does, its lines of the synopsis, its section)."""
    parts = SECTION.split(source)
    sections = list(zip(parts[1::3], parts[2::3], parts[3::3]))
    synopsis = next(text for name, _, text in sections if name == 'SYNOPSIS')
    found = {}
    for name, what, text in sections:
        command = name.lower()
        lines = [line for line in synopsis.splitlines() if line.startswith(f'*brim* *{command}*')]
        if lines and what is not None:
            found[command] = (what, lines, text.strip())
    return found


def page(command, what, synopsis, text):
    text = re.sub(r'(?m)^##+ ', '# ', text).replace('*COMMON OPTIONS*', '*brim*(1)')
    lines = '\n'.join(synopsis)
    return (f'brim-{command}(1)\n\n# NAME\n\nbrim-{command} - {what[0].lower() + what[1:]}\n\n'
            f'# SYNOPSIS\n\n{lines.removesuffix("++")}\n\n# DESCRIPTION\n\n{text}\n\n'
            '# SEE ALSO\n\n*brim*(1): options that commands share, policies and rates, output, exit '
            'status.\n')


def main():
    with open(sys.argv[1], encoding='ascii') as file:
        pages = commands(file.read())
    if sys.argv[2] == '--list':
        print('\n'.join(pages))
        return
    for command, (what, synopsis, text) in pages.items():
        done = subprocess.run([sys.argv[2]], input=page(command, what, synopsis, text).encode(),
                              stdout=subprocess.PIPE, check=True)
        with open(os.path.join(sys.argv[3], f'brim-{command}.1'), 'wb') as file:
            file.write(done.stdout)


if __name__ == '__main__':
    main()
