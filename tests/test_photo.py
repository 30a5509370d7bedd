"Which files are opened as photos, and at what cost; the smaller copies, and what a DataLoader makes of them"
import errno, io, os, pickle, shutil, struct, subprocess, sys, threading, time, zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
import torch
from PIL import Image, ImageChops, ImageColor
from torch import nn

from bearclf import photo as module
from bearclf.photo import (PhotoError, contact_sheet, fingerprint, forget, known_look, known_print, look_at, read_photo,
                           real_suffix, size_of)
from bearclf.folder.look import *
from bearclf.folder.private import without_personal_data
from bearclf.folder.verify import verify
from bearclf.train.data import *
from bearclf.practice.drawn import draw_bear, draw_bears
from bearclf.photo import ResizedPhotos
from bearclf.train.learner import *
from fastai.vision.all import (Callback, L, hook_outputs, CategoryBlock, CropPad, ImageBlock, PILImage,
                               RandomSplitter, Resize,
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


def test_a_copy_of_an_earlier_process_does_not_tell_what_the_photo_is(cache, tmp_path):
    draw_bear('black', 1, 700).save(tmp_path/'a.jpg')
    ResizedPhotos()(tmp_path/'a.jpg')
    forget()
    assert not look_at(tmp_path/'a.jpg', copies=ResizedPhotos()).reason
    assert look_at(tmp_path/'a.jpg').suffix == '.jpg' and look_at(tmp_path/'a.jpg').size == (700, 700)


def test_what_is_known_of_a_photo_is_known_until_it_changes(cache, tmp_path):
    file, measure, copies = tmp_path/'a.jpg', dict(width=lambda im: im.width), ResizedPhotos(500)
    draw_bear('black', 1, 700).save(file)
    assert known_look(file) is known_print(file) is known_look(tmp_path/'never.jpg') is None
    look = look_at(file, measure)
    assert known_look(file, measure) is look and known_print(file) == look.fingerprint
    assert known_look(file, measure | dict(height=None)) is known_look(file, measure, copies) is None
    copies(file)
    assert known_look(file, measure, copies) is look
    draw_bear('black', 2, 700).save(file)
    assert known_look(file) is known_print(file) is None
    file.write_bytes(b'no photo')
    assert look_at(file).reason and known_look(file, measure, copies).reason == look_at(file).reason


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
    def reading(o, *args, **kw):
        if not isinstance(o, Image.Image): seen.append(len(o))
        return real(o, *args, **kw)
    monkeypatch.setattr(module, 'read_photo', reading)
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


def test_threads_that_begin_with_a_folder_at_once_read_each_photo_once(large, cache, monkeypatch):
    """Of two that look for the folder's notes at the same time, neither loses what the other has read"""
    both, files, read = threading.Barrier(2, timeout=20), sorted(large.rglob('*.jpg'))[:2], []
    def noted(folder, real=module._noted):
        if threading.current_thread() is not threading.main_thread(): both.wait()
        return real(folder)
    monkeypatch.setattr(module, '_noted', noted)
    monkeypatch.setattr(Path, 'read_bytes', lambda o, real=Path.read_bytes: read.append(o) or real(o))
    forget()
    with ThreadPoolExecutor(2) as ex: first = [*ex.map(fingerprint, files)]
    assert files[0].parent == files[1].parent and [*map(fingerprint, files)] == first and sorted(read) == files


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
    own = dict(blocks=(ImageBlock, CategoryBlock), item_tfms=Resize(64), splitter=RandomSplitter(seed=1))
    dls, _ = quietly(photo_dls, large, bs=4, **own)
    assert dls.train.fake_l.num_workers == min(16, defaults.cpus)
    own = dict(item_tfms=[CropPad(64)], splitter=RandomSplitter(seed=1))  # ours looks for copies, on smaller photos
    dls, _ = quietly(photo_dls, large, bs=4, num_workers=0, **own)
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


# ---- which files are opened, and what that costs

FORMATS = dict(JPEG='.jpg', MPO='.jpg', PNG='.png', WEBP='.webp', GIF='.gif', BMP='.bmp', TIFF='.tif', AVIF='.avif',
               HEIF='.heic')


def stored(im, fmt='JPEG', **kwargs):
    "The bytes of a file with `im`; a HEIC is written past Pillow, so that no test registers what bearclf has to"
    b = io.BytesIO()
    if fmt == 'HEIF': pillow_heif.from_pillow(im).save(b, **kwargs)
    else: im.save(b, fmt, **kwargs)
    return b.getvalue()


def halves(w=120, h=80):
    "Blue on the left, yellow on the right"
    im = Image.new('RGB', (w, h), 'blue')
    im.paste('yellow', (w//2, 0, w, h))
    return im


def is_near(found, colour): return max(abs(a - b) for a, b in zip(found, ImageColor.getrgb(colour))) < 30


@pytest.mark.parametrize('fmt', FORMATS)
@pytest.mark.parametrize('name', ['bear.jpg', 'bear.heic', 'bear'])
def test_photos_of_each_format(tmp_path, fmt, name):
    data = stored(halves(), fmt)
    (tmp_path/name).write_bytes(data)
    for o in tmp_path/name, data, memoryview(data):
        im = read_photo(o)
        assert type(im) is Image.Image and im.mode == 'RGB' and im.size == (120, 80)
        assert is_near(im.getpixel((9, 40)), 'blue') and is_near(im.getpixel((110, 40)), 'yellow')
    assert real_suffix(data) == real_suffix(tmp_path/name) == FORMATS[fmt]
    assert look_at(tmp_path/name).size == (120, 80)
    assert not (set(im.info) & {'transparency'})


@pytest.mark.parametrize('fmt', ['JPEG', 'PNG', 'WEBP', 'TIFF', 'AVIF', 'HEIF'])
def test_turned_photos_of_each_format(fmt):
    "Turned by 90 degrees to the right, so that what was left is above"
    exif = Image.Exif(); exif[274] = 6
    im = read_photo(stored(halves(), fmt, exif=exif.tobytes() if fmt == 'HEIF' else exif))
    assert im.size == (80, 120) and im.getexif().get(274, 1) == 1
    assert is_near(im.getpixel((40, 9)), 'blue') and is_near(im.getpixel((40, 110)), 'yellow')
    assert read_photo(im).size == (80, 120)


def test_the_first_picture_of_many_is_read():
    more = dict(save_all=True, append_images=[Image.new('RGB', (120, 80), 'red')]*3)
    for fmt in 'GIF', 'WEBP', 'TIFF', 'PNG', 'AVIF', 'MPO':
        assert is_near(read_photo(stored(halves(), fmt, **more)).getpixel((9, 40)), 'blue'), fmt


def test_heic_under_every_brand_and_in_many_threads():
    data = stored(halves(), 'HEIF')
    for brand in b'heic', b'heix', b'mif1', b'msf1':
        assert read_photo(data[:8] + brand + data[12:]).size == (120, 80)
    code = ('import sys; from concurrent.futures import ThreadPoolExecutor as T; from bearclf.photo import read_photo;'
            'd = sys.stdin.buffer.read(); assert "pillow_heif" not in sys.modules;'
            'print({o.size for o in T(16).map(read_photo, [d]*64)})')
    assert subprocess.run([sys.executable, '-c', code], input=data, capture_output=True).stdout == b'{(120, 80)}\n'


def test_a_deep_transparent_heic():
    "16 bits a colour, half transparent red on white"
    a = np.full((64, 64, 4), 65535, np.uint16); a[..., 1:3] = 0; a[..., 3] = 32768
    b = io.BytesIO()
    pillow_heif.from_bytes('RGBA;16', (64, 64), a.tobytes()).save(b)
    assert is_near(read_photo(b.getvalue()).getpixel((30, 30)), '#ff8080')


@pytest.mark.parametrize('fmt', ['AVIF', 'HEIF', 'JPEG', 'WEBP', 'PNG', 'TIFF'])
def test_cut_photos_of_each_format(fmt):
    data = stored(draw_bear('black', 1, 300), fmt)
    for n in len(data)//2, len(data)*9//10:
        with pytest.raises(PhotoError, match='bear.x is .*damaged'): read_photo(data[:n], 'bear.x')


EPS = b'''%!PS-Adobe-3.0 EPSF-3.0
%%BoundingBox: 0 0 20 20
%%EndComments
showpage
'''
EPS_OF_WINDOWS = b'\xc5\xd0\xd3\xc6' + struct.pack('<6I', 30, len(EPS), 0, 0, 0, 0) + b'\xff\xff' + EPS
NO_PHOTOS = 'ICO ICNS PPM TGA SGI PCX JPEG2000 DDS DIB XBM SPIDER IM PDF MSP QOI'.split()


@pytest.mark.skipif(os.name == 'nt', reason='the trap is a shell script')
@pytest.mark.parametrize('name', ['bear.jpg', 'bear.eps', 'bear'])
@pytest.mark.parametrize('data', [EPS, EPS_OF_WINDOWS])
def test_a_drawing_never_reaches_ghostscript(tmp_path, monkeypatch, name, data):
    (tmp_path/'bin').mkdir()
    gs = tmp_path/'bin/gs'
    gs.write_text(f'#!/bin/sh\ntouch {tmp_path}/ran\n')
    gs.chmod(0o755)
    monkeypatch.setenv('PATH', str(tmp_path/'bin'), prepend=os.pathsep)
    monkeypatch.setattr('PIL.EpsImagePlugin.gs_binary', None)
    with pytest.raises(OSError): Image.open(io.BytesIO(data)).load() # the trap is set: Pillow alone walks into it
    assert (tmp_path/'ran').exists()
    (tmp_path/'ran').unlink()
    (tmp_path/name).write_bytes(data)
    for f in read_photo, real_suffix, ResizedPhotos(96), without_personal_data, contact_sheet:
        o = data if f is without_personal_data else [tmp_path/name] if f is contact_sheet else tmp_path/name
        with pytest.raises(PhotoError, match='a drawing in PostScript, not a photo'): f(o)
    assert look_at(tmp_path/name).reason == 'a drawing in PostScript, not a photo'
    assert not (tmp_path/'ran').exists()


@pytest.mark.parametrize('fmt', NO_PHOTOS)
def test_other_formats_are_refused_undecoded(tmp_path, monkeypatch, fmt):
    im = halves(64, 64)
    data = stored(im.convert('1') if fmt in ('XBM', 'MSP') else im.convert('F') if fmt == 'SPIDER' else im, fmt)
    def never(*args, **kwargs): raise AssertionError(f'{fmt} was asked')
    for k in set(Image.OPEN) - {'JPEG', 'PNG', 'WEBP', 'GIF', 'BMP', 'TIFF', 'AVIF', 'HEIF'}:
        monkeypatch.setitem(Image.OPEN, k, (never, None))
    (tmp_path/'bear.jpg').write_bytes(data)
    for f in read_photo, real_suffix:
        with pytest.raises(PhotoError, match='^bear.jpg is (in no image format|a text, not|a PDF document)'):
            f(tmp_path/'bear.jpg', 'bear.jpg')


on_unix = pytest.mark.skipif(os.name == 'nt', reason='it asks the system as Linux and macOS answer')
PEAK = '''
import os, resource, sys, time
from bearclf.photo import PhotoError, look_at, read_photo
from bearclf.folder.private import without_personal_data
def size_or_error(f, *args, **kwargs):
    try: return f(*args, **kwargs)
    except PhotoError as e: return e
t = time.process_time()
found = eval(sys.argv[2])
spent = time.process_time() - t
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1e6
if os.path.exists('/proc/self/status'): # on Linux the peak of the process that started this one counts in the other
    with open('/proc/self/status') as f: peak = next(int(o.split()[1])/1e3 for o in f if o.startswith('VmHWM'))
print(found, '|', peak, '|', spent)
'''


def cost(file, what='size_or_error(lambda: read_photo(sys.argv[1]).size)'):
    "What came of `what`, at most how many megabytes the process had, and how many seconds a processor took"
    run = subprocess.run([sys.executable, '-c', PEAK, str(file), what], capture_output=True, text=True)
    found, peak, spent = run.stdout.split('|')
    return found.strip(), float(peak), float(spent)


def lying_heic(w, h):
    "A HEIC of 64 pixels square that says it has others"
    data, size = stored(plain(64, 64), 'HEIF'), b'ispe\0\0\0\0' + struct.pack('>II', 64, 64)
    assert data.count(size) == 1
    return data.replace(size, size[:8] + struct.pack('>II', w, h))


def plain(w, h, mode='RGB', colour=None): return Image.new(mode, (w, h), colour or 0)


MADE = dict(
    png=lambda: stored(plain(13_300, 13_300, '1'), 'PNG'), rgb=lambda: stored(plain(13_300, 13_300), 'PNG'),
    gif=lambda: stored(plain(8000, 8000, 'P'), 'GIF'), webp=lambda: stored(plain(5500, 5000), 'WEBP', method=0),
    avif=lambda: stored(plain(5500, 5000), 'AVIF', speed=10), tiff=lambda: stored(plain(8000, 8000, '1'), 'TIFF'),
    heic=lambda: lying_heic(8000, 6500),
    progressive=lambda: stored(plain(9000, 9000), 'JPEG', progressive=True, subsampling=0))


@on_unix
@pytest.mark.parametrize('kind', MADE)
def test_a_bomb_is_not_unpacked(cache, tmp_path, kind):
    (tmp_path/'bear.x').write_bytes(MADE[kind]())
    said = 'bear.x is too large to open safely; make it smaller first, 25 million pixels at most.'
    found, peak, spent = cost(tmp_path/'bear.x')
    assert found == said and peak < 100 and spent < 2, (peak, spent)
    assert look_at(tmp_path/'bear.x').reason == 'too large to open safely'
    data = (tmp_path/'bear.x').read_bytes()
    with pytest.raises(PhotoError, match='too large to open safely'): without_personal_data(data)


def test_a_tile_larger_than_the_picture():
    n = 20_000
    tile = zlib.compress(bytes(n*n), 9)
    tags = [(256, 4, 64), (257, 4, 64), (258, 3, 8), (259, 3, 8), (262, 3, 1), (277, 3, 1), (322, 4, n), (323, 4, n),
            (324, 4, 8), (325, 4, len(tile))]
    ifd = struct.pack('<H', len(tags)) + b''.join(struct.pack('<HHII', t, kind, 1, v) for t, kind, v in tags) + bytes(4)
    with pytest.raises(PhotoError, match='too large to open safely'):
        read_photo(b'II*\0' + struct.pack('<I', 8 + len(tile)) + tile + ifd)


@pytest.mark.parametrize('size', [(8, 8), (5000, 5000)])
def test_a_heic_that_lies_about_its_size(size):
    with pytest.raises(PhotoError, match='damaged'): read_photo(lying_heic(*size))


FAST = dict(enc_params={'preset': 'ultrafast'})
COSTLY = dict(
    jpeg=(lambda: stored(plain(11_600, 8700)), '(5800, 4350)'),  # a hundred million pixels, read at a half
    progressive=(lambda: stored(plain(11_600, 8700), progressive=True), '(5800, 4350)'),
    rgba=(lambda: stored(plain(8160, 6144, 'RGBA'), 'PNG', compress_level=1), '(8160, 6144)'),
    deep=(lambda: stored(plain(8160, 6144, 'I;16'), 'PNG', compress_level=1), '(8160, 6144)'),
    webp=(lambda: stored(plain(5000, 5000, 'RGBA'), 'WEBP', method=0), '(5000, 5000)'),
    avif=(lambda: stored(plain(5000, 5000, 'RGBA'), 'AVIF', speed=10, subsampling='4:4:4'), '(5000, 5000)'),
    heic=(lambda: stored(plain(8064, 6048), 'HEIF', quality=10, **FAST), '(8064, 6048)'))  # an iPhone's largest


@on_unix
@pytest.mark.parametrize('kind', COSTLY)
def test_one_photo_never_costs_more(cache, tmp_path, kind):
    make, size = COSTLY[kind]
    (tmp_path/'bear.x').write_bytes(make())
    found, peak, spent = cost(tmp_path/'bear.x')
    assert found == size and peak < 600 and spent < 8, (peak, spent)
    found, peak, spent = cost(tmp_path/'bear.x', 'look_at(sys.argv[1], dict(n=lambda im: im.size)).seen')
    assert 'n' in found and peak < 600, (found, peak)


@on_unix
def test_a_large_jpeg_is_read_at_the_scale_that_is_needed(cache, tmp_path):
    (tmp_path/'bear.jpg').write_bytes(stored(halves(11_600, 8700)))
    im = read_photo(tmp_path/'bear.jpg', side=336)
    assert im.size == (1450, 1088)
    assert is_near(im.getpixel((9, 9)), 'blue') and is_near(im.getpixel((1440, 9)), 'yellow')
    assert look_at(tmp_path/'bear.jpg').size == (11_600, 8700)
    found, peak, spent = cost(tmp_path/'bear.jpg', 'read_photo(sys.argv[1], side=336).size')
    assert found == '(1450, 1088)' and peak < 120 and spent < 4, (peak, spent)


VALUES = {  # what is stored, how, and what a person should see
    'grey of 16 bits': (('I;16', 32768), 'PNG', {}, (127,)*3),
    'grey of 16 bits, a colour that is not there': (('I;16', 65535), 'PNG', dict(transparency=65535), (0, 0, 255)),
    'half transparent': (('RGBA', (255, 0, 0, 128)), 'PNG', {}, (128, 0, 127)),
    'transparent palette': (('P', 7), 'PNG', dict(transparency=7), (0, 0, 255)),
    'transparent grey': (('LA', (9, 0)), 'PNG', {}, (0, 0, 255)),
    'transparent colour': (('RGB', (1, 2, 3)), 'PNG', dict(transparency=(1, 2, 3)), (0, 0, 255)),
    'transparent GIF': (('P', 3), 'GIF', dict(transparency=3), (0, 0, 255)),
    'transparent WEBP': (('RGBA', (9, 9, 9, 0)), 'WEBP', dict(lossless=True), (0, 0, 255)),
    'four inks': (('CMYK', (0, 255, 255, 0)), 'TIFF', {}, (255, 0, 0)),
    'numbers with a point': (('F', 1.), 'TIFF', {}, (255,)*3),
    'one bit': (('1', 1), 'PNG', {}, (255,)*3)}


@pytest.mark.parametrize('kind', VALUES)
def test_right_values(kind):
    "In each of the strips that a photo is converted in"
    (mode, value), fmt, kwargs, want = VALUES[kind]
    im = Image.new(mode, (3, 600), value)
    if mode == 'P': im.putpalette(range(48))
    for o in stored(im, fmt, **kwargs), Image.open(io.BytesIO(stored(im, fmt, **kwargs))):
        assert read_photo(o, background='blue').getcolors() == [(1800, want)]


def test_reading_leaves_an_open_picture_as_it_was():
    im = halves()
    im.getexif()[274] = 6
    turned = read_photo(im)
    turned.paste('red', (0, 0, 80, 120))
    assert turned.size == (80, 120) and im.size == (120, 80) and im.getpixel((0, 0)) == (0, 0, 255)
    same = read_photo(Image.new('RGB', (4, 4), 'blue'))
    assert im.getexif()[274] == 6 and same.getpixel((0, 0)) == (0, 0, 255)


def test_what_verify_and_collect_call_a_heic(cache, tmp_path):
    (tmp_path/'black').mkdir()
    for i, name in enumerate(['a.heic', 'b.HEIF', 'c.hif', 'd.jpg', 'e.heic']):
        im = draw_bear('black', i, 200)
        (tmp_path/'black'/name).write_bytes(stored(im, 'JPEG' if name == 'e.heic' else 'HEIF'))
    report = verify(tmp_path, fix=True)
    found = {r[0].file: r[3] for r in report.rows}
    assert found == {'black/d.jpg': 'renamed to d.heic', 'black/e.heic': 'renamed to e.jpg'} and report.n_photos == 5
    exif = Image.Exif(); exif[274] = 6; exif[0x8825] = {1: 'N', 2: (1., 2., 3.)}
    data, suffix, im = without_personal_data(stored(halves(), 'HEIF', exif=exif.tobytes()))
    assert suffix == real_suffix(data) == '.jpg' and read_photo(data).size == im.size == size_of(data) == (80, 120)
    assert not Image.open(io.BytesIO(data)).getexif()
