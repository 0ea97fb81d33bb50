# SPDX-License-Identifier: MIT
"""What the tests of the package share: a segment of this test's own, gone at its end."""
import itertools
import os
import unittest

import brim

_numbers = itertools.count()


def unique_name(what: str = 'test') -> str:
    return f'python-{what}-{os.getpid()}-{next(_numbers)}'


class SegmentTest(unittest.TestCase):
    """A segment for each test. Rates are per day or year: no load makes a permit flow back."""

    def setUp(self) -> None:
        self.name = unique_name()
        self.addCleanup(self.remove, self.name)

    @staticmethod
    def remove(name: str) -> None:
        try:
            brim.Limiter.unlink(name)
        except brim.NotFound:
            pass

    def open(self, **policies: str) -> brim.Limiter:
        return brim.open(self.name, policies=policies, capacity=4096)
