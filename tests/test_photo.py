"Smaller copies of photos: what is kept, what is said when they cannot be, and what a DataLoader makes of them"
import errno, os, pickle, shutil, time
from contextlib import redirect_stdout
from io import StringIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageChops
from torch import nn

from bearclf import photo as module
from bearclf.photo import PhotoError, forget, look_at
from bearclf.folder.look import *
from bearclf.train.data import *
from bearclf.practice.drawn import draw_bear, draw_bears
from bearclf.photo import ResizedPhotos
from bearclf.train.learner import *
from fastai.vision.all import (Callback, L, hook_outputs, CategoryBlock, CropPad, ImageBlock, PILImage, Resize,
                               ResizeMethod, Transform,
                               defaults, load_learner, squeezenet1_0, vision_learner)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    return tmp_path/'cache'


@pytest.fixture(scope='module')
def large(tmp_path_factory):
    "Eighteen bears of 700 pixels, in three classes"
    path = tmp_path_factory.mktemp('large')/'bears'
    draw_bears(path, n=18, size=700)
    return path


def quietly(f, *args, **kwargs):
    with redirect_stdout(StringIO()) as out: res = f(*args, **kwargs)
    return res, out.getvalue()


def copies_in(cache): return [o for o in cache.rglob('*.jpg')]


def test_sizes(cache, tmp_path):
    for (w, h), want in {(3000, 2000): (504, 336), (2000, 3000): (336, 504), (400, 300): (400, 300),
                         (5000, 90): (5000, 90)}.items():
        im = draw_bear('black', 1, 300).resize((w, h))
        im.save(tmp_path/'bear.jpg')
        first, second = ResizedPhotos(336)(tmp_path/'bear.jpg'), ResizedPhotos(336)(tmp_path/'bear.jpg')
        assert first.size == second.size == want and first.mode == second.mode == 'RGB'
        mean = lambda o: np.array(o.resize((32, 32)), float)
        assert abs(mean(second) - mean(im)).mean() < 4


def test_upright_and_without_transparency(cache, tmp_path):
    im = Image.new('RGB', (1200, 800), 'blue')
    im.paste('yellow', (0, 0, 1200, 400))
    exif = im.getexif(); exif[274] = 6  # the camera was turned
    im.save(tmp_path/'turned.jpg', exif=exif)
    Image.new('RGBA', (1000, 1000), (0, 0, 0, 0)).save(tmp_path/'clear.png')
    for _ in range(2):
        copies = ResizedPhotos(336)
        assert copies(tmp_path/'turned.jpg').size == (336, 504)
        assert min(copies(tmp_path/'clear.png').getpixel((9, 9))) > 250
    right = copies(tmp_path/'turned.jpg').getpixel((300, 250))
    assert right[0] > 200 > right[2]


def test_a_changed_photo_has_a_new_copy_and_a_renamed_one_keeps_its(cache, tmp_path):
    draw_bear('black', 1, 700).save(tmp_path/'a.jpg')
    copies = ResizedPhotos(96)
    old = copies(tmp_path/'a.jpg')
    draw_bear('teddy', 2, 800).save(tmp_path/'a.jpg')
    assert ImageChops.difference(copies(tmp_path/'a.jpg'), old).getbbox()
    (tmp_path/'a.jpg').rename(tmp_path/'кот?x=1.jpg')
    n = len(copies_in(cache))
    assert copies(tmp_path/'кот?x=1.jpg').size == (96, 96) and len(copies_in(cache)) == n == 2
    with pytest.raises(PhotoError, match='not there'): copies(tmp_path/'a.jpg')


def test_a_damaged_copy_is_made_again(cache, tmp_path):
    draw_bear('black', 1, 700).save(tmp_path/'a.jpg')
    good = ResizedPhotos(96)(tmp_path/'a.jpg')
    file, = copies_in(cache)
    whole = file.read_bytes()
    file.write_bytes(whole[:len(whole)//2])
    forget()
    assert ResizedPhotos(96)(tmp_path/'a.jpg').size == good.size
    assert file.read_bytes() == whole


@pytest.mark.parametrize('rubbish', [b'', b'\xff\xfe\x00', b'[]', b'7', b'{"by"', b'["a.jpg", 1', b'null\n[[]]\n'])
def test_damaged_notes_are_made_again(cache, tmp_path, rubbish):
    "What is known of photos, and of files, may be damaged, cut short or not ours"
    draw_bear('black', 1, 400).save(tmp_path/'a.jpg')
    forget()
    seen, measure = [], dict(width=lambda im: seen.append(im.size) or im.width)
    first = look_at(tmp_path/'a.jpg', measure)
    for o in *cache.glob('photos/*.json'), *(o for o in cache.glob('prints/*') if o.name != 'CACHEDIR.TAG'):
        o.write_bytes(rubbish)
    forget()
    assert look_at(tmp_path/'a.jpg', measure) == first and len(seen) == 2
    forget()
    assert look_at(tmp_path/'a.jpg', measure) == first and len(seen) == 2


def test_a_full_disk_is_said_once_and_training_goes_on(cache, large, monkeypatch, capsys):
    def full(*args): raise OSError(errno.ENOSPC, 'No space left on device')
    monkeypatch.setattr(os, 'replace', full)
    forget()
    dls = photo_dls(large, 64, bs=4)
    assert capsys.readouterr().out.count('cannot be kept on disk (No space left on device)') == 1
    assert dls.one_batch()[0].shape == (4, 3, 64, 64) and not copies_in(cache)


def test_the_last_gigabyte_stays_free(cache, large, monkeypatch, capsys):
    monkeypatch.setattr(shutil, 'disk_usage', lambda p: shutil._ntuple_diskusage(2**34, 2**34, 2**29))
    forget()
    photo = next(large.rglob('*.jpg'))
    assert ResizedPhotos(96)(photo).size == (96, 96)
    assert 'less than 1 GB' in capsys.readouterr().out and not copies_in(cache)


def test_memory_is_bounded(cache, large, monkeypatch):
    monkeypatch.setattr(module, '_ROOM', 3*96*96*5)
    forget()
    copies = ResizedPhotos(96)
    for o in large.rglob('*.jpg'): copies(o)
    assert len(copies.at_hand) == 4


def test_photos_are_decoded_once(cache, large, monkeypatch):
    "By photo_dls; its DataLoaders, and whoever looks at the folder again in another process, read the copies"
    forget()
    quietly(photo_dls, large, 64)
    seen, real = [], module.read_photo
    monkeypatch.setattr(module, 'read_photo', lambda o, *args, **kw: seen.append(len(o)) or real(o, *args, **kw))
    forget()
    dls, _ = quietly(photo_dls, large, 64, bs=4)
    for b in (*dls.train, *dls.valid): pass
    other = lambda: {o.stat().st_size for o in (*copies_in(cache), large/'planted.csv')}
    decoded = lambda: [o for o in seen if o not in other()]
    assert len(seen) > 18 and not decoded()
    forget()
    quietly(photo_dls, large, 32)  # a smaller size takes the same copies, a larger one needs others
    assert not decoded()
    quietly(photo_dls, large, 300)
    assert len(decoded()) == 18


def test_the_copy_is_what_a_batch_shows(cache, large):
    dls, _ = quietly(photo_dls, large, 224, batch_tfms=[])
    plain, _ = quietly(photo_dls, large, 224, batch_tfms=[], blocks=(PhotoBlock, CategoryBlock))
    a, b = dls.valid.one_batch()[0], plain.valid.one_batch()[0]
    assert a.shape == b.shape and 0 < (a - b).abs().mean() < .02


@pytest.mark.parametrize('kwargs', [dict(item_tfms=Resize(64)), dict(item_tfms=[Resize(64, ResizeMethod.Squish)]),
                                    dict()])
def test_which_transforms_get_copies(cache, large, kwargs):
    forget()
    dls, _ = quietly(photo_dls, large, 64, bs=4, **kwargs)
    assert len(copies_in(cache)) == 18
    assert dls.train.fake_l.num_workers == (0 if dls.device.type == 'cpu' else min(16, defaults.cpus))


def test_own_blocks_and_unknown_transforms_read_the_photos(cache, large):
    forget()
    dls, _ = quietly(photo_dls, large, blocks=(ImageBlock, CategoryBlock), item_tfms=Resize(64), bs=4)
    assert dls.train.fake_l.num_workers == min(16, defaults.cpus)
    dls, _ = quietly(photo_dls, large, item_tfms=[CropPad(64)], bs=4, num_workers=0)
    assert dls.one_batch()[0].shape[2:] == (64, 64) and not copies_in(cache)


def test_workers_make_and_read_copies(cache, large):
    for n in 1, 2:
        dls, _ = quietly(photo_dls, large, 64, bs=4, num_workers=n)
        assert dls.train.fake_l.num_workers == n and dls.one_batch()[0].shape == (4, 3, 64, 64)
    shutil.rmtree(cache)
    forget()
    for b in dls.train: pass
    assert copies_in(cache)


def test_an_exported_model_writes_nothing(cache, large, tmp_path):
    dls, _ = quietly(photo_dls, large, 64, bs=4)
    learn = vision_learner(dls, squeezenet1_0, pretrained=False)
    learn.export(tmp_path/'export.pkl')
    shutil.rmtree(cache)
    photo = next(large.rglob('*.jpg'))
    loaded = load_learner(tmp_path/'export.pkl')
    with loaded.no_bar(): loaded.predict(photo)
    assert not copies_in(cache)
    assert str(large).encode() not in pickle.dumps(ResizedPhotos(64))


# ---- where the time goes

def report_of(large, slow_photo=0., slow_model=0., cbs=None, **kwargs):
    class Slow(Transform):
        def encodes(self, o:PILImage): time.sleep(slow_photo); return o
    dls, _ = quietly(photo_dls, large, bs=4, batch_tfms=[], item_tfms=[Slow(), Resize(32)], num_workers=0, **kwargs)
    class SlowModel(Callback):
        def before_backward(self): time.sleep(slow_model)
    learn, report = photo_learner(dls, 'squeezenet1_0', pretrained=False), TimeReport()
    with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=[report, SlowModel(), *L(cbs)])
    return report


def test_a_slow_loader_is_found(large):
    report = report_of(large, slow_photo=.1)
    assert report.n == 12 and report.waiting >= 12*.1 and report.prepare[1] >= .1
    assert 'waiting for photos' in str(report)
    assert str(report).endswith('Fewer or simpler transforms would make it shorter.')


@pytest.mark.parametrize('able', [False, True])
def test_of_a_slow_model_only_16_bits_are_said(large, able, monkeypatch):
    monkeypatch.setattr('bearclf.train.learner.computes_in_bf16', lambda o: able)
    report = report_of(large, slow_model=.5)
    assert report.computing >= 3*.5 and str(report).endswith(' try cbs=CPUMixedPrecision().' if able else ').')
    assert 'CPUMixedPrecision' not in str(report_of(large, slow_model=.5, cbs=CPUMixedPrecision()))


def in_16_bits(large, *cbs):
    "Weights after an epoch, the kinds of numbers that the body's last layer gave, and what was printed"
    dls, _ = quietly(photo_dls, large, 32, bs=4)
    learn, kinds, scalers = photo_learner(dls, 'squeezenet1_0', pretrained=False), set(), set()
    with hook_outputs([learn.model[0]]) as hooks, learn.no_bar(), learn.no_logging():
        class Kinds(Callback):
            def after_pred(self): kinds.add(hooks.stored[0].dtype); scalers.add(getattr(self, 'scaler', None))
        _, said = quietly(learn.fit, 1, cbs=[*cbs, Kinds()])
    assert not learn.cbs.filter(lambda o: isinstance(o, CPUMixedPrecision))
    assert {o.dtype for o in learn.get_preds()} == {torch.float32, torch.int64} if cbs else True
    assert (scalers == {None}) == (kinds == {torch.float32}), 'what is set there is used by others'
    return torch.cat([o.flatten() for o in learn.model.parameters()]), kinds, said


@pytest.mark.skipif(torch.cuda.is_available(), reason='it is for processors')
def test_a_processor_in_16_bits(large, monkeypatch):
    monkeypatch.setattr('bearclf.train.learner.computes_in_bf16', lambda o: True)
    w, kinds, said = in_16_bits(large, CPUMixedPrecision())
    assert kinds == {torch.bfloat16} and w.dtype == torch.float32 and said == ''
    assert torch.isfinite(w).all() and not torch.equal(w, in_16_bits(large)[0])


def test_a_processor_without_16_bits_changes_nothing(large, monkeypatch):
    monkeypatch.setattr('bearclf.train.learner.computes_in_bf16', lambda o: False)
    w, kinds, said = in_16_bits(large, CPUMixedPrecision())
    assert kinds == {torch.float32} and torch.equal(w, in_16_bits(large)[0]) and said.count('\n') == 1


def test_slow_decoding_is_told_apart(large, monkeypatch):
    monkeypatch.setattr('bearclf.train.data.open_photo', lambda o: time.sleep(.1) or PILPhoto.create(o))
    report = report_of(large)
    assert report.prepare[0] >= .1 > report.prepare[1] and 'Make the photos smaller' in str(report)


def test_looking_changes_nothing(large):
    "With a TimeReport, the weights are those without"
    def weights(*cbs):
        dls, _ = quietly(photo_dls, large, 32, bs=4)
        learn = photo_learner(dls, 'squeezenet1_0', pretrained=False)
        with learn.no_bar(), learn.no_logging(): learn.fit(1, cbs=cbs); learn.fit(1, cbs=cbs)
        return torch.cat([o.flatten() for o in learn.model.parameters()])
    assert torch.equal(weights(), weights(TimeReport()))


def test_fit_photos_says_where_the_time_went_and_keeps_your_callbacks(large):
    learn, _ = quietly(lambda: photo_learner(photo_dls(large, 32, bs=4), 'squeezenet1_0', pretrained=False))
    seen = []
    class Own(Callback):
        def after_epoch(self): seen.append(self.epoch)
    with learn.no_bar(), learn.no_logging(): _, said = quietly(fit_photos, learn, 2, cbs=Own())
    assert seen == [0, 1] and said.count('for each photo in an epoch') == 1
    assert not [o for o in learn.cbs if isinstance(o, TimeReport)]


def test_channels_last(large):
    learn, _ = quietly(lambda: photo_learner(photo_dls(large, 32, bs=4), 'squeezenet1_0', pretrained=False))
    conv = next(o for o in learn.model.modules() if isinstance(o, nn.Conv2d) and o.kernel_size > (1, 1))
    assert conv.weight.is_contiguous(memory_format=torch.channels_last)
