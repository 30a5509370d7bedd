"""`precomputed_learner` against the book's recipe, from a folder of raw photos to a trained model, on the CPU.

    TORCH_HOME=../shared/torch python benchmarks/train_cpu.py ../shared/bears ../shared/bears_unseen

Both sides get the same photos, `squeezenet1_0` with ImageNet weights and the same split; they are run by turns with 5 seeds, in one
process. The book's side is told which files are photos; ours finds that out, from a cold cache. The second folder holds photos that
neither has seen.
"""
import os, shutil, statistics, sys, tempfile, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
os.environ['BEARCLF_CACHE'] = tempfile.mkdtemp()
from bearclf.data import *
from bearclf.core import class_of
from bearclf.drawn import draw_bear
from bearclf.precompute import *
from fastai.vision.all import *
from sklearn.linear_model import LogisticRegression  # imports are not part of either time


def book(path, photos, seed):
    "The chapter's cells, with two workers, which is the better choice on two cores"
    set_seed(seed, reproducible=True)
    block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_items=lambda _: photos, splitter=RandomSplitter(0.2, seed=seed), get_y=parent_label,
                      item_tfms=RandomResizedCrop(224, min_scale=0.5), batch_tfms=aug_transforms())
    learn = vision_learner(block.dataloaders(path, num_workers=2), squeezenet1_0, metrics=error_rate)
    with learn.no_bar(), learn.no_logging(): learn.fine_tune(4)
    return learn


def ours(path, photos, seed, views=1):
    shutil.rmtree(os.environ['BEARCLF_CACHE'], ignore_errors=True)
    sys.modules['bearclf.data']._known.clear()
    return precomputed_learner(path, 'squeezenet1_0', seed=seed, views=views)


def n_wrong(learn, unseen):
    with learn.no_bar(), learn.no_logging(): probs, _ = learn.get_preds(dl=learn.dls.test_dl(unseen, num_workers=0))
    return sum(learn.dls.vocab[int(i)] != class_of(o) for i, o in zip(probs.argmax(1), unseen))


def one_changed(path, seed=0):
    "Seconds for the features of the folder from nothing, and again when one photo has changed"
    with tempfile.TemporaryDirectory() as d:
        path = Path(shutil.copytree(path, Path(d)/'bears'))
        shutil.rmtree(os.environ['BEARCLF_CACHE'], ignore_errors=True)
        learn, res = photo_learner_of(path), []
        for _ in range(2):
            t = time.perf_counter()
            features = photo_features([o for o in path.rglob('*') if o.is_file()], learn)
            res.append(time.perf_counter()-t)
            draw_bear('teddy', 1, 512).save(next(iter(features.names)), 'JPEG')
        return res


def photo_learner_of(path):
    from bearclf.train import photo_learner
    return photo_learner(photo_dls(path), 'squeezenet1_0')


def spread(x, f='{:.1f}'): return f.format(statistics.mean(x)) + f' ({f.format(min(x))} to {f.format(max(x))})'


def main(path, unseen, seeds=5):
    path, photos, unseen = Path(path), find_photos(path), find_photos(unseen)
    sides = {'the book, fine_tune(4)': book, 'precomputed_learner': ours, 'precomputed_learner, views=2': partial(ours, views=2)}
    seconds, wrong = {o: [] for o in sides}, {o: [] for o in sides}
    for seed in range(seeds):
        for name, f in sides.items():
            t = time.perf_counter()
            learn = f(path, photos, seed)
            seconds[name].append(time.perf_counter()-t)
            wrong[name].append(n_wrong(learn, unseen))
            print(seed, name, f'{seconds[name][-1]:.1f} s, {wrong[name][-1]} of {len(unseen)} wrong', file=sys.stderr)
    again = [one_changed(path) for _ in range(3)]
    a = seconds['the book, fine_tune(4)']
    ratios = {o: [x/y for x, y in zip(a, b)] for o, b in seconds.items()}
    print(f'\n| {len(photos)} photos | seconds | times faster, median | wrong of {len(unseen)} | error, % |\n|---|---|---|---|---|')
    for o in sides: print(f'| {o} | {spread(seconds[o])} | {statistics.median(ratios[o]):.1f} ({min(ratios[o]):.1f} to {max(ratios[o]):.1f}) | {spread(wrong[o])} | {100*statistics.mean(wrong[o])/len(unseen):.1f} |')
    share = [100*y/x for x, y in again]
    print(f'\nFeatures again after one photo changed: {spread(share)} % of the first time ({spread([x for x, _ in again])} s).')


if __name__ == '__main__': main(*sys.argv[1:])
