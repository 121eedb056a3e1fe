"""/docs and /redoc in a real Chromium: they show the API, nothing comes from elsewhere, their policies forbid nothing
that they need, and requests can be sent from them, with a key and behind one in the path.

The picture of /docs that the documentation shows is made here.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import programs
import pytest
from browser import Page, chromium
from conftest import absent
from transcript import ROOT

PICTURE = ROOT / "docs" / "openapi.png"
KEY = "s3cret-key"
CHAT = "#operations-plain-post_chat"
VERSION = "#operations-Ollama-get_api_version"


@pytest.fixture(scope="session")
def browser_program(request: pytest.FixtureRequest) -> str:
    found = os.environ.get("CHROMIUM_PROGRAM") or shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        absent(request, "chromium", "no chromium: put one on the PATH or name it in CHROMIUM_PROGRAM")
    assert found is not None
    return found


@pytest.fixture
async def page(browser_program: str, tmp_path: Path) -> AsyncIterator[Page]:
    async with chromium(browser_program, tmp_path) as page:
        yield page


@pytest.fixture(scope="module")
def open_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with programs.gateway(tmp_path_factory.mktemp("open"), {"providers": {"echo": {}}}) as gateway:
        yield gateway.url


@pytest.fixture(scope="module")
def keyed_gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    config = {"providers": {"echo": {}}, "server": {"api_key": KEY}}
    with programs.gateway(tmp_path_factory.mktemp("keyed"), config) as gateway:
        yield gateway.url.partition("/k/")[0]  # what it tells its user to set has the key in it


async def execute(page: Page, operation: str) -> tuple[int, str]:
    """Sends the request that the page proposes -> status and body as the page shows them."""
    await page.click(f"{operation} .opblock-summary-control")
    await page.click(f"{operation} button.execute")
    row = f"{operation} .live-responses-table .response"
    await page.until(f"document.querySelector('{row} .response-col_status')")
    status = await page.run(f"document.querySelector('{row} .response-col_status').innerText")
    body = await page.run(f"document.querySelector('{row} .highlight-code').innerText")
    return int(status.split()[0]), body.removeprefix("Download").strip()


def assert_content(page: Page, url: str) -> None:
    assert page.complaints == []
    strangers = [each for each in page.asked if not each.startswith((url, "data:", "blob:"))]
    assert strangers == [], "something comes from elsewhere"


async def test_a_request_is_sent_from_the_page(page: Page, open_gateway: str) -> None:
    await page.open(f"{open_gateway}/docs")
    status, body = await execute(page, CHAT)
    assert status == 200
    assert json.loads(body)["text"] == "Hello"
    picture = await page.picture(CHAT, f"{CHAT} .live-responses-table .response")
    assert_content(page, open_gateway)
    PICTURE.write_bytes(picture)
    assert len(picture) < 300_000


async def test_the_page_asks_for_the_key(page: Page, keyed_gateway: str) -> None:
    await page.open(f"{keyed_gateway}/docs")
    status, body = await execute(page, VERSION)
    assert (status, json.loads(body)) == (401, {"error": "unauthorized"})
    await page.click("button.authorize")
    await page.type(".auth-container input[type=text]", KEY)
    await page.click(".auth-container button[type=submit]")
    await page.click(".btn-done")
    await page.click(f"{VERSION} button.execute")
    await page.until(f"document.querySelector('{VERSION} .live-responses-table').innerText.includes('0.33.0')")


async def test_the_page_works_behind_a_key_in_the_path(page: Page, keyed_gateway: str) -> None:
    url = f"{keyed_gateway}/k/{KEY}"
    await page.open(f"{url}/docs")
    status, body = await execute(page, VERSION)
    assert (status, json.loads(body)) == (200, {"version": "0.33.0"})
    assert f"{url}/api/version" in page.asked
    assert_content(page, url)


@pytest.mark.parametrize("prefix", ["", f"/k/{KEY}"], ids=["plain", "key-in-path"])
async def test_redoc_shows_the_api(page: Page, keyed_gateway: str, prefix: str) -> None:
    url = keyed_gateway + prefix
    await page.open(f"{url}/redoc")
    await page.until("document.body.innerText.includes('A conversation, answered whole')")
    assert_content(page, url)
