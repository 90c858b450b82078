"""Compiled code is kept apart for each state of the sources."""

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys
from pathlib import Path
from dlkit.core import numba_tools
numba_tools.PACKAGE = Path(sys.argv[1])
print(numba_tools.numba.config.CACHE_DIR, numba_tools.source_digest())
"""


def cache_and_digest(package: Path, **environment: str) -> list[str]:
    """The folder of compiled code, and the digest of the sources in `package`."""
    command = [sys.executable, "-c", PROGRAM, str(package)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return done.stdout.split()


def test_compiled_code_is_not_used_after_a_change_of_a_function_that_it_calls(
    tmp_path: Path,
) -> None:
    """numba looks at the file of the function itself, only."""
    task = tmp_path / "task"
    task.mkdir()
    (task / "called.py").write_text("@njit\ndef one(): return 1\n")
    (task / "plain.py").write_text("ONE = 1\n")
    environment = {**os.environ, "DLKIT_CACHE": str(tmp_path / "cache")}
    environment.pop("NUMBA_CACHE_DIR", None)
    folder, first = cache_and_digest(tmp_path, **environment)
    assert Path(folder).parent == tmp_path / "cache" / "numba"
    (task / "plain.py").write_text("ONE = 2\n")
    assert cache_and_digest(tmp_path, **environment)[1] == first
    (task / "called.py").write_text("@njit\ndef one(): return 2\n")
    assert cache_and_digest(tmp_path, **environment)[1] != first
    own = {**environment, "NUMBA_CACHE_DIR": str(tmp_path)}
    assert cache_and_digest(tmp_path, **own)[0] == str(tmp_path)
