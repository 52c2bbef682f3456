"""Regular expressions as Go has them: RE2, which takes no longer than the text is long, and Go's words for bad ones."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

_MOST = 1_000_000

_GO_WORDS = {
    "invalid perl operator": "invalid or unsupported Perl syntax",
    "no argument for repetition operator": "missing argument to repetition operator",
    "bad repetition operator": "invalid nested repetition operator",
    "invalid repetition size": "invalid repeat count",
    "invalid named capture group": "invalid named capture",
    "missing )": "missing closing )",
    "missing ]": "missing closing ]",
    "trailing \\": "trailing backslash at end of expression",
}


class BadPattern(ValueError):
    """The text is regexp.Compile's: error parsing regexp: missing closing ]: `[`"""


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Any:
    """Raises BadPattern."""
    if len(pattern) > _MOST:
        raise BadPattern("error parsing regexp: expression too large")
    re2: Any = importlib.import_module("re2")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = 8 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        words = error.args[0] if error.args else b""
        said = words.decode(errors="replace") if isinstance(words, bytes) else str(words)
        what, _, where = said.partition(": ")
        raise BadPattern(f"error parsing regexp: {_GO_WORDS.get(what, what)}: `{where}`") from None
