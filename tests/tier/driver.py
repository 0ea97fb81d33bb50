# SPDX-License-Identifier: MIT
"""The C++ store, driven from Python: tests/tier/store_driver.cc at the end of a pipe."""
import json
import os
import subprocess


class Driver:
    """One open store. Options are those of StoreOptions (tests/tier/store_driver.cc)."""

    def __init__(self, url, **options):
        self.child = subprocess.Popen([os.environ['BRIM_STORE_DRIVER']], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, text=True)
        self.opened = self.say(open={'url': url, **options})

    def tell(self, **message):
        self.child.stdin.write(json.dumps(message) + '\n')
        self.child.stdin.flush()

    def hear(self):
        line = self.child.stdout.readline()
        if not line:
            raise EOFError(f'the store driver ended: {self.child.wait()}')
        return json.loads(line)

    def say(self, **message):
        self.tell(**message)
        return self.hear()

    def exchange(self, pushes, **more):
        return self.say(exchange=pushes, **more)['answers']

    def push(self, rates, identity=1, more=None, **push):
        """One push; rates: a dict or several."""
        rates = rates if isinstance(rates, list) else [rates]
        return self.exchange([{'rates': rates, 'identity': identity, **push}], **more or {})[0]

    def meet(self, uuid, name='', **more):
        return self.say(meet={'uuid': uuid, 'name': name, **more})

    def counts(self):
        return self.say(counts=1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.stdin.close()
        self.child.kill()
        self.child.wait()
        self.child.stdout.close()
