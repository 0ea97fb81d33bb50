# SPDX-License-Identifier: MIT
"""Goal: every command of docs/guides/replay.md runs and succeeds. Method: take the indented blocks
that begin with a command and run each with bash, next to a copy of the sample log."""
import os
import re
import shutil
import subprocess
import sys
import tempfile

BRIM, SAMPLE, GUIDE = map(os.path.abspath, sys.argv[1:4])


def blocks(text):
    for block in re.findall(r'(?:^    .*\n)+', text, re.M):
        block = re.sub('^    ', '', block, flags=re.M)
        if not block.startswith('suggested:'):  # output, not a command
            yield block


with open(GUIDE, encoding='utf-8') as guide:
    commands = list(blocks(guide.read()))
assert len(commands) >= 8, commands

with tempfile.TemporaryDirectory() as directory:
    shutil.copy(SAMPLE, os.path.join(directory, 'access.log'))
    os.symlink(BRIM, os.path.join(directory, 'brim'))
    environment = dict(os.environ, PATH=directory + ':' + os.environ['PATH'])
    outputs = []
    for command in commands:
        done = subprocess.run(['bash', '-euo', 'pipefail', '-c', command], cwd=directory,
                              env=environment, capture_output=True, text=True, check=False)
        print('$ ' + command + done.stdout + done.stderr)
        assert done.returncode == 0, (command, done.returncode, done.stderr)
        assert done.stderr == '', done.stderr
        outputs.append(done.stdout)

# What the guide shows as output and says about it.
assert "suggested: --policy 'per_ip=6/m'" in outputs[0]
assert 'warning: ' in outputs[2] and 'warning: ' not in outputs[0]
