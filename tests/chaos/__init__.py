"""Long runs in which something around the gateway breaks (`make chaos`).

Not a part of `make test`, which has short forms of them. Each program prints a page of figures, exits with 1 when one
of them is bad, and writes the page into docs/evidence when it is told to.
"""
