"""Rules of the house that a machine can check: who imports whom, how long a module is, where an SDK may appear."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "ollama_bridge"
MODULES = sorted(PACKAGE.rglob("*.py"))
SDKS = {"openai", "anthropic", "google", "huggingface_hub", "httpx2", "httpx", "ollamafreeapi", "genai_prices"}
# The one file that may import each SDK; httpx2 is the wire type they share.
SDK_HOME = {
    "openai": {"providers/openai.py"},
    "anthropic": {"providers/anthropic.py"},
    "google": {"providers/google.py"},
    "huggingface_hub": {"providers/huggingface.py"},
    "ollamafreeapi": {"providers/ollamafree.py"},
    "genai_prices": {"lists/price_reader.py"},
    "httpx": {"providers/openai.py"},
    "httpx2": {
        "providers/google.py",
        "providers/huggingface.py",
        "providers/sdk_calls.py",
        "providers/transport.py",
    },
}

# What each layer may import of the package, by path prefix; the first that fits a module holds. "" is every module.
BOTTOM = ("errors", "values", "events", "framing", "names")
CONFIGURABLE = ("providers.base", "providers.presets", "providers.addresses", "providers.sdks")
ALLOWED: list[tuple[str, tuple[str, ...]]] = [
    ("app", ("",)),
    ("engine", ("",)),
    ("cli", ("",)),
    ("terminal.explain", ("",)),
    ("__main__", ("cli",)),
    ("terminal.screen", ("config", "terminal.explain", "__version__")),
    ("errors", ()),
    ("names", ()),
    ("values", ("errors",)),
    ("events", ("errors", "values")),
    ("framing", ()),
    ("logs", ()),
    ("collector", ()),
    ("pulse", ()),
    ("workers", ()),
    ("fetch", ("errors", "values", "providers.addresses")),
    ("capture", ("providers.base",)),
    ("reload", ("config", "errors", "policy.ports")),
    ("lists.shelf", ("providers.base",)),
    ("lists.price_reader", ()),
    ("lists.pricebook", ("lists.price_reader", "providers.base")),
    ("terminal.endings", ("config", "policy", "providers.base", "lists.shelf")),
    ("limiting", ("config", "policy", "store")),
    ("lists.discovery", ("errors", "policy", "providers.base")),
    ("lists", ()),
    ("terminal", ()),
    ("config", ("config", "names", "dialects.base", *CONFIGURABLE)),
    ("dialects", (*BOTTOM, "dialects")),
    ("providers", ("errors", "framing", "dialects.base", "providers", "collector")),
    ("store", ("errors", "store")),
    ("policy", (*BOTTOM, "dialects.base", "providers.base", "policy")),
    ("library", (*BOTTOM, "dialects", "policy", "library")),
    ("web", (*BOTTOM, "__version__", "dialects", "policy", "library", "web")),
]
CODEC_LINES, MODULE_LINES = 600, 400


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") or "__init__"


def imports_of(path: Path) -> tuple[set[str], set[str]]:
    """-> (modules of the package, top-level names of others), wherever in the file they are imported."""
    own: set[str] = set()
    others: set[str] = set()
    package = ("ollama_bridge", *path.relative_to(PACKAGE).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                base = package[: len(package) - node.level + 1]
                full = ".".join([*base, *([node.module] if node.module else [])])
                targets = [full] if node.module else [f"{full}.{alias.name}" for alias in node.names]
            else:
                targets = [node.module or ""]
        elif isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            continue
        for target in targets:
            if target.split(".")[0] == "ollama_bridge":
                own.add(target.removeprefix("ollama_bridge").lstrip(".") or "__init__")
            else:
                others.add(target.split(".")[0])
    return own, others


def fits(module: str, prefix: str) -> bool:
    return prefix == "" or module == prefix or module.startswith(prefix + ".")


@pytest.mark.parametrize("path", MODULES, ids=[name_of(path) for path in MODULES])
def test_imports_go_downward(path: Path) -> None:
    name = name_of(path)
    own, _ = imports_of(path)
    if name == "__init__" or not own:
        return
    layer = next((rule for rule in ALLOWED if fits(name, rule[0])), None)
    assert layer is not None, f"{name} belongs to no layer: name it in ALLOWED"
    forbidden = {module for module in own if not any(fits(module, prefix) for prefix in layer[1])}
    assert not forbidden, f"{name} ({layer[0]}) must not import {sorted(forbidden)}"


@pytest.mark.parametrize("path", MODULES, ids=[name_of(path) for path in MODULES])
def test_an_sdk_is_imported_in_one_file(path: Path) -> None:
    _, others = imports_of(path)
    relative = path.relative_to(PACKAGE).as_posix()
    strays = {sdk for sdk in others & SDKS if relative not in SDK_HOME.get(sdk, set())}
    assert not strays, f"{relative} imports {sorted(strays)}"


@pytest.mark.parametrize("path", MODULES, ids=[name_of(path) for path in MODULES])
def test_modules_are_small_and_say_what_they_are(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    limit = CODEC_LINES if "dialects" in path.parts else MODULE_LINES
    assert text.count("\n") <= limit, f"{path.name} has {text.count(chr(10))} lines, {limit} at most"
    if text.strip():
        assert ast.get_docstring(ast.parse(text)), f"{path.name} has no docstring"


def test_only_the_configuration_reads_the_environment() -> None:
    said = 'os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder'  # to prometheus_client; it is not read
    texts = {name_of(path): path.read_text(encoding="utf-8").replace(said, "") for path in MODULES}
    readers = {name for name, text in texts.items() if "os.environ" in text or "getenv" in text}
    assert {name for name in readers if not fits(name, "config")} == set()
