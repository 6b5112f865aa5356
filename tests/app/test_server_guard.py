"""The loopback server answers nobody but the page it was opened for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from served import Served, serving

from app.operations import Operations
from app.paths import open_home
from app.server import TOKEN_HEADER, build_api


@pytest.fixture
def served(own_home: Path) -> Iterator[Served]:
    with serving() as served:
        yield served


def test_every_api_route_refuses_a_request_without_the_token(served: Served) -> None:
    document = build_api(Operations(open_home())).openapi()
    routes = [(method, path) for path, methods in document["paths"].items() for method in methods]
    assert len(routes) >= 10
    for method, path in routes:
        answer = served.client.request(method, path.replace("{identity}", "x"))
        assert (answer.status_code, answer.json()["code"]) == (401, "token-missing"), (method, path)


def test_paths_that_do_not_exist_are_refused_the_same_way(served: Served) -> None:
    for path in ("/api", "/api/", "/api/none", "/api/../api/snapshot", "/api/openapi.json"):
        assert served.client.get(path).status_code == 401, path


@pytest.mark.parametrize("token", ["", "x", "é".encode().decode("latin-1")])
def test_a_wrong_token_is_refused(served: Served, token: str) -> None:
    assert served.client.get("/api/snapshot", headers={TOKEN_HEADER: token.encode("latin-1")}).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example", "0.0.0.0", "[::1]", ""]
)
def test_a_foreign_host_is_refused_even_with_the_token(served: Served, host: str) -> None:
    for path in ("/api/snapshot", "/"):
        answer = served.client.get(path, headers=served.token | {"Host": host})
        assert answer.status_code in (400, 403), path


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_a_foreign_origin_is_refused_even_with_the_token(served: Served, origin: str) -> None:
    answer = served.client.post("/api/environment/install", headers=served.token | {"Origin": origin}, json={})
    assert answer.status_code == 403
    assert served.client.options("/api/snapshot", headers={"Origin": origin}).status_code == 403


def test_the_page_of_this_launch_is_answered_without_cors_or_cookies(served: Served) -> None:
    own = f"http://127.0.0.1:{served.bound.port}"
    answer = served.client.get("/api/snapshot", headers=served.token | {"Origin": own})
    assert answer.status_code == 200
    assert answer.json()["type"] == "snapshot"
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "set-cookie"]


def test_every_answer_carries_a_strict_policy(served: Served) -> None:
    for path in ("/", "/api/snapshot", "/none"):
        policy = served.client.get(path).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy, path


def test_the_event_stream_begins_with_a_snapshot(served: Served) -> None:
    with served.client.stream("GET", "/api/events", headers=served.token) as answer:
        first = next(answer.iter_lines())
    assert first.startswith('{"type":"snapshot"')


def test_a_bad_value_is_a_problem_with_its_place(served: Served) -> None:
    answer = served.client.post("/api/runs", headers=served.token, json={"spec": {"lora": {"rank": 0}}})
    assert answer.status_code == 422
    assert "lora.rank" in answer.json()["message"]


def test_a_run_without_an_environment_names_the_click_that_mends_it(served: Served) -> None:
    spec = {"model": "starter", "data": {"train": "ticket"}}
    answer = served.client.post("/api/runs", headers=served.token, json={"spec": spec})
    assert (answer.json()["code"], answer.json()["action"]) == ("no-environment", "install")


@pytest.mark.parametrize(
    "path", ["/..%2f..%2fetc/passwd", "/%2e%2e/app/server.py", "/assets/../../cli.py", "/../cli.py"]
)
def test_no_path_leads_out_of_the_built_page(served: Served, path: str) -> None:
    assert served.client.get(path).status_code == 404


def test_only_loopback_is_bound(served: Served) -> None:
    assert served.bound.socket.getsockname()[0] == "127.0.0.1"
    assert len(served.bound.token) >= 32
