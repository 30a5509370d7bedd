"""How often the 95 % intervals that bearclf shows hold the truth, over 200 simulated folders.

    python benchmarks/coverage.py [FOLDERS]     # minutes; default 200
    python benchmarks/coverage.py --smoke       # 2 folders of 60 bears

A folder is 120 photos drawn by lot from 3,000 drawn bears, with right labels or with 8 % wrong ones (moved to another
class by lot). The truth is the error of the same heads on the 2,880 others: for right labels on right labels, for wrong
ones on labels of which 8 % are wrong, too, as that is what the figures are about. `valid` is the error that stands in
`export.json`, `round` what the cleaning loop shows in its first round, `all turns` its `estimate`.
"""
import os, random, sys, tempfile, warnings
from pathlib import Path

warnings.simplefilter('ignore')
os.environ.setdefault('BEARCLF_CACHE', str(Path(tempfile.gettempdir())/'bearclf-bench-coverage'))
import contextlib, io, itertools

import numpy as np
from bearclf.core import lines_for_bars, progress
from bearclf.practice.drawn import *
from bearclf.folder.look import *
from bearclf.folder.look import class_of
from bearclf.train.features import photo_features, precomputed_learner
from bearclf.train.interpret import wilson_interval
from bearclf.clean.loop import CleaningLoop, _Judge
from fastai.vision.all import *
from common import heading, row, words

ARCH, WRONG = 'efficientnet_lite0', .08


def relabelled(labels, share, rng):
    "`labels` with a share of them, by lot, changed into another one"
    classes, labels = sorted({*labels}), list(labels)
    for i in rng.sample(range(len(labels)), round(share*len(labels))):
        labels[i] = rng.choice([o for o in classes if o != labels[i]])
    return labels


def differs(said, labels, share):
    "How often answers differ from right labels of which a share is moved to another class by lot: the mean of all lots"
    wrong = np.mean(np.array(said) != np.array(labels))
    return wrong*(1 - share) + share*((1 - wrong) + wrong/2)


def folder_of(files, dest, share, rng):
    for o, label in zip(files, relabelled([class_of(o) for o in files], share, rng)):
        (dest/label).mkdir(parents=True, exist_ok=True)
        os.link(o, dest/label/f'{class_of(o)} {o.name}')


def answers_of(loop, rest):
    "What the head of each turn, which has learned from the other photos of the loop, takes the photos `rest` for"
    files, labels = np.array([*loop.issues.photo, *loop.test], object), np.array([*loop.issues.label, *loop.test_labels])
    turns, features = np.array([loop.turn_of.get(o, -1) for o in files]), photo_features([*files, *rest], loop.body)
    return [_Judge(features, files[turns != k], rest, rest)(labels[turns != k]) for k in range(loop.n_turns)]


def figures(dest, rest, share):
    "(name, wrong, n, turns, truth) for each figure that is shown of the folder `dest`; `rest` are all the others"
    learn = precomputed_learner(dest, ARCH)
    known = [class_of(o) for o in rest]
    truth = lambda said: differs(said, known, share)
    features = photo_features(rest, learn)
    with learn.no_bar(), learn.no_logging(): probs, targs = learn.get_preds()
    with torch.no_grad(): said = learn.model[1][-1](features.averages(rest)).argmax(1)
    yield 'valid', int((probs.argmax(1) != targs).sum()), len(targs), 1, truth([learn.dls.vocab[i] for i in said])
    loop = CleaningLoop(learn)
    answers = answers_of(loop, rest)
    yield 'round', *loop.error, 1, truth(answers[0])
    yield 'all turns', *loop.estimate, loop.n_turns, np.mean([truth(o) for o in answers])


def main(n_folders=200, n=120, pool=3000):
    lines_for_bars()
    files, held = find_photos(drawn_path(pool, 128)), {}
    with progress(None, 'Folders', 2*n_folders) as bar:
        for share, seed in itertools.product((0, WRONG), range(n_folders)):
            rng = random.Random(f'{share} {seed}')
            chosen = {*rng.sample(range(len(files)), n)}
            with tempfile.TemporaryDirectory() as d, contextlib.redirect_stdout(io.StringIO()):
                folder_of([files[i] for i in sorted(chosen)], Path(d)/'bears', share, rng)
                rest = [o for i, o in enumerate(files) if i not in chosen]
                for name, wrong, of, turns, truth in figures(Path(d)/'bears', rest, share):
                    low, high = wilson_interval(wrong, of, turns)
                    held.setdefault((share, name), []).append((low <= truth <= high, wrong/of, truth, of))
            bar.update(1)
    heading('wrong labels', 'figure', 'photos judged', 'intervals that hold the truth', 'mean shown', 'mean truth')
    for (share, name), rows in held.items():
        inside, shown, truth, of = zip(*rows)
        row(f'{share:.0%}', name, f'{np.mean(of):.0f}', f'{sum(inside)} of {len(rows)}', f'{np.mean(shown):.1%}',
            f'{np.mean(truth):.1%}')


if __name__ == '__main__':
    args = words(__doc__)
    if '--smoke' in args: main(2, 60, 300)
    else: main(*map(int, args))
