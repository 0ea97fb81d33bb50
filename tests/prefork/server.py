# SPDX-License-Identifier: MIT
"""A prefork_server under test, and a plain client. Standard library only."""

import os
import re
import signal
import socket
import subprocess
import threading
import time

DEADLINE_S = 60


class Server:
    """Starts the server on a free port and follows its log; ends it by its pid."""

    def __init__(self, binary, segment, policy, workers=4, key="header:X-API-Key"):
        self.process = subprocess.Popen(
            [binary, "--segment", segment, "--policy", policy, "--workers", str(workers),
             "--key", key], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.log = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        line = self.process.stdout.readline()
        match = re.fullmatch(r"listening on 127\.0\.0\.1:(\d+)\n", line)
        self.port = int(match.group(1)) if match else None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.rstrip("\n"))

    def stop(self):
        """SIGTERM, then the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self):
        code = self.process.wait(timeout=DEADLINE_S)
        self._reader.join(timeout=DEADLINE_S)
        self.process.stdout.close()
        self.process.stderr.close()
        return code

    def started(self):
        """Pids of all workers ever started."""
        return [int(line.split()[1]) for line in self.log
                if re.fullmatch(r"worker \d+ started", line)]

    def live(self):
        """Pids of the workers that have not been seen to end."""
        ended = {int(line.split()[1]) for line in self.log if " ended (" in line}
        return [pid for pid in self.started() if pid not in ended]


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        return stat.read().rsplit(")", 1)[1].split()[0] != "Z"


def wait_until(condition, what, seconds=DEADLINE_S):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds} s: {what}")
        time.sleep(0.01)


def unlink_segment(name):
    try:
        os.unlink("/dev/shm/" + name)
    except FileNotFoundError:
        pass


class Connection:
    """One keep-alive connection that never retries: each call is answered or raises OSError."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = self.socket.makefile("rb")

    def close(self):
        self.stream.close()
        self.socket.close()

    def get(self, key=None, path="/", method="GET"):
        """Returns (status, headers, body); header names are lower-case."""
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
        if key is not None:
            lines.append(f"X-API-Key: {key}")
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        status = self._line()
        if not status.startswith("HTTP/1.1 "):
            raise ConnectionError("no answer")
        headers = {}
        while (line := self._line()) != "":
            name, value = line.split(":", 1)
            headers[name.lower()] = value.strip()
        size = 0 if method == "HEAD" else int(headers.get("content-length", 0))
        body = self.stream.read(size)
        if len(body) != size:
            raise ConnectionError("the answer was cut")
        return int(status.split()[1]), headers, body

    def _line(self):
        line = self.stream.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the answer was cut")
        return line[:-2].decode("latin-1")
