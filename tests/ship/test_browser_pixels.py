"What the browser sees of a photo and what it answers, against Python with the same file; and files in bad faith"
import base64, json, zlib

import numpy as np
import pytest
from PIL import Image

from helpers import LONG
from outcomes import CARDS, agree, doubtful
from test_uploads import KINDS, png, saved
from bearclf.photo import PhotoError, any_photo
from bearclf.ship.portable import apply_steps, as_array, read_portable
from bearclf.ship import site
from bearclf.ship.site import write_site
from bearclf.ship.texts import module_text

OPEN = '''
const bytes = (o) => Uint8Array.from(atob(o), (c) => c.charCodeAt(0));
const text = (o) => btoa(Array.from(o, (c) => String.fromCharCode(c)).join(''));
self.look = async (data, name, asked, whole) => {
  try {
    const photo = await readPhoto(new File([bytes(data)], name)), { width, height } = photo;
    const seen = asked.map(([mode, steps]) => text(prepared(photo, steps, mode).map((o) => Math.round(o * 255))));
    return { width, height, seen, said: whole && await (await site.loading).answer(photo) };
  } catch (e) {
    if (!(e instanceof Refused)) throw e;
    return { code: e.code, values: e.values };
  }
};'''


def b64(data): return base64.b64encode(data).decode()

@pytest.fixture(scope='module')
def vague_model(demo_model, tmp_path_factory):
    "The demo model, of which nobody has said below what it is not sure"
    folder, facts = tmp_path_factory.mktemp('vague'), json.loads((demo_model/'export.json').read_text('utf-8'))
    (folder/'export.onnx').write_bytes((demo_model/'export.onnx').read_bytes())
    (folder/'export.json').write_text(json.dumps({k: v for k, v in facts.items() if k != 'unsure_below'}), 'utf-8')
    return folder

@pytest.fixture(scope='module')
def page(browser, vague_model, tmp_path_factory):
    "The page that `write_site` makes; what its code has for itself can be asked from here"
    with pytest.MonkeyPatch.context() as m:
        m.setattr(site, 'module_text', lambda *o: module_text(*o) + OPEN)
        file = write_site(vague_model, tmp_path_factory.mktemp('site')/'bears.html')
    page = browser.new_page()
    page.goto(f'{file.as_uri()}#en')
    page.wait_for_selector('html[data-ready=yes]', timeout=1000*LONG)
    yield page
    page.close()

@pytest.fixture(scope='module')
def clf(vague_model): return read_portable(vague_model)

def look(page, data, asked=(), name='a', whole=False):
    return page.evaluate('([a, b, c, d]) => look(a, b, c, d)', [b64(data), name, asked, whole])

def same_pixels(page, data, asked, whole=False):
    "What the browser says, if it sees what Python does"
    in_page, photo = look(page, data, asked, whole=whole), any_photo(data)
    assert (in_page['width'], in_page['height']) == photo.size
    for (mode, steps), seen in zip(asked, in_page['seen']):
        ours = np.rint(255*as_array(apply_steps(photo.convert(mode), steps))).ravel()
        assert abs(np.frombuffer(base64.b64decode(seen), 'uint8') - ours).max() <= 1, (mode, steps)
    return in_page['said']

def same(page, clf, data, asked):
    "Whether the browser sees and says what Python does"
    said, here = same_pixels(page, data, asked, True), clf(data)
    assert max(abs(here.probabilities[k] - v) for k, v in said['probabilities']) < .001
    assert (said['label'], said['familiar'], said['sure']) == (here.label, here.familiar, here.sure)


def scene(w, h):
    "A picture with edges, noise and soft parts"
    y, x = np.mgrid[:h, :w]
    a = np.stack([127 + 120*np.sin(x/(7 + w/40) + y/31), x*255/w, 127 + 100*np.cos(y/(5 + h/30))*np.sin(x/13)], -1)
    return Image.fromarray((a + np.random.default_rng(0).normal(0, 8, a.shape)).clip(0, 255).astype('uint8'))

def turned(turn):
    exif = Image.Exif()
    exif[0x0112] = turn
    return exif

def forms():
    "Name -> bytes of a photo in all forms that a browser opens"
    im, y, x = scene(250, 190), *np.mgrid[:190, :250]
    clear, palette, grey = im.copy(), im.convert('P', palette=Image.Palette.ADAPTIVE, colors=64), im.convert('L')
    clear.putalpha(Image.fromarray((x*255/249).astype('uint8')))
    said = {f'{fmt} turned {i}': saved(im, fmt, exif=turned(i)) for fmt, all_of in
            dict(JPEG=range(2, 9), PNG=[6, 7], WEBP=range(2, 9), AVIF=[6]).items() for i in all_of}
    said |= {f'JPEG {i}': saved(im, 'JPEG', subsampling=i, progressive=i == 1) for i in range(3)}
    said |= {f'{fmt} grey': saved(grey, fmt) for fmt in ('JPEG', 'PNG', 'BMP', 'GIF')}
    said |= {fmt: saved(im, fmt) for fmt in ('PNG', 'WEBP', 'GIF', 'BMP', 'AVIF')}
    said |= {'JPEG CMYK': saved(im.convert('CMYK'), 'JPEG'), 'PNG clear': saved(clear, 'PNG'),
             'PNG clear grey': saved(clear.convert('LA'), 'PNG'), 'WEBP clear': saved(clear, 'WEBP', lossless=True),
             'PNG palette': saved(palette, 'PNG'), 'GIF clear': saved(palette, 'GIF', transparency=5),
             'PNG palette clear': saved(palette, 'PNG', transparency=bytes(range(0, 256, 4))),
             'PNG 1': saved(im.convert('1'), 'PNG')}
    fine = {'PNG 16, 13 used': x*20 + y*16, 'PNG 16': x*262 + y, 'PNG 16 dark': x % 3}
    return said | {k: saved(Image.fromarray(o.astype('uint16')), 'PNG') for k, o in fine.items()}

FORMS = forms()
SQUISH = [dict(do='squish', size=[96, 64])]
TWICE = [dict(do='squish', size=[80, 130]), dict(do='center', size=[64, 64])]
PADS = [[dict(do=o, size=[90, 160], pad_mode=p)] for o in ('pad', 'center') for p in ('zeros', 'border', 'reflection')]
STEPS = SQUISH, TWICE, [dict(do='crop', size=[64, 48])], [dict(do='pad', size=[64, 64])], \
    [dict(do='center', size=[300, 64])], *PADS
ALL = [[mode, o] for mode in ('RGB', 'L') for o in STEPS]


@pytest.mark.parametrize('name', FORMS)
def test_every_form(page, clf, name):
    if 'turned' in name: same_pixels(page, FORMS[name], ALL[:1])
    else: same(page, clf, FORMS[name], [['RGB', TWICE], ['L', SQUISH]])

@pytest.mark.parametrize('size', [(640, 480), (1, 300), (1000, 1), (1, 1), (33, 47), (90, 900)], ids=str)
def test_every_step(page, size): same_pixels(page, saved(scene(*size), 'PNG'), ALL)

@pytest.mark.parametrize('step', [150, pytest.param(10, marks=pytest.mark.exhaustive)])
def test_real_photos(page, clf, shared, step):
    for o in sorted((shared/'bears_small').rglob('*.*'))[::step]: same(page, clf, o.read_bytes(), ALL[:1])

def test_all_three_outcomes(page, clf, tmp_path):
    "In the order of the list, the last photo first"
    files = doubtful(tmp_path)
    page.set_input_files('#zone input', files)
    page.wait_for_selector(f'#list > li:nth-child({len(files)}) h2', timeout=1000*LONG)
    page.wait_for_selector('#count[hidden]', state='attached', timeout=1000*LONG)
    agree(page.evaluate(CARDS), [clf(o) for o in reversed(files)])


WHY = {'empty.jpg': 'empty', 'byte.jpg': 'is_unknown', 'text.txt': 'is_text', 'page.html': 'is_web_page',
       'script.svg': 'is_drawing', 'figure.eps': 'is_drawing', 'half.jpg': 'damaged', 'claims.png': 'too_many_pixels',
       'bomb.png': 'too_many_pixels', 'pages.tif': 'is_tiff', 'deep.tif': 'is_tiff',
       'icons.ico': 'is_unknown'}

LARGE = 'sixty.jpg', 'fine.png'

@pytest.mark.parametrize('names', [[o for o in KINDS if o not in LARGE],
                                   pytest.param(LARGE, marks=pytest.mark.exhaustive)], ids=['many', 'large'])
def test_bad_faith(page, clf, names):
    "Each is answered or refused with its code, nothing of it acts, and the next photo is answered"
    for name in names:
        said = look(page, KINDS[name][0], name=name)
        assert said.get('code') == WHY.get(name) and said.get('values', {}).get('name', name) == name
    assert page.evaluate('window.hit') is None
    same(page, clf, FORMS['PNG'], ALL[:1])

def box(brand): return b'\0\0\0\x18ftyp' + brand + b'\0\0\0\0' + bytes(100)

@pytest.mark.parametrize('data, code', [
    (b'%PDF-1.7', 'is_pdf'), (box(b'isom'), 'is_video'), (box(b'heic'), 'is_heic'), (box(b'crx '), 'is_raw'),
    (b'\x1aE\xdf\xa3', 'is_video'), (b'\xef\xbb\xbf <?xml ?>', 'is_drawing'), ('медведь'.encode(), 'is_text'),
    (box(b'avif'), 'damaged'), (b'BM' + b'\xff'*60, 'too_many_pixels'), (b'GIF89a', 'damaged'),
    (b'RIFF1234WEBP', 'damaged'),
    (b'GIF89a\1\0\1\0\0\0\0,\0\0\0\0\xff\xff\xff\xff' + bytes(9), 'too_many_pixels'), (png(0, 9), 'damaged'),
    (b'\x89PNG\r\n\x1a\n', 'damaged'), (b'\xff\xd8\xff', 'damaged')])
def test_what_it_is(page, data, code):
    assert look(page, data)['code'] == code

def test_half_a_file(page):
    "What Python refuses is refused here, too"
    for name, data in FORMS.items():
        half = data[:len(data)//2]
        with pytest.raises(PhotoError): any_photo(half)
        assert look(page, half).get('code') == 'damaged', name

def test_what_is_too_narrow_for_a_model(page):
    "Both refuse what would need a part of more than 150 million pixels"
    data, steps = saved(Image.new('L', (20_000, 1)), 'PNG'), [dict(do='pad', size=[64, 64])]
    with pytest.raises(PhotoError, match='too long and narrow'): apply_steps(any_photo(data), steps)
    assert look(page, data, [['RGB', steps]])['code'] == 'too_narrow'

def test_grey_of_16_bits_in_another_order(page):
    "Is refused: a browser would keep the upper eight bits alone"
    data = bytearray(saved(Image.fromarray(np.full((1, 1), 1000, 'uint16')), 'PNG'))
    data[28] = 1
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, 'big')
    assert any_photo(bytes(data)).size == (1, 1) and look(page, bytes(data))['code'] == 'cannot_open_here'
