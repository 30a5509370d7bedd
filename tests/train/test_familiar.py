"What a model knows that it does not know; benchmarks/strange.py has all the figures"
import numpy as np
import pytest
from PIL import Image

from bearclf.core import BearclfError
from bearclf.folder.look import class_of, find_photos
from bearclf.practice.drawn import draw_bear, draw_bears, drawn_path
from bearclf.ship.predict import Classifier
from bearclf.train.data import photo_dls
from bearclf.train.features import *
from bearclf.train.learner import photo_learner
from fastai.vision.all import Learner, nn, torch


@pytest.fixture
def maps(): return torch.rand(40, 6, 3, 3, generator=torch.manual_seed(0))

def rows(maps): return torch.cat([maps.amax((2, 3)), maps.mean((2, 3))], 1)

def test_maps_and_rows_are_as_near(maps):
    f = Familiar(rows(maps[:30]), range(30))
    assert torch.equal(f.near(maps), f.near(rows(maps))) and torch.equal(f(maps), f.near(maps) <= f.limit)
    x = rows(maps[30:31]).numpy()
    cosine = lambda a, b: (a*b).sum(1)/np.linalg.norm(a, axis=1)/np.linalg.norm(b, axis=1)
    both = [1 - cosine(x[:, k], rows(maps[:30]).numpy()[:, k]) for k in (slice(6), slice(6, 12))]
    assert np.isclose(np.sort(np.mean(both, 0))[:5].mean(), f.near(maps[30:31]).item(), atol=1e-6)

def test_a_copy_beside_its_photo_makes_nothing_nearer(maps):
    x = rows(maps)
    alone, twice = Familiar(x, range(40)), Familiar(x.repeat(2, 1), [*range(40)]*2)
    assert twice.limit <= alone.limit and twice.limit > .5*alone.limit
    assert Familiar(x.repeat(6, 1), range(240)).limit < 1e-5  # each seems to be its own neighbour

def test_the_body_vouches_for_its_own_classes_alone(maps):
    weight = torch.zeros(1000, 6)
    weight[7, 0] = weight[8, 1] = 1  # class 7 sees the first map, another one the second
    f = Familiar(rows(maps), range(40), True, (weight, torch.zeros(1000)), [7])
    far = torch.zeros(2, 6, 3, 3)
    far[0, 0], far[1, 1] = 9, 9
    plain = Familiar(rows(maps), range(40)).near(far)
    assert (plain > f.limit).all() and f(far).tolist() == [True, False] and f.near(far)[1] == plain[1]

def test_who_cannot_know_says_so(tmp_path):
    draw_bears(tmp_path/'few', n=9, size=32)
    learn = photo_learner(photo_dls(tmp_path/'few', 32, num_workers=0), 'squeezenet1_0', False)
    with pytest.raises(BearclfError, match='takes 10 different photos'): Familiar.of(learn)
    net = nn.ModuleList([nn.Linear(1, 1)])
    with pytest.raises(BearclfError, match='of body and head'): Familiar.of(Learner(learn.dls, net, nn.MSELoss()))

ODD = [Image.new('RGB', (160, 120), o) for o in ('white', 'black', 'gray', 'saddlebrown')] + [
    Image.effect_noise((160, 120), 90).convert('RGB'), Image.linear_gradient('L').convert('RGB')]

@pytest.fixture(scope='module')
def of_drawings():
    learn = precomputed_learner(drawn_path(60, 128), 'efficientnet_lite0')
    learn.familiar = Familiar.of(learn)
    return Classifier(learn, {})

def test_blank_pictures_and_noise_are_not_named(of_drawings):
    assert not any(o.familiar for o in of_drawings.many(ODD))
    assert sum(o.familiar for o in of_drawings.many([draw_bear('teddy', i, size=128) for i in range(20)])) >= 17

def test_drawings_alone_know_no_real_bear(of_drawings, shared):
    assert not any(o.familiar for o in of_drawings.many(find_photos(shared/'bears_unseen')[::25]))

def auc(true, strange):
    from sklearn.metrics import roc_auc_score
    return roc_auc_score([0]*len(true) + [1]*len(strange), [*true, *strange])

@pytest.mark.exhaustive
@pytest.mark.parametrize('subject', ['bears', 'plants'])  # ImageNet knows none of the five plants
@pytest.mark.parametrize('arch, near, far', [('squeezenet1_0', .95, .97), ('efficientnet_lite0', .98, .98)])
def test_real_strangers(shared, monkeypatch, arch, near, far, subject):
    monkeypatch.setenv('TORCH_HOME', str(shared/'torch'))
    learn = precomputed_learner(shared/subject, arch)
    familiar, others = Familiar.of(learn), find_photos(shared/'others')
    sets = find_photos(shared/f'{subject}_unseen'), *([o for o in others if class_of(o) == k] for k in
                                                      ('mammals', 'objects'))
    true, mammals, objects = (familiar.near(torch.tensor(photo_features(o, learn)(o))) for o in sets)
    assert auc(true, mammals) >= near and auc(true, objects) >= far and (true <= familiar.limit).float().mean() >= .93
    elephant = next(i for i, o in enumerate(sets[1]) if 'elephant' in o.name)
    assert mammals[elephant] > familiar.limit
