"""Exports by plain fastai of two versions, each in a fresh environment, with what its own `load_learner` says.

python tests/ship/make_exports.py DEST          all of them, into DEST/27 and DEST/28 (needs uv and a package registry)
python tests/ship/make_exports.py --fixtures    the two small ones that are kept beside this file
"""
import os, subprocess, sys, tempfile
from pathlib import Path

here = Path(__file__).resolve().parent
VERSIONS = {'27': 'fastai==2.7.19', '28': 'fastai==2.8.12'}

# What runs in such an environment, which has no bearclf
INSIDE = '''
import json, sys, warnings
warnings.simplefilter('ignore')
from fastai.vision.all import *
dest, names = Path(sys.argv[1]), sys.argv[2:]
rng = np.random.default_rng(0)
pictures = [PILImage.create(rng.integers(0, 256, (30 + 3*i, 50 - 4*i, 3), np.uint8)) for i in range(6)]

def label(path): return Path(path).parent.name

def dls(item, batch):
    for k in 'black', 'grizzly', 'teddy':
        (dest/'photos'/k).mkdir(parents=True, exist_ok=True)
        for i in range(4): pictures[i].save(dest/'photos'/k/f'{i}.png')
    block = DataBlock((ImageBlock, CategoryBlock), get_items=get_image_files, get_y=label, item_tfms=item,
                      batch_tfms=batch, splitter=RandomSplitter(.34, seed=1))
    return block.dataloaders(dest/'photos', path=Path(), bs=4, num_workers=0)

def net(): return nn.Sequential(nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.BatchNorm2d(8)),
                                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
norm = Normalize.from_stats(*imagenet_stats)
aug = aug_transforms(size=48, min_scale=.75)
MAKE = {
    'tiny': lambda: Learner(dls(Resize(32), norm), net(), loss_func=CrossEntropyLossFlat()),
    'resnet18': lambda: vision_learner(dls(RandomResizedCrop(64), [*aug_transforms(), norm]), resnet18,
                                       pretrained=False),
    'resnet34': lambda: vision_learner(dls(Resize(64), [*aug, norm]), resnet34, pretrained=False, metrics=error_rate),
    'squeezenet1_0': lambda: vision_learner(dls(Resize((96, 64), ResizeMethod.Squish), norm), squeezenet1_0,
                                            pretrained=False),
    'timm': lambda: vision_learner(dls(Resize(64, ResizeMethod.Pad, pad_mode='zeros'), []), 'mobilenetv3_small_050',
                                   pretrained=False)}
for name in names or MAKE:
    set_seed(0)
    learn, file = MAKE[name](), (dest/f'{name}.pkl').resolve()
    learn.path = Path()
    with torch.no_grad():  # so that its norms fit its weights, and photos differ in what is said of them
        for _ in range(30): learn.model.train()(learn.dls.train.one_batch()[0])
    learn.export(file)
    learn = load_learner(file)
    with learn.no_bar(), learn.no_logging():
        probs = [learn.predict(o)[2].tolist() for o in pictures]
    file.with_suffix('.json').write_text(json.dumps(dict(vocab=list(learn.dls.vocab), probs=probs)))
'''


def make(version, dest, *names):
    "Put the exports called `names` (default: all) by fastai `version` into the folder `dest`"
    dest.mkdir(parents=True, exist_ok=True)
    dest = dest.resolve()
    with tempfile.TemporaryDirectory() as tmp:
        tmp = Path(tmp)
        (tmp/'without.txt').write_text('spacy; python_version < "3"\n')  # fastai's, for text
        (tmp/'inside.py').write_text(INSIDE)
        run = lambda *cmd, **kw: subprocess.run(list(map(str, cmd)), cwd=tmp, check=True, **kw)
        run('uv', 'venv', '-q', '--python', sys.executable, 'env')
        run('uv', 'pip', 'install', '-q', '--python', 'env/bin/python', '--override', 'without.txt', VERSIONS[version],
            'timm')
        run('env/bin/python', 'inside.py', dest, *names, env=os.environ | {'OMP_NUM_THREADS': '1'})


if __name__ == '__main__':
    if sys.argv[1] != '--fixtures':
        for o in VERSIONS: make(o, Path(sys.argv[1])/o)
    else:
        with tempfile.TemporaryDirectory() as tmp:
            for o in VERSIONS:
                make(o, Path(tmp), 'tiny')
                for end in 'pkl', 'json': (here/f'fastai{o}.{end}').write_bytes((Path(tmp)/f'tiny.{end}').read_bytes())
