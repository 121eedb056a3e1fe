"""Start the gateway: python start_gateway.py [HOST:PORT] [--config FILE] [--capture DIR]

A thin door to ollama_bridge.cli, for a checkout that is not installed.
"""

from ollama_bridge.cli import start

if __name__ == "__main__":
    start()
