"""Every block of the guide runs, in its order."""

import re
from pathlib import Path

from sybil import Document
from sybil.parsers.markdown import PythonCodeBlockParser

GUIDE = Path(__file__).parent.parent / "docs" / "python.md"


def test_the_guide_runs(own_folder, capsys):
    document = Document.parse(str(GUIDE), PythonCodeBlockParser())
    examples = list(document.examples())
    assert len(examples) == len(re.findall("^```python", GUIDE.read_text(), re.M)) > 4
    for example in examples:
        example.evaluate()
    found = document.namespace
    assert found["output"].scores.shape == (200,)
    assert found["score"]["auc"].value > 0.6, "LiRA sees that the network knows its members"
    assert found["score"].frame["bound"].notna().any()
    assert "AUC" in capsys.readouterr().out
