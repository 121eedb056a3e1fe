"""What is known of a model, fact by fact: who tells it, whose word counts more, where it shows."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from configs import configured, refused
from recordings import FOLDER

from ollama_bridge.dialects.base import Profile
from ollama_bridge.library.facts import show_answer, tags_entry
from ollama_bridge.lists import pricebook
from ollama_bridge.lists.pricebook import PriceBook
from ollama_bridge.lists.shelf import Shelf
from ollama_bridge.policy.catalog import Catalog, Defaults, Model, Target
from ollama_bridge.policy.facts import guess_capabilities, merge, retires_soon
from ollama_bridge.policy.families import reasons
from ollama_bridge.policy.known_models import look_up
from ollama_bridge.providers.anthropic import listed as listed_by_anthropic
from ollama_bridge.providers.base import Known, ListedModel, Price
from ollama_bridge.providers.huggingface import _described
from ollama_bridge.providers.listings import day, listed, read_models
from ollama_bridge.terminal.endings import Ending, endings

TODAY = date(2026, 11, 21)
ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Account:
    name: str
    kind: str = "openai"
    local: bool = False
    profile: Profile = field(default_factory=Profile)
    off: str | None = None
    base_url: str = "https://api.openai.com/v1"


def catalog(
    *aliases: Model, account: Account | None = None, said: Mapping[str, Known] | None = None, preset: str = ""
) -> tuple[Catalog, Account]:
    account = account or Account("lab")
    providers: Any = {account.name: account}
    presets = {account.name: preset}
    return Catalog(providers, aliases, Defaults(), {}, (), presets, {account.name: said or {}}), account


# -- whose word counts -----------------------------------------------------------------------------------------------
def test_the_most_trusted_tells_first_and_each_fact_for_itself() -> None:
    told = [
        ("config", Known(price=Price(1, 2))),
        ("provider", Known(context_length=10, price=Price(3, 4))),
        ("table", Known(context_length=20, max_output=30)),
    ]
    known, sources = merge(told)
    assert known == Known(context_length=10, max_output=30, price=Price(1, 2))
    assert sources == {"price": "config", "context_length": "provider", "max_output": "table"}


def test_each_source_of_a_providers_model() -> None:
    models, lab = catalog(said={"gpt-5": Known(retires=date(2027, 1, 1))})
    place: Any = lab
    models.learn(place, [ListedModel("gpt-5", embedding_length=7)], 0.0)
    models.learn_packaged("lab", {"gpt-5": Known(context_length=400_000, price=Price(1.25, 10.0, 0.125))})
    found = models.find("lab/gpt-5")
    assert found.sources == {
        "retires": "config",
        "embedding_length": "provider",
        "context_length": "genai-prices",
        "price": "genai-prices",
        "max_output": "table",
        "capabilities": "name",
    }
    assert (found.context_length, found.max_output, found.retires) == (400_000, 128_000, date(2027, 1, 1))
    assert models.price(Target("lab", "gpt-5")) == Price(1.25, 10.0, 0.125)
    assert models.window(Target("lab", "gpt-5")) == 400_000


def test_an_alias_says_it_better() -> None:
    alias = Model("mine", (Target("lab", "gpt-5"),), frozenset({"completion"}), price=Price(5, 6), context_length=9)
    models, _ = catalog(alias)
    found = models.find("mine")
    assert (found.price, found.context_length, found.max_output) == (Price(5, 6), 9, 128_000)
    assert found.sources["price"] == found.sources["capabilities"] == "config"
    assert found.sources["max_output"] == "table"
    assert models.window(found.targets[0]) == 9 and models.price(found.targets[0]) == Price(5, 6)


def test_what_a_list_says_of_abilities_is_preferred_to_a_name() -> None:
    models, lab = catalog()
    place: Any = lab
    entry = {"id": "claude-fable-9", "capabilities": {"image_input": {"supported": True}}}
    models.learn(place, [listed_by_anthropic(entry)], 0.0)
    found = models.find("lab/claude-fable-9")
    assert found.capabilities == {"completion", "tools", "vision"} and found.sources["capabilities"] == "provider"
    assert "thinking" in models.find("lab/claude-fable-8").capabilities, "the name alone says more"


def test_nothing_is_known_of_a_name_that_says_nothing() -> None:
    models, _ = catalog()
    found = models.find("lab/xyz")
    assert (found.context_length, found.price, found.retires, dict(found.sources)) == (
        None, None, None, {"capabilities": "name"},
    )  # fmt: skip


def test_models_of_a_real_ollama_are_in_no_table() -> None:
    """A model of that name there is whatever somebody pulled."""
    models, box = catalog(account=Account("box", kind="ollama"))
    place: Any = box
    models.learn(place, [ListedModel("gpt-oss:20b")], 0.0)
    assert models.find("gpt-oss:20b").context_length is None


def test_a_new_catalog_takes_over_what_was_learnt() -> None:
    before, lab = catalog()
    place: Any = lab
    before.learn(place, [ListedModel("m", created=5)], 9.0)
    before.learn_packaged("lab", {"m": Known(price=Price(1, 2))})
    after, _ = catalog(account=lab, said={"m": Known(context_length=3)})
    after.take_over(before)
    found = after.find("lab/m")
    assert (found.price, found.context_length, found.modified) == (Price(1, 2), 3, 5.0)
    other, _ = catalog()
    other.take_over(before)
    assert other.listed() == [], "another account of that name"


# -- insert ----------------------------------------------------------------------------------------------------------
FILLS = Profile(fills_by="fim", fills_at="/x")

INSERTS: dict[str, tuple[Account, str, frozenset[str] | None, bool]] = {
    "guessed-there": (Account("lab", profile=FILLS), "codestral-latest", None, True),
    "guessed-elsewhere": (Account("lab"), "codestral-latest", None, False),
    "told-there": (Account("lab", profile=FILLS), "m", frozenset({"completion", "insert"}), True),
    "told-elsewhere": (Account("lab"), "m", frozenset({"completion", "insert"}), False),
    "untold-but-named": (Account("lab", profile=FILLS), "qwen2.5-coder-7b", frozenset({"completion"}), True),
    "no-such-model": (Account("lab", profile=FILLS), "mistral-large", None, False),
    "real-ollama": (Account("box", kind="ollama"), "m", frozenset({"completion", "insert"}), True),
}


@pytest.mark.parametrize(("account", "model", "told", "inserts"), list(INSERTS.values()), ids=list(INSERTS))
def test_who_can_fill_in(account: Account, model: str, told: frozenset[str] | None, inserts: bool) -> None:
    models, place = catalog(account=account)
    owner: Any = place
    models.learn(owner, [ListedModel(model, capabilities=told)], 0.0)
    words = models.facts(Target(account.name, model))[0].capabilities
    assert words is not None and ("insert" in words) is inserts


# -- names -----------------------------------------------------------------------------------------------------------
THINKS = [
    "claude-opus-5-5", "claude-sonnet-4-5-20250929", "claude-3-7-sonnet-latest", "anthropic/claude-haiku-4.5",
    "claude-fable-5", "gemini-2.5-flash", "gemini-3.8-flash", "gpt-6-luna", "o3", "deepseek-v4-pro",
]  # fmt: skip
THINKS_NOT = ["claude-3-5-haiku-latest", "claude-3-opus-20240229", "gpt-4o", "gpt-5-chat-latest", "gemini-2.0-flash"]


@pytest.mark.parametrize("model", THINKS)
def test_models_that_think_by_their_name(model: str) -> None:
    assert "thinking" in guess_capabilities(model)
    assert reasons(model.rpartition("/")[2], "") is not False, "two guesses of one name differ"


@pytest.mark.parametrize("model", THINKS_NOT)
def test_models_that_do_not(model: str) -> None:
    assert "thinking" not in guess_capabilities(model)


# -- catalogues ------------------------------------------------------------------------------------------------------
PRICED: dict[str, tuple[dict[str, Any], Price | None]] = {
    "openrouter": (
        {
            "pricing": {
                "prompt": "0.000003",
                "completion": "0.000015",
                "input_cache_read": "0.0000003",
                "input_cache_write": "0.00000375",
            }
        },
        Price(3.0, 15.0, 0.3, 3.75),
    ),
    "free": ({"pricing": {"prompt": "0", "completion": "0"}}, Price(0.0, 0.0)),
    "chosen-by-a-router": ({"pricing": {"prompt": "-1", "completion": "-1"}}, None),
    "together": ({"pricing": {"input": 0.18, "output": 0.59, "hourly": 0}}, Price(0.18, 0.59)),
    "deepinfra": (
        {"metadata": {"pricing": {"input_tokens": 0.1, "output_tokens": 0.4, "cache_read_tokens": 0.05}}},
        Price(0.1, 0.4, 0.05),
    ),
    "half": ({"pricing": {"prompt": "0.000003"}}, None),
    "no-number": ({"pricing": {"prompt": "cheap", "completion": "nan"}}, None),
    "no-mapping": ({"pricing": [1, 2]}, None),
    "flags": ({"pricing": {"input": True, "output": False}}, None),
    "endless": ({"pricing": {"prompt": "inf", "completion": "1"}}, None),
    "silent": ({}, None),
}


@pytest.mark.parametrize(("entry", "price"), list(PRICED.values()), ids=list(PRICED))
def test_prices_in_catalogues(entry: dict[str, Any], price: Price | None) -> None:
    assert listed({"id": "m", **entry}).price == price


ENDS: dict[str, tuple[dict[str, Any], date | None]] = {
    "openai": ({"shutdown_date": "2026-12-31"}, date(2026, 12, 31)),
    "openai-seconds": ({"shutdown_date": 1_798_675_200}, date(2026, 12, 31)),
    "openrouter": ({"expiration_date": "2026-12-31"}, date(2026, 12, 31)),
    "mistral": ({"deprecation": "2026-12-31T12:00:00Z"}, date(2026, 12, 31)),
    "null": ({"deprecation": None}, None),
    "odd": ({"shutdown_date": "soon", "deprecation": {"x": 1}}, None),
    "far": ({"shutdown_date": 1e300}, None),
    "flag": ({"deprecation": True}, None),
}


@pytest.mark.parametrize(("entry", "ends"), list(ENDS.values()), ids=list(ENDS))
def test_ends_in_catalogues(entry: dict[str, Any], ends: date | None) -> None:
    assert listed({"id": "m", **entry}).retires == ends


def test_anthropic_tells_when_a_model_ends() -> None:
    assert listed_by_anthropic({"id": "m", "retires_at": "2026-12-31T00:00:00Z"}).retires == date(2026, 12, 31)
    assert day(None) is None


def test_the_router_names_the_highest_price_of_those_that_may_answer() -> None:
    offers = [
        {"provider": "a", "status": "live", "context_length": 9, "pricing": {"input": 0.3, "output": 1.2}},
        {"provider": "b", "status": "live", "context_length": 8, "pricing": {"input": 0.6, "output": 2.2}},
        {"provider": "c", "status": "error", "pricing": {"input": 9, "output": 9}},
        {"provider": "d", "status": "live"},
    ]
    model = _described(ListedModel("m", raw={"id": "m", "providers": offers}))
    assert (model.price, model.context_length) == (Price(0.6, 2.2), 8)


@pytest.mark.skipif(not FOLDER.is_dir(), reason="no recordings here")
def test_a_recorded_catalogue_of_openrouter_tells_prices() -> None:
    recorded = json.loads((FOLDER / "openrouter" / "models.json").read_text(encoding="utf-8"))
    models = read_models("openrouter", recorded["response_text"].encode())
    priced = [model for model in models if model.price is not None]
    assert priced and all(0 <= model.price.input < 1000 for model in priced if model.price)
    assert all(model.context_length for model in models)


# -- the table, and the package --------------------------------------------------------------------------------------
TABLE: dict[tuple[str, str], Known] = {
    ("", "gpt-6-luna"): Known(1_050_000, None, 128_000),
    ("", "gpt-5.4-mini"): Known(400_000, None, 128_000),
    ("openrouter", "openai/gpt-5"): Known(400_000, None, 128_000),
    ("", "gpt-4o-mini"): Known(128_000, None, 16_384),
    ("", "o3-pro"): Known(200_000, None, 100_000),
    ("", "text-embedding-3-large"): Known(8192, 3072),
    ("", "ft:gpt-4o:me::1"): Known(128_000, None, 16_384),
    ("anthropic", "claude-sonnet-4-5-20250929"): Known(200_000, None, 64_000, retires=date(2026, 11, 30)),
    ("bedrock", "claude-sonnet-4-5"): Known(200_000, None, 64_000),
    ("anthropic", "claude-opus-4-7"): Known(1_000_000, None, 128_000),
    ("", "BAAI/bge-m3"): Known(8192, 1024),
    ("", "no-such-model"): Known(),
}


@pytest.mark.parametrize(("place", "known"), list(TABLE.items()), ids=[f"{p}-{m}" for p, m in TABLE])
def test_the_table(place: tuple[str, str], known: Known) -> None:
    assert look_up(*place) == known


async def test_the_package_knows_prices_and_windows() -> None:
    book = PriceBook()
    told = await book.look_up("https://api.openai.com/v1", ["gpt-5", "no-such-model-x"])
    assert list(told) == ["gpt-5"]
    assert told["gpt-5"].context_length == 400_000
    price = told["gpt-5"].price
    assert price is not None and 0 < price.cached < price.input < price.output  # type: ignore[operator]
    assert await book.look_up("https://nobody.example/v1", ["gpt-5"]) == {}


@pytest.mark.parametrize(
    ("base_url", "model"),
    [
        ("https://api.anthropic.com", "claude-opus-5-5"),
        ("https://generativelanguage.googleapis.com/v1beta", "gemini-3.8-flash"),
        ("https://api.deepseek.com", "deepseek-v4-pro"),
        ("https://api.mistral.ai/v1", "codestral-latest"),
        ("https://api.groq.com/openai/v1", "llama-3.3-70b-versatile"),
        ("https://api.openai.com/v1", "o3"),
    ],
)
async def test_the_package_knows_the_services(base_url: str, model: str) -> None:
    """Prices that depend on the day, the hour or the length of the prompt among them."""
    known = (await PriceBook().look_up(base_url, [model]))[model]
    assert known.price is not None and known.price.output > 0


async def test_the_package_stays_out_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is large, and stops every stream while it is imported; of a server of one's own it knows nothing at all."""
    book = PriceBook()
    assert await book.look_up("https://api.openai.com/v1", ["gpt-5"])
    assert not [name for name in sys.modules if name.startswith("genai_prices")]
    monkeypatch.setattr(sys, "executable", "/nowhere")
    assert await book.look_up("https://api.openai.com/v1", ["gpt-5"]), "asked once"
    assert await book.look_up("http://127.0.0.1:1/v1", ["gpt-5"]) == {}
    with pytest.raises(OSError):
        await book.look_up("https://api.openai.com/v1", ["gpt-6"])


UNREADABLE = {
    "not-installed": ("import sys; sys.exit(3)", "not installed"),
    "broken": ("print('{')", "cannot be read (exit code 0)"),
    "of-another-form": ("print('[1]')", "cannot be read (exit code 0)"),
    "raising": ("raise RuntimeError", "cannot be read (exit code 1)"),
    "endless": ("import time; time.sleep(600)", "takes too long"),
}


@pytest.mark.parametrize(("program", "words"), list(UNREADABLE.values()), ids=list(UNREADABLE))
async def test_a_package_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, words: str
) -> None:
    (tmp_path / "reader.py").write_text(program)
    monkeypatch.setattr(pricebook, "_READER", tmp_path / "reader.py")
    monkeypatch.setattr(pricebook, "PATIENCE", 1.0)
    with pytest.raises(OSError, match=re.escape(words)):
        await PriceBook().look_up("https://api.openai.com/v1", ["gpt-5"])


# -- where it shows --------------------------------------------------------------------------------------------------
KNOWN = Model(
    "mine", (Target("lab", "gpt-5"),), frozenset({"completion"}), context_length=9, max_output=8,
    price=Price(1.25, 10.0, 0.125), retires=date(2026, 12, 31),
    sources={"price": "genai-prices", "context_length": "provider"},
)  # fmt: skip


def test_show_tells_price_and_end_where_nobody_trips_over_them() -> None:
    answer = show_answer(KNOWN, None, None, None)
    assert answer["license"] == ("Retires on 2026-12-31\n$1.25 in, $10 out, $0.125 cached per million tokens"), (
        "the two lines that `ollama show` prints of a licence"
    )
    told = {name: value for name, value in answer["model_info"].items() if name.startswith("bridge.")}
    assert told == {
        "bridge.max_output": 8,
        "bridge.price.input": 1.25,
        "bridge.price.output": 10.0,
        "bridge.price.cached": 0.125,
        "bridge.retires": "2026-12-31",
        "bridge.sources": "context_length: provider, price: genai-prices",
    }
    ending = [name for name in answer["model_info"] if name.endswith((".context_length", ".embedding_length"))]
    assert ending == ["gpt.context_length"], "several clients take the first such key for the truth"


def test_tags_carry_the_window_and_no_field_of_ours() -> None:
    entry = tags_entry(KNOWN)
    assert entry["details"]["context_length"] == 9
    assert not [name for name in json.dumps(entry).split('"') if "bridge" in name or "price" in name]


# -- ends ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("retires", "soon"),
    [
        (None, False),
        (date(2026, 11, 20), True),
        (date(2026, 11, 21), True),
        (date(2027, 2, 19), True),
        (date(2027, 2, 20), False),
    ],
)
def test_soon_is_within_ninety_days(retires: date | None, soon: bool) -> None:
    assert retires_soon(retires, TODAY) is soon


ENDING = """
providers:
  anthropic: {api_key: k}
  openai: {api_key: k, models: {gpt-6-luna: {retires: 2026-12-01}, gpt-6-sol: {retires: 2030-01-01}}}
  groq: {models: {off: {retires: 2026-12-01}}}
models:
  careful: anthropic/claude-sonnet-4-5
  other: {targets: [openai/gpt-6-luna, anthropic/claude-sonnet-4-5]}
  own: {targets: [openai/gpt-6-sol], retires: 2026-12-24}
  far: openai/gpt-6-luna-2
  silent: groq/off
"""


def test_models_that_end_soon(tmp_path: Path) -> None:
    config = configured(tmp_path, ENDING)
    shelf = Shelf(tmp_path / "models")
    shelf.write(config.providers["anthropic"], [ListedModel("claude-x", retires=date(2026, 12, 5))], {})
    assert endings(config, shelf, TODAY) == [
        Ending("anthropic/claude-sonnet-4-5", date(2026, 11, 30), ("careful", "other")),
        Ending("openai/gpt-6-luna", date(2026, 12, 1), ("other",)),
        Ending("anthropic/claude-x", date(2026, 12, 5)),
        Ending("openai/gpt-6-sol", date(2026, 12, 24), ("own",)),
    ]


def test_check_says_what_ends_soon(tmp_path: Path) -> None:
    soon = (date.today()).isoformat()
    (tmp_path / "config.yaml").write_text(
        f"state_dir: state\nproviders: {{lab: {{kind: openai, base_url: 'http://127.0.0.1:9/v1', "
        f"models: {{m: {{retires: {soon}}}}}}}}}\nmodels: {{mine: lab/m}}\n"
    )
    command = [sys.executable, "-m", "ollama_bridge", "check"]
    ran = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(ROOT)}
    )
    assert f"WARNING: lab/m ends on {soon}: mine" in ran.stdout
    assert not (tmp_path / "state").exists(), "looking leaves no trace"


# -- the configuration -----------------------------------------------------------------------------------------------
def test_what_the_file_says_of_models(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        """
providers:
  lab:
    kind: openai
    base_url: http://127.0.0.1:9/v1
    models:
      m: {context_length: 9, max_output: 8, embedding_length: 7, capabilities: [completion, insert],
          price: {input: 1, output: 2.5, cached: 0.1, written: 1.25}, retires: 2026-12-31}
      "n:7b": {retires: "2026-12-31"}
models:
  mine: {targets: [lab/m], price: {input: 3, output: 4}, retires: 2027-01-01}
""",
    )
    assert config.providers["lab"].models == {
        "m": Known(9, 7, 8, frozenset({"completion", "insert"}), Price(1, 2.5, 0.1, 1.25), date(2026, 12, 31)),
        "n:7b": Known(retires=date(2026, 12, 31)),
    }
    mine = config.models["mine"]
    assert (mine.price, mine.retires) == (Price(3, 4), date(2027, 1, 1))


LAB = "providers: {lab: {kind: openai, base_url: 'http://h:1/v1', "

WRONG = {
    "price-half": ("models: {m: {targets: [echo/echo], price: {input: 1}}}", "price.output"),
    "price-negative": ("models: {m: {targets: [echo/echo], price: {input: -1, output: 1}}}", "price.input"),
    "no-day": ("models: {m: {targets: [echo/echo], retires: soon}}", "expected a day such as 2026-12-31"),
    "a-moment": ("models: {m: {targets: [echo/echo], retires: 2026-12-31T10:00:00}}", "expected a day"),
    "unknown-fact": (LAB + "models: {m: {colour: red}}}}", "unknown key"),
    "of-the-echo": ("providers: {echo: {kind: echo, models: {m: {max_output: 1}}}}", "takes no 'models'"),
    "half-a-way-to-fill": (LAB + "quirks: {fills_by: fim}}}", "fills_by and fills_at are said together"),
    "no-path": (LAB + "quirks: {fills_by: fim, fills_at: 'https://x'}}}", "expected a path"),
}


@pytest.mark.parametrize(("text", "words"), list(WRONG.values()), ids=list(WRONG))
def test_what_the_file_must_not_say(tmp_path: Path, text: str, words: str) -> None:
    assert any(words in line for line in refused(tmp_path, text))
