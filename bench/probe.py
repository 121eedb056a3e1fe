"""Runs a gateway's own start script unchanged and answers questions about its insides, asked on standard input.

    python bench/probe.py start_gateway.py ARGUMENTS

    collect     -> milliseconds of a full garbage collection
    sdks        -> provider SDKs imported so far, with commas

An answer is a line "probe QUESTION: ANSWER" on standard output.
"""

from __future__ import annotations

import gc
import runpy
import sys
import threading
import time
from pathlib import Path

SDKS = ("openai", "anthropic", "google.genai", "huggingface_hub")


def answer(question: str) -> str:
    if question == "collect":
        began = time.perf_counter()
        gc.collect()
        return f"{1000 * (time.perf_counter() - began):.3f}"
    if question == "sdks":
        return ",".join(name for name in SDKS if name in sys.modules)
    return "?"


def listen() -> None:
    for line in sys.stdin:
        question = line.strip()
        print(f"probe {question}: {answer(question)}", flush=True)


if __name__ == "__main__":
    script, sys.argv = sys.argv[1], sys.argv[1:]
    sys.path[0] = str(Path(script).resolve().parent)
    threading.Thread(target=listen, daemon=True).start()
    runpy.run_path(script, run_name="__main__")
