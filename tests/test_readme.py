"""The README shows what was published, and its commands exist."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_result_is_the_published_one():
    command = [sys.executable, str(ROOT / "tools" / "readme_result.py"), "--check"]
    assert subprocess.run(command, check=False).returncode == 0, "run tools/readme_result.py"


def test_every_link_leads_somewhere():
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert links
    assert not [link for link in links if not (ROOT / link).exists()]


def test_every_command_is_known():
    from medleak.cli.arguments import COMMANDS

    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"medleak (?:--plugins \S+ )?([a-z]+)\b", text))
    named &= {word for word in named if f"medleak {word} " in text or f"`medleak {word}" in text}
    assert {"grid", "report", "new"} <= named
    assert not {w for w in named if f"$ medleak {w}" in text} - set(COMMANDS)
