"""/docs, /redoc and their files: whole, unchanged since they were published, nothing from elsewhere, nothing else from
here; and in every wheel.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import AsyncIterator
from fnmatch import fnmatch
from pathlib import Path

import aiohttp
import pytest
from conftest import Start
from gateway import Gateway
from golden import send

from ollama_bridge import __version__
from ollama_bridge.web.pages import ASSETS, FOLDER

ROOT = Path(__file__).resolve().parent.parent
KEY = "s3cret-key"
PAGES = ["/docs", "/redoc"]

# npm package, version, SHA-256 of the file as published.
VENDORED = {
    "swagger-ui-bundle.js": (
        "swagger-ui-dist", "5.35.0", "e6a898692f2d768e807c3ba4626068a69a2c5dd960dd6c76f3e4d3a3de180af2",
    ),
    "swagger-ui.css": (
        "swagger-ui-dist", "5.35.0", "5ed08757e53da3e026d6cbecc61fe5d43585c9560b302d534ad56692519a273d",
    ),
    "redoc.standalone.js": (
        "redoc", "2.5.4", "dcaf76612bc4a3fbcc923a8966dee2f6146a5f32e5ce1b6f02dd60cbbf89500b",
    ),
}  # fmt: skip
OURS = {"docs.js", "docs.css"}
LICENCES = {"swagger-ui.LICENSE", "swagger-ui.NOTICE", "swagger-ui-bundle.js.LICENSE.txt"} | {
    "redoc.LICENSE",
    "redoc.standalone.js.LICENSE.txt",
}


@pytest.fixture
async def gateway(gateway_of: Start) -> AsyncIterator[Gateway]:
    async with gateway_of({"server": {"api_key": KEY}}) as gateway:
        yield gateway


async def got(gateway: Gateway, path: str) -> tuple[aiohttp.ClientResponse, bytes]:
    async with gateway.http.get(gateway.url + path) as response:
        return response, await response.read()


# -- the files -------------------------------------------------------------------------------------------------------


def test_the_folder_holds_these_files_and_no_other() -> None:
    assert set(ASSETS) == set(VENDORED) | OURS
    assert {path.name for path in FOLDER.iterdir()} == set(ASSETS) | LICENCES


@pytest.mark.parametrize("name", VENDORED)
def test_a_file_is_as_it_was_published(name: str) -> None:
    package, version, digest = VENDORED[name]
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest
    assert f"{package} {version}" in (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")


def test_wheels_hold_them() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = project["tool"]["setuptools"]["package-data"]["ollama_bridge"]
    package = FOLDER.parent.parent
    for path in FOLDER.iterdir():
        assert any(fnmatch(path.relative_to(package).as_posix(), pattern) for pattern in patterns), path


# -- the answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES)
async def test_a_page(gateway: Gateway, path: str) -> None:
    response, body = await got(gateway, path)
    assert (response.status, response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    addresses = re.findall(r'(?:src|href|spec-url)="([^"]*)"', body.decode())
    for address in addresses:
        if address == "data:,":  # the icon: none
            continue
        assert not address.startswith(("/", "http")), "not relative: a key in the path would get lost"
        assert (await got(gateway, f"/{address}"))[0].status == 200
    assert len(addresses) >= 3


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_may_run_our_scripts_alone(gateway: Gateway, path: str) -> None:
    response, body = await got(gateway, path)
    policy = dict(part.strip().split(" ", 1) for part in response.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["connect-src"] == "'self'"
    assert "http" not in response.headers["Content-Security-Policy"]
    assert re.findall(r"<script[^>]*>([^<]+)<", body.decode()) == []
    assert re.findall(r"\son\w+=|style=|<style", body.decode()) == []


@pytest.mark.parametrize("name", ASSETS)
async def test_a_file(gateway: Gateway, name: str) -> None:
    response, body = await got(gateway, f"/docs/assets/{name}?v={__version__}")
    assert (response.status, response.headers["Content-Type"]) == (200, ASSETS[name])
    assert body == (FOLDER / name).read_bytes()
    assert response.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    "name",
    [
        "nope.js", "swagger-ui.LICENSE", "..%2fpages.py", "%2e%2e%2f%2e%2e%2fapp.py", "..%5cpages.py", ".",
        "%2fetc%2fpasswd", "docs.js%00.css", "DOCS.JS",
    ],
)  # fmt: skip
async def test_no_other_file(gateway: Gateway, name: str) -> None:
    answer = await send(gateway.url, "GET", f"/docs/assets/{name}")
    assert answer.status in (404, 307, 301), answer
    assert b"import" not in answer.body and b"root:" not in answer.body


async def test_a_file_that_is_not_there(gateway: Gateway) -> None:
    response, body = await got(gateway, "/docs/assets/nope.js")
    assert (response.status, body) == (404, b'{"error":"no such file"}')


async def test_the_pages_work_behind_a_key_in_the_path(gateway: Gateway) -> None:
    for path in (*PAGES, "/openapi.json", "/docs/assets/docs.js"):
        assert (await got(gateway, f"/k/{KEY}{path}"))[1] == (await got(gateway, path))[1]


@pytest.mark.parametrize("path", [*PAGES, "/openapi.json", "/docs/assets/docs.js"])
async def test_hosts_and_origins_are_judged_as_elsewhere(gateway: Gateway, path: str) -> None:
    assert (await send(gateway.url, "GET", path, [("Host", "evil.example")])).status == 403
    assert (await send(gateway.url, "GET", path, [("Origin", "http://evil.example")])).status == 403
    allowed = await send(gateway.url, "GET", path, [("Origin", "http://localhost:3000")])
    assert allowed.header("access-control-allow-origin") == ["http://localhost:3000"]


async def test_the_description_is_one_of_a_gateway_with_a_key(gateway: Gateway) -> None:
    response, _ = await got(gateway, "/openapi.json")
    assert (response.status, response.headers["Content-Type"]) == (200, "application/json; charset=utf-8")
    assert response.headers["Cache-Control"] == "no-cache"
    async with gateway.http.get(f"{gateway.url}/openapi.json") as answer:
        assert {} not in (await answer.json())["security"]
