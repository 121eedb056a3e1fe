"""Pictures and sounds as base64 text.

Knows: magic numbers, data URLs. Must not know: wires, networks.
"""

from __future__ import annotations

import base64
import binascii
from typing import Literal

from ..values import Media

_HEAD = 64  # characters of base64 that are enough for every magic number below

_IMAGES = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II*\x00", "image/tiff"),
    (b"MM\x00*", "image/tiff"),
)
_BRANDS = {b"avif": "image/avif", b"avis": "image/avif", b"heic": "image/heic", b"heix": "image/heic"}
_SOUNDS = ((b"ID3", "audio/mpeg"), (b"OggS", "audio/ogg"), (b"fLaC", "audio/flac"))


def sniff(head: bytes) -> tuple[Literal["image", "audio"], str] | None:
    """The first bytes of a file -> what it is and its MIME type; None when they say nothing."""
    for magic, mime in _IMAGES:
        if head.startswith(magic):
            return "image", mime
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image", "image/webp"
    if head.startswith(b"RIFF") and head[8:12] == b"WAVE":
        return "audio", "audio/wav"
    if head[4:8] == b"ftyp" and head[8:12] in _BRANDS:
        return "image", _BRANDS[head[8:12]]
    for magic, mime in _SOUNDS:
        if head.startswith(magic):
            return "audio", mime
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:
        return "audio", "audio/mpeg"  # an MPEG frame of layer III
    return None


def media_of(text: str) -> Media:
    """Base64 text, a data URL or an http(s) address -> Media. The bytes decide the type; the one that a data URL states
    is taken when they say nothing."""
    if text.startswith(("http://", "https://")):
        return Media(url=text)
    stated = ""
    if text.startswith("data:"):
        stated, _, text = text.removeprefix("data:").partition(";base64,")
    if "\n" in text or "\r" in text:
        text = text.replace("\r", "").replace("\n", "")
    found = sniff(_head(text))
    if found is not None:
        return Media(kind=found[0], mime=found[1], data=text)
    return Media(kind="audio" if stated.startswith("audio/") else "image", mime=stated, data=text)


def _head(text: str) -> bytes:
    start = text[:_HEAD]
    try:
        return base64.b64decode(start + "=" * (-len(start) % 4))
    except (binascii.Error, ValueError):
        return b""
