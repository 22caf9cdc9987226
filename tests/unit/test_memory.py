"""Keeping freed memory: takes effect here or says that it does not."""

from __future__ import annotations

import subprocess
import sys

from common.clock import VirtualClock
from common.memory import RETURN_EVERY_S, FreedMemory

PROGRAM = "from common.memory import keep_freed_memory; print(keep_freed_memory())"


def test_it_says_whether_it_took_effect() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in {"True", "False"}


def test_it_is_given_back_now_and_then() -> None:
    clock = VirtualClock(7.0)
    give_back = FreedMemory(clock)
    assert not give_back()
    given = []
    for tenth in range(1, 31):
        clock.advance_to(7.0 + tenth * RETURN_EVERY_S / 10)
        if give_back():
            given.append(tenth)
    assert given == [10, 20, 30]
