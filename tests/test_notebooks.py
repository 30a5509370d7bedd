"Every notebook runs from top to bottom"
import shutil
from pathlib import Path

import pytest

from helpers import top

# What takes longest comes first; nbs/clean is the lessons once more
long = ['05_clean', 'export', 'issues', 'features', 'interpret', 'loop', 'steer', '03_train', 'learner']
notebooks = sorted((o for o in (top/'nbs').rglob('[!.]*.ipynb') if o.parent != top/'nbs/clean'),
                   key=lambda o: -next((i for i, name in enumerate(long) if name in o.stem), -1))


def run(file):
    from nbdev.test import test_nb
    return 0 if test_nb(file, basepath=top)[0] else 1


@pytest.mark.parametrize('file', notebooks, ids=lambda o: o.stem)
def test_runs(file, child, tmp_path):
    "Lessons run in a folder of their own, since some write their model beside them"
    if file.parent == top/'nbs' and file.stem[0].isdigit(): file = shutil.copy(file, tmp_path)
    res = child(run, Path(file)).finish()
    assert res.returncode == 0, res.stderr[-5000:]
