"""Long runs of numbers are found wherever they stand, in time that grows with the page alone."""

import re
import time

import numpy as np
import pytest

from medleak.report import publish_check as scanning
from medleak.report import scan

FEW = 6
PLAIN = re.compile(rf"(?:-?\d[\d.eE+-]*\s*[,;\n]\s*){{{FEW},}}")
"""The rule, written down plainly; it starts anew at each digit of a run."""
PIECES = ("1", "2", "-", "e", ".", "+", "x", " ", "\t", ",", ";", "\n", "1,", "2.5; ", "-3e-4\n")
LIKELY = np.array([1] * 12 + [6] * 3) / 30


def finds_numbers(folder, text):
    (folder / "page.md").write_text(text)
    return any("run of more than" in problem for problem in scan(folder, names=[]))


def test_runs_are_found_where_the_plain_rule_finds_them(tmp_path, monkeypatch):
    monkeypatch.setattr(scanning, "LONGEST", FEW)
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(PIECES, rng.integers(20, 100), p=LIKELY)) for _ in range(800)]
    wrong = [t for t in texts if finds_numbers(tmp_path, t) != bool(PLAIN.search(t))]
    assert not wrong
    assert 80 < sum(bool(PLAIN.search(t)) for t in texts) < 760


@pytest.mark.parametrize("breaker", ["x", ",,", "], [", "+1;;"])
def test_what_parts_two_runs_is_in_neither(tmp_path, breaker):
    half = "0.25, " * (scanning.LONGEST - 1)
    assert not finds_numbers(tmp_path, half + breaker + half)
    assert finds_numbers(tmp_path, half + "1, " + half)


def test_pages_of_many_short_runs_are_read_in_one_pass(tmp_path):
    curve = "[" + ", ".join(["0.123456789012345"] * (scanning.LONGEST - 10)) + "]\n"
    start = time.process_time()
    assert not finds_numbers(tmp_path, curve * 20)
    assert time.process_time() - start < 2  # a rule that starts at each digit takes a minute
