"""What a configuration may not say, and in which words it is told: path, line, expectation, nearest word, no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from configs import configured, refused

from ollama_bridge.config import ConfigError, load
from ollama_bridge.config.schema import UNSUPPORTED_SECTIONS

BAD = {
    "unknown-top": ("serverr: {}", "1: serverr: unknown key; did you mean 'server'?"),
    "unknown-nested": ("server:\n  hearbeat: 5s", "2: server.hearbeat: unknown key; did you mean 'heartbeat'?"),
    "unknown-far": ("server: {zzz: 1}", "1: server.zzz: unknown key; known here: api_key, drain, heartbeat, listen"),
    "unknown-in-provider": (
        "providers:\n  groq:\n    timeouts: {conect: 4}",
        "3: providers.groq.timeouts.conect: unknown key; did you mean 'connect'?",
    ),
    "unknown-alias-key": ("providers: {groq: {lists: [a]}}", "providers.groq.lists: unknown key; did you mean 'list'?"),
    "python-name-of-key": ("providers: {groq: {patterns: [a]}}", "1: providers.groq.patterns: unknown key"),
    "unknown-option": (
        "models:\n  a:\n    targets: groq/x\n    options: {temprature: 1}",
        "4: models.a.options.temprature: unknown key; did you mean 'temperature'?",
    ),
    "unknown-quirk": ("providers: {groq: {quirks: {think_tag: true}}}", "unknown key; did you mean 'think_tags'?"),
    "double-key": ("server: {}\nmodels: {}\nserver: {}", "3: server: stands here twice, first in line 1"),
    "double-alias": ("models:\n  a: groq/x\n  A:latest: groq/y", "3: models.A:latest: is the same name as 'a'"),
    "top-list": ("- a", "1: expected a mapping (key: value) at the top"),
    "top-text": ("server", "1: expected a mapping (key: value) at the top"),
    "syntax": ("server:\n  listen: [a", "not YAML, column"),
    "syntax-line": ("a: b: c", "config.yaml:1: not YAML, column 5: mapping values are not allowed here"),
    "syntax-variable": ("timeouts: {connect: ${X}}", "a ${…} must stand in quotes"),
    "control-character": ("server:\n  listen: \x01", "config.yaml:2: not YAML: a character that no YAML text may hold"),
    "tag": ("server: !!python/object:os.system {}", "1: server: the tag tag:yaml.org,2002:python/object:os.system"),
    "scalar-tag": ("state_dir: !secret x", "1: state_dir: the tag !secret is not supported"),
    "alias-to-itself": ("server: &a {listen: *a}", "an alias that leads back to itself"),
    "deep": ("[" * 5000, "nested too deeply"),
    "key-not-text": ("? [a]\n: b", "1: expected a plain text as key"),
    "merge-of-text": ("server:\n  <<: a", "<< expects a mapping"),
    "number": ("defaults: {temperature: hot}", "1: defaults.temperature: expected a number, not 'hot'"),
    "number-true": ("defaults: {temperature: true}", "defaults.temperature: expected a number, not 'true'"),
    "number-nan": ("defaults: {temperature: .nan}", "defaults.temperature: expected"),
    "number-negative": ("defaults: {temperature: -1}", "defaults.temperature: expected 0 or more, not '-1'"),
    "whole": ("defaults: {max_tokens: 1.5}", "defaults.max_tokens: expected a whole number, not '1.5'"),
    "whole-zero": ("defaults: {max_tokens: 0}", "defaults.max_tokens: expected 1 or more, not '0'"),
    "flag": ("server: {open: maybe}", "server.open: expected true or false, not 'maybe'"),
    "word": ("server: {openai_compat: rih}", "server.openai_compat: expected rich or ollama, not 'rih'"),
    "text": ("defaults: {system: 5}", "defaults.system: expected text: put it in quotes, not '5'"),
    "mapping": ("server: 8000", "server: expected a mapping (key: value)"),
    "mapping-models": ("models: [a]", "models: expected a mapping (key: value)"),
    "mapping-model": ("models: {a: [groq/x]}", "models.a: expected a mapping (key: value)"),
    "duration": ("server: {heartbeat: 5x}", "server.heartbeat: expected a duration such as 20s, 1m30s or 300ms"),
    "duration-negative": ("timeouts: {idle: -5s}", "timeouts.idle: expected a duration"),
    "keep-alive": ("defaults: {keep_alive: soon}", "defaults.keep_alive: expected a duration such as 5m, a number"),
    "size": ("server: {max_body: 5 apples}", "server.max_body: expected a size such as 256MiB or 10MB"),
    "listen": ("server: {listen: 'a b:1'}", "server.listen: expected HOST:PORT, such as localhost:8000"),
    "port": ("server: {listen: 'localhost:70000'}", "server.listen: expected a port between 0 and 65535"),
    "version": ("server: {version: 0.33}", "server.version: expected a version in quotes"),
    "version-word": ("server: {version: new}", "server.version: expected a version in quotes"),
    "origin": ("server: {origins: [chat.example.com]}", "server.origins: expected origins such as"),
    "origin-stars": ("server: {origins: 'https://*.a.*'}", "server.origins: expected origins such as"),
    "log-level": ("server: {log_level: loud}", "expected debug, info, warning or error, not 'loud'"),
    "think": ("defaults: {think: hard}", "defaults.think: expected true, false, minimal, low"),
    "capability": ("models: {a: {targets: groq/x, capabilities: [sing]}}", "expected completion, tools, insert"),
    "key-number": ("server: {api_key: 12345}", "server.api_key: expected text: put it in quotes"),
    "key-blank": ("server: {api_key: 'a b'}", "server.api_key: holds a blank or a character that no HTTP header"),
    "header": ("providers: {groq: {headers: {'A B': x}}}", "headers: holds a name that no HTTP header can have"),
    "header-value": ("providers: {groq: {headers: {A: 'x\\ny'}}}".replace("'", '"'), "headers: the value of A holds"),
    "url": ("providers: {groq: {base_url: 'groq.com'}}", "base_url: expected an address such as http://"),
    "url-scheme": ("providers: {groq: {base_url: 'ftp://groq.com'}}", "base_url: expected an address such as http://"),
    "url-port": ("providers: {groq: {base_url: 'http://groq.com:x'}}", "base_url: expected an address such as http://"),
    "url-query": ("providers: {groq: {base_url: 'http://groq.com?a=b'}}", "base_url: no ? or # here"),
    "url-user": ("providers: {groq: {base_url: 'http://me:pw@groq.com'}}", "base_url: no user or password here"),
    "provider-unknown": ("providers: {grok: {}}", "grok: is no preset: say its kind and base_url"),
    "provider-near": ("providers: {grok: {}}", "did you mean 'groq'?"),
    "provider-name": ("providers: {'A/b': {}}", "providers.A/b: a provider's name is made of small letters"),
    "provider-kind": ("providers: {a: {kind: opena}}", "expected openai, anthropic, google, ollama, huggingface"),
    "provider-without-url": ("providers: {a: {kind: openai}}", "providers.a.base_url: is missing"),
    "echo-with-url": ("providers: {echo: {base_url: 'http://x'}}", "a provider of kind echo takes no 'base_url'"),
    "echo-with-list": ("providers: {echo: {list: ['*']}}", "echo.list: a provider of kind echo takes no 'list'"),
    "ollama-with-list": ("providers: {ollama: {list: ['*']}}", "a provider of kind ollama takes no 'list'"),
    "ollama-with-quirks": ("providers: {ollama: {quirks: {}}}", "a provider of kind ollama takes no 'quirks'"),
    "local-public-ip": (
        "providers: {a: {kind: openai, base_url: 'http://8.8.8.8/v1', local: true}}",
        "1: providers.a.local: the address is public: what is sent there leaves your machines",
    ),
    "local-public-ip6": (
        "providers: {a: {kind: openai, base_url: 'http://[::ffff:8.8.8.8]/v1', local: true}}",
        "providers.a.local: the address is public",
    ),
    "local-cloud": (
        "providers: {a: {kind: openai, base_url: 'https://API.openai.com./v1', local: true}}",
        "providers.a.local: the address is public",
    ),
    "local-preset": ("providers: {groq: {local: true}}", "providers.groq.local: the address is public"),
    "target-provider": ("models: {fast: groqq/x}", "models.fast: no provider 'groqq'; did you mean 'groq'?"),
    "target-in-list": (
        "models:\n  fast:\n    targets:\n      - groq/x\n      - grok/x",
        "5: models.fast.targets[1]: no provider 'grok'; did you mean 'groq'?",
    ),
    "target-spelled-out": (
        "models:\n  fast: {provider: open-ai, model: x}",
        "2: models.fast.provider: no provider 'open-ai'; did you mean 'openai'?",
    ),
    "target-bare": ("models: {fast: llama}", "models.fast: expected provider/model, not 'llama'"),
    "target-empty": ("models: {fast: {targets: []}}", "models.fast: expected one target at least"),
    "target-none": ("models: {fast: {}}", "models.fast: expected provider/model, or provider: and model:, or targets:"),
    "target-half": ("models: {fast: {provider: groq}}", "models.fast: expected provider/model, or provider: and"),
    "target-twice": (
        "models: {fast: {provider: groq, model: x, targets: [groq/x]}}",
        "models.fast: either provider: and model:, or targets:, not both",
    ),
    "temperature-twice": (
        "models: {a: {targets: groq/x, temperature: 1, options: {temperature: 1}}}",
        "models.a: temperature stands here and under options; say it once",
    ),
    "max-tokens-twice": (
        "models: {a: {targets: groq/x, max_tokens: 1, options: {num_predict: 1}}}",
        "models.a: max_tokens and options.num_predict are the same; say it once",
    ),
    "model-name": ("models: {'a b': groq/x}", "models.a b: a model's name is made of letters, digits"),
    "free-with-url": (
        "providers: {ollamafreeapi: {base_url: 'http://x'}}",
        "a provider of kind ollamafree takes no 'base_url'",
    ),
    "free-local": ("providers: {ollamafreeapi: {local: true}}", "a provider of kind ollamafree takes no 'local'"),
    "api-of-no-kind": (
        "models: {a: {targets: [echo/x, ollama/y], api: responses}}",
        "models.a.api: only providers of kind openai have two APIs; remove it",
    ),
    "api-word": (
        "models: {a: {targets: openai/x, api: soap}}",
        "models.a.api: expected auto, chat or responses, not 'soap'",
    ),
    "version-of-no-api": (
        "providers: {ollama: {api_version: '2024-10-21'}}",
        "ollama.api_version: a provider of kind ollama takes no 'api_version'",
    ),
    "api-version-word": ("providers: {azure: {api_version: v1}}", "azure.api_version: expected the date of a version"),
    "hub-of-no-kind": (
        "providers: {openai: {hub_url: 'https://hub.example'}}",
        "openai.hub_url: a provider of kind openai takes no 'hub_url'",
    ),
    "hub-outside": (
        "providers: {huggingface: {base_url: 'http://127.0.0.1:1/v1', local: true, hub_url: 'https://hub.example'}}",
        "huggingface.hub_url: is no private address: a provider that is local asks nobody outside",
    ),
    "responses-word": (
        "providers: {openai: {quirks: {responses: [often]}}}",
        "quirks.responses[0]: expected think, tools, reasoning_tools or always, not 'often'",
    ),
    "variable-unset": (
        "server:\n  api_key: ${NOWHERE}",
        "2: server.api_key: the variable NOWHERE is not set; set it, or write ${NOWHERE:-default}",
    ),
    "variable-open": ("state_dir: a${B", "state_dir: a ${ without its } (write $$ for a plain $)"),
    "variable-name": ("state_dir: '${1 B}'", "state_dir: expected ${NAME} or ${NAME:-default}"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "words"), BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_refused_in_words_that_help(tmp_path: Path, text: str, words: str) -> None:
    lines = refused(tmp_path, text)
    assert any(words in line for line in lines), lines
    assert all(line.startswith("config.yaml:") for line in lines)


@pytest.mark.parametrize("section", UNSUPPORTED_SECTIONS)
def test_a_section_of_another_version_is_refused_by_name(tmp_path: Path, section: str) -> None:
    (line,) = refused(tmp_path, f"server: {{}}\n{section}: {{a: 1}}")
    assert line.startswith(f"config.yaml:2: {section}: section '{section}' is not supported by this version: ")
    assert line.endswith("; remove it")


@pytest.mark.parametrize("section", UNSUPPORTED_SECTIONS)
@pytest.mark.parametrize("nothing", ["", "null", "''", "{}", "[]", "${REDIS_URL:-}"])
def test_an_empty_section_of_another_version_is_nothing(tmp_path: Path, section: str, nothing: str) -> None:
    assert configured(tmp_path, f"{section}: {nothing}").providers.keys() == load(None, env={}).providers.keys()


def test_such_a_name_with_a_known_kind_is_a_provider(tmp_path: Path) -> None:
    config = configured(tmp_path, "providers: {anthropic: {kind: openai, base_url: 'https://api.anthropic.com/v1/'}}")
    assert config.providers["anthropic"].base_url == "https://api.anthropic.com/v1"


def test_all_problems_are_told_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "tenants: {a: 1}\nserver:\n  open: maybe\n  api_key: ${NOWHERE}\nmodels:\n  a: {}\n"
    lines = refused(tmp_path, text)
    assert [re.sub(r"config.yaml:(\d): (\S+):.*", r"\1 \2", line) for line in lines] == [
        "1 tenants", "3 server.open", "4 server.api_key", "6 models.a",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "env"),
    [
        ("providers: {openai: SECRET}", {}),
        ("server: {api_key: SECRET with blank}", {}),
        ("server: {api_key: ['SECRET']}", {}),
        ("providers: {openai: {base_url: 'http://u:SECRET@x'}}", {}),
        ("providers: {openai: {headers: SECRET}}", {}),
        ('providers: {openai: {headers: {Authorization: "SECRET\\n"}}}', {}),
        ("server:\n  listen: ${KEY}", {"KEY": "SECRET !"}),
        ("server:\n  heartbeat: ${KEY}", {"KEY": "SECRET"}),
        ("models:\n  a: ${KEY}", {"KEY": "SECRET"}),
        ("", {"OPENAI_API_KEY": "SECRET with blank"}),
        ("", {"OPENAI_API_KEY_FILE": "/SECRET"}),
        ("", {"OLLAMA_BASE_URL": "SECRET"}),
    ],
)
def test_a_secret_is_never_repeated(tmp_path: Path, text: str, env: dict[str, str]) -> None:
    assert "SECRET" not in "\n".join(refused(tmp_path, text, env))


def test_what_came_from_a_variable_is_named_by_it(tmp_path: Path) -> None:
    lines = refused(tmp_path, "timeouts:\n  idle: ${IDLE}", {"IDLE": "long"})
    assert lines[0].endswith("or a number of seconds (the value comes from IDLE)")


@pytest.mark.parametrize(
    ("content", "words"), [(None, "cannot be read: No such file"), (b"\xff\xfe\xff", "it is not UTF-8 text")]
)
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "other.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        load(path, env={})
    assert str(path) in str(caught.value)
