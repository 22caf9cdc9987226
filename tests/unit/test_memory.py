"""Keeping freed memory: takes effect here or says that it does not."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = "from common.memory import keep_freed_memory; print(keep_freed_memory())"


def test_it_says_whether_it_took_effect() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in {"True", "False"}
