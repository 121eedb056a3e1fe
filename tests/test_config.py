"""What a configuration becomes: the bind rule, providers and their keys, models and targets, paths."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from configs import configured, refused

from ollama_bridge.config import Address, ConfigError, find, load
from ollama_bridge.config.schema import Quirks
from ollama_bridge.dialects.base import Profile
from ollama_bridge.providers.base import Timeouts
from ollama_bridge.providers.presets import PRESETS

# ---- the bind rule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["server: {listen: '0.0.0.0:80'}", "server:\n  listen: ${LISTEN}"])
def test_a_public_address_in_file_or_environment_wants_a_key(tmp_path: Path, text: str) -> None:
    (line,) = refused(tmp_path, text, {"LISTEN": "0.0.0.0:80"})
    assert "server.listen: 0.0.0.0:80 can be reached from other machines and there is no key: " in line
    assert line.endswith("set server.api_key, or server.open: true to let everybody in")


def test_the_environment_alone_cannot_open_the_door_either() -> None:
    with pytest.raises(ConfigError, match=re.escape("server.listen: 0.0.0.0:80 can be reached")):
        load(None, env={"LISTEN": "0.0.0.0:80"})


@pytest.mark.parametrize("more", ["api_key: k", "open: true"])
@pytest.mark.parametrize("listen", [None, "0.0.0.0:80"])
def test_with_a_key_or_by_decision_it_starts_quietly(tmp_path: Path, more: str, listen: str | None) -> None:
    config = configured(tmp_path, f"server: {{listen: '0.0.0.0:80', {more}}}", listen=listen)
    assert config.server.listen == Address("0.0.0.0", 80)
    assert config.warnings == ()


def test_a_public_address_on_the_command_line_warns_and_says_the_line(tmp_path: Path) -> None:
    config = configured(tmp_path, "", listen="0.0.0.0:11434")
    (warning,) = config.warnings
    assert "0.0.0.0:11434 can be reached from other machines and there is no key" in warning
    assert "api_key: ${API_KEY:-}" in warning


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    config = configured(
        tmp_path, "server: {listen: '0.0.0.0:80'}\ndebug: {capture: x}", listen="9000", capture=Path("y")
    )
    assert config.server.listen == Address("localhost", 9000)
    assert config.capture == Path("y")
    assert config.warnings == ()


def test_a_wrong_address_on_the_command_line(tmp_path: Path) -> None:
    (line,) = refused(tmp_path, "", listen="nonsense here")
    assert "HOST:PORT: expected HOST:PORT" in line and "not 'nonsense here'" in line


# ---- providers -------------------------------------------------------------------------------------------------------


def test_without_anything_echo_and_ollama_are_on_and_the_rest_says_what_to_set() -> None:
    config = load(None, env={})
    on = {name for name, provider in config.providers.items() if provider.off is None}
    assert on == {"echo", "ollama"}
    assert config.providers["openai"].off == "provider 'openai' has no key: set OPENAI_API_KEY"
    assert config.providers["openai"].remedy == "set OPENAI_API_KEY"
    assert config.providers["ollama"].base_url == "http://localhost:11434"
    assert config.providers["ollama"].local and config.providers["echo"].local
    assert not config.providers["openai"].local
    assert config.source is None and config.models == {} and config.capture is None
    assert config.state_dir.name == "ollama-bridge"


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.keys and preset.base_url])
@pytest.mark.parametrize("text", ["", "providers:\n  NAME:\n"], ids=["unmentioned", "mentioned"])
def test_a_preset_is_on_with_nothing_but_its_key(tmp_path: Path, name: str, text: str) -> None:
    preset = PRESETS[name]
    if preset.by_name and not text:
        assert all(name not in load(None, env={variable: "k-1"}).providers for variable in preset.keys)
        return
    for variable in preset.keys:
        # Another port than vLLM's usual one, which is ours too.
        provider = configured(tmp_path, text.replace("NAME", name), {variable: " k-1 "}, listen="9999").providers[name]
        assert provider.api_key is not None and provider.api_key.get_secret_value() == "k-1"
        assert (provider.off, provider.key_source, provider.kind) == (None, variable, preset.kind)
        assert (provider.base_url, provider.profile) == (preset.base_url, preset.profile)


@pytest.mark.parametrize("name", [name for name, preset in PRESETS.items() if preset.needs_key])
def test_a_preset_without_key_is_off_and_says_why(tmp_path: Path, name: str) -> None:
    provider = configured(tmp_path, f"providers: {{{name}: {{}}}}").providers[name]
    assert provider.off is not None and provider.remedy is not None
    assert provider.off.startswith(f"provider '{name}' has no ") and provider.off.endswith(provider.remedy)


def test_a_preset_without_address_says_where_to_put_it(tmp_path: Path) -> None:
    provider = configured(tmp_path, "", {"AZURE_OPENAI_API_KEY": "k"}).providers["azure"]
    assert provider.off == "provider 'azure' has no address: set providers.azure.base_url in config.yaml"


def test_a_server_of_ones_own_is_there_when_file_or_target_names_it(tmp_path: Path) -> None:
    assert "lmstudio" not in load(None, env={}).providers
    assert configured(tmp_path, "providers: {lmstudio: {}}").providers["lmstudio"].off is None
    assert configured(tmp_path, "models: {a: lmstudio/b}").providers["lmstudio"].local


def test_a_provider_spelled_out(tmp_path: Path) -> None:
    text = """
timeouts: {idle: 7s, total: 0}
providers:
  lab:
    kind: openai
    base_url: http://127.0.0.1:8080/v1/
    api_key: ${LAB_KEY}
    local: true
    headers: {X-Project: "bridge", X-None: null}
    list: ["llama-*"]
    timeouts: {connect: 1s}
    drop_tools: true
    quirks: {rejects: [logprobs], efforts: "low,high", thinking_in_history: none, extra_body: {a: [1, null]}}
  second: {kind: ollama, base_url: "http://10.0.0.5:11434"}
  twin: {kind: echo}
"""
    providers = configured(tmp_path, text, {"LAB_KEY": "k"}).providers
    lab = providers["lab"]
    assert lab.api_key is not None and lab.api_key.get_secret_value() == "k" and lab.key_source == "the file"
    assert (lab.kind, lab.base_url, lab.local, lab.off) == ("openai", "http://127.0.0.1:8080/v1", True, None)
    assert {name: value.get_secret_value() for name, value in lab.headers.items()} == {"X-Project": "bridge"}
    assert lab.timeouts == Timeouts(connect=1, idle=7, total=0)
    assert (lab.patterns, lab.drop_tools) == (("llama-*",), True)
    assert lab.profile == Profile(rejects=frozenset({"logprobs"}), efforts=("low", "high"), extra_body={"a": [1, None]})
    assert (providers["second"].kind, providers["second"].local, providers["second"].off) == ("ollama", False, None)
    assert providers["twin"].kind == "echo"
    assert "bridge" not in repr(lab)


def test_quirks_change_only_what_they_name(tmp_path: Path) -> None:
    config = configured(tmp_path, "providers: {deepseek: {quirks: {thinking_in_history: none, max_stops: 16}}}")
    before = PRESETS["deepseek"].profile
    assert config.providers["deepseek"].profile == before.with_(thinking_in_history=None, max_stops=16)


def test_quirks_are_the_fields_of_a_profile() -> None:
    of_other_kinds = {"cache_from", "embeds_by", "max_inputs", "max_output"}
    assert set(Quirks.model_fields) == {field.name for field in dataclasses.fields(Profile)} - of_other_kinds


@pytest.mark.parametrize("text", ["providers: {ollamafreeapi: {}}", "models: {a: ollamafreeapi/llama3.2:3b}"])
def test_servers_of_strangers_are_there_only_by_name_and_with_a_warning(tmp_path: Path, text: str) -> None:
    assert "ollamafreeapi" not in load(None, env={}).providers
    config = configured(tmp_path, text)
    free = config.providers["ollamafreeapi"]
    assert (free.kind, free.local, free.off) == ("ollamafree", False, None)
    assert any("servers of strangers" in warning for warning in config.warnings)


def test_ollamas_cloud_is_never_local_and_gets_the_key_only_when_named(tmp_path: Path) -> None:
    key = {"OLLAMA_API_KEY": "of-a-guarded-host"}
    assert "ollama-cloud" not in load(None, env=key).providers
    cloud = configured(tmp_path, "models: {a: ollama-cloud/gpt-oss:120b}", key).providers["ollama-cloud"]
    assert (cloud.kind, cloud.base_url, cloud.local) == ("ollama", "https://ollama.com", False)
    assert cloud.api_key is not None


@pytest.mark.parametrize("written", ["2024-10-21", "'2024-10-21'", "2024-10-21-preview"])
def test_azures_first_api(tmp_path: Path, written: str) -> None:
    text = f"providers: {{azure: {{base_url: 'https://r.openai.azure.com', api_key: k, api_version: {written}}}}}"
    assert configured(tmp_path, text).providers["azure"].api_version == written.strip("'")


HUB = "https://huggingface.co"
HUBS: Mapping[str, tuple[str, str | None]] = {
    "the router": ("{}", HUB),
    "the router, by another name": ("{kind: huggingface, base_url: 'https://router.huggingface.co/v1'}", HUB),
    "a mirror": ("{kind: huggingface, base_url: 'https://mirror.example/v1', hub_url: 'https://hub.example/'}",
                 "https://hub.example"),
    "a dedicated endpoint": ("{kind: huggingface, base_url: 'https://x.endpoints.huggingface.cloud/v1'}", None),
}  # fmt: skip


@pytest.mark.parametrize(("written", "hub"), HUBS.values(), ids=HUBS.keys())
def test_whose_names_a_hub_tells(tmp_path: Path, written: str, hub: str | None) -> None:
    name = "huggingface" if written == "{}" else "mine"
    config = configured(tmp_path, f"providers: {{{name}: {written}}}", {"HF_TOKEN": "k"}).providers[name]
    assert config.hub_url == hub
    assert (config.profile.embeds_by != "") == (hub is not None)


@pytest.mark.parametrize("api", ["auto", "chat", "responses"])
def test_which_api_carries_a_model(tmp_path: Path, api: str) -> None:
    """It means something to the targets alone that have two."""
    text = f"models: {{a: {{targets: [openai/x, ollama/y], api: {api}}}}}"
    first, second = configured(tmp_path, text).models["a"].targets
    assert (first.api, second.api) == (api, "auto")


def test_when_responses_is_used_can_be_said(tmp_path: Path) -> None:
    text = "providers: {openai: {quirks: {responses: always}}, xai: {quirks: {responses: []}}}"
    providers = configured(tmp_path, text).providers
    assert providers["openai"].profile.responses == {"always"}
    assert providers["xai"].profile.responses == frozenset()


def test_where_a_real_ollama_is(tmp_path: Path) -> None:
    env = {"OLLAMA_BASE_URL": "http://10.1.1.1:11434/"}
    assert load(None, env=env).providers["ollama"].base_url == "http://10.1.1.1:11434"
    assert configured(tmp_path, "providers:\n  ollama:\n", env).providers["ollama"].local
    own = configured(tmp_path, "providers: {ollama: {base_url: 'http://b:1'}}", env).providers["ollama"]
    assert own.base_url == "http://b:1"
    with pytest.raises(ConfigError, match="OLLAMA_BASE_URL: expected an address"):
        load(None, env={"OLLAMA_BASE_URL": "localhost:11434"})


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://localhost:1", True), ("http://127.0.0.1:1", True), ("http://[::1]:1", True),
        ("http://192.168.0.9:1", True), ("https://ollama.com", False), ("http://8.8.8.8", False),
        ("http://some.name:1", False), ("http://ollama:11434", False),
    ],
)  # fmt: skip
def test_a_local_preset_at_another_address_is_local_only_where_that_is_certain(url: str, local: bool) -> None:
    assert load(None, env={"OLLAMA_BASE_URL": url}).providers["ollama"].local is local


def test_a_name_is_local_when_the_file_says_so(tmp_path: Path) -> None:
    text = "providers: {ollama: {base_url: 'http://ollama:11434', local: LOCAL}}"
    assert configured(tmp_path, text.replace("LOCAL", "true")).providers["ollama"].local
    near = "providers: {ollama: {local: false}}"
    assert not configured(tmp_path, near).providers["ollama"].local


@pytest.mark.parametrize("listen", ["11434", "0.0.0.0:11434", "[::1]:11434"])
def test_a_gateway_in_ollamas_place_does_not_ask_itself(listen: str) -> None:
    off = load(None, env={}, listen=listen).providers["ollama"].off
    assert off == "provider 'ollama' points at this gateway itself: set OLLAMA_BASE_URL"


def test_origins_of_the_environment_are_added(tmp_path: Path) -> None:
    env = {"OLLAMA_ORIGINS": "https://b.example, https://a.example,"}
    config = configured(tmp_path, "server: {origins: ['https://a.example']}", env)
    assert config.server.origins == ("https://a.example", "https://b.example")
    with pytest.raises(ConfigError, match="OLLAMA_ORIGINS: expected origins such as"):
        load(None, env={"OLLAMA_ORIGINS": "b.example"})


# ---- models ----------------------------------------------------------------------------------------------------------


def test_models_in_every_spelling(tmp_path: Path) -> None:
    text = """
timeouts: {total: 100}
providers: {groq: {timeouts: {idle: 9}, drop_tools: true}}
models:
  fast: groq/llama-3.3-70b-versatile
  colon: ollama:qwen2.5:7b
  case: GROQ/X
  mine: {provider: openai, model: ft/gpt-6}
  careful:
    targets: [openai/a, groq/b]
    system: Be brief.
    temperature: 0.2
    max_tokens: 5
    think: low
    keep_alive: 10m
    options: {top_p: 0.9, stop: END, seed: 7}
    capabilities: [completion, tools]
    context_length: 200000
    max_output: 10
    embedding_length: 20
    timeouts: {total: 20m}
    drop_tools: false
    strict_parameters: true
    api: chat
"""
    models = configured(tmp_path, text).models
    targets = {name: [str(target) for target in model.targets] for name, model in models.items()}
    assert targets == {
        "fast": ["groq/llama-3.3-70b-versatile"], "colon": ["ollama/qwen2.5:7b"], "case": ["groq/X"],
        "mine": ["openai/ft/gpt-6"], "careful": ["openai/a", "groq/b"],
    }  # fmt: skip
    assert models["fast"].drop_tools and not models["mine"].drop_tools
    assert models["fast"].options == {} and models["fast"].capabilities is None
    careful = models["careful"]
    assert [target.timeouts for target in careful.targets] == [Timeouts(total=1200), Timeouts(idle=9, total=1200)]
    assert (careful.system, careful.temperature, careful.max_tokens) == ("Be brief.", 0.2, 5)
    assert (careful.think, careful.keep_alive) == ("low", 600)
    assert careful.options == {"top_p": 0.9, "stop": ["END"], "seed": 7}
    assert careful.capabilities == {"completion", "tools"}
    assert (careful.context_length, careful.max_output, careful.embedding_length) == (200000, 10, 20)
    assert (careful.drop_tools, careful.strict_parameters) == (False, True)


# ---- paths -----------------------------------------------------------------------------------------------------------


def test_relative_paths_start_at_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    config = configured(tmp_path, "state_dir: state\ndebug: {capture: ~/kept}")
    assert config.state_dir == tmp_path.resolve() / "state"
    assert config.capture == Path("/home/someone/kept")


def test_find(tmp_path: Path) -> None:
    assert find(tmp_path) is None
    (tmp_path / "config.yaml").mkdir()
    assert find(tmp_path) is None
    (tmp_path / "config.yaml").rmdir()
    (tmp_path / "config.yaml").write_text("")
    assert find(tmp_path) == tmp_path / "config.yaml"


def test_models_that_think_are_waited_for_longer(tmp_path: Path) -> None:
    """What is said of all holds for them as well, unless something else is said of them; so it is of a provider."""
    config = configured(
        tmp_path,
        """
timeouts: {idle: 7s, thinking: {first_token: 20m}}
providers: {groq: {timeouts: {total: 9m}}}
models: {m: {provider: groq, model: x, timeouts: {idle: 8s}}}
""",
    )
    thinking = Timeouts(connect=5, first_byte=180, first_token=1200, idle=7, total=1800)
    assert config.providers["openai"].timeouts.thinking == thinking
    assert config.providers["groq"].timeouts.thinking == dataclasses.replace(thinking, total=540)
    assert config.models["m"].targets[0].timeouts.thinking == dataclasses.replace(thinking, total=540, idle=8)
    assert config.models["m"].targets[0].timeouts == Timeouts(idle=8, total=540)
