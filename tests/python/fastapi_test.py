#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Goal: the dependency and the decorator limit endpoints of FastAPI and Starlette of every shape,
tell the client by fields that parse, and change nothing else of the app.

Method: apps in this process with Starlette's test client, on a segment of the test; policies by the
hour, so that only calls count.
"""
import os
import time
import unittest

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Response, WebSocket
from fastapi.responses import PlainTextResponse, StreamingResponse
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.websockets import WebSocketDisconnect

import brim
import sf
from brim.fastapi import LimitedRoute, RateLimited, limit, limited, rate_limited
from brim.keys import UNLIMITED, by_header
from brim.rules import Rule

SEGMENT = f"fastapi-test-{os.getpid()}"
TWO = Rule("two", "2/h burst 2")


class LimitTest(unittest.TestCase):
    def setUp(self):
        self.limiter = brim.Limiter.create(SEGMENT)
        self.addCleanup(brim.Limiter.unlink, SEGMENT)
        self.addCleanup(self.limiter.close)

    def client(self, app):
        client = TestClient(app)
        self.addCleanup(client.close)
        return client

    def statuses(self, app, path="/", count=3, **options):
        client = self.client(app)
        return [client.get(path, **options).status_code for _ in range(count)]

    def check_fields(self, answer, remaining, name="two", quota=2):
        """One RateLimit-Policy and one RateLimit of the policy; Retry-After if it is refused."""
        self.assertEqual(sf.parse_list(answer.headers["ratelimit-policy"]),
                         [(name, {"q": quota, "w": 3600})])
        [(told, values)] = sf.parse_list(answer.headers["ratelimit"])
        self.assertEqual((told, values["r"]), (name, remaining))
        if answer.status_code == 429:
            self.assertGreaterEqual(int(answer.headers["retry-after"]), values["t"])
        else:
            self.assertNotIn("retry-after", answer.headers)


class Dependency(LimitTest):
    def app(self, *rules, **options):
        app = FastAPI(dependencies=[Depends(limit(self.limiter, *rules, **options))])

        @app.get("/")
        async def home():
            return {"hello": "world"}

        return app

    def test_two_limits_give_one_set_of_old_fields(self):
        several = [Depends(limit(self.limiter, Rule(name, text), legacy="delta"))
                   for name, text in (("loose", "9/h burst 9"), ("tight", "3/h burst 3"),
                                      ("middle", "5/h burst 5"))]
        for order in (several, several[::-1]):
            app = FastAPI(dependencies=order)
            app.get("/")(lambda: "a")
            answer = self.client(app).get("/")
            old = [one for one in answer.headers.multi_items() if one[0].startswith("x-ratelimit")]
            self.assertEqual([name for name, _ in old], ["x-ratelimit-limit",
                                                         "x-ratelimit-remaining",
                                                         "x-ratelimit-reset"])
            self.assertEqual(old[0][1], "3")
            told = sf.parse_list(", ".join(value for name, value in answer.headers.multi_items()
                                           if name == "ratelimit"))
            self.assertEqual({name for name, _ in told}, {"loose", "tight", "middle"})

    def test_admits_then_refuses_and_says_so(self):
        client = self.client(self.app(TWO))
        for remaining in (1, 0):
            answer = client.get("/")
            self.assertEqual((answer.status_code, answer.json()), (200, {"hello": "world"}))
            self.check_fields(answer, remaining)
        answer = client.get("/")
        self.assertEqual(answer.status_code, 429)
        self.assertEqual(answer.json(), {"detail": "Too many requests"})
        self.check_fields(answer, 0)

    def test_handlers(self):
        app = self.app(TWO)
        app.add_exception_handler(RateLimited, rate_limited)
        self.assertEqual(self.statuses(app), [200, 200, 429])
        answer = self.client(app).get("/")
        self.assertEqual(answer.headers["content-type"], "application/problem+json")
        self.assertEqual(answer.json()["status"], 429)
        self.assertEqual(answer.json()["violated-policies"], ["two"])
        self.check_fields(answer, 0)

        async def own(request, refused):
            return PlainTextResponse(f"{request.url.path} {refused.outcome.violated}", 418)
        app = self.app(TWO)
        app.add_exception_handler(RateLimited, own)
        answer = self.client(app).get("/")
        self.assertEqual((answer.status_code, answer.text), (418, "/ ['two']"))

    def test_router_and_endpoint_both_count(self):
        router = APIRouter(dependencies=[Depends(limit(self.limiter, TWO))])
        three = Depends(limit(self.limiter, Rule("three", "3/h burst 3")))

        @router.get("/both", dependencies=[three])
        def both():
            return 1

        @router.get("/one")
        def one():
            return 1

        app = FastAPI()
        app.include_router(router)
        client = self.client(app)
        answer = client.get("/both")
        self.assertEqual([name for name, _ in sf.parse_list(answer.headers["ratelimit"])],
                         ["two", "three"])
        self.assertEqual([client.get("/one").status_code for _ in range(2)], [200, 429])

    def test_of_several_rules_all_or_none_is_charged(self):
        app = self.app(TWO, Rule("big", "9/h burst 9"))
        self.assertEqual(self.statuses(app, count=5), [200, 200, 429, 429, 429])
        self.assertEqual(self.limiter.policy("big").peek("testclient").remaining, 7)

    def test_key_cost_and_unlimited(self):
        async def key(request):
            name = request.header("x-name")
            return UNLIMITED if name == "root" else name

        app = self.app(Rule("two", "2/h burst 2", key=key,
                            cost=lambda request: int(request.header("x-cost") or 1)))
        self.assertEqual(self.statuses(app, headers={"x-name": "a", "x-cost": "2"}),
                         [200, 429, 429])
        self.assertEqual(self.statuses(app, headers={"x-name": "b"}), [200, 200, 429])
        self.assertEqual(self.statuses(app, headers={"x-name": "root"}), [200] * 3)
        never = self.client(app).get("/", headers={"x-name": "c", "x-cost": "3"})
        self.assertEqual(never.status_code, 413)
        self.assertNotIn("retry-after", never.headers)

    def test_a_dependency_before_it_can_find_the_key(self):
        async def current_user(request: Request, x_user: str = Header()):
            request.state.user = x_user

        per_user = Rule("two", "2/h burst 2", key=lambda request: request.scope["state"]["user"])
        app = FastAPI(dependencies=[Depends(current_user), Depends(limit(self.limiter, per_user))])
        app.get("/")(lambda: "ok")
        self.assertEqual(self.statuses(app, headers={"x-user": "a"}), [200, 200, 429])
        self.assertEqual(self.statuses(app, headers={"x-user": "b"}), [200, 200, 429])

    def test_ready_made_responses_with_the_route_class(self):
        router = APIRouter(route_class=LimitedRoute,
                           dependencies=[Depends(limit(self.limiter, Rule("two", "9/h burst 9")))])
        router.get("/plain")(lambda: PlainTextResponse("x"))
        router.get("/stream")(lambda: StreamingResponse(iter(["x", "y"])))
        router.get("/value")(lambda: {"x": 1})
        app = FastAPI()
        app.include_router(router)
        client = self.client(app)
        for remaining, path in zip((8, 7, 6), ("/plain", "/stream", "/value")):
            self.check_fields(client.get(path), remaining, quota=9)

    def test_options_of_rules(self):
        app = self.app(TWO, legacy="delta", extra_fields={"X-Plan": "free"}, status=420)
        client = self.client(app)
        answer = client.get("/")
        self.assertEqual(answer.headers["x-ratelimit-limit"], "2")
        self.assertEqual(answer.headers["x-plan"], "free")
        self.assertEqual(self.statuses(app, count=2), [200, 420])
        self.assertRaises(ValueError, limit, self.limiter, TWO, legacy="both")
        self.assertRaises(TypeError, limit, self.limiter, TWO, no_such_option=1)

    def test_it_is_no_part_of_openapi(self):
        plain = FastAPI()
        plain.get("/")(self.app(TWO).routes[-1].endpoint)
        self.assertEqual(self.app(TWO).openapi(), plain.openapi())

    def test_a_websocket_is_closed(self):
        app = FastAPI()

        @app.websocket("/")
        async def talk(websocket: WebSocket, _: None = Depends(limit(self.limiter, TWO))):
            await websocket.accept()
            await websocket.close()

        client = self.client(app)
        for _ in range(2):
            with client.websocket_connect("/"):
                pass
        with self.assertRaises(WebSocketDisconnect) as caught, client.websocket_connect("/"):
            pass
        self.assertEqual(caught.exception.code, 1013)

    def test_a_queue_delays(self):
        # The first starts at once, the second 1/4 s later: no sooner, whatever the machine does.
        app = self.app(Rule("two", "queue 4/s burst 9"))
        client = self.client(app)
        began = time.monotonic()
        self.assertEqual([client.get("/").status_code for _ in range(2)], [200, 200])
        self.assertGreaterEqual(time.monotonic() - began, 0.25)


class Decorator(LimitTest):
    def limited(self, name):
        return limited(self.limiter, Rule(name, "2/h burst 2"))

    def check_endpoint(self, endpoint, path="/", query="", text='"x"'):
        """As the endpoint without the decorator, and limited."""
        app, plain = FastAPI(), FastAPI()
        app.get(path)(self.limited(endpoint.__name__)(endpoint))
        plain.get(path)(endpoint)
        self.assertEqual(app.openapi(), plain.openapi())
        client = self.client(app)
        for remaining in (1, 0):
            answer = client.get(path + query)
            self.assertEqual((answer.status_code, answer.text), (200, text))
            self.check_fields(answer, remaining, endpoint.__name__)
        answer = client.get(path + query)
        self.assertEqual(answer.status_code, 429)
        self.check_fields(answer, 0, endpoint.__name__)
        return answer

    def test_endpoints_of_every_shape(self):
        async def no_parameters():
            return "x"

        def not_async(a: int, b: str = "c"):
            return f"{a}{b}"

        async def takes_request(request: Request):
            assert request.url.path == "/"
            return "x"

        async def takes_both(request: Request, response: Response, a: int):
            assert request.query_params["a"] == str(a)
            response.headers["x-own"] = "1"
            return "x"

        def returns_response() -> PlainTextResponse:
            return PlainTextResponse("x")

        async def streams():
            return StreamingResponse(iter(["x", "y"]))

        async def text_annotations(a: "int", request: "Request") -> "int":
            return a

        self.check_endpoint(no_parameters)
        self.check_endpoint(not_async, query="?a=1", text='"1c"')
        self.check_endpoint(takes_request)
        self.check_endpoint(takes_both, query="?a=1")
        self.check_endpoint(returns_response, text="x")
        self.check_endpoint(streams, text="xy")
        self.check_endpoint(text_annotations, query="?a=1", text="1")

    def test_two_decorators(self):
        @self.limited("one")
        @limited(self.limiter, Rule("other", "1/h burst 1"))
        async def home():
            return "x"

        app = FastAPI()
        app.get("/")(home)
        self.assertEqual(self.statuses(app), [200, 429, 429])

    def test_it_keeps_the_name_and_the_text(self):
        async def home():
            """Text."""
        again = self.limited("two")(home)
        self.assertEqual((again.__name__, again.__doc__, again.__module__),
                         ("home", "Text.", __name__))

    def test_not_a_request_is_an_error(self):
        async def home():
            return "x"
        with self.assertRaisesRegex(TypeError, "home was called without a request"):
            self.limited("two")(home)().send(None)

    def test_what_the_endpoint_raises_is_raised(self):
        @self.limited("two")
        async def fails():
            raise KeyError("x")

        app = FastAPI()
        app.get("/")(fails)
        self.assertRaises(KeyError, self.client(app).get, "/")

    def test_starlette(self):
        by_name = Rule("name", "2/h burst 2", key=by_header("x-name"))

        @limited(self.limiter, by_name)
        async def function(request):
            return PlainTextResponse(request.url.path)

        @limited(self.limiter, by_name)
        def not_async(request):
            return PlainTextResponse(request.url.path)

        class Class(HTTPEndpoint):
            @limited(self.limiter, by_name)
            async def get(self, request):
                return PlainTextResponse(request.url.path)

            @limited(self.limiter, by_name)
            def post(self, request):
                return JSONResponse(request.method)

        paths = {"/function": function, "/not_async": not_async, "/class": Class}
        app = Starlette(routes=[Route(path, endpoint) for path, endpoint in paths.items()])
        client = self.client(app)
        for path in paths:
            headers = {"x-name": path}
            for remaining in (1, 0):
                answer = client.get(path, headers=headers)
                self.assertEqual((answer.status_code, answer.text), (200, path))
                self.check_fields(answer, remaining, "name")
            answer = client.get(path, headers=headers)
            self.assertEqual((answer.status_code, answer.text), (429, "Too many requests"))
            self.check_fields(answer, 0, "name")
        self.assertEqual(client.post("/class", headers={"x-name": "/class"}).status_code, 429)
        self.assertEqual(client.post("/class", headers={"x-name": "new"}).json(), "POST")


if __name__ == "__main__":
    unittest.main()
