"""A gateway that speaks Ollama's HTTP API in front of every provider."""

__version__ = "0.1.0"
