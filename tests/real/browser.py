"""Chromium without a window, driven over its DevTools protocol.

Knows: how it is started, asked and looked at; what a page complained of. Must not know: which page.

    async with chromium(program, folder) as page:
        await page.open("http://127.0.0.1:8000/docs")
        await page.until("document.querySelector('.opblock')")
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from programs import environment

PATIENCE = 60.0  # seconds for any one thing; the machine may be busy with others
SIZE = (1280, 900)  # of the window, pixels
LARGEST = 32 * 1024 * 1024  # bytes of one message; a screenshot is the largest
LOOK_AGAIN = 50  # milliseconds between two looks at a page


class Page:
    """`complaints`: what the page wrote to its console as a warning or an error, scripts that failed, what its policy
    forbade. `asked`: the addresses of all requests."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self._socket = socket
        self._number = 0
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = asyncio.Event()

    async def listen(self) -> None:
        """Reads what Chromium says, to the end."""
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._waiting.pop(said["id"]).set_result(said)
            else:
                self._hear(said["method"], said["params"])

    def _hear(self, method: str, params: dict[str, Any]) -> None:
        if method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(each.get("value", each.get("description"))) for each in params["args"]))
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.complaints.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.asked.append(params["request"]["url"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        answer = self._waiting[self._number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        said = await asyncio.wait_for(answer, PATIENCE)
        assert "error" not in said, f"{method}: {said}"
        found: dict[str, Any] = said["result"]
        return found

    async def open(self, url: str) -> None:
        for part in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{part}.enable")
        self._loaded.clear()
        await self.call("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), PATIENCE)

    async def run(self, script: str) -> Any:
        """The value of an expression. Raises AssertionError when it fails."""
        said = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, f"{script}: {said}"
        return said["result"].get("value")

    async def until(self, condition: str) -> None:
        """Waits until an expression is true."""
        look = f"const look = () => ({condition}) ? done() : setTimeout(look, {LOOK_AGAIN}); look();"
        try:
            await self.run(f"new Promise(done => {{ {look} }})")
        except TimeoutError:
            text = await self.run("document.body.innerText")
            raise AssertionError(f"never: {condition}\n{self.complaints}\n{text[:3000]}") from None

    async def click(self, selector: str) -> None:
        await self.until(f"document.querySelector({json.dumps(selector)})")
        await self.run(f"document.querySelector({json.dumps(selector)}).click()")

    async def type(self, selector: str, text: str) -> None:
        """Puts text into a field as a person does it: the page is told of it."""
        await self.until(f"document.querySelector({json.dumps(selector)})")
        await self.run(f"document.querySelector({json.dumps(selector)}).focus()")
        await self.call("Input.insertText", text=text)

    async def picture(self, first: str, last: str) -> bytes:
        """A PNG of the page from the top of one element to the end of another, wherever the window stands."""
        top = f"document.querySelector({json.dumps(first)}).getBoundingClientRect().top + scrollY"
        end = f"document.querySelector({json.dumps(last)}).getBoundingClientRect().bottom + scrollY"
        y = await self.run(top)
        clip = {"x": 0, "y": y, "width": SIZE[0], "height": await self.run(end) - y, "scale": 1}
        said = await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
        return base64.b64decode(said["data"])


@contextlib.asynccontextmanager
async def chromium(program: str, folder: Path) -> AsyncIterator[Page]:
    """An empty page in a browser that has never been used. Its home is in `folder`."""
    command = [
        program, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--hide-scrollbars", f"--window-size={SIZE[0]},{SIZE[1]}",
        "--remote-debugging-port=0", f"--user-data-dir={folder / 'chromium'}", "about:blank",
    ]  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command, env=environment(folder), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    reading = listening = None
    try:
        async with asyncio.timeout(PATIENCE):
            while (found := re.search(rb"listening on ws://([^/]+)/", line := await process.stderr.readline())) is None:
                assert line, "chromium did not start"
        reading = asyncio.ensure_future(process.stderr.read())  # a program whose output nobody reads stops
        async with aiohttp.ClientSession() as http:
            async with http.get(f"http://{found[1].decode()}/json/list") as answer:
                [tab] = [each for each in await answer.json() if each["type"] == "page"]
            async with http.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=LARGEST) as socket:
                page = Page(socket)
                listening = asyncio.ensure_future(page.listen())
                await page.call(
                    "Emulation.setDeviceMetricsOverride",
                    width=SIZE[0], height=SIZE[1], deviceScaleFactor=1, mobile=False,
                )  # fmt: skip
                yield page
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        for task in (reading, listening):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
