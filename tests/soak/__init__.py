"""Long runs (`make soak`, `make scale`): a gateway as its own process, and what it holds on to.

Not a part of `make test`. Each program prints a page of figures, exits with 1 when one of them is bad, and writes the
page into docs/evidence when it is told to.
"""
