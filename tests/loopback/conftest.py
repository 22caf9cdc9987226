"""What every loopback test is held to."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_task_fails_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A task whose exception nobody fetched is found here, rather than in whatever test collects it as garbage."""
    yield
    gc.collect()
    records = [*caplog.get_records("call"), *caplog.get_records("teardown")]
    unseen = [record for record in records if record.name == "asyncio" and record.levelname == "ERROR"]
    assert not unseen, "\n".join(record.getMessage() for record in unseen)
