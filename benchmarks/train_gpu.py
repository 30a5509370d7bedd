"""Images a second on a GPU: fastai's own pipeline, ours, and the limit.

    python benchmarks/train_gpu.py [FOLDER OF PHOTOS]
    python benchmarks/train_gpu.py --smoke     # 600 small bears, once

`resnet18` at 224 px, unfrozen, in batches of 256 and in bfloat16. Without a folder, 4,096 bears are drawn at 512 px.
The limit is the model step (forward, loss, backward, optimizer) on one batch that is on the GPU already. All three
train the same model; ours and the limit in channels_last, which `photo_learner` sets, and fastai's pipeline in both
layouts. Validation is left out; the first epoch of each, in which ours makes its smaller copies, does not count.
"""
import statistics, sys, time, warnings

warnings.simplefilter('ignore')
from bearclf.folder.look import *
from bearclf.train.data import *
from bearclf.practice.drawn import drawn_path
from bearclf.train.learner import *
from fastai.vision.all import *
from common import heading, row, spread, words
from train_cpu import OnlyTraining

BS = 256


def learners(path):
    photos = find_photos(path)
    kwargs = dict(splitter=RandomSplitter(.05, seed=0),
                  item_tfms=RandomResizedCrop(224, min_scale=.5), batch_tfms=aug_transforms())
    book = DataBlock((ImageBlock, CategoryBlock), get_items=lambda _: photos, get_y=parent_label, **kwargs)
    res = {}
    for name, layout in ('fastai', torch.contiguous_format), ('fastai, channels_last', torch.channels_last):
        res[name] = vision_learner(book.dataloaders(path, bs=BS), resnet18, pretrained=False).to_bf16()
        res[name].model.to(memory_format=layout)
    res['bearclf'] = photo_learner(photo_dls(path, 224, BS, **kwargs), 'resnet18', pretrained=False)
    for o in res.values(): o.unfreeze()
    return res


def epoch(learn):
    "Images a second in one epoch"
    only = OnlyTraining()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, 1e-4, cbs=only)
    return len(learn.dls.train)*BS/only.seconds


def limit(learn, steps=50):
    "Images a second of the model step on a batch that is on the GPU already"
    x, y = (o.as_subclass(Tensor) for o in learn.dls.train.one_batch())
    learn.model.train()
    for i in range(steps + 10):
        if i == 10: torch.cuda.synchronize(); t = time.perf_counter()  # the first ten warm up
        with torch.autocast('cuda', torch.bfloat16): loss = learn.loss_func(learn.model(x), y)
        loss.backward()
        learn.opt.step(); learn.opt.zero_grad()
    torch.cuda.synchronize()
    return steps*BS/(time.perf_counter() - t)


def main(path, runs=5):
    learns = learners(path)
    rates = {o: [] for o in [*learns, 'limit']}
    for run in range(runs + 1):
        res = {o: epoch(l) for o, l in learns.items()} | {'limit': limit(learns['bearclf'])}
        print({k: round(v) for k, v in res.items()}, file=sys.stderr)
        for o, v in res.items(): rates[o] += [v]*(run > 0)
    today = time.strftime('%Y-%m-%d')
    print(f'\n{torch.cuda.get_device_name()}, {os.cpu_count()} CPU cores, torch {torch.__version__}, {today}\n')
    heading('resnet18, 224 px, batches of 256, bfloat16', 'images a second, median', 'part of the limit, median, %')
    for o, v in rates.items():
        part = [100*a/b for a, b in zip(v, rates['limit'])]
        row(o, *(spread(x, '{:.0f}', statistics.median) for x in (v, part)))


if __name__ == '__main__':
    args = words(__doc__)
    if not torch.cuda.is_available(): sys.exit('There is no GPU here that PyTorch can use, so nothing was measured.')
    if '--smoke' in args: main(drawn_path(n=600, size=64), runs=1)
    else: main(Path(args[0]) if args else drawn_path(n=4096, size=512))
