# SPDX-License-Identifier: MIT
"""What servers_test.py serves with gunicorn's sync workers."""
import os

from flask import Flask

from brim.keys import by_header
from brim.rules import Rule, Rules
from brim.wsgi import RateLimitMiddleware

MOST = int(os.environ["MOST"])


def rule(name, most=MOST):
    return Rule(name, f"fixed-window {most}/d first-hit", path=f"/{name}")


app = Flask(__name__)
app.wsgi_app = RateLimitMiddleware(app.wsgi_app, Rules(
    os.environ["SEGMENT"], [rule("middleware"), rule("kill", 4 * MOST)], key=by_header("x-key")))


@app.after_request
def name_the_worker(response):
    response.headers["X-Worker"] = str(os.getpid())
    return response


@app.get("/middleware")
@app.get("/kill")
def plain():
    return "ok"
