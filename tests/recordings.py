"""Where the recorded traffic of real providers lies: other projects' data, read in place, never copied in.

RECORDED names another folder than `shared/recorded` beside the repository. Without it the tests that need it skip and
say so; with `--require-recordings` its absence is an error.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("RECORDED", Path(__file__).parents[2] / "shared" / "recorded"))

needs_recordings = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no recordings at {FOLDER}")
