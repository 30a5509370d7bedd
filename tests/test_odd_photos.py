"Odd notes in good photos, files that decoders stumble over, grey of more than 256 levels, very long pictures"
import io, pickle, random, shutil, struct, zlib

import numpy as np
import pillow_heif
import pytest
from fastai.vision.all import CategoryBlock
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image, ImageFile, TiffImagePlugin

from bearclf.cli import main
from bearclf.core import BearclfError, error_text
from bearclf.folder.look import check_folder
from bearclf.folder.moves import undo
from bearclf.folder.private import without_personal_data
from bearclf.folder.verify import verify
from bearclf.photo import (FORMATS, PhotoError, ResizedPhotos, contact_sheet, forget, look_at, read_photo, real_suffix,
                           size_of)
from bearclf.practice.drawn import draw_bear
from bearclf.train.data import *
from bearclf.train.learner import photo_learner


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path/'cache'))
    forget()


def stored(im, fmt='JPEG', **kwargs):
    b = io.BytesIO()
    if fmt == 'HEIF': pillow_heif.from_pillow(im).save(b, **kwargs)
    else: im.save(b, fmt, **kwargs)
    return b.getvalue()


# --- what a photo says of itself

SCENE = Image.new('RGB', (24, 16), 'blue')
SCENE.paste('yellow', (0, 0, 8, 8))  # above, on the left
CORNER = {1: (2, 2), 2: (21, 2), 3: (21, 13), 4: (2, 13), 5: (2, 2), 6: (13, 2), 7: (13, 21), 8: (2, 21)}
SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


def exif_of(entries, order='>', more=b''):
    "EXIF of `entries` (tag, kind, count, bytes), which need not make sense; what is longer than 4 bytes lies behind"
    head, at = b'', 8 + 2 + 12*len(entries) + 4
    for tag, kind, count, value in entries:
        place = value.ljust(4, b'\0') if len(value) <= 4 else struct.pack(f'{order}I', at + len(more))
        if len(value) > 4: more += value
        head += struct.pack(f'{order}HHI', tag, kind, count) + place
    start = (b'MM\0*' if order == '>' else b'II*\0') + struct.pack(f'{order}IH', 8, len(entries))
    return b'Exif\0\0' + start + head + bytes(4) + more


def with_exif(fmt, exif):
    "The scene in a file of the format `fmt` with the bytes `exif`, as they are"
    if fmt == 'HEIF': return stored(SCENE, fmt, exif=exif)
    if fmt == 'JPEG':
        data = stored(SCENE)
        return data[:2] + b'\xff\xe1' + struct.pack('>H', 2 + len(exif)) + exif + data[2:]
    if fmt == 'PNG':
        data, chunk = stored(SCENE, fmt), b'eXIf' + exif[6:]
        return data[:33] + struct.pack('>I', len(exif) - 6) + chunk + struct.pack('>I', zlib.crc32(chunk)) + data[33:]
    plain = stored(SCENE, fmt, exif=exif_of([(0x010f, 2, len(exif), bytes(len(exif)))]), lossless=True)
    at = plain.index(b'EXIF')
    body = exif + b'\0'*(len(exif) % 2)
    data = plain[:at] + b'EXIF' + struct.pack('<I', len(exif)) + body
    return data[:4] + struct.pack('<I', len(data) - 8) + data[8:]


def is_the_scene(im, turn=1):
    assert im.size == ((24, 16) if turn < 5 else (16, 24)) and im.mode == 'RGB'
    found = [im.getpixel(o) for o in (CORNER[turn], (im.width//2, im.height//2))]
    return found[0][0] > 150 > found[0][2] and found[1][2] > 150 > found[1][0]


SHORT = lambda tag, value, order='>': (tag, 3, 1, struct.pack(f'{order}H', value))
TURN = SHORT(0x0112, 6)
ODD = {  # entries, and how the photo is turned
    'resolution as text': ([TURN, (282, 2, 3, b'72\0'), (283, 2, 3, b'72\0')], 6),
    'resolution as text, in cm': ([TURN, (282, 2, 2, b'7\0'), SHORT(296, 3)], 6),
    'resolution as an empty text': ([TURN, (282, 2, 1, b'\0'), SHORT(296, 2)], 6),
    'resolution as bytes': ([TURN, (282, 7, 1, b'\1'), SHORT(296, 2)], 6),
    'resolution of nothing': ([TURN, (282, 5, 1, bytes(8)), SHORT(296, 2)], 6),
    'a maker that is a fraction': ([(271, 10, 1, struct.pack('>ii', 1, -3)), TURN], 6),
    'a date that is a number': ([TURN, (306, 12, 1, struct.pack('>d', 2e9))], 6),
    'a huge number': ([TURN, (305, 4, 1, b'\xff'*4), (315, 4, 1, b'\xff'*4)], 6),
    'offsets that lead out of the file': ([TURN, (0x8769, 4, 1, b'\xff'*4), (0x8825, 4, 1, b'\x7f\0\0\0')], 6),
    'more than there is': ([TURN, (0x9003, 2, 2**31, b'\0\0\0\x20')], 6),
    'a kind that is none': ([(271, 99, 7, b'abcd'), TURN], 6),
    'a turn of 0': ([SHORT(0x0112, 0)], 1), 'a turn of 9': ([SHORT(0x0112, 9)], 1),
    'a turn of 65535': ([SHORT(0x0112, 65535)], 1),
    'a turn as text': ([(0x0112, 2, 2, b'6\0')], 6), 'a turn as another text': ([(0x0112, 2, 4, b'top\0')], 1),
    'a turn in a list': ([(0x0112, 3, 2, struct.pack('>HH', 6, 6))], 6),
    'a turn with a point': ([(0x0112, 12, 1, struct.pack('>d', 6))], 6),
    'a turn that is no number': ([(0x0112, 12, 1, struct.pack('>d', float('nan')))], 1),
    'a turn as a fraction': ([(0x0112, 5, 1, struct.pack('>II', 6, 1))], 6),
    'a turn of 6/0': ([(0x0112, 5, 1, struct.pack('>II', 6, 0))], 1),
    'a turn in a byte': ([(0x0112, 1, 1, b'\6')], 6)}


def opened_by_pillow(data):
    try: return [Image.open(io.BytesIO(data))]
    except OSError: return [] # some of the notes stop it


@pytest.mark.parametrize('fmt', ['JPEG', 'PNG', 'WEBP'])
@pytest.mark.parametrize('odd', ODD)
def test_a_good_photo_with_odd_notes_is_read_upright(odd, fmt, tmp_path):
    entries, turn = ODD[odd]
    data = with_exif(fmt, exif_of(entries))
    (tmp_path/'a.x').write_bytes(data)
    for o in data, tmp_path/'a.x', *opened_by_pillow(data): assert is_the_scene(read_photo(o), turn)
    assert size_of(data) == (24, 16) and not look_at(tmp_path/'a.x', dict(size=lambda im: im.size)).reason
    kept, suffix, im = without_personal_data(data)
    assert is_the_scene(im, turn) and is_the_scene(read_photo(kept), turn) and b'Exif' not in kept
    assert real_suffix(kept) == suffix


NOTE = st.tuples(st.sampled_from([271, 272, 274, 282, 283, 296, 305, 306, 700, 0x8769, 0x8825, 0x9003]),
                 st.integers(0, 14), st.integers(0, 5), st.binary(max_size=12))

@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(NOTE, max_size=6), st.sampled_from('<>'), st.sampled_from(['JPEG', 'PNG', 'WEBP', 'HEIF']),
       st.integers(1, 8), st.binary(max_size=20))
def test_whatever_the_notes_are_it_is_a_photo(notes, order, fmt, turn, more):
    "And upright, if the first note says how it is to be turned; of a HEIC, it is not the notes that say so"
    notes = [SHORT(274, turn, order)] + [o for o in notes if o[0] != 274]
    im = read_photo(with_exif(fmt, exif_of(notes, order, more)))
    assert fmt == 'HEIF' or is_the_scene(im, turn)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=80), st.sampled_from(['JPEG', 'PNG', 'WEBP']))
def test_notes_that_are_none(rubbish, fmt):
    assert read_photo(with_exif(fmt, b'Exif\0\0' + rubbish)).size in ((24, 16), (16, 24))


@pytest.mark.parametrize('segment', [b'\xed\0\x1aPhotoshop 3.0\x008BIM\4\4\xff', b'\xe2\0\x0eICC_PROFILE\0',
                                     b'\xe0\0\7JFIF\0', b'\xe2\0\x0eMPF\0MM\0*\0\0\xff\xff'])
def test_broken_segments_of_a_jpeg(segment):
    data = stored(SCENE)
    size = int.from_bytes(segment[1:3], 'big')
    assert is_the_scene(read_photo(data[:2] + b'\xff' + segment[:1] + segment[1:].ljust(size, b'\0') + data[2:]))


@pytest.mark.parametrize('kind', [b'zTXt', b'iTXt', b'iCCP', b'eXIf', b'tEXt', b'pHYs'])
@pytest.mark.parametrize('whole', [True, False])
@pytest.mark.parametrize('behind', [True, False])
def test_broken_chunks_of_a_png(kind, whole, behind):
    "Longer than Pillow likes, or with a sum that is wrong"
    body = kind + b'Comment\0\0' + b'\0\0\0'*(kind == b'iTXt') + zlib.compress(bytes(3_000_000))
    chunk = struct.pack('>I', len(body) - 4) + body + struct.pack('>I', zlib.crc32(body) if whole else 7)
    data = stored(SCENE, 'PNG')
    at = len(data) - 12 if behind else 33
    assert is_the_scene(read_photo(data[:at] + chunk + data[at:]))


@pytest.mark.parametrize('notes', [{282: '72', 283: '72', 296: 3}, {0x8769: 2**31}, {0x8825: 7, 34853: 9}])
def test_odd_notes_of_a_tiff(notes):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    for k, v in notes.items():
        tags[k] = v
        tags.tagtype[k] = 2 if isinstance(v, str) else 3 if v < 256 else 4
    assert is_the_scene(read_photo(stored(SCENE, 'TIFF', tiffinfo=tags)))


# --- whatever a decoder says

LIKELY = [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12, 13, 127, 128, 255]

def spoilt(data, rng):
    "`data` with some bytes changed, or cut short"
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4, 16])):
        at = rng.randrange(min(len(data), rng.choice([16, 64, 400, 10**6])))
        data[at] = rng.choice(LIKELY + [rng.randrange(256)])
    return bytes(data[:rng.randrange(len(data))] if rng.random() < .2 else data)


def originals(fmt):
    bear, exif = draw_bear('black', 1, 32), Image.Exif()
    exif.update({274: 6, 271: 'Bearphone', 282: 72., 283: 72., 296: 2})
    exif.get_ifd(0x8825)[2] = (1., 2., 3.)
    kw = {} if fmt in ('GIF', 'BMP') else dict(exif=exif.tobytes())
    yield stored(bear, fmt, **kw)
    if fmt == 'TIFF': yield from (stored(bear.convert('I;16'), fmt), stored(bear, fmt, compression='jpeg'))
    if fmt == 'PNG': yield from (stored(bear.convert(o), fmt) for o in ('P', 'LA', 'I;16'))


def is_photo_or_sentence(data):
    try: im = read_photo(data, 'bear.jpg', side=16)
    except PhotoError as e: assert str(e).startswith('bear.jpg is ') and e.reason; im = None
    for f in real_suffix, size_of, without_personal_data:
        try: f(data)
        except PhotoError: pass
    assert im is None or im.mode == 'RGB' and min(im.size) > 0


@pytest.mark.parametrize('fmt', FORMATS + ('MPO',))
@pytest.mark.parametrize('n', [60, pytest.param(3000, marks=pytest.mark.exhaustive)])
def test_a_spoilt_file_is_a_photo_or_a_sentence(fmt, n):
    rng, files = random.Random(f'spoilt {fmt}'), [*originals(fmt)]
    for i in range(n): is_photo_or_sentence(spoilt(files[i % len(files)], rng))


RAISED = [TypeError, AttributeError, KeyError, ZeroDivisionError, OverflowError, MemoryError, struct.error,
          AssertionError, RecursionError, EOFError, NotImplementedError, Exception,
          UnicodeDecodeError('utf-8', b'x', 0, 1, 'odd')]

@pytest.mark.parametrize('e', RAISED)
def test_whatever_a_decoder_raises(e, tmp_path, monkeypatch):
    (tmp_path/'pets/a').mkdir(parents=True)
    bear = tmp_path/'pets/a/bear.jpg'
    bear.write_bytes(stored(SCENE))
    lazy = Image.open(bear)
    def stumble(*args, **kwargs): raise e
    monkeypatch.setattr(ImageFile.ImageFile, 'load', stumble)
    for f in (read_photo, lambda o: contact_sheet([o]), ResizedPhotos(), lambda o: read_photo(o.read_bytes()),
              lambda o: read_photo(lazy), lambda o: without_personal_data(o.read_bytes())):
        assert 'is damaged or cut short; get it again.' in error_text(f, bear)
    assert look_at(bear).reason == 'damaged or cut short'
    assert [r[1] for r in verify(tmp_path/'pets').rows] == ['unreadable']
    assert not check_folder(tmp_path/'pets').photos
    monkeypatch.setattr(Image, 'open', stumble)
    for f in real_suffix, size_of: assert 'is damaged or cut short' in error_text(f, bear)


def test_an_open_picture_whose_file_is_cut_short():
    data = stored(draw_bear('black', 1, 300))
    for o in data[:len(data)//2], stored(draw_bear('black', 1, 300), 'PNG')[:900]:
        assert 'this photo is damaged or cut short' in error_text(read_photo, Image.open(io.BytesIO(o)))


@pytest.mark.parametrize('kwargs', [dict(background='no colour'), dict(levels=4095), dict(levels=(7, 7)),
                                    dict(levels=('a', 'b')), dict(levels=(0, float('nan')))])
def test_a_mistake_in_the_call_is_no_fault_of_the_photo(kwargs):
    with pytest.raises(ValueError) as e: read_photo(stored(SCENE), **kwargs)
    assert 'damaged' not in str(e.value)


# --- boxes with a brand

def box(brand, others=b''):
    return struct.pack('>I', 16 + len(others)) + b'ftyp' + brand + bytes(4) + others + b'\xfe'*99

@pytest.mark.parametrize('brand, others, said', [
    *((o.encode(), b'', f'a HEIC photo ({o})') for o in 'heic heix heim heis hevc hevx hevm hevs msf1 mif1'.split()),
    (b'avis', b'', 'an AVIF photo (avis)'), (b'mif1', b'heic', 'a HEIC photo (mif1)'),
    (b'avif', b'', 'damaged or cut short; get it again, or export this AVIF photo as a JPEG'),
    (b'mif1', b'miafavif', 'an AVIF photo (mif1)'), (b'crx ', b'isom', 'a camera raw'), (b'isom', b'mp42', 'a video'),
    (b'qt  ', b'', 'a video')])
def test_what_cannot_be_read_is_named_by_its_brand(brand, others, said):
    found = error_text(read_photo, box(brand, others), 'IMG_1.HEIC')
    assert found.startswith(f'IMG_1.HEIC is {said}') and ('as a JPEG' in found or 'video' in said)
    assert found == error_text(real_suffix, box(brand, others), 'IMG_1.HEIC')


def test_brands_that_can_be_read():
    data = stored(draw_bear('black', 1, 64), 'HEIF')
    for o in 'heic heix heim heis hevc mif1 msf1'.split():
        assert read_photo(data[:8] + o.encode() + data[12:]).size == (64, 64)


# --- more than 256 levels of grey

def grey(x, fmt='TIFF', **kwargs): return stored(Image.fromarray(x), fmt, **kwargs)
def seen(data, **kwargs): return np.asarray(read_photo(data, **kwargs))[..., 0].astype(int)
def ramp(lo, hi, kind): return np.linspace(lo, hi, 64*80).reshape(64, 80).astype(kind)


@pytest.mark.parametrize('fmt', ['TIFF', 'PNG'])
@pytest.mark.parametrize('bits', range(8, 17))
def test_grey_keeps_its_levels(bits, fmt):
    for most in 2**bits - 1, 2**bits//2 + 1:
        x = ramp(0, most, np.uint16)
        found = seen(grey(x, fmt))
        assert abs(found - x.astype(float)*255/(2**bits - 1)).max() <= 1
        assert len(np.unique(found)) >= 127


@pytest.mark.parametrize('kind', [np.int16, np.int32, np.float32])
@pytest.mark.parametrize('lo, hi, white', [(-1000, 3000, 4095), (-1, 1, 1), (-500, -100, 0), (0, 70_000, 131_071)])
def test_below_zero_and_beyond(kind, lo, hi, white):
    if hi > 32767 and kind == np.int16: return
    x = ramp(lo, hi, kind)
    data = signed_tiff(x) if kind == np.int16 else grey(x)
    assert abs(seen(data) - (x.astype(float) - lo)*255/(white - lo)).max() <= 1


def signed_tiff(x):
    "Pillow reads such files, but does not write them"
    tags = [(256, 4, x.shape[1]), (257, 4, x.shape[0]), (258, 3, 16), (259, 3, 1), (262, 3, 1), (273, 4, 8),
            (277, 3, 1), (278, 4, x.shape[0]), (279, 4, x.nbytes), (339, 3, 2)]
    return (b'II*\0' + struct.pack('<I', 8 + x.nbytes) + x.tobytes() + struct.pack('<H', len(tags)) +
            b''.join(struct.pack('<HHII', t, k, 1, v) for t, k, v in tags) + bytes(4))


def test_what_is_no_number_does_not_count():
    x = ramp(0, 1, np.float32)
    want = seen(grey(x))
    x[0, :5] = np.nan, np.inf, -np.inf, -3.4e38, 3.4e38
    found = seen(grey(x))
    assert (found[1:] == want[1:]).all() and list(found[0, :5]) == [0, 255, 0, 0, 255]
    for o in np.nan, np.inf, 0: assert seen(grey(np.full((4, 4), o, np.float32))).shape == (4, 4)


@pytest.mark.parametrize('most, white', [(1., 1), (.3, .5), (1.004, 1), (.003, 2**-8), (255., 255), (255.3, 255),
                                         (900, 1023)])
def test_numbers_with_a_point(most, white):
    x = ramp(0, most, np.float32)
    assert abs(seen(grey(x)) - np.clip(x*255/white, 0, 255)).max() <= 1


def test_a_big_endian_tiff_and_one_in_which_0_is_white():
    x = ramp(0, 4095, np.uint16)
    for mode in 'I;16B', 'I;16L':
        im = Image.frombytes(mode, (80, 64), x.astype('>u2' if mode == 'I;16B' else '<u2').tobytes())
        assert (seen(stored(im, 'TIFF')) == seen(grey(x))).all() and (seen(im) == seen(grey(x))).all()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[262] = 0
    data = grey(x, tiffinfo=tags)
    assert Image.open(io.BytesIO(data)).tag_v2[262] == 0
    assert abs(seen(data) - (255 - seen(grey(x)))).max() <= 1


MODES = dict.fromkeys(['1', 'L', 'P', 'LA', 'PA', 'La', 'RGB', 'RGBA', 'RGBa', 'RGBX', 'CMYK', 'YCbCr', 'LAB', 'HSV',
                       'I', 'F', 'I;16', 'I;16L', 'I;16B'])

@pytest.mark.parametrize('mode', MODES)
def test_each_of_pillows_modes(mode):
    for size in (5, 600), (1, 1):
        im = read_photo(Image.new(mode, size))
        assert im.mode == 'RGB' and im.size == size and contact_sheet([Image.new(mode, size)]).mode == 'RGB'


def test_colours_of_modes():
    red = Image.new('RGB', (4, 300), (200, 30, 30))
    for o in 'HSV', 'YCbCr', 'CMYK', 'RGBA', 'RGBX', 'LAB':
        from PIL import ImageCms
        p = ImageCms.createProfile
        im = red.convert(o) if o != 'LAB' else ImageCms.profileToProfile(red, p('sRGB'), p('LAB'), outputMode='LAB')
        assert np.abs(np.subtract(read_photo(im).getpixel((1, 299)), (200, 30, 30))).max() < 6, o


def microscope(path):
    "Two classes of 12 bits, one of which is dim"
    for c, most in (('bright', 4000), ('dim', 500)):
        (path/c).mkdir(parents=True)
        im = Image.fromarray(ramp(0, most, np.uint16)).resize((500, 450), 0)
        for i in range(6): im.rotate(3*i).save(path/c/f'{i}.png')
    return path


def test_the_same_levels_for_each_file_if_the_person_asks(tmp_path, capsys):
    path = microscope(tmp_path/'cells')
    one, two = path/'bright/0.png', path/'dim/0.png'
    assert seen(one).max() > 240 and seen(two).max() > 240
    assert seen(one, levels=(0, 4095)).max() > 240 > 40 > seen(two, levels=(0, 4095)).max()
    copies = ResizedPhotos(levels=(0, 4095))
    for _ in range(2):
        assert seen(copies(one)).max() > 240 > 40 > seen(copies(two)).max()
        assert seen(ResizedPhotos()(two)).max() > 240
        forget()
    assert seen(pickle.loads(pickle.dumps(copies))(two)).max() < 40
    dls = photo_dls(path, 64, bs=4, num_workers=0, batch_tfms=[], blocks=(PhotoBlock(copies), CategoryBlock))
    dim = [x.max() for x, y in zip(*dls.valid.one_batch()) if dls.vocab[y] == 'dim']
    assert dim and max(dim) < .2


# --- longer than a JPEG can be

@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    "Two classes; in one of them a scroll, a hair and a point"
    path = tmp_path_factory.mktemp('long')/'pets'
    for c in 'cats', 'dogs':
        (path/c).mkdir(parents=True)
        for i in range(4): draw_bear('black', i + 9*(c == 'dogs'), 96).save(path/c/f'{i}.jpg')
    for i, o in enumerate([(450, 90_000), (90_000, 450), (1, 66_000), (66_000, 2), (1, 1)]):
        bear = draw_bear('teddy', i, 64).convert('L').resize((max(1, o[0]//200), max(1, o[1]//200)))
        bear.resize(o, 0).save(path/f'cats/long {i}.png', compress_level=1)
    return path


@pytest.fixture
def long(drawn, tmp_path): return shutil.copytree(drawn, tmp_path/'pets')


def test_pictures_that_are_too_long_for_a_jpeg(long, capsys):
    dls = photo_dls(long, 32, bs=4, num_workers=0)
    for b in *dls.train, *dls.valid: assert b[0].shape[1:] == (3, 32, 32)
    assert len(check_folder(long).photos) == 13 and verify(long).n_photos == 13 and contact_sheet(long.rglob('*g'))
    copies = ResizedPhotos()
    sizes = [copies(long/f'cats/long {i}.png').size for i in (0, 1)]
    assert sizes == [(328, 65_500), (65_500, 328)] and copies.file(long/'cats/long 0.png').stat().st_size
    forget()
    assert [copies(long/f'cats/long {i}.png').size for i in (0, 1)] == sizes
    learn = photo_learner(dls, 'squeezenet1_0', pretrained=False)
    with learn.no_bar(): assert all(learn.predict(o)[0] in ('cats', 'dogs') for o in long.rglob('long*'))


# --- one of each in a folder

def test_verify_train_and_predict_with_one_of_each_oddity(long, tmp_path, capsys):
    cats = long/'cats'
    (cats/'odd.jpg').write_bytes(with_exif('JPEG', exif_of(ODD['resolution as text'][0])))
    (cats/'empty text.jpg').write_bytes(with_exif('JPEG', exif_of(ODD['resolution as an empty text'][0])))
    (cats/'heis.heic').write_bytes(box(b'heis'))
    one, two, three = (np.array(draw_bear('teddy', 50 + i, 96).convert('F')) for i in range(3))
    two[:2] = np.nan
    Image.fromarray((4*one).astype(np.uint16)).save(cats/'cells.png')
    Image.fromarray(two).save(cats/'nan.tif')
    Image.frombytes('I;16B', (96, 96), (16*three).astype('>u2').tobytes()).save(cats/'big.tif')
    (cats/'cut.png').write_bytes(stored(SCENE, 'PNG')[:60])
    draw_bear('grizzly', 40, 96).save(cats/'a.nef', 'TIFF')
    for o in 'odd.xmp', 'odd.aae', 'odd.jpg.json', 'a.NEF.pp3': (cats/o).write_text('{}')
    assert main(['verify', str(long)]) == 0
    said = capsys.readouterr().out
    assert '19 photos in pets' in said and 'unreadable: 2' in said and 'camera raw: 1' in said and 'wrong' not in said
    assert 'heis.heic: a HEIC photo (heis)' in said and 'a.nef: only its preview' in said
    model = str(tmp_path/'model')
    assert main(['train', str(long), '--no-pretrained', '--full', '--epochs', '1', '--size', '32', '--arch',
                 'squeezenet1_0', '--num-workers', '0', '--out', model]) == 0
    capsys.readouterr()
    good = 'odd.jpg', 'empty text.jpg', 'cells.png', 'nan.tif', 'big.tif', 'a.nef', 'long 0.png'
    good = [str(cats/o) for o in good]
    assert main(['predict', model, *good]) == 0 and capsys.readouterr().out.count('\n') == len(good)
    assert main(['predict', model, str(cats/'cut.png'), good[0], str(cats/'heis.heic')]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0] == 'cut.png is damaged or cut short; get it again.' and len(said) == 3
    assert said[2].startswith('heis.heic is a HEIC photo (heis)')
