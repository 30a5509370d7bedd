"Photos kept on the device: what is drawn for them, what they look like, what is refused, and what a model learns"
import math, pickle, warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter('ignore')  # fastai's import says that torch.jit.script is deprecated
    from fastai.vision.all import (AvgSmoothLoss, Brightness, Contrast, DataBlock, Dihedral, Flip, Image, ImageBlock,
                                   IntToFloatTensor, MaskBlock, Normalize, PILImage, RandomErasing, RandomResizedCrop,
                                   RandomSplitter, Resize, ResizeMethod, Rotate, SimpleNamespace, Tensor, TensorImage,
                                   Warp, Zoom, aug_transforms, error_rate, image2tensor, imagenet_stats, set_seed,
                                   setup_aug_tfms, tensor, torch)
from bearclf.practice.drawn import drawn_path
from bearclf.ship.export import export_classifier
from bearclf.ship.predict import load_classifier
from bearclf.train import resident
from bearclf.train.data import photo_dls
from bearclf.train.learner import TimeReport, photo_learner
from bearclf.train.resident import ResidentDL, LateLoss, boxes, late_loss

NORM = Normalize.from_stats(*imagenet_stats, cuda=False)


@pytest.fixture(scope='module')
def bears(): return drawn_path(n=200, size=64)


@pytest.fixture(scope='module')
def squeezed(bears):
    dl = kept_dls(bears, item_tfms=Resize(64, ResizeMethod.Squish)).train
    assert is_kept(dl)
    return dl


def kept_dls(path, size=64, bs=32, dl_type=ResidentDL, **kwargs):
    return photo_dls(path, size, bs, num_workers=0, dl_type=dl_type, **kwargs)


def is_kept(dl): return dl.one_batch() and getattr(dl.kept, 'x', None) is not None


# --- what is drawn

@pytest.mark.parametrize('w, h, kwargs', [(400, 300, dict(min_scale=.5)), (300, 400, dict(min_scale=.08)),
                                          (900, 200, dict(min_scale=.35)),
                                          (128, 128, dict(min_scale=.2, max_scale=.6))])
def test_crops_are_as_those_of_fastai(w, h, kwargs):
    set_seed(0)
    crop, im, n = RandomResizedCrop(64, **kwargs), PILImage(Image.new('RGB', (w, h))), 4000
    theirs = []
    for _ in range(n):
        crop.before_call(im, 0)
        theirs.append([*crop.tl, *crop.cp_size])
    ours = boxes(crop, *torch.full((2, n), 1.)*tensor([[w], [h]]))*tensor([w, h, w, h])
    assert (ours - ours.round()).abs().max() < 1e-3  # whole pixels
    left, top, cw, ch = ours.T
    assert min(left.min(), top.min()) >= 0 and (left + cw).max() <= w + .01 and (top + ch).max() <= h + .01
    def told(x):
        left, top, cw, ch = x.T
        return torch.stack([cw*ch/(w*h), (cw/ch).log(), left/w, top/h])
    ours, theirs = told(ours), told(tensor(theirs).float())
    for q in .05, .25, .5, .75, .95: assert (ours.quantile(q, 1) - theirs.quantile(q, 1)).abs().max() < .05


@pytest.mark.parametrize('tfms', [[Flip()], [Rotate(30, p=1.)], [Zoom(p=1.)], [Brightness(.4, p=1.)], [Dihedral()],
                                  [Contrast(.4, p=1.)], [Warp(p=1.)], [], aug_transforms(mult=2, max_lighting=.4)])
def test_a_kept_photo_is_turned_and_lit_as_by_fastai(squeezed, tfms):
    "With the same numbers; at the border fastai mirrors what was chosen, and not the photo, which here is the same"
    dl = squeezed.new(after_batch=[IntToFloatTensor(), *setup_aug_tfms(tfms), NORM])
    dl.before_iter()  # tells its transforms that it is for training
    assert dl.kept.x is squeezed.kept.x and len(resident._taken(dl.after_batch.fs)) == len(dl.after_batch.fs)
    idx = torch.arange(32)
    torch.manual_seed(1)
    ours, labels = next(dl._batches(idx))
    read = torch.stack([TensorImage(image2tensor(dl.dataset[int(i)][0].resize((64, 64)))) for i in idx])
    torch.manual_seed(1)
    theirs = dl.after_batch((read,))[0]
    assert labels.tolist() == [int(dl.dataset[int(i)][1]) for i in idx]
    off = (ours - theirs).as_subclass(Tensor).abs()[..., 16:48, 16:48]
    assert off.mean() < .02 and (off > .2).float().mean() < .01
    assert (ours.flip(0) - theirs).as_subclass(Tensor).abs().mean() > .2  # another photo is far off


def test_a_resize_crops_the_whole_height_or_width():
    left, top, w, h = boxes(Resize(64), tensor([400., 300.]*500), tensor([300., 400.]*500)).T
    assert (torch.where(w < h, w*400/300, h*400/300) - 1).abs().max() < .01 and torch.maximum(w, h).min() == 1
    assert 0 <= left.min() < .01 and .24 < left.max() <= .25


# --- in some DataLoaders

def test_those_that_judge_are_the_same_pixels(bears):
    ours, theirs = (kept_dls(bears, dl_type=o).valid for o in (ResidentDL, None))
    for _ in range(2):
        for (x, y), (x2, y2) in zip(ours, theirs, strict=True): assert (x - x2).abs().max() < 1e-6 and (y == y2).all()
    assert ours.kept.x.shape[0] == ours.n


def test_each_photo_is_decoded_once_and_seen_once_in_an_epoch(bears, monkeypatch):
    dl = kept_dls(bears).train
    assert is_kept(dl)
    monkeypatch.setattr(type(dl.dataset), '__getitem__', None)  # a further decoding would be an error
    order, get = [], ResidentDL.get_idxs
    monkeypatch.setattr(ResidentDL, 'get_idxs', lambda self: order.append(get(self)) or order[-1])
    a, b = ([x for x, _ in dl] for _ in range(2))
    assert [len(o) for o in a] == [32]*(dl.n//32) and order[0] != order[1] and sorted(order[0]) == [*range(dl.n)]
    again = dl.new(shuffle=False, drop_last=False)
    assert again.kept is dl.kept and sum(len(x) for x, _ in again) == dl.n


@pytest.mark.parametrize('why, kwargs', [
    ('item_tfms has to be one RandomResizedCrop', dict(item_tfms=Resize(64, ResizeMethod.Pad))),
    ('item_tfms has to be one RandomResizedCrop', dict(item_tfms=[Resize(80), RandomResizedCrop(64)])),
    ('GB may be taken', {})])
def test_what_cannot_be_kept_is_read_as_usual(bears, monkeypatch, capsys, why, kwargs):
    if not kwargs: monkeypatch.setattr(resident, '_room', lambda _: 10_000)
    dl = kept_dls(bears, **kwargs).train
    capsys.readouterr()
    shapes = [x.shape for _ in range(2) for x, _ in dl]
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and why in said[0] and said[0].endswith('They are read in each epoch, as usual.')
    assert shapes == [(32, 3, 64, 64)]*len(dl)*2 and dl.kept.x is None


def test_areas_are_not_kept(tmp_path, capsys):
    for i in range(8): Image.new('RGB', (20, 20)).save(tmp_path/f'{i}.png')
    block = DataBlock((ImageBlock, MaskBlock), get_items=lambda p: sorted(p.glob('*.png')), get_y=lambda o: o,
                      splitter=RandomSplitter(seed=0), item_tfms=Resize(16), dl_type=ResidentDL)
    x, y = block.dataloaders(tmp_path, bs=2, num_workers=0, device='cpu').train.one_batch()
    assert (x.shape, y.shape) == ((2, 3, 16, 16), (2, 16, 16)) and 'not with areas' in capsys.readouterr().out


@pytest.mark.parametrize('tfm', [Flip(batch=True), Brightness(batch=True), RandomErasing(p=1.),
                                 Rotate(draw=lambda x: torch.full((len(x),), 3.))])
def test_the_rest_is_left_to_fastai(squeezed, tfm):
    dl = squeezed.new(after_batch=[IntToFloatTensor(), tfm])
    taken = resident._taken(dl.after_batch.fs)
    assert tfm not in taken.values() and len(taken) == 1
    calls, before = [], type(tfm).before_call
    def counted(*args, **kw): calls.append(args); return before(*args, **kw)
    with pytest.MonkeyPatch.context() as m:
        m.setattr(type(tfm), 'before_call', counted)
        assert len(list(dl)) == len(calls)  # for each batch by itself


# --- in a training

def error(path, dl_type):
    set_seed(0)
    dls = kept_dls(path, 32, 16, dl_type=dl_type, batch_tfms=aug_transforms())
    learn = photo_learner(dls, 'test_resnet', pretrained=False, metrics=error_rate, seed=0)
    with learn.no_bar(), learn.no_logging(): learn.fit_one_cycle(6, 5e-3)
    return learn, learn.recorder.values[-1][-1]


@pytest.fixture(scope='module')
def trained(bears): return error(bears, ResidentDL)


def test_a_model_learns_as_from_photos_that_are_read(bears, trained):
    (learn, ours), (_, theirs) = trained, error(bears, None)
    assert is_kept(learn.dls.train)
    assert max(ours, theirs) < .35  # of three classes; 0.67 is to guess


def test_a_model_predicts_and_is_exported(bears, trained, tmp_path):
    learn, _ = trained
    files = learn.dls.valid.items[:4]
    dl = learn.dls.test_dl(files)
    probs = learn.get_preds(dl=dl)[0]
    assert dl.kept.key is None and (probs - learn.get_preds()[0][:4]).abs().max() < 1e-4
    assert learn.predict(files[0])[2].argmax() == probs[0].argmax()
    clf = load_classifier(export_classifier(learn, tmp_path/'model'))
    assert clf(files[0]).label == learn.dls.vocab[probs[0].argmax()]
    assert pickle.loads(pickle.dumps(learn.dls.train)).kept is None and learn.dls.train.kept.x is not None


def test_the_report_does_not_speak_of_decoding_again(bears):
    report = TimeReport()
    for dl_type in ResidentDL, None:
        learn = photo_learner(kept_dls(bears, 32, dl_type=dl_type), 'test_resnet', pretrained=False)
        with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=report)
        assert ('to decode one takes' in str(report)) == (dl_type is None) == ('decoded once' not in str(report))


def test_the_late_loss_is_that_of_the_batches_before():
    late, plain = LateLoss(), AvgSmoothLoss()
    for _ in range(2):  # a second epoch starts anew
        late.reset(), plain.reset()
        losses = [3., 2., 5., 1.]
        for o, before in zip(losses, [3., 3., 2., 5.]):
            late.accumulate(SimpleNamespace(loss=tensor(o)))
            plain.accumulate(SimpleNamespace(loss=tensor(before), yb=[0]))
            assert math.isclose(late.value, plain.value, rel_tol=1e-6)


def test_a_cpu_waits_for_each_loss(trained):
    learn, _ = trained
    late_loss(learn)
    assert type(learn.recorder.smooth_loss) is AvgSmoothLoss
