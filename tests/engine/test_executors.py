"""Workers are started without the caller's script."""

import subprocess
import sys

import pytest

SCRIPT = """
import os
print("script", os.getpid())
import medleak
result = medleak.run("target=phantom_cnn", "attack=yeom", "target.split.n_members=40", jobs=2,
                     out="out", store="store")
print("status", *{row.status for row in result.rows})
print("file", globals().get("__file__"))
"""


@pytest.mark.parametrize("from_file", [True, False])
def test_a_script_needs_no_guard(tmp_path, from_file):
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, "script.py" if from_file else "-"],
        cwd=tmp_path,
        input=None if from_file else SCRIPT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    words = [line.split() for line in done.stdout.splitlines()]
    assert [first for first, *_ in words].count("script") == 1
    assert ["status", "ok"] in words
    assert not from_file or words[-1][1].endswith("script.py")
    assert "Traceback" not in done.stderr
