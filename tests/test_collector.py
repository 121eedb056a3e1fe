"""The garbage collector: off while things are made, on again whatever happens, blind to what lasts."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ollama_bridge import collector
from ollama_bridge.providers.loading import load

ROOT = Path(__file__).resolve().parent.parent


def test_it_works_again_after_a_start_that_failed() -> None:
    with pytest.raises(OSError, match="taken"), collector.paused():
        assert not gc.isenabled()
        raise OSError("taken")
    assert gc.isenabled()


async def test_it_rests_while_an_sdk_is_loaded() -> None:
    def make() -> tuple[bool, str]:
        return gc.isenabled(), threading.current_thread().name

    running, thread = await load(make)
    assert not running
    assert thread != threading.current_thread().name
    assert gc.isenabled()


async def test_it_works_again_when_an_sdk_is_not_there() -> None:
    def make() -> None:
        raise ImportError("no such SDK")

    with pytest.raises(ImportError):
        await load(make)
    assert gc.isenabled()


@pytest.mark.parametrize("first_out", [0, 1])
def test_two_that_load_at_once_leave_it_working(first_out: int) -> None:
    loads = [collector.lasting(), collector.lasting()]
    for one in loads:
        one.__enter__()
    loads[first_out].__exit__(None, None, None)
    loads[1 - first_out].__exit__(None, None, None)
    assert gc.isenabled()


def test_what_was_there_at_the_start_is_not_looked_at_again() -> None:
    """In a process of its own: what is frozen stays so."""
    program = """
import gc
from ollama_bridge import collector
with collector.paused():
    import ollama_bridge.app
    collector.settle()
    print(gc.isenabled(), gc.get_freeze_count() > 50_000, len(gc.get_objects()) < 1_000, gc.get_threshold()[0])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["True", "True", "True", str(collector.THRESHOLDS[0])]
