"""Upstreams that speak the real wire on a real socket and do what a test's script says.

`script.py`: what to answer, as data, and what was seen. `openai_wire.py` and `ollama_wire.py`: the two wires. They
must not know the gateway: nothing of `ollama_bridge` is imported here, so that a wrong idea of a wire cannot sit on
both sides of a test.
"""
