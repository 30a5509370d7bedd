"Reading a training and its photos: labels and splits of all kinds, and what is said about a run"
import random, re, shutil, warnings

import pytest
from PIL import Image

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # fastai's import says that torch.jit.script is deprecated
    from fastai.vision.all import (Callback, CategoryBlock, CrossEntropyLossFlat, BCEWithLogitsLossFlat, FuncSplitter,
                                   GrandparentSplitter,
        ImageBlock, Learner, MultiCategoryBlock, RandomSplitter, RegressionBlock, Resize, Tensor, TfmdDL,
        delegates, error_rate,
        hook_output, nn, noop, np, parent_label, set_seed, torch)
from bearclf.core import BearclfError
from bearclf.folder.look import class_of
from bearclf.folder.look import check_folder, find_photos
from bearclf.train.data import PhotoBlock, labels_from_names, photo_block, photo_dls
from bearclf.ship.export import export_classifier
from bearclf.train.interpret import (_last_training, grad_cam, interpret, precision_recall, predictions_table,
    show_cam, show_predictions, what_looks_wrong)
from bearclf.ship.predict import load_classifier
from bearclf.train.features import precomputed_learner
from bearclf.train.learner import photo_learner

colours = {'red': (200, 40, 40), 'green': (40, 200, 40), 'blue': (40, 40, 200)}


def paint(file, colour, seed):
    "A picture of 16 pixels of one colour, with noise"
    rng = random.Random(seed)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (16, 16), tuple(o + rng.randint(-30, 30) for o in colour)).save(file)


@pytest.fixture(scope='module')
def top(tmp_path_factory):
    "Class folders with 40 pictures each"
    path = tmp_path_factory.mktemp('colours')/'colours'
    for name, colour in colours.items():
        for i in range(40): paint(path/name/f'{name}_{i}.png', colour, i)
    return path


@pytest.fixture
def loose(tmp_path):
    "The label in the name, and no folders"
    for name, colour in colours.items():
        for i in range(10): paint(tmp_path/'loose'/f'{name}_{i}.png', colour, i)
    return tmp_path/'loose'


def divided(path, *names, classes=True):
    "A folder with a folder of each of `names`, with class folders in it or without"
    for folder in names:
        for name, colour in colours.items():
            for i in range(6): paint(path/folder/(name if classes else '')/f'{name}_{folder}{i}.png', colour, i)
    return path


by_name = labels_from_names(r'^([a-z]+)_')
def dls_of(path, **kw):
    return photo_dls(path, **(dict(size=16, bs=8, num_workers=0, batch_tfms=[], item_tfms=Resize(16)) | kw))
def said(f, *args, **kw):
    with pytest.raises(BearclfError) as e: f(*args, **kw)
    return str(e.value)


# Labels

def test_loose_photos_with_labels_of_their_own(loose):
    dls = dls_of(loose, get_y=by_name)
    assert list(dls.vocab) == ['blue', 'green', 'red'] and len(dls.train_ds) + len(dls.valid_ds) == 30
    assert [dls.vocab[y] for _, y in dls.valid_ds] == [by_name(o) for o in dls.valid_ds.items]
    assert len(photo_block(get_y=by_name).datasets(loose).items) == len(find_photos(loose, by_name)) == 30


@pytest.mark.parametrize('kw', [{}, {'get_y': class_of}, {'get_y': parent_label}])
def test_loose_photos_have_no_class_by_folder(loose, kw):
    words = 'lie loose. Put them into folders, one for each class, or give the folder above.'
    assert words in said(dls_of, loose, **kw)


def test_the_report_counts_the_labels(loose):
    (loose/'red_note.txt').write_text('no photo')
    report = check_folder(loose, by_name)
    assert report.counts == {'blue': 10, 'green': 10, 'red': 10}
    assert '30 photos of 3 classes' in str(report) and report.left_out == {loose/'red_note.txt': 'a text, not an image'}
    assert str(check_folder(loose).counts) == '{}' and len(check_folder(loose).left_out) == 30


def test_a_name_that_the_pattern_does_not_fit(loose):
    (loose/'red_1.png').rename(loose/'17.png')
    assert 'finds no label in the name 17.png' in said(dls_of, loose, get_y=by_name)
    assert 'get_y finds no label for 17.png: list' in said(dls_of, loose, get_y=lambda o: o.stem.split('_')[1])


def test_a_pattern_that_fits_too_much_or_too_little(loose):
    assert 'has only one photo' in said(dls_of, loose, get_y=lambda o: o.stem)
    assert 'only one class' in said(dls_of, loose, get_y=lambda o: 'bear')


def test_labels_that_are_no_classes(loose):
    "Numbers and several labels are the DataBlock's own affair; nothing is counted, and nothing refused"
    dls = dls_of(loose, blocks=(PhotoBlock, RegressionBlock), get_y=lambda o: float(o.stem.split('_')[1]))
    assert dls.one_batch()[1].dtype is torch.float32
    dls = dls_of(loose, blocks=(PhotoBlock, MultiCategoryBlock), get_y=lambda o: [by_name(o), 'small'])
    assert list(dls.vocab) == ['blue', 'green', 'red', 'small']
    assert len(dls_of(loose, get_items=lambda p: find_photos(p, by_name)[:20], get_y=[by_name]).vocab) == 2


def test_a_rare_label_may_fall_among_the_validation_photos(loose):
    "The classes are those of all photos, not only of those to learn from"
    both = [o for o in find_photos(loose, by_name) if by_name(o) == 'red']
    dls = dls_of(loose, get_y=by_name, splitter=FuncSplitter(lambda o: o in both))
    assert list(dls.vocab) == ['blue', 'green', 'red'] and {dls.vocab[y] for _, y in dls.valid_ds} == {'red'}


def test_a_model_with_labels_from_names_can_be_exported(loose, tmp_path):
    learn = photo_learner(dls_of(loose, size=64, item_tfms=Resize(64), get_y=by_name), 'squeezenet1_0',
                          pretrained=False)
    export_classifier(learn, tmp_path/'model')
    assert load_classifier(tmp_path/'model').classes == ['blue', 'green', 'red']


# Folders that are divided

def test_divided_with_class_folders(tmp_path):
    path = divided(tmp_path/'d', 'train', 'valid')
    assert 'splitter=GrandparentSplitter())' in said(dls_of, path)
    dls = dls_of(path, splitter=GrandparentSplitter())
    assert list(dls.vocab) == ['blue', 'green', 'red'] and {o.parts[-3] for o in dls.valid_ds.items} == {'valid'}
    assert len(dls_of(path, splitter=RandomSplitter(seed=1)).train_ds) == 29


def test_divided_beside_photos_without_labels(tmp_path):
    "The layout of a competition: `test1` says nothing of its photos, and `sample` holds some once more"
    path = divided(tmp_path/'d', 'train', 'valid')
    (path/'test1').mkdir()
    for i, o in enumerate(sorted(path.glob('valid/*/*'))[:3]): shutil.copy(o, path/f'test1/{i}.jpg')
    shutil.copytree(path/'valid', path/'sample/valid')
    assert 'splitter=GrandparentSplitter())' in said(dls_of, path)
    dls = dls_of(path, splitter=GrandparentSplitter())
    assert {o.relative_to(path).parts[0] for o in dls.train_ds.items} == {'train'}
    assert {o.relative_to(path).parts[0] for o in dls.valid_ds.items} == {'valid'}


def test_divided_under_other_names(tmp_path):
    path = divided(tmp_path/'d', 'Train', 'val')
    assert "GrandparentSplitter(train_name='Train', valid_name='val')" in said(dls_of, path)
    assert 'none of the 36 photos to learn from' in said(dls_of, path, splitter=GrandparentSplitter(valid_name='val'))
    assert 'none of the 36 photos to judge by' in said(dls_of, path, splitter=GrandparentSplitter(train_name='Train'))


def test_divided_without_class_folders(tmp_path):
    path = divided(tmp_path/'d', 'train', 'test', classes=False)
    text = said(dls_of, path)
    assert 'without class folders' in text and "FuncSplitter(lambda o: o.parent.name == 'test')" in text
    assert 'without class folders' in said(dls_of, path, splitter=RandomSplitter())
    assert 'to keep it so' in said(dls_of, path, get_y=by_name)
    dls = dls_of(path, get_y=by_name, splitter=FuncSplitter(lambda o: o.parent.name == 'test'))
    assert list(dls.vocab) == ['blue', 'green', 'red'] and {o.parent.name for o in dls.train_ds.items} == {'train'}


@pytest.mark.parametrize('train, others, inner', [
    ('train', ['valid'], ''), ('training', ['testing'], ''), ('Train', ['Val', 'Test'], ''), ('TRAIN', ['dev'], ''),
    ('data/train', ['data/validation'], ''), ('training_set/training_set', ['test_set/test_set'], ''),
    ('train/images', ['valid/images'], ''), ('train', ['valid'], '/2024'), ('d/train', ['d/dev', 'd/test'], '')])
def test_what_is_suggested_keeps_the_parts_apart(tmp_path, train, others, inner):
    "The sentence can be copied; with it, nothing of the other parts is trained on"
    for k, part in enumerate([train, *others]):
        for name in 'red', 'green':
            for i in range(4): paint(tmp_path/'d'/f'{part}/{name}{inner}/{k}{i}.png', colours[name], i + 10*k)
    path = tmp_path/'d'
    text = said(dls_of, path)
    splitter = eval(re.search(r'splitter=(.*?)\) to keep it so', text)[1], {**globals(), 'path': path})
    dls = dls_of(path, splitter=splitter)
    assert {o.relative_to(path).as_posix().startswith(f'{train}/') for o in dls.train_ds.items} == {True}
    assert len(dls.train_ds) == 8 and len(dls.valid_ds) >= 8 and list(dls.vocab) == ['green', 'red']
    assert not {o.relative_to(path).as_posix().startswith(f'{train}/') for o in dls.valid_ds.items} - {False}


def test_photos_to_test_by_that_have_no_labels(tmp_path):
    path = divided(tmp_path/'d', 'train')
    for i in range(4): paint(path/'test'/f'{i}.png', (9, 9, 9), i)
    text = said(dls_of, path)
    assert 'only the first holds class folders' in text and str(path/'train') in text
    assert list(dls_of(path/'train').vocab) == ['blue', 'green', 'red']


@pytest.mark.parametrize('seed', range(4))
def test_a_class_that_is_on_one_side_only_is_told(tmp_path, capsys, seed):
    for name, n in dict(red=40, green=40, blue=2).items():
        for i in range(n): paint(tmp_path/'d'/name/f'{i}.png', colours[name], i)
    dls = dls_of(tmp_path/'d', seed=seed)
    sides = [{dls.vocab[y] for _, y in ds} for ds in (dls.train_ds, dls.valid_ds)]
    text = capsys.readouterr().out
    for side, use in zip(sides, ('to learn from', 'to judge by')):
        assert (f'no photo {use} of blue. Add photos, or take another seed.' in text) == ('blue' not in side)


def test_a_class_may_be_called_train(tmp_path):
    for name in 'train', 'plane':
        for i in range(10): paint(tmp_path/'d'/name/f'{i}.png', colours['red'], i)
    assert list(dls_of(tmp_path/'d').vocab) == ['plane', 'train']


# Keywords

@pytest.mark.parametrize('wrong,right', [('sise', 'size'), ('val_pct', 'valid_pct'), ('item_tfm', 'item_tfms'),
                                         ('num_worker', 'num_workers'),
                                         ('splliter', 'splitter'), ('val_num_worker', 'val_num_workers')])
def test_a_misspelt_keyword(top, wrong, right):
    assert said(photo_dls, top, **{wrong: 64}) == f'There is no keyword {wrong!r}. Did you mean {right}?'


def test_a_keyword_like_no_other(top): assert 'help(photo_dls)' in said(photo_dls, top, zebra=1)


@pytest.mark.parametrize('kw', [
    {'val_bs': 4}, {'shuffle': False}, {'drop_last': False}, {'device': 'cpu'}, {'verbose': False}, {'n': 16},
    {'pin_memory': False},
    {'val_shuffle': True}, {'dl_kwargs': [{}, {}]}, {'after_iter': noop}, {'persistent_workers': False}, {'timeout': 0},
    {'val_drop_last': True}, {'n_inp': 1}, {'dl_type': TfmdDL}, {'get_x': noop}, {'before_batch': noop}, {'wif': noop},
    {'splitter': RandomSplitter()}, {'blocks': (ImageBlock, CategoryBlock)}, {'path': None}],
    ids=lambda o: next(iter(o)))
def test_a_real_keyword_passes(top, kw):
    kw.pop('path', None)
    assert len(dls_of(top, **kw).one_batch()) == 2


@pytest.mark.parametrize('declared', [delegates(TfmdDL.__init__), noop], ids=['delegates', 'kwargs'])
def test_a_loader_of_ones_own_has_its_own_keywords(top, declared):
    dls_of(top)  # fastai's own signatures keep the keywords of the first loader of a process
    class Named(TfmdDL):
        @declared
        def __init__(self, dataset, nickname=None, **kwargs):
            super().__init__(dataset, **kwargs); self.nickname = nickname
    assert dls_of(top, dl_type=Named, nickname='Bo').train.nickname == 'Bo'


# What looks wrong

def tiny(dls):
    set_seed(1)
    model = nn.Sequential(nn.Sequential(nn.AdaptiveAvgPool2d(2)), nn.Sequential(nn.Flatten(), nn.Linear(12, 3)))
    return Learner(dls, model, loss_func=CrossEntropyLossFlat(), metrics=error_rate, cbs=[])


def trained(learn, epochs=4, lr=.05):
    with learn.no_bar(), learn.no_logging(): learn.fit(epochs, lr)
    return learn


@pytest.fixture
def learn(top): return tiny(dls_of(top, valid_pct=.3))


def test_a_healthy_run(learn): assert what_looks_wrong(trained(learn), suggested_lr=.02) == []


def test_a_healthy_model_without_a_history(fresh_folder):
    learn = precomputed_learner(fresh_folder, 'efficientnet_lite0')
    assert what_looks_wrong(learn) == [] and not _last_training(learn).losses


def test_nan(learn):
    text, = what_looks_wrong(trained(learn, 1, 1e30))
    assert 'not a number' in text and 'tenth of the learning rate' in text


def test_nan_without_a_recorder(learn):
    with torch.no_grad(): learn.model[1][1].weight.fill_(float('nan'))
    assert 'not a number' in what_looks_wrong(learn)[0]


def test_a_loss_that_stands_still(learn):
    with torch.no_grad(): learn.model[1][1].weight.zero_()
    assert [o for o in what_looks_wrong(trained(learn, 4, 1e-9)) if 'did not fall' in o and 'lr_find' in o]


@pytest.fixture
def noise(tmp_path):
    "A learner of pictures that have nothing to learn but their pixels"
    for i in range(150):
        file = tmp_path/'d'/'ab'[i%2]/f'{i}.png'
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.frombytes('RGB', (16, 16), random.Random(i).randbytes(768)).save(file)
    dls = dls_of(tmp_path/'d', valid_pct=.5)
    set_seed(1)
    return Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(768, 2)), loss_func=CrossEntropyLossFlat())


def test_a_loss_that_rises(noise): assert [o for o in what_looks_wrong(trained(noise, 2, 10.)) if 'loss rose' in o]


def test_a_good_loss_may_stand_still(learn):
    trained(learn, 8)
    assert what_looks_wrong(trained(learn, 4, 1e-9)) == []


def test_one_class_for_everything(learn):
    with torch.no_grad(): learn.model[1][1].bias[0] = 1e3
    text, = [o for o in what_looks_wrong(learn) if 'are called' in o]
    assert ' validation photos are called blue (100.0%), and only ' in text and 'train longer' in text


def test_no_picture_says_that_a_model_is_certain(learn):
    from matplotlib import pyplot as plt
    with torch.no_grad(): learn.model[1][1].bias[0] = 1e3
    interp = interpret(learn)
    assert predictions_table(interp).probability.max() == 1
    for which in 'most correct', 'most incorrect':
        show_predictions(interp, which)
        titles = [ax.get_title() for ax in plt.gcf().axes if ax.get_title()]
        assert titles and all(o.startswith('blue >99.9%') for o in titles)
    cam = show_cam(learn, learn.dls.valid_ds.items[0]), show_cam(learn, learn.dls.valid_ds.items[0], 'red')
    assert [o.get_title() for o in cam] == ['blue >99.9%', 'red <0.1%']
    plt.close('all')


def test_of_photos_that_were_learned_from_nothing_is_said(learn):
    with pytest.raises(BearclfError, match='any model looks good'): what_looks_wrong(learn, interp=interpret(learn, 0))


def test_one_class_because_there_are_so_many_of_it(tmp_path):
    for name, n in {'red': 190, 'green': 5, 'blue': 5}.items():
        for i in range(n): paint(tmp_path/'d'/name/f'{i}.png', colours[name], i)
    learn = tiny(dls_of(tmp_path/'d', valid_pct=.5))
    with torch.no_grad(): learn.model[1][1].bias[2] = 1e3
    assert [o for o in what_looks_wrong(learn) if 'too rare' in o]


def test_learning_by_heart_what_has_no_sense(noise):
    text, = [o for o in what_looks_wrong(trained(noise, 6, 3e-3)) if 'by heart' in o]
    assert text.startswith('Since epoch') and 'whether the labels fit' in text and 'fewer epochs' not in text


@pytest.fixture
def faint(tmp_path):
    "A learner of pictures in which one can see what they are, but a quarter of their labels is wrong"
    for i in range(200):
        file, noise = tmp_path/'d'/'ab'[i%8 in (0, 3, 5, 7)]/f'{i}.png', random.Random(i).randbytes(768)
        file.parent.mkdir(parents=True, exist_ok=True)
        seen = bytes(o//2 + 90*(i%2) for o in noise[:60]) + noise[60:]
        Image.frombytes('RGB', (16, 16), seen).save(file)
    dls = dls_of(tmp_path/'d', valid_pct=.5)
    set_seed(1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(768, 64), nn.ReLU(), nn.Linear(64, 2))
    return Learner(dls, model, loss_func=CrossEntropyLossFlat(), metrics=error_rate)


def test_learning_by_heart(faint):
    text, = [o for o in what_looks_wrong(trained(faint, 14, 3e-3)) if 'by heart' in o]
    assert text.startswith('Since epoch') and 'aug_transforms(mult=2)' in text and 'a guess' not in text


def test_too_few_to_judge_by(top):
    text, = [o for o in what_looks_wrong(trained(tiny(dls_of(top, valid_pct=.05)))) if ' of 6 validation photos' in o]
    assert ' are wrong by their labels (' in text and '95% interval' in text and 'true' not in text


def test_a_far_learning_rate(learn):
    trained(learn, 4, .05)
    far = lambda lr: [o for o in what_looks_wrong(learn, lr) if 'lr_find suggests' in o]
    assert '100 times as high' in far(5e-4)[0] and '100 times as low' in far(5.)[0]
    assert far(.01) == far(.4) == far(None) == []
    assert len(far((5e-4,))) == 1  # as lr_find gives it


def test_the_losses_outlive_a_look_at_the_photos(learn):
    trained(learn, 3)
    losses = list(learn.recorder.losses)
    interp = interpret(learn)
    predictions_table(interp); what_looks_wrong(learn)
    assert losses and list(learn.recorder.losses) == losses
    with learn.no_bar(): interp.confusion_matrix()
    assert not learn.recorder.losses and len(interp.run.losses) == len(losses)
    assert 'lr_find suggests' in what_looks_wrong(learn, 1e-9, interp)[0] and what_looks_wrong(learn, 1e-9) == []


def test_after_lr_find_nothing_is_said_of_losses(learn):
    with learn.no_bar(): learn.lr_find(show_plot=False)
    assert not _last_training(learn).losses


def test_the_losses_of_the_batches(learn):
    seen = []
    class Keep(Callback):
        def after_batch(self): seen.append(self.loss.item()) if self.training else None
    with learn.no_bar(), learn.no_logging(): learn.fit(2, .05, cbs=Keep())
    assert _last_training(learn).losses == pytest.approx(seen, abs=1e-3)


# Tables and pictures

def test_several_labels_have_no_such_table(loose):
    dls = dls_of(loose, blocks=(PhotoBlock, MultiCategoryBlock), get_y=lambda o: [by_name(o)])
    learn = Learner(dls, nn.Sequential(nn.Flatten(), nn.Linear(768, 3)), loss_func=BCEWithLogitsLossFlat())
    assert 'one label for each photo' in said(predictions_table, interpret(learn))


def test_a_class_that_is_never_named(learn):
    with torch.no_grad(): learn.model[1][1].bias[0] = 1e3
    t = precision_recall(interpret(learn))
    assert t.precision.isna().tolist() == [False, True, True] and t.recall.tolist() == [1, 0, 0]
    assert t['f1-score'].tolist()[1:] == [0, 0]


def test_pictures_of_none(learn, capsys):
    show_predictions(interpret(trained(learn, 6)), 'most incorrect')
    assert 'no photos here that are incorrect' in capsys.readouterr().out


# Where the model looked

def hooks(learn):
    return [o for o in learn.model.modules() if o._forward_hooks or o._backward_hooks or o._forward_pre_hooks]


@pytest.mark.parametrize('arch', ['resnet18', 'squeezenet1_0', 'vgg11', 'densenet121', 'mobilenet_v3_small',
                                  'efficientnet_b0', 'convnext_tiny', 'swin_t', 'mobilenet_v2', 'shufflenet_v2_x0_5'])
def test_any_arch(top, arch):
    learn = photo_learner(dls_of(top, size=64, item_tfms=Resize(64)), arch, pretrained=False)
    cam = grad_cam(learn, next(iter(learn.dls.valid_ds.items)), 'red')
    assert cam.ndim == 2 and cam.min() >= 0 and torch.isfinite(cam).all() and not hooks(learn)


@pytest.mark.parametrize('arch', ['vit_b_32', 'googlenet', 'inception_v3', 'maxvit_t'])
def test_an_arch_without_body_and_head(top, arch):
    with pytest.raises(BearclfError, match=f'{arch} is no network that can be cut .* such as resnet18'):
        photo_learner(dls_of(top, size=64, item_tfms=Resize(64)), arch)


def test_grad_cam_is_cam_where_the_last_layer_follows_the_pooling(top):
    learn = tiny(dls_of(top))
    learn.model = nn.Sequential(nn.Conv2d(3, 8, 3),
                                nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)))
    file = learn.dls.valid_ds.items[0]
    with hook_output(learn.model[0]) as hook, torch.no_grad():
        learn.model.eval()(learn.dls.test_dl([file]).one_batch()[0])
    by_hand = torch.einsum('k,kij->ij', learn.model[1][2].weight[1].data,
                           hook.stored[0].as_subclass(Tensor)).relu()/14**2
    assert torch.allclose(grad_cam(learn, file, learn.dls.vocab[1]), by_hand, atol=1e-6)


def test_it_works_frozen_and_without_gradients(top):
    learn = photo_learner(dls_of(top, size=64, item_tfms=Resize(64)), 'resnet18', pretrained=False)
    learn.freeze()
    for o in learn.model.parameters(): o.requires_grad_(False)
    with torch.no_grad(): assert grad_cam(learn, learn.dls.valid_ds.items[0]).shape == (2, 2)
    assert not any(o.requires_grad for o in learn.model.parameters())


def test_an_error_leaves_the_learner_as_it_was(learn):
    learn.model.train()
    class Broken(nn.Module):
        def forward(self, x): raise RuntimeError('broken')
    learn.model[1].append(Broken())
    state = torch.get_rng_state(), random.getstate(), np.random.get_state()[1].tolist()
    with pytest.raises(RuntimeError, match='broken'): grad_cam(learn, learn.dls.valid_ds.items[0])
    assert not hooks(learn) and all(o.training for o in learn.model.modules())
    assert torch.equal(state[0], torch.get_rng_state())
    assert state[1:] == (random.getstate(), np.random.get_state()[1].tolist())
