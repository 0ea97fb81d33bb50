# SPDX-License-Identifier: MIT
"""What servers_test.py serves with uvicorn: each kind of limit, on one segment."""
import os

from fastapi import Depends, FastAPI, Request, WebSocket

from brim.asgi import RateLimitMiddleware
from brim.fastapi import limit, limited
from brim.keys import by_header
from brim.rules import Rule, Rules
from brim.websocket import WebSocketThrottle

SEGMENT = os.environ["SEGMENT"]
MOST = int(os.environ["MOST"])
key = by_header("x-key")


def rule(name, most=MOST, **options):
    # The first call opens the window, for a day: what is admitted is counted and nothing else.
    return Rule(name, f"fixed-window {most}/d first-hit", key=key, **options)


app = FastAPI()
app.add_middleware(RateLimitMiddleware, rules=Rules(SEGMENT, [
    rule("middleware", path="/middleware"), rule("kill", 4 * MOST, path="/kill")]))
connects = WebSocketThrottle(SEGMENT, rule("connects"))
messages = WebSocketThrottle(SEGMENT, rule("messages"), close_after=3)


@app.middleware("http")
async def name_the_worker(request: Request, call_next):
    response = await call_next(request)
    response.headers["x-worker"] = str(os.getpid())
    return response


@app.get("/middleware")
@app.get("/kill")
async def plain():
    return "ok"


@app.get("/dependency", dependencies=[Depends(limit(SEGMENT, rule("dependency")))])
async def dependency():
    return "ok"


@app.get("/decorator")
@limited(SEGMENT, rule("decorator"))
def decorator():
    return "ok"


@app.websocket("/chat")
async def chat(websocket: WebSocket):
    if not await connects.connect(websocket):
        return
    await websocket.accept()
    await websocket.send_text(str(os.getpid()))
    async for text in websocket.iter_text():
        if await messages(websocket):
            await websocket.send_text(text)
