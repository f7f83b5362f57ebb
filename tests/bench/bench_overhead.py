"""What of a grid's wall time is neither training nor attacking, the start of Python included."""

import json
import subprocess
import sys
import textwrap
import time

import pytest

pytestmark = pytest.mark.bench
WORDS = (
    "grid", "target=phantom_cnn", "target.dataset.n_patients=3000", "target.recipe.epochs=30",
    "target.split.n_members=1000", "target.split.n_auxiliary=400", "target.split.n_evaluation=500",
    "defense=none,label_smoothing,mixup", "attack=yeom,lira,rmia", "n_shadows=16", "seed=0,1",
)  # fmt: skip
SCRIPT = textwrap.dedent(
    """
    import json, sys, time
    from medleak import cli
    from medleak.cli import grid

    kept, finish = [], grid.finish
    grid.finish = lambda result, *rest: kept.append(result) or finish(result, *rest)
    assert cli.main(sys.argv[2:]) == 0
    wall = time.time() - float(sys.argv[1])
    print(json.dumps({"wall": wall, "worked": kept[0].worked, "runs": kept[0].trained}))
    """
)


def test_the_share_of_a_grid_that_is_neither_training_nor_attacking(benchmark, tmp_path):
    """Work is averaged over the workers, so that an idle core counts as overhead."""

    def grid():
        command = [sys.executable, "-c", SCRIPT, str(time.time()), *WORDS]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
        return json.loads(run.stdout.splitlines()[-1])

    told = benchmark.pedantic(grid, rounds=1)
    share = 1 - told["worked"] / told["wall"]
    benchmark.extra_info |= {**told, "overhead": share}
    print(f"\n{told['runs']} runs in {told['wall']:.0f} s, overhead {share:.1%}")
