"""Long work that is killed: nothing runs on, and what is there at the end is the same."""

import subprocess
import sys

import pytest
from sizewise import paths


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a signal of POSIX systems")
@pytest.mark.parametrize("kind", ["sweep", "chapter", "comparison", "download"])
def test_a_kill_leaves_no_process_and_costs_no_row(kind):
    script = paths.root() / "scripts" / "kills.py"
    done = subprocess.run(
        [sys.executable, str(script), kind, "--kills", "2"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[1].split()[:3] == [kind, "2", "0"]
    assert done.stdout.rstrip().endswith("as unbroken")
