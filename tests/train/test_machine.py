"A GPU that says that it is there and cannot compute, packages that are missing or broken, and a network that is not there"
import os, socket, sys

import pytest

from bearclf.core import BearclfError
from bearclf.practice.drawn import draw_bears
from bearclf.train import machine
from bearclf.train.data import photo_dls
from bearclf.train.features import fit_head, precomputed_learner
from bearclf.train.learner import fit_photos, train_photos
from fastai.vision.all import (ImageDataLoaders, Resize, aug_transforms, default_device, defaults, error_rate, resnet18,
                               torch, vision_learner)
from helpers import python

NO_KERNEL = 'CUDA error: no kernel image is available for execution on the device'


@pytest.fixture
def p100(monkeypatch):
    "What Kaggle's P100 is to a new torch: all answers are those of a GPU, and the first operation dies"
    says = dict(is_available=True, current_device=0, device_count=1, get_device_name='Tesla P100-PCIE-16GB',
                get_device_capability=(6, 0), get_arch_list=['sm_75', 'sm_90'], is_bf16_supported=True)
    for name, answer in says.items(): monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer, **__: answer)
    to = torch.Tensor.to
    def dies(self, *args, **kw):
        if 'cuda' in str([*args, *kw.values()]): raise RuntimeError(f'{NO_KERNEL}\nCUDA kernel errors might be ...')
        return to(self, *args, **kw)
    monkeypatch.setattr(torch.Tensor, 'to', dies)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    monkeypatch.setattr(defaults, 'use_cuda', None)
    machine._problem.cache_clear()
    assert default_device().type == 'cuda'
    yield
    machine._problem.cache_clear()


@pytest.fixture
def bears(tmp_path):
    draw_bears(tmp_path/'bears', n=12, size=64)
    return tmp_path/'bears'


def plain_learner(path):
    "On the GPU, which fastai itself would have tried by now"
    dls = ImageDataLoaders.from_folder(path, valid_pct=.2, item_tfms=Resize(64), batch_tfms=aug_transforms(), bs=4,
                                       num_workers=0, device='cpu')
    learn = vision_learner(dls, resnet18, pretrained=False, metrics=error_rate).to_fp16()
    dls.device = torch.device('cuda', 0)
    return learn


def one_sentence(capsys):
    said = [o for o in capsys.readouterr().out.splitlines() if 'first operation fails' in o]
    assert len(said) == 1, said
    return said[0]


def test_training_goes_on_on_the_processor(p100, bears, capsys):
    learn = train_photos(bears, 'resnet18', 1, 64, pretrained=False, num_workers=0)
    said = one_sentence(capsys)
    assert all(o in said for o in ('Tesla P100', 'compute capability 6.0', NO_KERNEL, 'sm_75', 'GPU T4 x2'))
    assert learn.dls.device.type == 'cpu' == next(learn.model.parameters()).device.type and learn.recorder.values
    photo_dls(bears, 64, num_workers=0)
    assert 'first operation' not in capsys.readouterr().out, 'once is enough'


def test_a_learner_of_plain_fastai_comes_along(p100, bears, capsys):
    learn = plain_learner(bears)
    fit_photos(learn, 1)
    one_sentence(capsys)
    assert learn.dls.device.type == 'cpu' and learn.recorder.values


def test_the_quick_way_as_well(p100, bears, capsys):
    assert len(precomputed_learner(bears, 'efficientnet_lite0', 64, num_workers=0).predict(next(bears.glob('*/*')))) == 3
    one_sentence(capsys)


def test_features_of_a_learner_of_plain_fastai(p100, bears, capsys):
    fit_head(plain_learner(bears))
    one_sentence(capsys)


def test_a_device_that_was_named_is_the_one_or_none(p100, bears, monkeypatch):
    with pytest.raises(BearclfError, match='Tesla P100.*no kernel image.*T4'): photo_dls(bears, device='cuda')
    with pytest.raises(BearclfError, match="There is no device 'gpu'"): photo_dls(bears, device='gpu')
    assert photo_dls(bears, 64, device='cpu', num_workers=0).device == 'cpu' and default_device().type == 'cuda'


@pytest.mark.parametrize('gradient, why', [
    (lambda w: w*float('nan'), 'numbers are wrong'), (lambda w: w + 1, 'numbers are wrong'), (lambda w: w + 1e-4, '')])
def test_numbers_that_are_wrong(gradient, why, monkeypatch):
    right = machine._gradient('cpu')
    monkeypatch.setattr(machine, '_gradient', lambda device: right if device == 'cpu' else gradient(right))
    assert why in machine._trial('mps') and bool(why) == bool(machine._trial('mps'))


def test_a_driver_that_cannot_even_say_which_device(bears, monkeypatch, capsys):
    def dies(): raise RuntimeError('CUDA unknown error\nmore')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'current_device', dies)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')
    monkeypatch.setattr(defaults, 'use_cuda', None)
    assert photo_dls(bears, 64, num_workers=0).device.type == 'cpu'
    assert 'CUDA unknown error' in one_sentence(capsys)


def test_the_look_costs_no_randomness_and_works_in_any_mode():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with torch.inference_mode(): assert machine._trial('cpu') == ''
    with torch.no_grad(): assert machine._trial('cpu') == ''
    assert before.equal(torch.get_rng_state())
