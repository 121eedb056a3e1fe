"""Where a configuration comes from: `${VAR}`, `.env`, secrets in files, YAML scalars; and its units."""

from __future__ import annotations

from pathlib import Path

import pytest
from configs import configured, refused
from hypothesis import given
from hypothesis import strategies as st

from ollama_bridge.config import Address, ConfigError, load
from ollama_bridge.config.source import Environment, expand, read
from ollama_bridge.config.units import parse_address, parse_duration, parse_keep_alive, parse_size

# ---- variables, .env, secrets in files -------------------------------------------------------------------------------

EXPANSIONS = {
    "plain": ("text", "text"),
    "set": ("${A}", "1"),
    "inside": ("x${A}y${A}", "x1y1"),
    "default-unused": ("${A:-2}", "1"),
    "default": ("${NONE:-2}", "2"),
    "default-of-empty": ("${EMPTY:-2}", "2"),
    "default-nested": ("${NONE:-a${A}b}", "a1b"),
    "default-nested-twice": ("${NONE:-${EMPTY:-${A}}}", "1"),
    "default-url": ("${NONE:-http://h:1/v1}", "http://h:1/v1"),
    "empty-default": ("${NONE:-}", None),
    "empty": ("${EMPTY}", None),
    "empty-inside": ("x${NONE:-}", "x"),
    "empty-twice": ("${NONE:-}${NONE:-}", ""),
    "dollars": ("$${A} costs $5 $", "${A} costs $5 $"),
    "value-is-not-expanded": ("${RAW}", "${A}"),
}


@pytest.mark.parametrize(("text", "value"), EXPANSIONS.values(), ids=EXPANSIONS.keys())
def test_variables_in_a_value(text: str, value: str | None) -> None:
    variables = {"A": "1", "EMPTY": "", "RAW": "${A}"}
    assert expand(text, variables.get)[0] == value


@given(st.text())
def test_a_text_with_doubled_dollars_means_itself(text: str) -> None:
    assert expand(text.replace("$", "$$"), {}.get) == (text, ())


def test_variables_become_the_type_that_is_wanted(tmp_path: Path) -> None:
    text = """
server:
  open: ${OPEN}
  listen: ${LISTEN}
  origins: ${ORIGINS}
defaults:
  temperature: ${HEAT}
  max_tokens: ${TOKENS}
  think: ${THINK}
  keep_alive: ${KEEP}
models:
  fast: {targets: "${TARGETS}", capabilities: "${CAN}"}
  gone: ${NOTHING:-}
strict_parameters: ${STRICT}
"""
    env = {
        "OPEN": "yes", "LISTEN": "9000", "ORIGINS": "https://a, https://b", "HEAT": "0.5", "TOKENS": "10",
        "THINK": "true", "KEEP": "-1", "TARGETS": "groq/a,ollama:b:7b", "CAN": "tools,vision", "STRICT": "1",
    }  # fmt: skip
    config = configured(tmp_path, text, env)
    assert config.server.open is True
    assert config.server.listen == Address("localhost", 9000)
    assert config.server.origins == ("https://a", "https://b")
    assert config.defaults.model_dump() == {
        "temperature": 0.5, "max_tokens": 10, "system": None, "think": True, "keep_alive": -1.0,
    }  # fmt: skip
    assert [str(target) for target in config.models["fast"].targets] == ["groq/a", "ollama/b:7b"]
    assert config.models["fast"].capabilities == {"tools", "vision"}
    assert config.models.keys() == {"fast"}
    assert config.strict_parameters and config.models["fast"].strict_parameters


def test_a_secret_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("gsk-1\n")
    env = {name: str(tmp_path / "key") for name in ("API_KEY_FILE", "GROQ_API_KEY_FILE")}
    config = configured(tmp_path, "server:\n  api_key: ${API_KEY}", env)
    for secret in (config.server.api_key, config.providers["groq"].api_key):
        assert secret is not None and secret.get_secret_value() == "gsk-1"
    assert "gsk-1" not in repr(config)


def test_a_variable_wins_over_its_file_unless_it_is_empty(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-file")
    file = {"K_FILE": str(tmp_path / "key")}
    assert Environment({"K": "own", **file}).get("K") == "own"
    assert Environment({"K": "", **file}).get("K") == "from-file"
    assert Environment({"K": ""}).get("K") == ""
    assert Environment({}).get("K") is None


def test_the_file_of_a_secret_that_cannot_be_read_is_a_problem(tmp_path: Path) -> None:
    lines = refused(tmp_path, "", {"GROQ_API_KEY_FILE": str(tmp_path / "absent")})
    assert lines == ["config.yaml: the file that GROQ_API_KEY_FILE names cannot be read: No such file or directory"]


def test_dotenv_beside_the_file_over_that_of_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here, there):
        folder.mkdir()
    (here / ".env").write_text("GROQ_API_KEY=here\nXAI_API_KEY=here\nMISTRAL_API_KEY=here\n")
    (there / ".env").write_text('# keys\nexport XAI_API_KEY="there"\nMISTRAL_API_KEY=there\nDEEPSEEK_API_KEY\nA=$B\n')
    (there / "config.yaml").write_text("state_dir: ${A}")
    monkeypatch.chdir(here)
    monkeypatch.setenv("MISTRAL_API_KEY", "process")
    config = load(there / "config.yaml")
    keys = {name: p.api_key.get_secret_value() for name, p in config.providers.items() if p.api_key}
    assert keys == {"groq": "here", "xai": "there", "mistral": "process"}
    assert config.state_dir == there / "$B"


def test_dotenv_that_is_no_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_bytes(b"A=\xff\xff")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"\.env: cannot be read: it is not UTF-8 text"):
        load(None)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("on", "on"), ("12:30", "12:30"), ("0123", "0123"), ("2026-01-01", "2026-01-01"), ("1_000", "1_000"),
        ("10", 10), ("-0.5", -0.5), ("1e3", 1000.0), ("True", True), ("~", None), ("", None), ("'10'", "10"),
    ],
)  # fmt: skip
def test_scalars_hold_no_surprises(text: str, value: object) -> None:
    assert read(f"a: {text}", Environment({})).tree == {"a": value}


def test_anchors_and_merges() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {x: 5, z: 6}]}\nd: *a"
    tree = read(text, Environment({})).tree
    assert tree["b"] == {"x": 1, "y": 3}
    assert tree["c"] == {"x": 1, "y": 2, "z": 6}
    assert tree["d"] == {"x": 1, "y": 2}


# ---- units -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("20s", 20), ("1m30s", 90), ("300ms", 0.3), ("2h", 7200), ("1h1m1s1ms", 3661.001), ("1.5m", 90), (5, 5),
        (0.25, 0.25), ("7", 7), ("0", 0), (" 5s ", 5),
    ],
)  # fmt: skip
def test_durations(text: object, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "-5s", "5 s", "1s1m", "inf", "nan", "٣s", None, True, [], float("inf")])
def test_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(("text", "seconds"), [(-1, -1), ("-1", -1), ("-5m", -300), ("10m", 600), (0, 0)])
def test_keep_alive(text: object, seconds: float) -> None:
    assert parse_keep_alive(text) == seconds


@pytest.mark.parametrize(
    ("text", "size"), [("256MiB", 256 * 2**20), ("10MB", 10**7), ("1 gib", 2**30), ("64b", 64), (5, 5), ("5", 5)]
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", [0, -1, "0", "1.5MB", "MB", "", True, None, 1.5])
def test_no_sizes(text: object) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("localhost:8000", "localhost", 8000, True),
        ("LOCALHOST:1", "localhost", 1, True),
        ("11434", "localhost", 11434, True),
        (11434, "localhost", 11434, True),
        (":11434", "localhost", 11434, True),
        ("127.0.0.1", "127.0.0.1", 8000, True),
        ("127.8.9.1:5", "127.8.9.1", 5, True),
        ("[::1]:8000", "::1", 8000, True),
        ("::1", "::1", 8000, True),
        ("[::1]", "::1", 8000, True),
        ("0.0.0.0:11434", "0.0.0.0", 11434, False),
        ("[::]:80", "::", 80, False),
        ("192.168.1.5:80", "192.168.1.5", 80, False),
        ("my-host.lan:80", "my-host.lan", 80, False),
        ("[::ffff:127.0.0.1]:80", "::ffff:7f00:1", 80, False),
        ("127.0.0.1:0", "127.0.0.1", 0, True),
    ],
)
def test_addresses(text: object, host: str, port: int, loopback: bool) -> None:
    address = parse_address(text)
    assert (address.host, address.port, address.loopback) == (host, port, loopback)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a:b",
        "a:-1",
        "a:65536",
        "http://a:1",
        "a b:1",
        "[::1",
        "[a]:1",
        "[::1]x",
        "127.1:5",
        "1:2:3",
        "٣",
        True,
    ],
)
def test_no_addresses(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_address(text)
