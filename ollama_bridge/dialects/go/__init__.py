"""JSON as Go reads and writes it: what Ollama's clients depend on, and the words of its refusals."""
