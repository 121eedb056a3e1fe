"""Schemathesis over /openapi.json: whatever is sent, no answer is a 500 and none is outside its description.

The requests are drawn from the description that the gateway itself gives, those that keep to it and those that do not;
the same ones on every run. OPENAPI_EXAMPLES asks for more of them than the suite has time for.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
import schemathesis
from described import Described, description
from gateway import alias, running
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from watch import watching

EXAMPLES = int(os.environ.get("OPENAPI_EXAMPLES", "8"))  # of an operation with a body, and of each way
FEW = max(2, EXAMPLES // 4)  # of one without
GUARD = 30.0  # seconds a request may take
MODELS = ("own", "vectors")
OPERATIONS = [(method.upper(), path) for path, methods in description()["paths"].items() for method in methods]
IN_CONFORMANCE = [
    status_code_conformance, content_type_conformance, response_headers_conformance, response_schema_conformance,
]  # fmt: skip


@dataclass
class Served:
    """A gateway in a thread of its own: Schemathesis waits for its answers."""

    url: str = ""
    statuses: Counter[int] = field(default_factory=Counter)

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self.session.get(f"{self.url}/openapi.json", timeout=GUARD).json()
        return found

    def __post_init__(self) -> None:
        self.session = requests.Session()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    config = {
        "providers": {"echo": {}},
        "models": {"own": alias("echo", "echo"), "vectors": alias("echo", "echo", capabilities=["embedding"])},
    }
    found, up, loops = Served(), threading.Event(), []
    done = asyncio.Event()

    async def serve() -> None:
        async with running(tmp_path_factory.mktemp("served"), config) as gateway:
            found.url = gateway.url
            loops.append(asyncio.get_running_loop())
            up.set()
            await done.wait()

    with watching() as watch:
        thread = threading.Thread(target=asyncio.run, args=(serve(),))
        thread.start()
        try:
            assert up.wait(GUARD), "the gateway did not start"
            yield found
        finally:
            found.session.close()
            for loop in loops:
                loop.call_soon_threadsafe(done.set)
            thread.join(GUARD)
        watch.assert_quiet("everything")
    print("statuses:", dict(sorted(found.statuses.items())))


@pytest.fixture(scope="module")
def schema(served: Served) -> Any:
    return schemathesis.openapi.from_dict(served.document)


def test_the_gateway_describes_itself(served: Served) -> None:
    assert served.document == description()


@pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[f"{method}-{path}" for method, path in OPERATIONS])
def test_every_answer_is_as_described(served: Served, schema: Any, method: str, path: str) -> None:
    operation = schema[path][method]
    described = Described(schema.raw_schema)
    takes_body = "requestBody" in operation.definition.raw
    there = "501" not in operation.definition.raw["responses"]
    modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if takes_body else [])]
    for mode in modes:

        @settings(
            max_examples=EXAMPLES if takes_body else FEW,
            phases=(Phase.explicit, Phase.generate),
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode), st.sampled_from(MODELS))
        def ask(case: Any, model: str) -> None:
            if isinstance(case.body, dict) and isinstance(case.body.get("model", ""), str):
                case.body["model"] = model  # a made-up name is as good as any other
            response = case.call(base_url=served.url, session=served.session, timeout=GUARD)
            served.statuses[response.status_code] += 1
            checks = [not_a_server_error, *IN_CONFORMANCE] if there else IN_CONFORMANCE
            case.validate_response(response, checks=checks)
            sent = response.request
            kind = "".join(response.headers.get("content-type", []))
            faults = described.faults(method, sent.path_url, response.status_code, kind, response.content)
            assert faults == [], (sent.body, response.content[:500])
            if not there:
                assert response.status_code == 501

        ask()
