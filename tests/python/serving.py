# SPDX-License-Identifier: MIT
"""Real servers as children, and a client that counts: for servers_test.py and guides_test.py."""
import asyncio
import collections
import os
import signal
import socket
import subprocess
import sys
import threading
import time

PYTHON = sys.executable
DEADLINE_S = 120

# The command line of each kind, before the app; {port} is a free one. A connection that a slow
# machine leaves idle for some seconds is not to be closed: it would look like a lost request.
GUNICORN = ["gunicorn", "-w", "4", "-b", "127.0.0.1:{port}", "--keep-alive", "600"]
ASYNC = ["-k", "uvicorn.workers.UvicornWorker"]
KINDS = {
    "gunicorn-uvicorn": [*GUNICORN, *ASYNC],
    "gunicorn-uvicorn-preload": [*GUNICORN, *ASYNC, "--preload"],
    "gunicorn-sync": GUNICORN,
    "uvicorn-spawn": ["uvicorn", "--workers", "4", "--host", "127.0.0.1", "--port", "{port}",
                      "--timeout-keep-alive", "600"],
}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children(pid):
    """Pids of the direct children of a process."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as stat:
                if int(stat.read().rsplit(")", 1)[1].split()[1]) == pid:
                    found.append(int(name))
        except (FileNotFoundError, ProcessLookupError):
            pass
    return found


def wait_until(condition, what, seconds=DEADLINE_S):
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s: {what()}" if callable(what) else what)
        time.sleep(0.02)
    return result


class Server:
    """A server as a child: follows its log, knows its port, ends with all its workers."""

    def __init__(self, arguments, folder, env=None, port=None):
        self.log = []
        self.workers = set()
        self.port = port or free_port()
        arguments = [one.replace("{port}", str(self.port)) for one in arguments]
        self.process = subprocess.Popen(
            [PYTHON, "-m", *arguments], cwd=folder, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1",
                 **(env or {})})
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.log.append(line.rstrip("\n"))

    def ready(self, workers=1):
        """Waits until it listens and so many workers have begun; the port."""
        def look():
            if self.process.poll() is not None:
                raise AssertionError("the server ended:\n" + "\n".join(self.log))
            log = "\n".join(self.log)
            begun = log.count("startup complete") or log.count("Booting worker")
            return f"http://127.0.0.1:{self.port}" in log and begun >= workers
        wait_until(look, lambda: "no server:\n" + "\n".join(self.log))
        return self.port

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        """At once, workers too: a graceful end takes seconds, and is not what is looked at."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGSTOP)  # so that it starts no more of them
            self.workers |= set(children(self.process.pid))
            self.process.kill()
            self.process.wait()
        for pid in self.workers:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        self._reader.join(timeout=DEADLINE_S)
        self.process.stdout.close()


Answer = collections.namedtuple("Answer", "job status headers body")


class Load:
    """Concurrent requests that are never repeated: each job is answered, or counted in broken.

    A job is (path, {header: value}). `answers` grows while it runs.
    """

    def __init__(self, port, connections=24):
        self.port = port
        self.connections = connections
        self.answers = []
        self.broken = collections.Counter()  # by job's path and headers

    def run(self, jobs):
        asyncio.run(self.main(jobs))
        return self.answers

    async def main(self, jobs):
        queue = iter(jobs)
        await asyncio.gather(*(self._client(queue) for _ in range(self.connections)))

    async def _client(self, queue):
        reader = writer = None
        for count, job in enumerate(queue, 1):
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                answer = await asyncio.wait_for(exchange(reader, writer, job), DEADLINE_S)
            except (OSError, EOFError):
                self.broken[key_of(job)] += 1
                answer = None
            else:
                self.answers.append(answer)
            # A new connection now and then, so that each worker gets some.
            if writer and (answer is None or count % 20 == 0
                           or answer.headers.get("connection") == "close"):
                writer.close()
                writer = None
        if writer:
            writer.close()


def key_of(job):
    path, fields = job
    return path, *fields.values()


async def exchange(reader, writer, job):
    path, fields = job
    lines = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{k}: {v}" for k, v in fields.items())]
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in filter(None, head[1:]):
        name, value = line.split(":", 1)
        name, value = name.lower(), value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Answer(job, int(head[0].split()[1]), headers, body)


def by_key(answers):
    """{(path, key): Counter of statuses}."""
    counts = collections.defaultdict(collections.Counter)
    for answer in answers:
        counts[key_of(answer.job)][answer.status] += 1
    return counts
