"A portable model says what `clf(photo)` says, whatever prepares the photo; and no export fails for want of one"
import json, sys
from functools import partial

import numpy as np
import onnx
import pytest
import torch
from fastai.vision.all import CropPad, RandomCrop, RandomResizedCrop, Resize, Transform, aug_transforms
from PIL import Image

from bearclf.core import error_text
from bearclf.practice.drawn import draw_bears
from bearclf.ship import export, graph
from bearclf.ship.export import export_classifier, steps_of, temperature_of
from bearclf.ship.graph import write_portable
from bearclf.ship.portable import read_portable
from bearclf.ship.predict import Classifier
from bearclf.train.data import photo_dls
from bearclf.train.features import precomputed_learner
from bearclf.train.learner import photo_learner


@pytest.fixture(scope='module')
def bears(tmp_path_factory):
    path = tmp_path_factory.mktemp('drawn')/'bears'
    draw_bears(path, 12, 64)
    return path


@pytest.fixture(scope='module')
def pictures():
    "Pictures in both orientations, a square one, and one smaller than what a model takes"
    noise = np.random.default_rng(7)
    return [Image.fromarray(noise.integers(0, 256, (h, w, 3), np.uint8)).resize((2*w, 2*h))
            for h, w in ((90, 120), (150, 75), (64, 64), (13, 11))]


@pytest.fixture
def in_float32(monkeypatch):
    monkeypatch.setattr(export, 'graph_and_facts', partial(graph.graph_and_facts, weights='float32'))


def agree(learn, pictures, dest, most):
    "The portable model of `learn`, which answers for all `pictures` as fastai does, to `most`"
    export_classifier(learn, dest)
    facts = json.loads((dest/'export.json').read_text())
    clf, port = Classifier(learn, facts), read_portable(dest)
    for a, b in zip(clf.many(pictures), port.many(pictures)):
        assert a.label == b.label
        assert all(abs(a.probabilities[k] - b.probabilities[k]) < most for k in a.probabilities), (a, b)
    return port


def learner(bears, arch='squeezenet1_0', size=64, n_in=3, **kw):
    return photo_learner(photo_dls(bears, size, num_workers=0, **kw), arch, False)


PIPELINES = {'random crop': RandomResizedCrop(64, min_scale=.5), 'squish': Resize(64, 'squish'), 'crop': Resize(64),
             'reflected': Resize(64, 'pad'), 'padded': Resize(64, 'pad', pad_mode='zeros'), 'wide': Resize((48, 80)),
             'tall margin': RandomResizedCrop((80, 48), val_xtra=.3), 'middle': CropPad(64),
             'border': CropPad(64, pad_mode='border'), 'twice': [Resize(80), RandomCrop(64)]}

@pytest.mark.parametrize('name', PIPELINES)
def test_a_photo_is_prepared_as_fastai_does(bears, pictures, tmp_path, in_float32, name):
    learn = learner(bears, item_tfms=PIPELINES[name])
    agree(learn, pictures, tmp_path, 1e-4)
