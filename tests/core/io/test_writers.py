"""Results on stdout: what happens when they cannot be written."""

import subprocess
import sys
from pathlib import Path

import pytest

from dlkit.core.errors import DlkitError
from dlkit.core.io.files import whole_file


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no such device")
@pytest.mark.parametrize("arguments", [["models"], ["models", "-f", "json"], ["models", "--help"]])
def test_a_full_disk_is_one_line_and_exit_code_2(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "dlkit", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr == "dlkit: stdout: cannot be written (No space left on device)\n"


def test_a_folder_is_no_file_to_write_and_that_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(DlkitError, match="Is a directory"), whole_file(tmp_path):
        pytest.fail("the work was begun")
    assert not list(tmp_path.iterdir())
