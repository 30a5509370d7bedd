"An export.pkl is read without being run: real ones say what their own fastai says, crafted ones one sentence"
import json, subprocess, sys, warnings, zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    import torch
    from fastai.vision.all import (
        CategoryBlock, ColReader, CrossEntropyLossFlat, DataBlock, Flatten, ImageBlock, ImageDataLoaders, Learner,
        Normalize, PILImage, PILImageBW, RandomSplitter, Resize, aug_transforms, get_image_files, imagenet_stats,
        load_learner, nn, parent_label)
from bearclf.core import BearclfError
from bearclf.practice.drawn import draw_bears
from bearclf.ship.pickled import convert
from bearclf.ship.portable import read_portable
from bearclf.ship.predict import load_classifier
from bearclf.train.features import Familiar
from helpers import LONG

here = Path(__file__).parent


def photos():
    rng = np.random.default_rng(0)
    return [Image.fromarray(rng.integers(0, 256, (30 + 3*i, 50 - 4*i, 3), np.uint8)) for i in range(6)]


def off(file, dest):
    "How far the probabilities of the portable model of `file` are from those of the fastai that wrote it"
    convert(file, dest, 'float32')
    said = json.loads(file.with_suffix('.json').read_text())
    pairs = zip(read_portable(dest).many(photos()), said['probs'])
    return max(abs(p.probabilities[k] - o) for p, row in pairs for k, o in zip(said['vocab'], row))


@pytest.mark.parametrize('version', ['27', '28'])
def test_small_real_ones(version, tmp_path): assert off(here/f'fastai{version}.pkl', tmp_path) < 1e-4


@pytest.mark.exhaustive
def test_real_ones_from_fresh_environments(tmp_path):
    subprocess.run([sys.executable, here/'make_exports.py', tmp_path/'made'], check=True)
    files = sorted((tmp_path/'made').glob('*/*.pkl'))
    assert len(files) == 10
    assert {f: d for i, f in enumerate(files) if not (d := off(f, tmp_path/str(i))) < 1e-4} == {}


def test_neither_torch_nor_fastai_is_imported():
    code = f"""import sys
from bearclf.ship.pickled import read_export
print(read_export({str(here/'fastai27.pkl')!r}).classes, {{'torch', 'fastai'}} & {{*sys.modules}})"""
    said = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert said.stdout == "['black', 'grizzly', 'teddy'] set()\n"


@pytest.fixture(autouse=True)
def quiet():
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', 'load_learner|Duplicate name')
        yield


# What today's fastai exports, opened by `load_classifier`

@pytest.fixture(scope='module')
def bears(tmp_path_factory):
    draw_bears(path := tmp_path_factory.mktemp('drawn')/'bears', 24, 64, seed=5)
    return path

def small(dls, n_in=3):
    body = nn.Sequential(nn.Conv2d(n_in, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), Flatten(), nn.Linear(8, len(dls.vocab)))
    return Learner(dls, nn.Sequential(body, head), CrossEntropyLossFlat())

def folder(path, item=Resize(32), batch=None):
    return small(ImageDataLoaders.from_folder(path, valid_pct=.3, seed=1, item_tfms=item, batch_tfms=batch, bs=8,
                                              num_workers=0))

def block(path, n_in=3, images=ImageBlock, vocab=None, label=parent_label):
    return small(DataBlock((images, CategoryBlock(vocab=vocab)), get_items=get_image_files, get_y=label,
                           item_tfms=Resize(32), splitter=RandomSplitter(.3, seed=1))
                 .dataloaders(path, bs=8, num_workers=0), n_in)

def length(file): return np.int64(len(file.parent.name))
def squeezed(im:PILImage): return im.resize((20, 40))  # a transform of one's own
def normed(path): return folder(path, Resize(48), [*aug_transforms(size=32), Normalize.from_stats(*imagenet_stats)])
def grey(path): return block(path, 1, ImageBlock(PILImageBW))
def scalars(path): return block(path, vocab=[np.int64(5), np.int64(7)], label=length)

def said(pkl, files):
    "What fastai's own way says"
    learn = load_learner(pkl)
    with learn.no_bar(), learn.no_logging(): return learn.get_preds(dl=learn.dls.test_dl(files, num_workers=0))[0]

def asked(clf, files): return torch.tensor([[o.probabilities[c] for c in clf.classes] for o in clf.many(files)])


@pytest.mark.parametrize('make', [folder, normed, grey, scalars])
def test_nobody_has_to_be_trusted(make, bears, tmp_path, monkeypatch, capsys):
    "Nor is anything of the pickle run; the second time it is not read either"
    make(bears).export(pkl := tmp_path/'export.pkl')
    theirs = said(pkl, files := get_image_files(bears)[:8])
    monkeypatch.setattr('torch.load', None)
    clf = load_classifier(pkl)
    assert torch.allclose(asked(clf, files), theirs, atol=2e-3) and capsys.readouterr() == ('', '')  # float16
    assert clf.info['sha256'] and clf(files[0]).familiar is None
    monkeypatch.setattr('bearclf.ship.pickled.convert', None)
    assert torch.equal(asked(load_classifier(tmp_path), files), asked(clf, files))


def test_what_it_knows_of_its_photos_comes_along(bears, tmp_path):
    learn = normed(bears)
    learn.familiar = Familiar.of(learn)
    learn.export(tmp_path/'export.pkl')
    clf = load_classifier(tmp_path/'export.pkl')
    assert clf.info['portable']['near_limit'] == learn.familiar.limit
    assert clf(get_image_files(bears)[0]).familiar is True


def test_a_path_of_windows(bears, tmp_path):
    folder(bears).export(pkl := tmp_path/'export.pkl')
    with zipfile.ZipFile(pkl) as z: entries = {o: z.read(o) for o in z.namelist()}
    entries['export/data.pkl'] = entries['export/data.pkl'].replace(b'pathlib\nPosixPath\n', b'pathlib\nWindowsPath\n')
    assert b'WindowsPath' in entries['export/data.pkl']
    with zipfile.ZipFile(windows := tmp_path/'windows.pkl', 'w') as z:
        for k, v in entries.items(): z.writestr(k, v)
    files = get_image_files(bears)[:4]
    assert torch.allclose(asked(load_classifier(windows), files), said(pkl, files), atol=2e-3)


def test_a_transform_of_ones_own_is_named(bears, tmp_path):
    folder(bears, [squeezed, Resize(32)]).export(tmp_path/'export.pkl')
    with pytest.raises(BearclfError, match='transform that bearclf does not know, squeezed, .*trust=True'):
        load_classifier(tmp_path)
    assert load_classifier(tmp_path, trust=True).classes == ['black', 'grizzly', 'teddy']


def test_a_crafted_one_is_not_run(tmp_path):
    import crafted
    (tmp_path/'export.pkl').write_bytes(crafted.zipped(crafted.programs(tmp_path/'RUN')['call-open-inside']))
    with pytest.raises(BearclfError, match='cannot be read as an export.pkl'): load_classifier(tmp_path)
    assert not (tmp_path/'RUN').exists()


@pytest.mark.skipif(sys.platform != 'linux', reason='memory is measured by /proc')
def test_crafted_ones(tmp_path):
    """Nothing is run or imported, each takes under 3 s of the processor and little memory, and gets one sentence"""
    import crafted
    files = crafted.make(tmp_path/'files', here/'fastai27.pkl', tmp_path/'RUN')
    assert len(files) >= 450
    res = subprocess.run([sys.executable, here/'crafted.py', tmp_path/'files'], capture_output=True, text=True,
                         cwd=tmp_path, timeout=LONG)
    assert res.returncode == 0, res.stderr
    found = json.loads(res.stdout)
    assert len(found) == len(files) and not (tmp_path/'RUN').exists()
    assert {k: v for k, v in found.items() if v['mb'] > 200 or v['modules']} == {}
    nets = sorted((tmp_path/'files').glob('net-*'))
    convert(nets[-1], tmp_path/'to')  # an honest one, so that all is imported
    before = crafted.most_memory()
    found |= {o.name: crafted.asked(lambda o: convert(o, tmp_path/'to'), o) for o in nets}
    assert {k for k, v in found.items() if v['raised'] == 'nothing'} == {'net-good-familiar.pkl', 'net-good.pkl'}
    assert {k: v for k, v in found.items() if 'good' not in k and (
        v['raised'] != 'BearclfError' or '\n' in v['said'] or not v['said'].endswith('.'))} == {}
    assert max(v['seconds'] for v in found.values()) < 3 and crafted.most_memory() < before + 300
