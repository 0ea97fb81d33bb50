#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: what the guides, and README.md, show is what happens.

Method, and so the rule for whoever writes one. Of each guide, in order:
 - a ```python block that begins with `# file: NAME` is written to that file of an empty folder
   (```ini, ```toml and ```sh blocks alike); every other ```python block runs, in one namespace for
   the guide, in a process of its own that starts in the folder;
 - of a ```console block each line `$ COMMAND` runs in bash, with the lines up to the next `$` as
   its output. Numbers may differ, `...` stands for anything, order counts, blanks and lines left
   out do not. `$ gunicorn ...` and `$ uvicorn ...` start a server that the commands after it talk
   to, until the next one or the end of the guide; a `# ...` at a command's end is a comment;
 - a block in any other language, or after a line `<!-- not run: REASON -->`, is left alone.
The segment in guides is called `shop`, and nothing else is; servers listen on port 8000; what
requests go out to is https://api.example.com. The test puts its own in their places.

BRIM_ROOT is the source tree, BRIM_TOOL the command. Arguments: names of guides, else all.
"""
import http.server
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(__file__))
import serving

ROOT = pathlib.Path(os.environ["BRIM_ROOT"])
TOOL = os.environ.get("BRIM_TOOL", "brim")
GUIDES = ROOT / "docs" / "guides"
SEGMENT = f"guide-{os.getpid()}"
BLOCK = re.compile(r"(?:^<!-- not run: (?P<skip>[^\n]*) -->\n+)?"
                   r"^```(?P<kind>\w+)\n(?P<text>.*?)^```$", re.M | re.S)
FILE = re.compile(r"# file: ([\w.-]+)\n")


class Answerer(http.server.BaseHTTPRequestHandler):
    """https://api.example.com: 200 for all."""
    protocol_version = "HTTP/1.1"

    def do_GET(self):  # the name is http.server's
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    do_POST = do_GET

    def log_message(self, *_):
        pass


def blocks(text):
    """(kind, text) of the blocks that count."""
    for found in BLOCK.finditer(text):
        if found["skip"] is None:
            yield found["kind"], found["text"]


def steps(text):
    """('file', name, text), ('python', text), ('command', line, [expected line])."""
    for kind, block in blocks(text):
        if named := FILE.match(block):
            if kind in ("python", "ini", "toml", "sh"):
                yield "file", named[1], block
        elif kind == "python":
            yield "python", block
        elif kind == "console":
            for part in re.split(r"^\$ ", block, flags=re.M)[1:]:
                command, *output = part.rstrip("\n").split("\n")
                while command.endswith("\\"):
                    command = command[:-1] + output.pop(0)
                yield "command", re.sub(r"\s+# .*", "", command), output


def pattern_of(line):
    """A regular expression for a line of output as a guide shows it."""
    parts = re.split(r"(\.\.\.|\d+)", line)
    return "".join(".*" if part == "..." else r"\d+" if part.isdigit() else re.escape(part)
                   for part in parts)


def unlike(shown, output):
    """The first line shown that does not come in the output, after those before it; or None."""
    lines = iter([" ".join(line.split()) for line in output.splitlines()])
    for want in filter(None, (" ".join(line.split()) for line in shown)):
        pattern = re.compile(pattern_of(want))
        if not any(pattern.fullmatch(line) for line in lines):
            return want
    return None


class Runner:
    """Runs one guide's steps."""

    def __init__(self, folder, example):
        self.folder = pathlib.Path(folder)
        self.example = example
        self.server = None
        self.port = serving.free_port()
        self.python = []
        bin_folder = self.folder / ".bin"
        bin_folder.mkdir()
        (bin_folder / "python3").symlink_to(sys.executable)
        self.env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PATH": os.pathsep.join(
            [str(bin_folder), os.path.dirname(TOOL), os.environ["PATH"]])}

    def own(self, text):
        text = re.sub(r"\bshop\b", SEGMENT, text).replace("https://api.example.com", self.example)
        return re.sub(r"\b(127\.0\.0\.1|localhost):8000\b", rf"\1:{self.port}", text)

    def file(self, name, text):
        (self.folder / name).write_text(self.own(text), encoding="utf-8")

    def command(self, line, shown):
        if line.startswith(("gunicorn ", "uvicorn ")):
            return self.serve(shlex.split(line))
        done = subprocess.run(["bash", "-c", self.own(line)], cwd=self.folder, env=self.env,
                              capture_output=True, text=True, errors="replace", check=False,
                              timeout=serving.DEADLINE_S)
        missing = unlike([self.own(want) for want in shown], done.stdout + done.stderr)
        if missing is not None:
            raise AssertionError(f"$ {line}\nshows no {missing!r} but\n{done.stdout}{done.stderr}"
                                 + "\n".join(self.server.log if self.server else []))
        return None

    def serve(self, words):
        self.stop()
        self.server = serving.Server([word.replace("8000", "{port}") for word in words],
                                     self.folder, self.env, self.port)
        self.server.ready()

    def stop(self):
        if self.server is not None:
            self.server.stop()
            self.server = None

    def run_python(self):
        """All blocks so far, as one program."""
        if not self.python:
            return
        program = self.own("\n\n".join(self.python))
        self.python = []
        done = subprocess.run([sys.executable, "-c", program], cwd=self.folder, env=self.env,
                              capture_output=True, text=True, errors="replace", check=False,
                              timeout=serving.DEADLINE_S)
        if done.returncode != 0:
            raise AssertionError(done.stderr)

    def run(self, text):
        ran = 0
        for kind, *what in steps(text):
            ran += 1
            if kind == "python":
                self.python.append(what[0])
            else:
                getattr(self, kind)(*what)
        self.run_python()
        return ran


class Guides(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answerer)
        cls.http.daemon_threads = True
        cls.thread = threading.Thread(target=cls.http.serve_forever, args=(0.05,), daemon=True)
        cls.thread.start()

    @classmethod
    def tearDownClass(cls):
        cls.http.shutdown()
        cls.thread.join()
        cls.http.server_close()

    def run_text(self, text):
        with tempfile.TemporaryDirectory() as folder:
            runner = Runner(folder, f"http://127.0.0.1:{self.http.server_address[1]}")
            try:
                return runner.run(text)
            finally:
                runner.stop()
                pathlib.Path(f"/dev/shm/{SEGMENT}").unlink(missing_ok=True)

    def test_what_is_wrong_is_found(self):
        for wrong in ("```python\nassert 1 == 2\n```\n",
                      "```console\n$ echo one\ntwo\n```\n",
                      "```console\n$ printf 'b\\na\\n'\na\nb\n```\n",
                      "```python\n# file: a.py\nx = 1\n```\n```python\nimport a\na.y\n```\n"):
            with self.subTest(wrong), self.assertRaises(AssertionError):
                self.run_text(wrong)
        self.assertEqual(self.run_text("```console\n$ echo a 12 b # say\na 7 ...\n```\n"
                                       "```text\nnothing\n```\n"
                                       "<!-- not run: no -->\n```python\n1/0\n```\n"), 1)


def of_guide(path):
    def run(self):
        text = path.read_text(encoding="utf-8")
        self.assertEqual(text.count("\n```") + text.startswith("```"),
                         2 * len(BLOCK.findall(text)), "a block that is not read")
        self.assertGreater(self.run_text(text), 0)
    return run


for guide in [ROOT / "README.md", *sorted(GUIDES.glob("*.md"))]:
    if "\n```python\n" in guide.read_text(encoding="utf-8"):
        setattr(Guides, f"test_{guide.stem.lower().replace('-', '_')}", of_guide(guide))

if __name__ == "__main__":
    unittest.main()
