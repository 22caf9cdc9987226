"""Source code as syntax trees, for the tests that read the project itself."""

from __future__ import annotations

import ast
import gc


def parsed(text: str) -> ast.Module:
    """`text` as a tree, with no garbage collected meanwhile.

    A finalizer may log a traceback, for which Python 3.11 parses too; a parse inside a parse upsets its count of depth.
    """
    gc.disable()
    try:
        return ast.parse(text)
    finally:
        gc.enable()
