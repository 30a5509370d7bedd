"Features computed once: what is kept, what costs again, and what comes out"
import builtins, errno, shutil

import numpy as np
import pytest

from helpers import script
from bearclf.core import BearclfError
from bearclf.folder.look import class_of
from bearclf.folder.look import *
from bearclf.train.data import *
from bearclf.practice.drawn import draw_bear, draw_bears
from bearclf.ship.export import export_classifier
from bearclf.train.features import *
from bearclf.train.bodies import ClassRows, class_rows, own_classifier
from bearclf.train.features import FeatureStore, fit_linear
from bearclf.train.learner import *
from fastai.vision.all import Normalize, Resize, imagenet_stats, nn, tensor, torch


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    return tmp_path/'cache'


@pytest.fixture
def bears(tmp_path):
    draw_bears(tmp_path/'bears', n=24, size=64, truncated=2, not_images=1)
    return tmp_path/'bears'


def fit(path, arch='squeezenet1_0', **kwargs):
    return precomputed_learner(path, arch, **(dict(size=64, views=2, pretrained=False, num_workers=0)
                                              | kwargs))


@pytest.fixture
def looks(monkeypatch):
    "How many views the body is shown"
    seen = []
    old = FeatureStore.add
    monkeypatch.setattr(FeatureStore, 'add', lambda self, names, rows: (seen.extend(names), old(self, names, rows)))
    return seen


def same_model(a, b):
    return all(p.equal(q) for p, q in zip(a.model.state_dict().values(), b.model.state_dict().values()))


def near_model(a, b):
    "The same but for rounding: a row that is computed in another batch differs in its last digits"
    return all(p.float().allclose(q.float(), atol=1e-3) for p,
               q in zip(a.model.state_dict().values(), b.model.state_dict().values()))


def test_only_what_is_new_costs(bears, cache, looks, capsys):
    first = fit(bears)
    assert len(looks) == 22*2 and '3 files left out' in capsys.readouterr().out
    looks.clear()
    assert same_model(first, fit(bears)) and looks == []
    photos = find_photos(bears)
    photos[0].rename(bears/'teddy/renamed.jpg')
    photos[1].unlink()
    draw_bear('teddy', 'changed', 64).save(photos[2])
    draw_bear('black', 'added', 64).save(bears/'black/added.png')
    fit(bears)
    assert len(looks) == 2*2
    looks.clear()
    shutil.rmtree(bears/'grizzly')
    assert list(fit(bears).dls.vocab) == ['black', 'teddy'] and looks == []
    fit(bears, size=96)
    assert len(looks) == 2*len(find_photos(bears))


def test_rows_of_another_body_are_not_taken(bears, cache, looks):
    fit(bears, arch='squeezenet1_0')
    n = len(list((cache/'features').iterdir()))
    fit(bears, arch='squeezenet1_1')
    assert len(list((cache/'features').iterdir())) == n + 1


def test_damaged_rows_are_computed_again(bears, cache, looks, capsys):
    first = fit(bears)
    looks.clear(); capsys.readouterr()
    store = next(o for o in (cache/'features').iterdir() if o.is_dir())
    data = bytearray((store/'rows.f32').read_bytes())
    data[5] ^= 255
    data[-5] ^= 255
    (store/'rows.f32').write_bytes(data)
    assert near_model(first, fit(bears))
    assert len(looks) == 2 and '2 cached features are damaged' in capsys.readouterr().out


@pytest.mark.parametrize('file', ['rows.f32', 'names.bin'])
def test_a_killed_run_leaves_whole_rows(file, bears, cache, looks):
    first = fit(bears)
    looks.clear()
    store = next(o for o in (cache/'features').iterdir() if o.is_dir())
    with open(store/file, 'r+b') as f: f.truncate(f.seek(0, 2) - 10)
    second = fit(bears)
    assert near_model(first, second) and len(looks) == 1
    looks.clear()
    assert same_model(second, fit(bears)) and looks == []


def test_a_full_disk_costs_the_cache_only(bears, cache, monkeypatch, capsys):
    wanted = fit(bears)
    shutil.rmtree(cache/'features')
    old = builtins.open
    def full(file, mode='r', *args, **kw):
        f = old(file, mode, *args, **kw)
        if str(file).endswith('names.bin') and 'a' in mode:
            f.close(); raise OSError(errno.ENOSPC, 'No space left on device')
        return f
    with monkeypatch.context() as m:
        m.setattr(builtins, 'open', full)
        learn = fit(bears)
    assert same_model(wanted, learn)
    assert capsys.readouterr().out.count('cannot be kept on disk (No space left on device)') == 1
    assert same_model(wanted, fit(bears))


def test_body_stays_and_learner_goes_on(bears, cache):
    learn = photo_learner(photo_dls(bears, 64, num_workers=0), 'squeezenet1_0', pretrained=False)
    body = {k: v.clone() for k, v in learn.model[0].state_dict().items()}
    head = {k: v.clone() for k, v in learn.model[1].state_dict().items()}
    assert fit_head(learn) is learn
    assert all(v.equal(body[k]) for k, v in learn.model[0].state_dict().items())
    assert learn.model[1].state_dict().keys() != head.keys()
    with learn.no_bar(), learn.no_logging(): learn.fine_tune(1)
    assert not all(v.equal(body[k]) for k, v in learn.model[0].state_dict().items())


def test_your_own_datablock(bears, cache, looks):
    block = photo_block(item_tfms=Resize(48, method='squish'), batch_tfms=Normalize.from_stats(*imagenet_stats))
    fit_head(photo_learner(block.dataloaders(bears, bs=8, num_workers=0), 'squeezenet1_0', pretrained=False))
    assert len(looks) == 22


def test_features_are_what_the_model_sees(bears, cache):
    "The rows for the plain view and the whole model from the pixels on lead to the same probabilities"
    learn = fit(bears)
    files = find_photos(bears)
    rows = photo_features(files, learn, 1).averages(files)
    with torch.no_grad(): ours = learn.model[1][2](rows).softmax(1)
    with learn.no_bar(), learn.no_logging(): theirs, _ = learn.get_preds(dl=learn.dls.test_dl(files, num_workers=0))
    assert (ours - theirs).abs().max() < 1e-4


def test_exported_it_answers_the_same_in_a_new_process(child, bears, cache, tmp_path):
    learn = fit(bears)
    photo = find_photos(bears)[0]
    with learn.no_bar(): _, _, probs = learn.predict(photo)
    pkl = export_classifier(learn, tmp_path/'model')
    code = (f'from bearclf.ship.predict import load_classifier; clf = load_classifier({str(pkl)!r}, trust=True); '
            f'p = clf({str(photo)!r}); print([p.probabilities[o] for o in {list(learn.dls.vocab)!r}])')
    out = child(script, code).finish().stdout
    assert np.abs(np.array(eval(out)) - probs.numpy()).max() < 1e-4


def test_learning_curve_falls(fresh_folder, cache):
    learn = photo_learner(photo_dls(fresh_folder, 64, num_workers=0), pretrained=False)
    curve = learning_curve(learn, find_photos(fresh_folder), sizes=[6, 200], seeds=3)
    means = curve.groupby('photos').error_rate.mean()
    assert list(means.index) == [6, 200] and means[200] < means[6] and len(curve) == 6


def test_real_bears(shared, cache, monkeypatch, looks):
    "The student's photos: as good as fine_tune(4) on photos it never saw, in a fraction of its time"
    monkeypatch.setenv('TORCH_HOME', str(shared/'torch'))
    learn = precomputed_learner(shared/'bears', 'squeezenet1_0', num_workers=0)
    assert len(looks) == 161  # two of the 162 are the same file
    unseen = find_photos(shared/'bears_unseen')
    with learn.no_bar(), learn.no_logging(): probs, _ = learn.get_preds(dl=learn.dls.test_dl(unseen, num_workers=0))
    wrong = sum(learn.dls.vocab[int(i)] != class_of(o) for i, o in zip(probs.argmax(1), unseen))
    assert wrong/len(unseen) < .06, wrong


def test_the_head_is_where_its_loss_is_least():
    "scikit-learn, which minimises the same, comes to the same weights"
    from sklearn.linear_model import LogisticRegression
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2000, 5)), rng.integers(0, 3, 2000)
    x[np.arange(2000), y] += 1
    x /= x.std(0)
    zero = ClassRows(torch.zeros(3, 5), torch.zeros(3), {})
    ours = fit_linear(tensor(x), tensor(y), nn.functional.cross_entropy, zero, .01)
    theirs = LogisticRegression(C=1/(2*.01*2000), tol=1e-8, max_iter=1000).fit(x, y)
    with torch.no_grad(): probs = ours(tensor(x).float()).softmax(1).numpy()
    assert np.abs(probs - theirs.predict_proba(x)).max() < .01


def test_a_pull_without_end_leaves_the_head_where_it_starts():
    x, y = torch.randn(30, 8), torch.arange(30) % 3
    start = ClassRows(torch.randn(3, 8), torch.randn(3), {})
    fit = fit_linear(x, y, nn.functional.cross_entropy, start, 1e6)
    assert fit.weight.allclose(start.weight, atol=1e-3) and fit.bias.allclose(start.bias, atol=1e-3)


def test_no_photo_and_the_body_knows_the_classes(bears, cache, monkeypatch):
    "The rows of the whole network's last layer and the whole network say the same"
    from bearclf.train.bodies import efficientnet_lite0
    learn = precomputed_learner(bears, 'efficientnet_lite0', start='imagenet', pull=1e6, num_workers=0)
    x, whole = learn.dls.valid.one_batch()[0], efficientnet_lite0(pretrained=True).eval()
    with torch.no_grad(): theirs, ours = whole(x)[:, [295, 294, 850]], learn.model.eval()(x)
    assert (theirs.softmax(1) - ours.softmax(1)).abs().max() < 1e-3
    own = own_classifier('efficientnet_lite0')
    assert all(o.equal(p) for o, p in zip(own, whole.classifier.parameters()))


def test_classes_that_no_network_knows_start_from_zero(bears, cache, capsys):
    for old, new in dict(black='кот', grizzly='заяц', teddy='корова').items(): (bears/old).rename(bears/new)
    learn = precomputed_learner(bears, 'efficientnet_lite0', start='imagenet', like={'кот': 'tabby'}, num_workers=0)
    said = capsys.readouterr().out
    assert 'кот (as tabby)' in said and "like={'заяц'" in said
    assert list(learn.dls.vocab) == ['заяц', 'корова', 'кот']
    rows = class_rows(learn.dls.vocab, like={'кот': 'tabby'})
    assert rows.weight[:2].eq(0).all() and rows.weight[2].abs().max() > 0


@pytest.mark.parametrize('kwargs, says', [
    (dict(arch='squeezenet1_0'), 'Take efficientnet_lite0 or a resnet'),
    (dict(start='imagenette'), "'imagenet' or None"), (dict(like={'black': 'sorel'}), 'Perhaps sorrel'),
    (dict(pretrained=False), 'needs pretrained=True')])
def test_what_cannot_start_is_said(bears, cache, kwargs, says):
    kwargs = dict(arch='efficientnet_lite0', start='imagenet', pretrained=True) | kwargs
    with pytest.raises(BearclfError, match=says): fit(bears, **kwargs)


@pytest.mark.parametrize('arch', ['resnet18', 'mobilenet_v2', 'efficientnet_b0', 'resnet10t'])
def test_rows_of_other_networks(arch, monkeypatch):
    "Torchvision's and timm's own, here with the weights of nobody"
    from bearclf.train import bodies
    torch.manual_seed(1)
    made = bodies._whole(bodies.find_arch(arch), False).eval()
    monkeypatch.setattr(bodies, '_whole', lambda arch, pretrained: made)
    own_classifier.cache_clear()
    assert own_classifier(arch)[0].shape[0] == 1000
    own_classifier.cache_clear()


@pytest.mark.parametrize('arch', ['vgg11', 'mobilenet_v3_small', 'densenet121', 'alexnet'])
def test_networks_that_end_otherwise(arch):
    with pytest.raises(BearclfError, match='sees more than averages'): own_classifier(arch)
