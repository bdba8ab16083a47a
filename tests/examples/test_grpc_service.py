"""The gRPC service of examples/, run as its readers would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "grpc_service.py"


def test_it_runs() -> None:
    done = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "b'table 7: espresso' b'table 7: ristretto'",
        "PERMISSION_DENIED The access token lacks a scope that this request needs: orders:write",
        "b'latte for api-client'",
        "b'table 8: espresso' b'table 8: ristretto'",
        "b'table 9: espresso' b'table 9: ristretto'",
        "token requests: 2",
    ]
