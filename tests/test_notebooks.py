"Every notebook runs from top to bottom"
import os, shutil
from pathlib import Path

import pytest

from helpers import top

# What takes longest comes first; nbs/clean is the lessons once more
long = ['05_clean', 'export', 'issues', 'features', 'interpret', 'loop', 'steer', '03_train', 'learner']
notebooks = sorted((o for o in (top/'nbs').rglob('[!.]*.ipynb') if o.parent != top/'nbs/clean'),
                   key=lambda o: -next((i for i, name in enumerate(long) if name in o.stem), -1))
# Of the lessons in nbs/more two run each day, by turns, and all of them with every seed and every fault
lessons = sorted(o for o in notebooks if o.parent == top/'nbs/more' and o.stem[0].isdigit())
pairs = max(1, len(lessons)//2)
today = lessons[int(os.environ['BEARCLF_DAY']) % pairs::pairs]
some = [pytest.param(o, id=o.stem, marks=[pytest.mark.exhaustive]*(o.parent.name == 'more' and o not in today))
        for o in notebooks]


def run(file):
    from nbdev.test import test_nb
    return 0 if test_nb(file, basepath=top)[0] else 1


@pytest.mark.parametrize('file', some)
def test_runs(file, child, tmp_path):
    "Lessons run in a folder of their own, since some write their model beside them"
    if 'library' not in file.parts and file.stem[0].isdigit(): file = shutil.copy(file, tmp_path)
    res = child(run, Path(file)).finish()
    assert res.returncode == 0, res.stderr[-5000:]
