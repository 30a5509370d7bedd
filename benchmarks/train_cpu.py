"""Training on the CPU, against the book's recipe: from a folder of raw photos to a trained model, and a single epoch.

    TORCH_HOME=../shared/torch python benchmarks/train_cpu.py ../shared/bears ../shared/bears_unseen
    TORCH_HOME=../shared/torch python benchmarks/train_cpu.py ../shared/bears --epochs
    python benchmarks/train_cpu.py --smoke     # one epoch on 12 drawn bears

Both sides get the same photos, the same split and the same architecture and weights; they are run by turns, in one
process. The book's side is told which files are photos; ours finds that out, from a cold cache. The second folder holds
photos that neither has seen.

An epoch is timed without its validation. The book's is run with 0 and with 2 workers, in the memory layout that fastai
gives it and also in channels_last; its better worker count is what counts. The limit is the model step (forward, loss,
backward, optimizer) on one batch that is in memory already, as often as the epoch has batches, in channels_last. Where
the processor computes in bfloat16, ours and the limit are shown in 16 bits, too (`CPUMixedPrecision`).
"""
import contextlib, io, os, shutil, statistics, sys, tempfile, time, warnings
from pathlib import Path

warnings.simplefilter('ignore')
from bearclf.practice.drawn import draw_bear, drawn_path
from bearclf.folder.look import *
from bearclf.folder.look import class_of
from bearclf.train.data import *
from bearclf.train.features import *
from bearclf.train.learner import *
from bearclf.train.learner import computes_in_bf16
from bearclf.photo import forget
from fastai.vision.all import *
from sklearn.linear_model import LogisticRegression  # imports are not part of either time
from common import heading, interval, need_weights, row, spread, words

_BF16 = computes_in_bf16(default_device())


def book(path, photos, seed):
    "The chapter's cells, with two workers, which is the better choice on two cores"
    set_seed(seed, reproducible=True)
    block = DataBlock(blocks=(ImageBlock, CategoryBlock), get_items=lambda _: photos, get_y=parent_label,
                      splitter=RandomSplitter(0.2, seed=seed),
                      item_tfms=RandomResizedCrop(224, min_scale=0.5), batch_tfms=aug_transforms())
    learn = vision_learner(block.dataloaders(path, num_workers=2), squeezenet1_0, metrics=error_rate)
    with learn.no_bar(), learn.no_logging(): learn.fine_tune(4)
    return learn


def ours(path, photos, seed, views=1):
    shutil.rmtree(os.environ['BEARCLF_CACHE'], ignore_errors=True)
    forget()
    return precomputed_learner(path, 'squeezenet1_0', seed=seed, views=views)


def full(path, photos, seed, **kwargs):
    "What `bearclf train --full` does, on a processor in 32 or in 16 bits"
    shutil.rmtree(os.environ['BEARCLF_CACHE'], ignore_errors=True)
    forget()
    with contextlib.redirect_stdout(io.StringIO()): return train_photos(path, 'squeezenet1_0', seed=seed, **kwargs)


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


def photo_learner_of(path): return photo_learner(photo_dls(path), 'squeezenet1_0')


class OnlyTraining(Callback):
    "Leaves the validation out, and notes the seconds of each epoch"
    def before_train(self): self.since = time.perf_counter()
    def after_train(self): self.seconds = time.perf_counter() - self.since
    def before_validate(self): raise CancelValidException


def unfrozen(path, photos, arch, book, workers, channels_last, bs):
    kwargs = dict(splitter=RandomSplitter(.2, seed=0),
                  item_tfms=RandomResizedCrop(224, min_scale=.5), batch_tfms=aug_transforms())
    if book:
        block = DataBlock((ImageBlock, CategoryBlock), get_items=lambda _: photos, get_y=parent_label, **kwargs)
        dls = block.dataloaders(path, bs=bs, num_workers=workers)
    else: dls = photo_dls(path, 224, bs, num_workers=workers, **kwargs)
    set_seed(0, reproducible=True)
    learn = vision_learner(dls, arch, pretrained=arch is squeezenet1_0)
    learn.unfreeze()
    learn.create_opt()
    learn.model.to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
    return learn


def epoch_ms(learn, *cbs):
    "ms for each photo in an epoch of unfrozen training"
    only = OnlyTraining()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-4, cbs=[only, *cbs])
    return 1000*only.seconds/(len(learn.dls.train)*learn.dls.bs)


def limit_ms(learn, bf16=False):
    "ms for each photo of the model step on a batch in memory"
    x, y = (o.as_subclass(Tensor) for o in learn.dls.train.one_batch())
    learn.model.train()
    steps = len(learn.dls.train)
    t = time.perf_counter()
    for _ in range(steps):
        with torch.autocast('cpu', torch.bfloat16, enabled=bf16): loss = learn.loss_func(to_float(learn.model(x)), y)
        loss.backward()
        learn.opt.step(); learn.opt.zero_grad()
    return 1000*(time.perf_counter()-t)/(steps*len(x))


def epochs(path, arch, bs=64, runs=5):
    "One table: the book's epoch, ours, and the limit, by turns, after one epoch of each that does not count"
    shutil.rmtree(os.environ['BEARCLF_CACHE'], ignore_errors=True)
    path, photos = Path(path), find_photos(path)
    first, second = first_look(path), first_look(path)
    learns = {'bearclf': unfrozen(path, photos, arch, False, None, True, bs)}
    for workers in 0, 2:
        for layout in '', ', channels_last':
            learn = unfrozen(path, photos, arch, True, workers, bool(layout), bs)
            learns[f'the book, {workers} workers{layout}'] = learn
    ms = {o: [] for o in [*learns, 'limit', *['bearclf, 16 bits', 'limit, 16 bits']*_BF16]}
    for run in range(runs+1):
        mine = learns['bearclf']
        res = {o: epoch_ms(l) for o, l in learns.items()} | {'limit': limit_ms(mine)}
        if _BF16:
            res |= {'bearclf, 16 bits': epoch_ms(mine, CPUMixedPrecision()), 'limit, 16 bits': limit_ms(mine, True)}
        print({k: round(v, 1) for k, v in res.items()}, file=sys.stderr)
        for o, v in res.items(): ms[o] += [v]*(run > 0)
    books = [o for o in ms if o.startswith('the book') and not o.endswith('last')]
    book = min(books, key=lambda o: statistics.median(ms[o]))
    print()
    heading(f'{arch.__name__}, batches of {bs}', 'ms a photo, mean', f'times faster than {book}, median',
            'part of its limit, median, %')
    for o in ms:
        limit = 'limit, 16 bits' if o.endswith('16 bits') else 'limit'
        faster, part = [a/b for a, b in zip(ms[book], ms[o])], [100*a/b for a, b in zip(ms[limit], ms[o])]
        row(o, spread(ms[o]), spread(faster, '{:.2f}', statistics.median), spread(part, '{:.0f}', statistics.median))
    print(f'\nThe first look at the folder, with the smaller copies made, took {first:.1f} s; '
          f'with the copies there, {second:.1f} s.')


def first_look(path):
    "Seconds for `photo_dls` in a process that has not seen the folder yet"
    forget()
    t = time.perf_counter()
    photo_dls(path)
    return time.perf_counter() - t


def main(path, unseen, seeds=5):
    path, photos, unseen = Path(path), find_photos(path), find_photos(unseen)
    sides = {'the book, fine_tune(4)': book, 'precomputed_learner': ours,
             'precomputed_learner, views=2': partial(ours, views=2), 'train_photos': full}
    if _BF16: sides['train_photos, 16 bits'] = partial(full, cbs=CPUMixedPrecision())
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
    print()
    heading(f'{len(photos)} photos', 'seconds', 'times faster, median', f'wrong of {len(unseen)}, by seed', 'error, %')
    for o in sides:
        row(o, spread(seconds[o]), spread(ratios[o], middle=statistics.median), ', '.join(map(str, wrong[o])),
            interval([100*w/len(unseen) for w in wrong[o]]))
    share, first = [100*y/x for x, y in again], [x for x, _ in again]
    print(f'\nFeatures again after one photo changed: {spread(share)} % of the first time ({spread(first)} s).')


if __name__ == '__main__':
    args = words(__doc__)
    small = drawn_path(n=12, size=64) if '--smoke' in args else None
    os.environ['BEARCLF_CACHE'] = tempfile.mkdtemp()
    if small: sys.exit(epochs(small, resnet18, bs=4, runs=1))
    need_weights()
    if args[1:] != ['--epochs']: main(*args)
    else: epochs(args[0], squeezenet1_0); epochs(args[0], resnet18); epochs(args[0], squeezenet1_0, bs=16)
