"""`python -m ollama_bridge`: the program `ollama-bridge` where it is not on the path."""

from .cli import main

if __name__ == "__main__":
    main()
