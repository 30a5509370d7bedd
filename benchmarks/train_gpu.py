"""Images a second on a GPU: fastai's own pipeline, ours, ours with the photos in the GPU's memory, and the limit.

    python benchmarks/train_gpu.py [FOLDER OF PHOTOS]
    python benchmarks/train_gpu.py --profile   # where the time goes with photos in memory, before all of that
    python benchmarks/train_gpu.py --smoke     # 600 small bears, once; without a GPU 60 at 32 px, to see that it runs

`resnet18` at 224 px, unfrozen, in batches of 256 (and 512) and in bfloat16. Without a folder, 512 bears are drawn at
512 px, and each file is there eight times, with other bytes at its end; for `ResidentDL`, which would have seen these
in half a second, 32 times: 16,384 photos, whose epoch takes one to three seconds. The limit is the model step (forward,
loss, backward, optimizer) on one batch that is on the GPU already. All train the same model; ours and the limit in
channels_last, which `photo_learner` sets, and fastai's pipeline in both layouts. Validation is left out; so is the
first run of each, in which ours makes its smaller copies and `ResidentDL` decodes the photos, once for its three rows.
A run is one epoch, or with `ResidentDL` two, with what lies between them; it has three runs, the other rows two.
"""
import concurrent.futures, itertools, statistics, sys, tempfile, time, warnings

warnings.simplefilter('ignore')
from bearclf.folder.look import *
from bearclf.train.data import *
from bearclf.practice.drawn import CLASSES, draw_bear, drawn_path
from bearclf.train.resident import *
from bearclf.train.learner import *
from fastai.vision.all import *
from common import heading, row, spread, words

GPU = torch.cuda.is_available()
SIZE, BS, ARCH = 224, 256, 'resnet18'


def wait():
    if GPU: torch.cuda.synchronize()


def drawn(n=512, times=(8, 32)):
    "Folders of bears, drawn by all processors, each of them there several times: few, and many"
    paths = [Path(tempfile.mkdtemp())/f'bears{o}' for o in times]
    for path, o in itertools.product(paths, CLASSES): (path/o).mkdir(parents=True)
    with concurrent.futures.ProcessPoolExecutor(mp_context=multiprocessing.get_context('fork')) as ex:
        list(ex.map(partial(draw_some, paths, times), range(n), chunksize=8))
    return paths


def draw_some(paths, times, i):
    b, label = io.BytesIO(), CLASSES[i%3]
    draw_bear(label, i, 512).save(b, 'JPEG', quality=92)
    for path, n in zip(paths, times):
        for k in range(n): (path/label/f'{i}_{k}.jpg').write_bytes(b.getvalue() + bytes([k]))


class OnlyTraining(Callback):
    "Leaves the validation out; notes the seconds from the first batch of a fit until the GPU has done the last"
    def before_train(self):
        if self.epoch == 0: wait(); self.since = time.perf_counter()
    def after_train(self): wait(); self.seconds = time.perf_counter() - self.since
    def before_validate(self): raise CancelValidException


def learners(few, many):
    photos = find_photos(few)
    kwargs = dict(splitter=RandomSplitter(.05, seed=0),
                  item_tfms=RandomResizedCrop(SIZE, min_scale=.5), batch_tfms=aug_transforms())
    book = DataBlock((ImageBlock, CategoryBlock), get_items=lambda _: photos, get_y=parent_label, **kwargs)
    dls = book.dataloaders(few, bs=BS)
    kept = photo_dls(many, SIZE, BS, dl_type=ResidentDL, **kwargs)
    kept.train.one_batch()  # decodes the photos
    large = DataLoaders(*(o.new(bs=2*BS) for o in kept), path=kept.path, device=kept.device)
    def fastais(dls, layout):
        learn = vision_learner(dls, resnet18, pretrained=False)
        learn.model.to(memory_format=layout)
        return learn.to_bf16() if GPU else learn
    def ours(dls): return photo_learner(dls, ARCH, pretrained=False)
    res = {'fastai': fastais(dls, torch.contiguous_format), 'fastai, channels_last': fastais(dls, torch.channels_last),
           'fastai, channels_last, ResidentDL': fastais(kept, torch.channels_last),
           'bearclf': ours(photo_dls(few, SIZE, BS, **kwargs)), 'bearclf, ResidentDL': ours(kept),
           f'bearclf, ResidentDL, batches of {2*BS}': ours(large)}
    for o in res.values(): o.unfreeze()
    return res


def rate(learn, epochs=None):
    "Images a second"
    only, epochs = OnlyTraining(), epochs or (2 if GPU and isinstance(learn.dls.train, ResidentDL) else 1)
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs, 1e-4, cbs=only)
    return epochs*len(learn.dls.train)*learn.dls.bs/only.seconds


def step(learn, x, y):
    with torch.autocast('cuda', torch.bfloat16, enabled=GPU): loss = learn.loss_func(to_float(learn.model(x)), y)
    loss.backward()
    learn.opt.step(); learn.opt.zero_grad()


def limit(learn, steps=50 if GPU else 5):
    "Images a second of the model step on a batch that is on the GPU already"
    x, y = (o.as_subclass(Tensor) for o in learn.dls.train.one_batch())
    learn.model.train()
    for i in range(steps + steps//5):
        if i == steps//5: wait(); t = time.perf_counter()  # the first ones warm up
        step(learn, x, y)
    wait()
    return steps*len(x)/(time.perf_counter() - t)


def ms(f, n=20 if GPU else 2):
    "ms a call until it comes back, and until the GPU has done it"
    for _ in range(3): f()
    wait()
    t = time.perf_counter()
    for _ in range(n): f()
    back = time.perf_counter() - t
    wait()
    return f'{1000*back/n:.2f} ms, done after {1000*(time.perf_counter() - t)/n:.2f} ms'


def profile(learn):
    "Where the time of a batch goes"
    from torch.profiler import ProfilerActivity, profile as profiler
    in_epochs = rate(learn)  # this moves the model to the GPU
    dl = learn.dls.train
    x, y = (o.as_subclass(Tensor) for o in dl.one_batch())
    idx = torch.arange(len(dl.dataset))
    batches = itertools.chain.from_iterable(dl._batches(idx) for _ in itertools.count())
    print('\ndraw for an epoch and prepare a batch ', ms(lambda: next(dl._batches(idx)), 3))
    print('prepare a batch                       ', ms(lambda: next(batches)))
    print('one step                              ', ms(lambda: step(learn, x, y)))
    print(f'in epochs                              {in_epochs:.0f} images a second')
    with profiler(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA]*GPU) as p:
        for _ in range(5 if GPU else 1): next(batches)
        wait()
    by = 'self_device_time_total' if GPU else 'self_cpu_time_total'
    print('\nfive batches prepared\n', p.key_averages().table(by, row_limit=18, max_name_column_width=50))


def main(few, many, runs=3, profiled=False):
    learns = learners(few, many)
    large = [*learns][-1]
    if profiled: profile(learns['bearclf, ResidentDL']), profile(learns[large])
    limits = {'limit': learns['bearclf'], f'limit, batches of {2*BS}': learns[large]}
    rates = {o: [] for o in [*learns, *limits]}
    for run in range(runs + 1):
        short = {o: l for o, l in learns.items() if run <= 2 or 'ResidentDL' in o}
        res = {o: rate(l) for o, l in short.items()} | {o: limit(l) for o, l in limits.items()}
        print({k: round(v) for k, v in res.items()}, file=sys.stderr)
        for o, v in res.items(): rates[o] += [v]*(run > 0)
    today = time.strftime('%Y-%m-%d')
    name = torch.cuda.get_device_name() if GPU else 'no GPU'
    print(f'\n{name}, {os.cpu_count()} CPU cores, torch {torch.__version__}, {today}\n')
    heading(f'{ARCH}, {SIZE} px, batches of {BS}, bfloat16', 'images a second, median',
            'part of the limit, median, %')
    for o, v in rates.items():
        part = [100*a/b for a, b in zip(v, rates[[*limits][f'{2*BS}' in o]])]
        row(o, *(spread(x, '{:.0f}', statistics.median) for x in (v, part)))


if __name__ == '__main__':
    args = words(__doc__)
    smoke, profiled = '--smoke' in args, '--profile' in args
    folders = [o for o in args if not o.startswith('--')]
    if not GPU and not smoke: sys.exit('There is no GPU here that PyTorch can use, so nothing was measured.')
    if not GPU: SIZE, BS = 32, 16
    if smoke: main(*[drawn_path(n=600 if GPU else 60, size=64)]*2, 1, profiled)
    else: main(*[Path(o) for o in folders*2] or drawn(), profiled=profiled)
