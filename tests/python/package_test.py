# SPDX-License-Identifier: MIT
"""The package as it was built: what is in it, and what its modules show and need."""
import os
import pathlib
import re
import subprocess
import unittest

import brim


class Build(unittest.TestCase):

    def test_shows_nothing_else(self):
        """No symbol that could meet another library's; no library of the project is needed."""
        folder = pathlib.Path(brim.__file__).parent
        for module in ['_brim', '_snapshot', '_tier']:
            file = folder / f'{module}.abi3.so'
            shown = subprocess.run(['nm', '-D', '--defined-only', file], capture_output=True,
                                   text=True, check=True).stdout.split('\n')
            self.assertEqual([line.split()[-1] for line in shown if line], [f'PyInit_{module}'])
            needed = subprocess.run(['readelf', '-d', file], capture_output=True, text=True,
                                    check=True).stdout
            self.assertNotIn('libbrim', needed)

    def test_every_file_is_in_the_lists(self):
        """The package of the build has what the source folder has, and nothing older."""
        built = pathlib.Path(brim.__file__).parent
        source = pathlib.Path(os.environ['BRIM_ROOT'], 'python', 'brim')
        for file in source.rglob('*'):
            if file.suffix in ('.py', '.pyi', '.typed'):
                copy = built / file.relative_to(source)
                self.assertTrue(copy.is_file(), f'{file.name} is in no meson.build')
                self.assertEqual(copy.read_bytes(), file.read_bytes(), file.name)

    def test_little_thread_local_storage(self):
        """It comes out of what the loader keeps for all modules together, about 1.6 kB."""
        for module in ['_brim', '_snapshot', '_tier']:
            file = pathlib.Path(brim.__file__).parent / f'{module}.abi3.so'
            headers = subprocess.run(['readelf', '-lW', file], capture_output=True, text=True,
                                     check=True).stdout
            size = int(re.search(r'^ *TLS +(?:0x\w+ +){4}(0x\w+)', headers, re.M)[1], 16)
            self.assertLess(size, 256, module)


if __name__ == '__main__':
    unittest.main()
