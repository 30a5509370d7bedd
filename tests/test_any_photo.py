"Whatever a photo comes in, it is the same photo; and what is none gets one sentence"
import io
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from bearclf.core import BearclfError
from bearclf.photo import any_photo
from bearclf.practice.drawn import draw_bear

BEAR = draw_bear('teddy', 3, 64)
RGB, GREY = np.array(BEAR), np.array(BEAR.convert('L'))
PNG = io.BytesIO(); BEAR.save(PNG, 'PNG'); PNG = PNG.getvalue()
FIRST, ALPHA = torch.from_numpy(RGB).permute(2, 0, 1), np.full((64, 64, 1), 255, np.uint8)


class OneWay(io.BytesIO):
    "As an answer from the web"
    def seekable(self): return False
    def seek(self, *_): raise io.UnsupportedOperation

def stood(at):
    b = io.BytesIO(PNG)
    b.seek(at)
    return b

HOLDERS = dict(
    path=lambda f: f, text=str, opened=lambda f: f.open('rb'), lazy=Image.open, bytes=lambda _: PNG,
    bytearray=lambda _: bytearray(PNG), memoryview=lambda _: memoryview(PNG), strided=lambda _: memoryview(
        bytes(o for p in zip(PNG, PNG) for o in p))[::2], stood=lambda _: stood(20), one_way=lambda _: OneWay(PNG),
    upload=lambda _: dict(name='a.png', content=memoryview(PNG)),
    fastapi=lambda _: SimpleNamespace(file=stood(0), filename='a.png'))
COLOURS = dict(
    picture=BEAR, rgba=BEAR.convert('RGBA'), array=RGB, alpha=np.concatenate([RGB, ALPHA], 2), long=RGB.astype('int64'),
    float=RGB/255, half_open=(RGB/255*1.02 - .01).clip(-.01, 1.01), float32=(RGB/255).astype('f4'),
    to_255=RGB.astype('f4'), sixteen=RGB.astype('u2')*257, first=RGB.transpose(2, 0, 1), tensor=FIRST,
    unit=FIRST/255, half=(FIRST/255).half(), bfloat=(FIRST/255).bfloat16(), grad=(FIRST/255).requires_grad_(),
    last=torch.from_numpy(RGB))
GREYS = dict(flat=GREY, one=GREY[..., None], two=np.dstack([GREY, ALPHA]), sixteen=GREY.astype('u2')*257,
             tensor=torch.from_numpy(GREY), tensor_one=torch.from_numpy(GREY)[None], picture=BEAR.convert('L'),
             la=BEAR.convert('LA'), premultiplied=BEAR.convert('LA').convert('La'))

def differ(a, b): return int(np.abs(np.int16(a) - np.int16(b)).max())

@pytest.mark.parametrize('how', HOLDERS)
def test_holders(tmp_path, how):
    (tmp_path/'a.png').write_bytes(PNG)
    im = any_photo(HOLDERS[how](tmp_path/'a.png'))
    assert im.mode == 'RGB' and differ(im, RGB) == 0

@pytest.mark.parametrize('how', COLOURS)
def test_colours(how): assert differ(any_photo(COLOURS[how]), RGB) <= (5 if how == 'half_open' else 1)

@pytest.mark.parametrize('how', GREYS)
def test_grey(how): assert differ(any_photo(GREYS[how]), GREY[..., None].repeat(3, 2)) <= 1

@pytest.mark.parametrize('bits', [10, 12, 14, 16])
def test_bits(bits):
    "What a camera of so many bits gives keeps its levels"
    levels = np.linspace(0, 2**bits - 1, 256).round().astype('u2').reshape(16, 16, 1).repeat(3, 2)
    assert sorted(np.array(any_photo(levels))[..., 0].ravel().tolist()) == list(range(256))

def test_black_and_white():
    for o in GREY > 100, torch.from_numpy(GREY > 100):
        assert differ(any_photo(o), 255*(GREY > 100)[..., None].repeat(3, 2)) == 0
    assert differ(any_photo(np.zeros((4, 4))), 0) == 0

@pytest.mark.parametrize('mode', ['1', 'L', 'P', 'LA', 'PA', 'RGBX', 'RGBA', 'RGBa', 'CMYK', 'YCbCr', 'HSV', 'I', 'F'])
def test_modes(mode):
    by_way = {'PA': 'P', 'RGBa': 'RGBA'}.get(mode)
    im = any_photo((BEAR.convert(by_way) if by_way else BEAR).convert(mode))
    assert (im.mode, im.size) == ('RGB', BEAR.size)


NOTHING = dict(none=None, number=3, several=['a.jpg'], thing=object(), dict={}, empty=np.zeros((0, 3, 3)),
               row=np.zeros(4), batch=np.zeros((2, 3, 5, 3)), seven=np.zeros((5, 5, 7)), words=np.array([['a']]),
               one=np.float64(3), nan=np.full((5, 5), np.nan), normalized=torch.randn(3, 9, 9),
               tensors=torch.zeros(2, 3, 4, 4), minus=np.full((5, 5), -3), huge=np.full((5, 5), 10**6),
               gain=np.linspace(0, 3, 25).reshape(5, 5),
               complex=np.zeros((5, 5), complex), no_size=Image.new('RGB', (0, 4)), no_bytes=b'', path_bytes=b'a.jpg',
               text=io.StringIO('x'), zero='a\0b', long='x'*5000, space='', folder=str(Path(__file__).parent),
               none_there='none/*.jpg', user='~nobody-here/a.jpg')

@pytest.mark.parametrize('what', NOTHING)
def test_what_is_no_photo_gets_one_sentence(what):
    with pytest.raises(BearclfError) as e: any_photo(NOTHING[what])
    assert '\n' not in str(e.value) and len(str(e.value)) < 300 and 'Error' not in str(e.value)

@pytest.mark.parametrize('address', ['http://a.example/x.jpg', 'https://a.example/x.jpg?w=1', 'ftp://a.example/x.jpg',
                                     Path('https://a.example/x.jpg'), 'data:image/png;base64,' + 'A'*500])
def test_an_address_is_to_be_downloaded_first(address):
    with pytest.raises(BearclfError, match='is an address, not a file; download it first') as e: any_photo(address)
    assert len(str(e.value)) < 200

def test_home_and_patterns(tmp_path, monkeypatch):
    for o in 'HOME', 'USERPROFILE': monkeypatch.setenv(o, str(tmp_path))
    for o in 'a[1].png', 'b.png': (tmp_path/o).write_bytes(PNG)
    assert any_photo('~/b.png').size == any_photo(tmp_path/'a[1].png').size == (64, 64)
    with pytest.raises(BearclfError, match='pattern, not a file; give the files that fit it'): any_photo('~/*.png')

def test_a_closed_picture(tmp_path):
    BEAR.save(tmp_path/'a.png')
    with Image.open(tmp_path/'a.png') as im: pass
    with pytest.raises(BearclfError, match='this photo is damaged or cut short'): any_photo(im)
