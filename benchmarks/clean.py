"""What `find_issues` finds of planted faults, beside the chapter's own way of cleaning, and what one round of it is worth.

    TORCH_HOME=../shared/torch python benchmarks/clean.py book ../shared/bears_small results.jsonl   # minutes a seed; goes on where it was stopped
    TORCH_HOME=../shared/torch python benchmarks/clean.py ours ../shared/bears_small results.jsonl
    TORCH_HOME=../shared/torch python benchmarks/clean.py repair ../shared/bears_small results.jsonl
    python benchmarks/clean.py table results.jsonl

Two kinds of data with 5 seeds each: real photos, of which 8 % are put into another class at random, and 600 drawn bears with 8 %
mislabelled, 3 % duplicates across classes and 2 % pictures of no bear. Both sides use `squeezenet1_0` with ImageNet weights.
The chapter's way: `fine_tune(4)` with the book's crops and augmentation, then all photos of Train and Valid by their loss, as
`ImageClassifierCleaner` takes it. The truth is the folder that a photo lay in before; the real photos have wrong labels of their
own, which count as right here.
"""
import json, os, shutil, sys, tempfile, warnings
from pathlib import Path

warnings.simplefilter('ignore')
os.environ.setdefault('BEARCLF_CACHE', str(Path(tempfile.gettempdir())/'bearclf-bench-clean'))
import numpy as np
from bearclf.core import class_of
from bearclf.data import *
from bearclf.drawn import *
from bearclf.train import *
from fastai.vision.all import *

SHARE, SEEDS = .08, range(5)


def flip_labels(labels, share, seed):
    "`labels` with a share of them, drawn at random, changed into another one at random"
    rng, labels = np.random.default_rng(seed), np.array(labels, object)
    for i in rng.choice(len(labels), round(share*len(labels)), replace=False):
        labels[i] = rng.choice([o for o in sorted(set(labels)) if o != labels[i]])
    return labels


def put(files, labels, dest):
    "Copy each photo into the folder of its label below `dest`; the name says where it is from"
    for f, label in zip(files, labels):
        (dest/label).mkdir(parents=True, exist_ok=True)
        shutil.copy(f, dest/label/f'{class_of(f)}-{f.name}')


def real_case(path, dest, seed):
    "Real photos with flipped labels: file -> fault"
    files = find_photos(path)
    put(files, flip_labels([class_of(o) for o in files], SHARE, seed), dest)
    return {f'{o.parent.name}/{o.name}': 'mislabelled' for o in find_photos(dest) if not o.name.startswith(class_of(o)+'-')}


def drawn_case(_, dest, seed, n=600):
    "Drawn bears with planted faults: file -> fault"
    table = draw_bears(dest, n, 224, seed=f'clean {seed}', mislabelled=round(.08*n), duplicated_across=round(.03*n), outliers=round(.02*n))
    (dest/'planted.csv').rename(dest/'.planted.csv')
    return dict(zip(table.file, table.fault)) | {o.original: 'original' for o in table.itertuples() if o.original}


CASES = dict(real=real_case, drawn=drawn_case)


def book(path, seed):
    "The chapter's cells; photos of Train and Valid, highest loss first"
    set_seed(seed, reproducible=True)
    photos = find_photos(path)
    block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_items=lambda _: photos, splitter=RandomSplitter(0.2, seed=seed), get_y=parent_label,
                      item_tfms=RandomResizedCrop(224, min_scale=0.5), batch_tfms=aug_transforms())
    learn = vision_learner(block.dataloaders(path, num_workers=0), squeezenet1_0, metrics=error_rate)
    found = []
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(4)
        for dl in learn.dls:
            *_, losses = learn.get_preds(dl=dl.new(shuffle=False, drop_last=False), with_loss=True)
            found += zip(losses.tolist(), dl.items)
    return [f for _, f in sorted(found, key=lambda o: -o[0])]


def done(results): return [json.loads(o) for o in Path(results).read_text().splitlines()] if Path(results).exists() else []


def note(results, **row):
    with open(results, 'a') as f: f.write(json.dumps(row)+'\n')
    print({k: v for k, v in row.items() if not isinstance(v, (list, dict))}, flush=True)


def run(side, path, results, cases=('real', 'drawn')):
    "Rank each folder by one side, and keep what came out"
    for case in cases:
        for seed in SEEDS:
            if any((o['side'], o['case'], o['seed']) == (side.__name__, case, seed) for o in done(results)): continue
            with tempfile.TemporaryDirectory() as d:
                dest = Path(d)/'bears'
                faults = CASES[case](path, dest, seed)
                res = side(dest, seed)
                name = lambda o: f'{o.parent.name}/{o.name}'
                if isinstance(res, list): res = dict(rank=[name(o) for o in res])
                note(results, side=side.__name__, case=case, seed=seed, faults=faults, **res)


if __name__ == '__main__':
    what, *args = sys.argv[1:]
    if what == 'book': run(book, args[0], args[1], args[2:] or ('real', 'drawn'))
