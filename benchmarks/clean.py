"""What `find_issues` finds of planted faults, beside the chapter's way of cleaning, and what one round of it is worth.

    export TORCH_HOME=../shared/torch
    python benchmarks/clean.py book ../shared/bears_small results.jsonl     # minutes a seed; goes on after a stop
    python benchmarks/clean.py ours ../shared/bears_small results.jsonl
    python benchmarks/clean.py repair ../shared/bears_small results.jsonl
    python benchmarks/clean.py table results.jsonl
    python benchmarks/clean.py --smoke     # ours, on 90 drawn bears

Two kinds of data with 5 seeds each: real photos, of which 8 % are put into another class at random, and 600 drawn bears
with 8 % mislabelled, 3 % duplicates across classes and 2 % pictures of no bear. Both sides use `squeezenet1_0` with
ImageNet weights. The chapter's way: `fine_tune(4)` with the book's crops and augmentation, then all photos of Train and
Valid by their loss, as `ImageClassifierCleaner` takes it. The truth is the folder that a photo lay in before; the real
photos have wrong labels of their own, which count as right here.
"""
import json, os, shutil, sys, tempfile, warnings
from pathlib import Path

warnings.simplefilter('ignore')
os.environ.setdefault('BEARCLF_CACHE', str(Path(tempfile.gettempdir())/'bearclf-bench-clean'))
import numpy as np
from bearclf.practice.drawn import *
from bearclf.folder.look import *
from bearclf.folder.look import class_of
from bearclf.train.data import *
from bearclf.train.learner import *
from bearclf.train.features import photo_features
from bearclf.clean.issues import *
from fastai.vision.all import *
from common import heading, interval, need_weights, row, words

SHARE, SEEDS = .08, range(5)


def flip_labels(labels, share, seed):
    "`labels` with a share of them, drawn at random, changed into another one at random"
    rng, labels = np.random.default_rng(seed), np.array(labels, object)
    for i in rng.choice(len(labels), round(share*len(labels)), replace=False):
        labels[i] = rng.choice([o for o in sorted(set(labels)) if o != labels[i]])
    return labels


def named(file): return f'{file.parent.name}/{file.name}'


def put(files, labels, dest):
    "Copy each photo into the folder of its label below `dest`; the name says where it is from"
    for f, label in zip(files, labels):
        (dest/label).mkdir(parents=True, exist_ok=True)
        shutil.copy(f, dest/label/f'{class_of(f)}-{f.name}')


def real_case(path, dest, seed):
    "Real photos with flipped labels: file -> fault"
    files = find_photos(path)
    put(files, flip_labels([class_of(o) for o in files], SHARE, seed), dest)
    return {named(o): 'mislabelled' for o in find_photos(dest) if not o.name.startswith(class_of(o)+'-')}


def drawn_case(_, dest, seed, n=600):
    "Drawn bears with planted faults: file -> fault"
    faults = dict(mislabelled=.08, duplicated_across=.03, outliers=.02)
    table = draw_bears(dest, n, 224, seed=f'clean {seed}', **{k: round(v*n) for k, v in faults.items()})
    (dest/'planted.csv').rename(dest/'.planted.csv')
    return dict(zip(table.file, table.fault)) | {o.original: 'original' for o in table.itertuples() if o.original}


CASES = dict(real=real_case, drawn=drawn_case)


def book(path, seed):
    "The chapter's cells; photos of Train and Valid, highest loss first"
    set_seed(seed, reproducible=True)
    photos = find_photos(path)
    block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_items=lambda _: photos, get_y=parent_label,
                      splitter=RandomSplitter(0.2, seed=seed),
                      item_tfms=RandomResizedCrop(224, min_scale=0.5), batch_tfms=aug_transforms())
    learn = vision_learner(block.dataloaders(path, num_workers=0), squeezenet1_0, metrics=error_rate)
    found = []
    with learn.no_bar(), learn.no_logging():
        learn.fine_tune(4)
        for dl in learn.dls:
            *_, losses = learn.get_preds(dl=dl.new(shuffle=False, drop_last=False), with_loss=True)
            found += zip(losses.tolist(), dl.items)
    return [f for _, f in sorted(found, key=lambda o: -o[0])]


def done(results):
    "The rows that are in the file `results`"
    return [json.loads(o) for o in Path(results).read_text().splitlines()] if Path(results).exists() else []


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
                if isinstance(res, list): res = dict(rank=[named(o) for o in res])
                note(results, side=side.__name__, case=case, seed=seed, faults=faults, **res)


def small_learner(path):
    "A body to look with; its head is not used"
    return photo_learner(photo_dls(path), 'squeezenet1_0')


def ours(path, seed):
    "The table of `find_issues`; and those of its rows that have a finding of one kind, in order"
    table = find_issues(small_learner(path), path)
    kind = lambda *ks: [named(o) for o in of_kind(table, *ks).photo]
    gone = [named(o) for o in table.photo[table.suggestion == '<Delete>']]
    return dict(rank=[named(o) for o in table.photo], label=kind('label'), outlier=kind('outlier'), deleted=gone,
                twins=kind('duplicate', 'near duplicate', 'two classes'))


def repaired(table):
    "photo -> label, after one round in which all suggestions above the default threshold are accepted"
    labels = dict(zip(table.photo, table.label))
    for o in suggestions(table).itertuples():
        if o.suggestion == '<Delete>': del labels[o.photo]
        else: labels[o.photo] = o.suggestion
    return labels


def n_wrong(x, labels, unseen, truth):
    "Errors on unseen photos of the logistic regression of `learning_curve`"
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    fit = make_pipeline(StandardScaler(), LogisticRegression(C=.01, max_iter=1000)).fit(x, labels)
    return int((fit.predict(unseen) != np.array(truth)).sum())


def repair(path, results):
    "Errors on a fifth that is never flipped, for each fifth of 5 divisions; the flips are in the other four"
    from sklearn.model_selection import StratifiedKFold
    files = find_photos(path)
    y = np.array([class_of(o) for o in files])
    for seed in SEEDS:
        for part, (pool, unseen) in enumerate(StratifiedKFold(5, shuffle=True, random_state=seed).split(y, y)):
            with tempfile.TemporaryDirectory() as d:
                dest, kept = Path(d)/'bears', [files[i] for i in pool]
                put(kept, flip_labels(y[pool], SHARE, 100*seed+part), dest)
                learn = small_learner(dest)
                table = find_issues(learn, dest)
                fixed, x = repaired(table), photo_features(list(table.photo), learn)
                new = photo_features([files[i] for i in unseen], learn)([files[i] for i in unseen])
                true = {o: o.name.split('-')[0] for o in table.photo}
                labels = dict(clean=true, flipped=dict(zip(table.photo, table.label)), repaired=fixed)
                wrong = {k: n_wrong(x(list(v)), list(v.values()), new, y[unseen]) for k, v in labels.items()}
                left = sum(v != true[o] for o, v in fixed.items())
                note(results, side='repair', case='real', seed=seed, part=part, n=len(unseen), errors=wrong,
                     accepted=len(suggestions(table)), left=left, **{f'wrong_{k}': v for k, v in wrong.items()})


def looks_needed(rank, bad, share=.9):
    "How many photos one has to look at, in order, to meet this share of the bad ones"
    met = np.cumsum([o in bad for o in rank])
    return int(np.searchsorted(met, np.ceil(share*len(bad)))) + 1


def figures(run):
    "What is counted of one run"
    faulty = lambda *kinds: [f for f, o in run['faults'].items() if o in kinds]
    copies, outliers = faulty('duplicated_across'), {*faulty('outliers')}
    bad = faulty('mislabelled') + copies
    every = {*bad, *outliers}
    precision = np.mean([o in bad for o in run.get('label', run['rank'])[:len(bad)]])
    res = dict(k=len(bad), precision=precision, looks=looks_needed(run['rank'], every), n=len(run['rank']))
    if 'twins' not in run: return res
    called = {*run['outlier']}
    return res | dict(copies=sum(o in run['twins'] for o in copies), all_copies=len(copies),
                      outliers=len(outliers & called), all_outliers=len(outliers), others=len(called - outliers))


def table(results):
    heading('data', 'way', 'seeds', 'precision at k', 'photos to look at for 90 %', 'copies found',
            'outliers found, and others called so')
    for case in CASES:
        for side, name in dict(book='the chapter: fine_tune(4), by loss', ours='find_issues').items():
            rows = [figures(o) for o in done(results) if (o['side'], o['case']) == (side, case)]
            if not rows: continue
            data, more = f'{case}, {rows[0]["n"]} photos, k = {rows[0]["k"]}', ['-', '-']
            if side == 'ours':
                total = {k: sum(o[k] for o in rows) for k in rows[0]}
                more = [f'{total["copies"]} of {total["all_copies"]}',
                        f'{total["outliers"]} of {total["all_outliers"]}, {total["others"]}']
            row(data, name, len(rows), interval([o['precision'] for o in rows], '{:.2f}'),
                interval([o['looks'] for o in rows], '{:.0f}'), *more)
    repair_table([o for o in done(results) if o['side'] == 'repair'])


def repair_table(rows):
    if not rows: return
    errors = lambda rows: {k: sum(o['errors'][k] for o in rows) for k in ('clean', 'flipped', 'repaired')}
    total = errors(rows)
    share = (total['flipped']-total['repaired'])/(total['flipped']-total['clean'])
    print(f'\nErrors on {sum(o["n"] for o in rows)} unseen photos ({len(rows)} splits): {total}; '
          f'{share:.2f} of the harm is undone.')
    print('By seed:', [errors([o for o in rows if o['seed'] == s]) for s in SEEDS])


def smoke():
    with tempfile.TemporaryDirectory() as d:
        faults = drawn_case(None, Path(d)/'bears', 0, 90)
        note(f'{d}/results.jsonl', side='ours', case='drawn', seed=0, faults=faults, **ours(Path(d)/'bears', 0))
        table(f'{d}/results.jsonl')


if __name__ == '__main__':
    what, *args = words(__doc__)
    if what == 'table': sys.exit(table(*args))
    need_weights()
    if what == '--smoke': smoke()
    elif what == 'repair': repair(*args)
    else: run(dict(book=book, ours=ours)[what], args[0], args[1], args[2:] or ('real', 'drawn'))
