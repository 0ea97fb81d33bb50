# SPDX-License-Identifier: MIT
"""Goal: the man page and --help name the same commands, options and exit codes. Method: the help
texts of the real binary are the list; the page's source must have each in the right section."""
import os
import re
import shutil

from support import BrimTest, main


def sections(source):
    parts = re.split(r'(?m)^# (.+)$', source)
    return dict(zip(parts[1::2], parts[2::2]))


class Man(BrimTest):
    def setUp(self):
        with open(os.environ['BRIM_MAN'], encoding='ascii') as file:
            self.page = sections(file.read().replace('\\_', '_'))
        self.help = self.good('--help').text
        listed = self.help[self.help.index('Subcommands:'):self.help.index('Exit status')]
        self.commands = re.findall(r'(?m)^  ([a-z]+) ', listed)

    def test_every_command_has_a_section_and_a_synopsis(self):
        self.assertGreaterEqual(len(self.commands), 7)
        for command in self.commands:
            self.assertIn(command.upper(), self.page)
            self.assertRegex(self.page['SYNOPSIS'], rf'\*brim\* \*{command}\*')

    def usage(self, command):
        """Its help, and that of the commands below it."""
        text = self.good(command, '--help').text
        below = re.findall(r'(?m)^  ([a-z]+) ', text[text.index('Subcommands:'):]) \
            if 'Subcommands:' in text else []
        for each in below:
            self.assertRegex(self.page['SYNOPSIS'], rf'\*brim\* \*{command}\* \*{each}\*')
        return text + ''.join(self.good(command, each, '--help').text for each in below)

    def test_every_option_is_described(self):
        for command in self.commands:
            usage = self.usage(command)
            options = re.findall(r'(?m)^  (?:-\w,)?(--[a-z-]+)', usage)
            self.assertIn('--help', options)
            text = self.page[command.upper()]
            for option in options:
                described = re.search(rf'\*{option}\*', text) or (
                    option == '--help' and '*--help*' in self.page['COMMON OPTIONS'])
                self.assertTrue(described, (command, option))

    def test_page_of_each_command(self):
        """It says what --help says, and is installed: brim-dump(1)."""
        for command in self.commands:
            what = self.good(command, '--help').text.splitlines()[0]
            self.assertTrue(self.page[command.upper()].startswith(f'\n\n; {what}\n'), command)
            path = os.path.join(os.environ['BRIM_MAN_PAGES'], f'brim-{command}.1')
            if shutil.which('scdoc') is not None:
                with open(path, encoding='utf-8') as file:
                    text = file.read()
                self.assertIn(f'brim\\-{command}', text.replace('brim-', 'brim\\-'))
                self.assertIn('.SH SYNOPSIS', text)

    def test_no_option_is_invented(self):
        for command in self.commands:
            known = set(re.findall(r'--[a-z-]+', self.usage(command)))
            for term in re.findall(r'(?m)^\*.*$', self.page[command.upper()]):
                if not term.startswith('*brim*'):
                    for option in re.findall(r'\*(--[a-z-]+)\*', term):
                        self.assertIn(option, known, command)

    def test_every_exit_code(self):
        codes = re.findall(r'(?m)^\*(\d+)\*$', self.page['EXIT STATUS'])
        self.assertEqual(codes, ['0', '1', '2', '3', '4', '75'])
        for code in codes:
            self.assertRegex(self.help, rf'\b{code} ')


if __name__ == '__main__':
    main()
