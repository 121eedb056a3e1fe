"""Lists of models beside the answers: kept over a restart, never waited for, prices and ends told in time."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import Start
from doors import CHAT, Ask, Turn
from fakes.ollama_wire import FakeOllama
from fakes.openai_wire import KEY, FakeOpenAI, model_item
from fakes.script import Script
from gateway import NOBODY, Gateway, ollama_provider, openai_provider
from virtual_time import run

from ollama_bridge.dialects.base import Profile
from ollama_bridge.errors import unreachable
from ollama_bridge.lists import discovery as module
from ollama_bridge.lists.discovery import EVERY, QUIET, RETRY, Discovery
from ollama_bridge.lists.shelf import FILE_AT_MOST, MODELS_AT_MOST, Shelf
from ollama_bridge.policy.catalog import Catalog, Defaults, Model, Target
from ollama_bridge.providers.base import Known, ListedModel, Price

GUARD = 10.0  # seconds after which a test gives up waiting for what must come
ASK = Ask((Turn("user", "Hi."),))


async def tags(gateway: Gateway) -> list[str]:
    async with gateway.http.get(f"{gateway.url}/api/tags") as response:
        return [entry["name"] for entry in (await response.json())["models"]]


async def come(gateway: Gateway, condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GUARD):
        while not condition():
            await tags(gateway)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are kept as soon as they have come."""
    monkeypatch.setattr(module, "QUIET", 0.0)


def lab(url: str, **more: Any) -> dict[str, Any]:
    return {"providers": {"lab": openai_provider(url, **more), "echo": {"kind": "echo"}}}


class Closed(FakeOpenAI):
    """Takes the question for its list and never answers, until `opens` is set."""

    def __init__(self, models: tuple[str, ...] = ()) -> None:
        super().__init__(models)
        self.opens = asyncio.Event()
        self.asked = asyncio.Event()

    async def list_models(self, request: Any) -> Any:
        self.asked.set()
        await self.opens.wait()
        return await super().list_models(request)


# -- over a restart ----------------------------------------------------------------------------------------------------
@pytest.mark.usefixtures("at_once")
async def test_the_first_listing_after_a_start_has_what_was_listed_before(gateway_of: Start, tmp_path: Path) -> None:
    """Though the service does not answer, and start waits for nobody."""
    kept = tmp_path / "state" / "models" / "lab.json"
    async with Closed(("one", "two")) as upstream:
        upstream.opens.set()
        upstream.listing = {"data": [{**model_item("one"), "context_length": 4096}, model_item("two")]}
        async with gateway_of(lab(upstream.url)) as gateway:
            await come(gateway, kept.exists)
        upstream.opens.clear()
        upstream.asked.clear()
        async with gateway_of(lab(upstream.url)) as gateway:
            assert set(await tags(gateway)) == {"lab/one:latest", "lab/two:latest", "echo:latest"}
            async with gateway.http.post(f"{gateway.url}/api/show", json={"model": "lab/one"}) as response:
                assert (await response.json())["model_info"]["one.context_length"] == 4096
            assert (await gateway.ask(CHAT, ASK, "echo", False)).text, "an answer does not wait either"
            await asyncio.wait_for(upstream.asked.wait(), GUARD)
            upstream.listing = {"data": [model_item("three")]}
            upstream.opens.set()
            async with asyncio.timeout(GUARD):
                while "lab/three:latest" not in await tags(gateway):
                    pass
            assert "lab/one:latest" not in await tags(gateway)
            await come(gateway, lambda: b"three" in kept.read_bytes())
    assert KEY.encode() not in kept.read_bytes()
    assert kept.parent.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in kept.parent.iterdir()] == ["lab.json"], "no draft is left"


@pytest.mark.usefixtures("at_once")
async def test_a_service_that_is_down_keeps_its_models(gateway_of: Start, tmp_path: Path) -> None:
    kept = tmp_path / "state" / "models" / "lab.json"
    async with FakeOpenAI(("one",)) as upstream:
        settings = lab(upstream.url)
        async with gateway_of(settings) as gateway:
            await come(gateway, kept.exists)
    before = kept.read_bytes()
    async with gateway_of(settings) as gateway:
        assert "lab/one:latest" in await tags(gateway)
        assert (await gateway.ask(CHAT, ASK, "lab/one", False)).status == 502
    assert kept.read_bytes() == before


@pytest.mark.usefixtures("at_once")
async def test_another_account_of_that_name_sees_nothing_of_it(gateway_of: Start, tmp_path: Path) -> None:
    kept = tmp_path / "state" / "models" / "lab.json"
    async with FakeOpenAI(("one",)) as upstream:
        async with gateway_of(lab(upstream.url)) as gateway:
            await come(gateway, kept.exists)
        for settings in (lab(NOBODY), {"providers": {"bal": openai_provider(upstream.url, base_url=NOBODY)}}):
            async with gateway_of(settings) as gateway:
                assert not [name for name in await tags(gateway) if "one" in name]


async def test_a_provider_that_is_off_shows_nothing(gateway_of: Start, tmp_path: Path) -> None:
    Shelf(tmp_path / "state" / "models").write(Account("openai", base_url="https://api.openai.com/v1"), [M], {})
    async with gateway_of({"providers": {"openai": {}}}) as gateway:
        assert await tags(gateway) == ["echo:latest"]


@pytest.mark.usefixtures("at_once")
async def test_what_a_real_ollama_has_is_not_kept(gateway_of: Start, tmp_path: Path) -> None:
    """It is asked at each listing, and a model of an Ollama that is gone cannot be used."""
    async with FakeOllama({"tiny": ("completion",)}) as box, FakeOpenAI(("one",)) as upstream:
        settings = lab(upstream.url)
        settings["providers"]["box"] = ollama_provider(box.url)
        folder = tmp_path / "state" / "models"
        async with gateway_of(settings) as gateway:
            assert "tiny:latest" in await tags(gateway)
            await come(gateway, (folder / "lab.json").exists)
    assert [path.name for path in folder.iterdir()] == ["lab.json"]


GOOD = {"version": 1, "provider": "lab", "base_url": NOBODY, "models": [{"id": "one", "raw": {}}], "told": {}}

BROKEN: dict[str, bytes] = {
    "empty": b"",
    "half": json.dumps(GOOD).encode()[:-9],
    "no-json": b"\x00\xff\xfe garbage",
    "no-object": b"[1, 2]",
    "of-another-version": json.dumps({**GOOD, "version": 2}).encode(),
    "of-another-provider": json.dumps({**GOOD, "provider": "bal"}).encode(),
    "of-another-address": json.dumps({**GOOD, "base_url": "http://127.0.0.1:10"}).encode(),
    "wrong-types": json.dumps({**GOOD, "models": [{"id": 1}]}).encode(),
    "no-models": json.dumps({**GOOD, "models": None}).encode(),
    "no-day": json.dumps({**GOOD, "models": [{"id": "one", "retires": "soon"}]}).encode(),
    "deep": b"[" * 100_000,
    "too-long": b" " * FILE_AT_MOST + json.dumps(GOOD).encode(),
    "too-many": json.dumps({**GOOD, "models": [{"id": str(n)} for n in range(MODELS_AT_MOST + 1)]}).encode(),
}


@pytest.mark.parametrize("data", list(BROKEN.values()), ids=list(BROKEN))
async def test_a_broken_file_is_as_if_it_were_not_there(gateway_of: Start, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "state" / "models" / "lab.json"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    async with gateway_of({"providers": {"lab": openai_provider(NOBODY, base_url=NOBODY)}}) as gateway:
        assert await tags(gateway) == ["echo:latest"]


async def test_a_good_file_is_read(gateway_of: Start, tmp_path: Path) -> None:
    """The counter-proof to the broken ones."""
    path = tmp_path / "state" / "models" / "lab.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(GOOD))
    async with gateway_of({"providers": {"lab": openai_provider(NOBODY, base_url=NOBODY)}}) as gateway:
        assert set(await tags(gateway)) == {"echo:latest", "lab/one:latest"}


@pytest.mark.usefixtures("at_once")
async def test_a_place_that_cannot_be_written_is_said_once(
    gateway_of: Start, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "state").write_text("a file, not a folder")
    async with FakeOpenAI(("one",)) as upstream, gateway_of(lab(upstream.url)) as gateway:
        async with asyncio.timeout(GUARD):
            while "lab/one:latest" not in await tags(gateway):
                pass
        upstream.play("one", Script(text=("Hello",)))
        assert (await gateway.ask(CHAT, ASK, "lab/one", False)).text == "Hello"
        said = ""
        async with asyncio.timeout(GUARD):
            while "models not kept" not in said:
                await tags(gateway)
                said += capfd.readouterr().err
    assert said.count("models not kept for the next start") == 1


# -- the shelf ---------------------------------------------------------------------------------------------------------
class Account:
    """A provider whose catalogue is `there`, or that cannot be reached."""

    kind = "openai"
    local = False
    off: str | None = None
    profile = Profile()

    def __init__(self, name: str, *there: ListedModel, base_url: str = "https://x.example/v1") -> None:
        self.name = name
        self.base_url = base_url
        self.there: tuple[ListedModel, ...] | None = there

    async def models(self) -> list[ListedModel]:
        if self.there is None:
            raise unreachable(self.name, "connection refused")
        return list(self.there)


M = ListedModel(
    "m", 9, 8, frozenset({"completion"}), 7, 6, Price(1, 2, 0.1), datetime(2026, 12, 31, tzinfo=UTC).date(), {"x": 1}
)


def test_what_is_kept_comes_back_but_for_the_providers_words(tmp_path: Path) -> None:
    shelf, owner = Shelf(tmp_path / "a" / "b"), Account("lab")
    shelf.write(owner, [M], {"m": Known(price=Price(3, 4))})
    kept = Shelf(tmp_path / "a" / "b").read(owner)
    assert kept is not None and kept.told == {"m": Known(price=Price(3, 4))}
    assert kept.models == [
        ListedModel(M.id, 9, 8, M.capabilities, 7, 6, M.price, M.retires, raw={})
    ]  # fmt: skip
    assert shelf.read(Account("other")) is None


def test_nothing_is_written_when_nothing_has_changed(tmp_path: Path) -> None:
    shelf, owner = Shelf(tmp_path), Account("lab")
    shelf.write(owner, [M], {})
    path = tmp_path / "lab.json"
    path.unlink()
    shelf.write(owner, [M], {})
    assert not path.exists()
    shelf.write(owner, [M, ListedModel("n")], {})
    assert path.exists()


def test_whoever_reads_gets_one_of_the_two_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf, owner = Shelf(tmp_path), Account("lab")
    shelf.write(owner, [M], {})

    def full(self: Path, data: bytes) -> int:
        with self.open("wb") as file:
            file.write(data[:10])
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        shelf.write(owner, [M, M], {})
    kept = shelf.read(owner)
    assert kept is not None and len(kept.models) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["lab.json"]


def test_a_list_without_end_is_not_kept(tmp_path: Path) -> None:
    Shelf(tmp_path).write(Account("lab"), [ListedModel(str(n)) for n in range(MODELS_AT_MOST + 1)], {})
    assert not list(tmp_path.iterdir())


# -- prices and ends ---------------------------------------------------------------------------------------------------
class Lines:
    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **values: object) -> None:
        self.lines.append((event, values))

    warning = error = info


class Book:
    """Knows a price for each model; `asked`: when and for which."""

    def __init__(self, there: bool = True) -> None:
        self.there = there
        self.asked: list[tuple[float, str, list[str]]] = []

    async def look_up(self, base_url: str, models: Collection[str]) -> dict[str, Known]:
        self.asked.append((asyncio.get_running_loop().time(), base_url, sorted(models)))
        if not self.there:
            raise OSError("not there")
        return {model: Known(price=Price(1, 2), context_length=100) for model in models}


def discovered(*accounts: Account, aliases: Collection[Model] = (), book: Book | None = None) -> tuple[Any, ...]:
    providers: Any = {account.name: account for account in accounts}
    catalog, lines = Catalog(providers, aliases, Defaults(), {}), Lines()
    return catalog, lines, Discovery(catalog, providers.values(), lines, None, book)


def test_prices_are_looked_up_when_the_start_is_over_and_only_where_nobody_else_tells() -> None:
    async def main() -> None:
        told = ListedModel("told", context_length=5, price=Price(9, 9))
        up, book = Account("up", told, ListedModel("untold")), Book()
        alias = Model("mine", (Target("up", "hidden"),), frozenset({"completion"}))
        catalog, _, discovery = discovered(up, aliases=[alias], book=book)
        discovery.start()
        await asyncio.sleep(QUIET - 0.1)
        assert catalog.find("up/untold").price is None and not book.asked
        await asyncio.sleep(0.2)
        assert book.asked == [(QUIET, "https://x.example/v1", ["hidden", "untold"])]
        assert catalog.find("up/untold").price == catalog.find("mine").price == Price(1, 2)
        assert catalog.find("up/told").price == Price(9, 9)
        assert catalog.window(Target("up", "untold")) == 100 and catalog.window(Target("up", "told")) == 5
        await discovery.stop()

    run(main())


def test_a_service_that_is_down_at_first_gets_its_prices_later() -> None:
    async def main() -> None:
        up, book = Account("up", ListedModel("a")), Book()
        there, up.there = up.there, None
        catalog, _, discovery = discovered(up, book=book)
        discovery.start()
        await asyncio.sleep(QUIET + 1)
        assert not book.asked
        up.there = there
        await asyncio.sleep(RETRY + QUIET)
        assert catalog.find("up/a").price == Price(1, 2)
        await discovery.stop()

    run(main())


def test_without_the_package_there_are_no_prices_and_the_log_says_so_once() -> None:
    async def main() -> None:
        book = Book(there=False)
        catalog, lines, discovery = discovered(
            Account("a", ListedModel("m")), Account("b", ListedModel("m")), book=book
        )
        discovery.start()
        await asyncio.sleep(3 * EVERY)
        assert lines.lines == [("prices not looked up", {"why": "not there"})]
        assert catalog.find("a/m").price is None
        await discovery.stop()

    run(main())


def test_the_end_of_a_model_is_told_once() -> None:
    async def main() -> None:
        today = datetime.now(UTC).date()
        soon, far = today + timedelta(days=30), today + timedelta(days=300)
        up = Account("up", ListedModel("a", retires=soon), ListedModel("b", retires=far), ListedModel("c"))
        _, lines, discovery = discovered(up)
        discovery.start()
        await asyncio.sleep(3 * EVERY)
        assert lines.lines == [("models retire soon", {"provider": "up", "models": [f"a on {soon}"]})]
        up.there = (ListedModel("a", retires=soon), ListedModel("d", retires=soon))
        await asyncio.sleep(EVERY)
        assert lines.lines[1:] == [("models retire soon", {"provider": "up", "models": [f"d on {soon}"]})]
        await discovery.stop()

    run(main())


class Odd(Account):
    """Lists what nobody expects, for once."""

    def __init__(self, name: str, what: Any) -> None:
        super().__init__(name, ListedModel("a"))
        self.what = what

    async def models(self) -> list[ListedModel]:
        what, self.what = self.what, None
        if isinstance(what, Exception):
            raise what
        return await super().models() if what is None else what  # type: ignore[no-any-return]


@pytest.mark.parametrize(("what", "why"), [(RuntimeError("sk-secret"), "RuntimeError"), ([{"id": "a"}], "TypeError")])
def test_an_odd_list_does_not_end_asking(what: Any, why: str) -> None:
    async def main() -> None:
        catalog, lines, discovery = discovered(Odd("up", what))
        discovery.start()
        await asyncio.sleep(QUIET + 1)
        assert lines.lines == [("models not listed", {"provider": "up", "why": why})]
        await asyncio.sleep(RETRY)
        assert catalog.find("up/a")
        await discovery.stop()

    run(main())


def test_an_odd_price_does_not_end_asking() -> None:
    class Bad(Book):
        async def look_up(self, base_url: str, models: Collection[str]) -> dict[str, Known]:
            await super().look_up(base_url, models)
            raise KeyError("sk-secret")

    async def main() -> None:
        book = Bad()
        _, lines, discovery = discovered(Account("up", ListedModel("a")), book=book)
        discovery.start()
        await asyncio.sleep(EVERY + QUIET)
        assert len(book.asked) == 2
        assert lines.lines == [("prices not looked up", {"why": "KeyError"})]
        await discovery.stop()

    run(main())
