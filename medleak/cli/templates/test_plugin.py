"""The contract of plugins, held against plugin_kind=plugin_name."""

from pathlib import Path

from medleak.cli import main


def test_contract(capsys):
    words = ["--plugins", str(Path(__file__).parent), "check", "plugin_kind=plugin_name"]
    assert main(words) == 0, capsys.readouterr().out
