"""Golden files: results that must never change by accident, kept as JSON under tests/golden.

`make golden` runs the tests with REWRITE_GOLDEN=1 in the environment, which rewrites them; the
diff is then reviewed like code.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

_FOLDER = Path(__file__).parent.parent / "golden"


def check_golden(name: str, result: object) -> None:
    """Assert that `result` is what `golden/<name>.json` holds, or make it so."""
    path = _FOLDER / f"{name}.json"
    text = json.dumps(result, indent=1, sort_keys=True) + "\n"
    if os.environ.get("REWRITE_GOLDEN") == "1" or os.environ.get("DEDUP_REWRITE_GOLDEN") == "1":
        path.write_text(text)
    assert json.loads(path.read_text()) == json.loads(text), f"{path.name} differs; `make golden` if that is meant"
