"A portable model says what `clf(photo)` says, whatever prepares the photo; and no export fails for want of one"
import json, re

import numpy as np
import onnx
import pytest
import torch
from fastai.vision.all import (BCEWithLogitsLossFlat, CategoryBlock, CropPad, IntToFloatTensor, PILImage, PILImageBW,
                               RandomCrop, RandomResizedCrop, Resize, Transform, TransformBlock, aug_transforms,
                               get_image_files)
from PIL import Image
from PIL.Image import Resampling
from torch import nn

from bearclf.core import error_text
from bearclf.practice.drawn import draw_bears
from bearclf.ship import export, graph
from bearclf.ship.export import export_classifier, steps_of, temperature_of
from bearclf.ship.graph import write_portable
from bearclf.ship.portable import read_portable
from bearclf.ship.predict import Classifier
from bearclf.train.data import photo_dls
from bearclf.train.features import Familiar, precomputed_learner
from bearclf.train.learner import photo_learner


@pytest.fixture(scope='module')
def bears(tmp_path_factory):
    path = tmp_path_factory.mktemp('drawn')/'bears'
    draw_bears(path, 18, 64)
    return path


@pytest.fixture(scope='module')
def pictures():
    "Pictures in both orientations, a square one, and one smaller than what a model takes"
    noise = np.random.default_rng(7)
    return [Image.fromarray(noise.integers(0, 256, (h, w, 3), np.uint8)).resize((2*w, 2*h))
            for h, w in ((90, 120), (150, 75), (64, 64), (13, 11))]


@pytest.fixture
def in_float32(monkeypatch):
    monkeypatch.setattr(export_classifier, '__defaults__', ('float32',))


def agree(learn, pictures, dest, most):
    "The portable model of `learn`, which answers for all `pictures` as fastai does, to `most`"
    export_classifier(learn, dest)
    facts = json.loads((dest/'export.json').read_text())
    clf, port = Classifier(learn, facts), read_portable(dest)
    for a, b in zip(clf.many(pictures), port.many(pictures)):
        assert a.label == b.label
        assert all(abs(a.probabilities[k] - b.probabilities[k]) < most for k in a.probabilities), (a, b)
    return port


def learner(bears, arch='squeezenet1_0', **kw):
    "A net with random weights, always the same, whose answers differ a good deal from photo to photo"
    torch.manual_seed(1)
    learn = photo_learner(photo_dls(bears, 64, num_workers=0, **kw), arch, False)
    with torch.no_grad(): learn.model[1][-1].weight *= 20
    return learn


PIPELINES = {'random crop': RandomResizedCrop(64, min_scale=.5), 'squish': Resize(64, 'squish'), 'crop': Resize(64),
             'reflected': Resize(64, 'pad'), 'padded': Resize(64, 'pad', pad_mode='zeros'), 'wide': Resize((48, 80)),
             'tall margin': RandomResizedCrop((80, 48), val_xtra=.3), 'middle': CropPad(64),
             'border': CropPad(64, pad_mode='border'), 'twice': [Resize(80), RandomCrop(64)]}

@pytest.mark.parametrize('name', PIPELINES)
def test_a_photo_is_prepared_as_fastai_does(bears, pictures, tmp_path, in_float32, name):
    learn = learner(bears, item_tfms=PIPELINES[name])
    agree(learn, pictures, tmp_path, 1e-4)


@pytest.mark.parametrize('arch', ['resnet18', 'efficientnet_lite0', 'mobilenetv3_small_050'])
def test_usual_nets(bears, pictures, tmp_path, in_float32, arch):
    agree(learner(bears, arch), pictures, tmp_path, 1e-4)


def test_a_trained_net_in_float16(bears, tmp_path):
    learn = precomputed_learner(bears, 'efficientnet_lite0', num_workers=0)
    assert export.norm_of(learn.dls) == [[.5]*3, [.5]*3]
    agree(learn, sorted(bears.glob('*/*.jpg')), tmp_path, .01)


@pytest.mark.exhaustive
def test_real_photos(shared, tmp_path, monkeypatch):
    "All answers of ONNX Runtime are fastai's: with all digits to 1e-4, as they are shipped to 0.01"
    monkeypatch.setenv('TORCH_HOME', str(shared/'torch'))
    learn = precomputed_learner(shared/'bears_small', 'squeezenet1_0')
    photos = get_image_files(shared/'bears_small')
    agree(learn, photos, tmp_path/'shipped', .01)
    monkeypatch.setattr(export_classifier, '__defaults__', ('float32',))
    agree(learn, photos, tmp_path/'whole', 1e-4)


def test_grey_photos(bears, pictures, tmp_path):
    blocks = TransformBlock(PILImageBW.create, batch_tfms=IntToFloatTensor), CategoryBlock
    port = agree(learner(bears, blocks=blocks), pictures, tmp_path, .01)
    assert port.info['portable']['mode'] == 'L'


def test_what_is_near_is_the_same(bears, pictures, tmp_path, in_float32):
    learn = learner(bears)
    familiar = Familiar.of(learn)
    export_classifier(learn, tmp_path)
    facts = json.loads((tmp_path/'export.json').read_text())['portable']
    assert facts['near_limit'] == familiar.limit and not hasattr(learn, 'familiar')
    x = torch.rand(3, 3, 64, 64)
    with torch.no_grad(): near = familiar.near(learn.model.eval()[0](x))
    said = graph.runner(onnx.load(tmp_path/'export.onnx'))(x)[1]
    assert (said - near).abs().max() < 1e-5 < near.min()


def test_a_temperature_makes_less_sure_only():
    "For answers that are right as often as a bit too sure, it is what was put in; for modest ones, it is 1"
    torch.manual_seed(1)
    logits = torch.randn(3000, 3)*2
    targs = torch.multinomial(logits.softmax(1), 1)[:, 0]
    assert abs(temperature_of(logits*3, targs) - 3) < .2
    assert temperature_of(logits/3, targs) == 1 and temperature_of(logits[:19]*3, targs[:19]) == 1


def test_both_models_apply_the_temperature(bears, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(export, 'temperature_of', lambda *_: 2.5)
    assert agree(learner(bears), pictures, tmp_path, .01).info['portable']['temperature'] == 2.5


class Darker(Transform):
    def encodes(self, im:Image.Image): return im.point(lambda o: o//2)


class Odd(nn.Module):
    def forward(self, x): return torch.linalg.lstsq(x.flatten(1)[:, :9].view(-1, 3, 3), torch.eye(3)).solution[0]


REFUSED = [(dict(item_tfms=[Darker(), Resize(64)]), 'what Darker does to a photo cannot be written down in steps.'),
           (dict(item_tfms=Resize(64, resamples=(Resampling.NEAREST,)*2)), 'what Resize does to a photo cannot'),
           (dict(item_tfms=Resize(80), batch_tfms=aug_transforms(size=64)), 'its transforms do more to a photo than'),
           (dict(blocks=(TransformBlock([PILImage.create, Darker()], batch_tfms=IntToFloatTensor), CategoryBlock)),
            'its transforms do more to a photo than')]

@pytest.mark.parametrize('kw, why', REFUSED)
def test_what_cannot_be_portable_is_exported_all_the_same(bears, tmp_path, capsys, kw, why):
    export_classifier(learner(bears), tmp_path)
    learn = learner(bears, **kw)
    capsys.readouterr()
    export_classifier(learn, tmp_path)
    said = capsys.readouterr().out
    assert said.startswith(f'There is no portable model beside export.pkl: {why}') and said.count('\n') == 2
    assert json.loads((tmp_path/'export.json').read_text())['portable'] is None
    assert sorted(o.name for o in tmp_path.glob('*.onnx')) == ['export-before.onnx']


def test_a_loss_without_softmax_and_a_net_that_is_no_graph(bears, tmp_path, capsys):
    learn = learner(bears)
    learn.loss_func = BCEWithLogitsLossFlat()
    assert export._portable(learn, 'float16') == (None, None)
    assert 'its probabilities are no softmax.' in capsys.readouterr().out
    said = error_text(write_portable, Odd(), 'abc', [dict(do='squish', size=[32, 32])], tmp_path)
    assert said == 'this net cannot be written as a graph of ONNX.' and not list(tmp_path.iterdir())


def test_the_newer_exporter_where_the_former_cannot(bears, pictures, tmp_path, monkeypatch, capfd):
    def cannot(*_): raise RuntimeError
    monkeypatch.setattr(graph, '_traced', cannot)
    agree(learner(bears), pictures, tmp_path, .01)
    assert capfd.readouterr().err == '' and b'pytest-of' not in (tmp_path/'export.onnx').read_bytes()
    def missing(*_): raise ImportError(name='onnxscript')
    monkeypatch.setattr(graph, '_captured', missing)
    said = error_text(write_portable, learner(bears).model, 'abc', [dict(do='squish', size=[64, 64])], tmp_path/'new')
    assert said == 'to become a graph, this net needs onnxscript: pip install onnxscript'


def test_int8_says_what_it_changes(bears, tmp_path, capsys):
    learn = learner(bears)
    export_classifier(learn, tmp_path)
    capsys.readouterr()
    export_classifier(learn, tmp_path, weights='int8')
    said = r'^With int8 weights \d of 3 photos that were kept aside are wrong, without \d; probabilities moved'
    assert re.search(said, capsys.readouterr().out)
    sizes = [(tmp_path/f'{o}.onnx').stat().st_size for o in ('export-before', 'export')]
    assert sizes[1] < .6*sizes[0] and read_portable(tmp_path).info['portable']['weights'] == 'int8'


def test_all_digits_are_kept_where_float16_says_another_thing(bears, pictures, tmp_path, capsys):
    "The classes are told by digits that float16 leaves out"
    learn = learner(bears)
    with torch.no_grad():
        w = learn.model[1][-1].weight
        w *= .05
        w += 100*torch.rand(w.shape[1])
    port = agree(learn, pictures, tmp_path, .01)
    assert 'In float16 its answers would change: kept as float32.\n' in capsys.readouterr().out
    assert port.info['portable']['weights'] == 'float32'


def test_a_graph_that_differs_is_not_kept(bears, tmp_path, monkeypatch):
    run = graph.runner
    monkeypatch.setattr(graph, 'runner', lambda model: lambda photos: [o + .3 for o in run(model)(photos)])
    said = error_text(write_portable, learner(bears).model, 'abc', [dict(do='squish', size=[64, 64])], tmp_path)
    assert 'this net would answer otherwise, by up to 0.3' in said and not list(tmp_path.iterdir())
