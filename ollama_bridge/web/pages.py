"""/openapi.json, and the pages that show it: Swagger UI at /docs, Redoc at /redoc.

Knows: their files, which lie in `assets` as they were published, and what a browser may do on them. Must not know: what
is described.

All addresses are relative, so that the pages work behind /k/KEY as well. Nothing is loaded from elsewhere, and no
script stands in a page. Redoc makes its style sheet as it goes and searches in a worker, which its policy has to allow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import __version__
from ..dialects.base import Answer
from ..errors import refuse
from ..framing import dumps

if TYPE_CHECKING:
    from .openapi.document import Routed

ASSETS = {
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "docs.js": "text/javascript; charset=utf-8",
    "docs.css": "text/css; charset=utf-8",
    "redoc.standalone.js": "text/javascript; charset=utf-8",
}
FOLDER = Path(__file__).parent / "assets"

_POLICY = (
    "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; "
)
_DOCS_POLICY = _POLICY + "style-src 'self'"
_REDOC_POLICY = _POLICY + "style-src 'unsafe-inline'; worker-src blob:"
_HEADERS = {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}


def _script(name: str) -> str:
    return f'<script defer src="{_address(name)}"></script>'


def _style(name: str) -> str:
    return f'<link rel="stylesheet" href="{_address(name)}">'


def _address(name: str) -> str:
    """With the version, since a browser keeps the file."""
    return f"docs/assets/{name}?v={__version__}"


def _page(head: str, body: str) -> bytes:
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>ollama_bridge</title>
<link rel="icon" href="data:,">
{head}
</head>
<body>
{body}
</body>
</html>
""".encode()


_DOCS = _page(
    "\n".join([_style("swagger-ui.css"), _style("docs.css"), _script("swagger-ui-bundle.js"), _script("docs.js")]),
    '<div id="docs"></div>',
)
_REDOC = _page(_script("redoc.standalone.js"), '<redoc spec-url="openapi.json"></redoc>')


def docs() -> Answer:
    return _shown(_DOCS, _DOCS_POLICY)


def redoc() -> Answer:
    return _shown(_REDOC, _REDOC_POLICY)


def _shown(page: bytes, policy: str) -> Answer:
    headers = {"Cache-Control": "no-cache", "Content-Security-Policy": policy, **_HEADERS}
    return Answer(200, "text/html; charset=utf-8", page, headers)


class Description:
    """/openapi.json of a route table, made when it is first asked for: that takes a tenth of a second. `keyed`: the
    gateway has a key."""

    def __init__(self, routes: Sequence[Routed], keyed: bool) -> None:
        self._routes = routes
        self._keyed = keyed
        self._body = b""

    async def answer(self) -> Answer:
        if not self._body:
            self._body = await asyncio.to_thread(self._made)
        return Answer(200, "application/json; charset=utf-8", self._body, {"Cache-Control": "no-cache"})

    def _made(self) -> bytes:
        from .openapi.document import document

        return dumps(document(self._routes, self._keyed, tuple(ASSETS)))


async def asset(name: str) -> Answer:
    """A file of the pages. Raises GatewayError (404) for any other name."""
    kind = ASSETS.get(name)
    if kind is None:
        raise refuse("no such file", status=404)
    body = await asyncio.to_thread((FOLDER / name).read_bytes)
    return Answer(200, kind, body, {"Cache-Control": "public, max-age=31536000, immutable", **_HEADERS})
