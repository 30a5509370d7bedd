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
from bearclf.folder.look import class_of
from bearclf.folder.look import *
from bearclf.train.data import *
from bearclf.practice.drawn import *
from bearclf.photo import *
from bearclf.clean.issues import *
from bearclf.train.features import photo_features
from bearclf.train.bodies import *
from bearclf.train.learner import *
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


def small_learner(path):
    "A body to look with; its head is not used"
    return photo_learner(photo_dls(path), 'squeezenet1_0')


def ours(path, seed):
    "The table of `find_issues`; and those of its rows that have a finding of one kind, in order"
    table = find_issues(small_learner(path), path)
    name = lambda o: f'{o.parent.name}/{o.name}'
    kind = lambda *ks: [name(o) for o in of_kind(table, *ks).photo]
    gone = [name(o.photo) for o in table[table.suggestion == '<Delete>'].itertuples()]
    return dict(rank=[name(o) for o in table.photo], label=kind('label'), outlier=kind('outlier'), deleted=gone,
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
                labels = dict(clean={o: o.name.split('-')[0] for o in table.photo}, flipped=dict(zip(table.photo, table.label)), repaired=fixed)
                wrong = {k: n_wrong(x(list(v)), list(v.values()), new, y[unseen]) for k, v in labels.items()}
                left = sum(v != o.name.split('-')[0] for o, v in fixed.items())
                note(results, side='repair', case='real', seed=seed, part=part, n=len(unseen), errors=wrong, accepted=len(suggestions(table)), left=left,
                     **{f'wrong_{k}': v for k, v in wrong.items()})


def looks_needed(rank, bad, share=.9):
    "How many photos one has to look at, in order, to meet this share of the bad ones"
    met = np.cumsum([o in bad for o in rank])
    return int(np.searchsorted(met, np.ceil(share*len(bad)))) + 1


def interval(values, f='{:.2f}'):
    "Mean, and the 95 % t-interval over seeds"
    from scipy.stats import t
    values = np.array(values, float)
    if len(values) < 2: return ' '.join(map(f.format, values)) or '-'
    half = t.ppf(.975, len(values)-1)*values.std(ddof=1)/len(values)**.5
    return f"{f.format(values.mean())} ({f.format(values.mean()-half)} to {f.format(values.mean()+half)})"


def figures(row):
    "What is counted of one run"
    bad = {f for f, o in row['faults'].items() if o in ('mislabelled', 'duplicated_across')}
    copies = [f for f, o in row['faults'].items() if o == 'duplicated_across']
    outliers = {f for f, o in row['faults'].items() if o == 'outliers'}
    res = dict(k=len(bad), precision=np.mean([o in bad for o in row.get('label', row['rank'])[:len(bad)]]), looks=looks_needed(row['rank'], {f for f, o in row['faults'].items() if o != 'original'}), n=len(row['rank']))
    if 'twins' in row: res |= dict(copies=(sum(o in row['twins'] for o in copies), len(copies)), right=sum(o in row['deleted'] for o in copies),
                                   outliers=(len(outliers & set(row['outlier'])), len(outliers), len(set(row['outlier'])-outliers)))
    return res


def table(results):
    names = dict(book='the chapter: fine_tune(4), by loss', ours='find_issues')
    print('| data | way | seeds | precision at k | photos to look at for 90 % | copies found | outliers found, and others called so |\n|---|---|---|---|---|---|---|')
    for case in CASES:
        for side in names:
            rows = [figures(o) for o in done(results) if (o['side'], o['case']) == (side, case)]
            if not rows: continue
            total = lambda key, i: sum(o[key][i] for o in rows)
            more = f"{total('copies', 0)} of {total('copies', 1)} | {total('outliers', 0)} of {total('outliers', 1)}, {total('outliers', 2)}" if side == 'ours' else '- | -'
            print(f"| {case}, {rows[0]['n']} photos, k = {rows[0]['k']} | {names[side]} | {len(rows)} | {interval([o['precision'] for o in rows])} | {interval([o['looks'] for o in rows], '{:.0f}')} | {more} |")
    rows = [o for o in done(results) if o['side'] == 'repair']
    if not rows: return
    total = {k: sum(o['errors'][k] for o in rows) for k in ('clean', 'flipped', 'repaired')}
    share = (total['flipped']-total['repaired'])/(total['flipped']-total['clean'])
    print(f"\nErrors on {sum(o['n'] for o in rows)} unseen photos ({len(rows)} splits): clean {total['clean']}, flipped {total['flipped']}, repaired {total['repaired']}; {share:.2f} of the harm is undone.")
    by_seed = [{k: sum(o['errors'][k] for o in rows if o['seed'] == s) for k in total} for s in SEEDS]
    print('By seed:', by_seed)


if __name__ == '__main__':
    what, *args = sys.argv[1:]
    if what in ('book', 'ours'): run(dict(book=book, ours=ours)[what], args[0], args[1], args[2:] or ('real', 'drawn'))
    else: dict(repair=repair, table=table)[what](*args)
