"What somebody may send who means no good: through the page in a browser, and straight to the kernel by hand"
import io, pickle, struct, sys, zlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from helpers import python, top
from bearclf.core import error_text
from bearclf.folder.look import check_folder
from bearclf.ship.page import Feedback, PhotoUpload
from bearclf.ship.texts import static_text
from test_page import as_file, visit

SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><script>parent.hit = 1</script></svg>'


def saved(im, fmt, **kw):
    im.save(b := io.BytesIO(), fmt, **kw)
    return b.getvalue()

def png(width, height, data=b'', bits=8):
    "A PNG that claims to be so large"
    def piece(kind, o): return struct.pack('>I', len(o)) + kind + o + struct.pack('>I', zlib.crc32(kind + o))
    head = struct.pack('>IIBBBBB', width, height, bits, 0, 0, 0, 0)
    return b'\x89PNG\r\n\x1a\n' + piece(b'IHDR', head) + piece(b'IDAT', data) + piece(b'IEND', b'')

def zeros(n):
    "`n` of them, as zlib packs them"
    z = zlib.compressobj(9)
    return b''.join(z.compress(bytes(min(1 << 20, n - i))) for i in range(0, n, 1 << 20)) + z.flush()

def pages(n):
    "A TIFF of many pages, and an ICO that claims as many pictures"
    tiny = saved(Image.new('RGB', (64, 64), 'peru'), 'PNG')
    ico = struct.pack('<HHH', 0, 1, n) + struct.pack('<BBBBHHII', 64, 64, 0, 0, 1, 32, len(tiny), 6 + 16*n)*n + tiny
    leaf = Image.new('RGB', (8, 8), 'peru')
    return saved(leaf, 'TIFF', save_all=True, append_images=[leaf]*(n - 1)), ico

def kinds():
    "Name -> bytes, and whether it is a photo (None: either will do)"
    photo, im = Image.new('RGB', (320, 240), 'peru'), Image.new('L', (4000, 1))
    tif, ico = pages(1000)
    frames = [Image.new('P', (300, 300), i) for i in range(200)]
    big = saved(Image.new('RGB', (10_000, 6_000), 'peru'), 'JPEG')
    return {'empty.jpg': (b'', False), 'byte.jpg': (b'\xff', False), 'text.txt': (b'I am a bear\n'*99, False),
            'page.html': (b'<!DOCTYPE html><script>parent.hit = 1</script>', False), 'script.svg': (SVG, False),
            'figure.eps': (b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\nshowpage\n', False),
            'half.jpg': (saved(Image.effect_noise((900, 900), 90), 'JPEG')[:20_000], False),
            'claims.png': (png(100_000, 100_000, zeros(1000)), False),
            'bomb.png': (png(30_000, 30_000, zeros(1 << 26)), False),
            'frames.gif': (saved(frames[0], 'GIF', save_all=True, append_images=frames[1:]), True),
            'ink.jpg': (saved(photo.convert('CMYK'), 'JPEG'), True),
            'palette.png': (saved(photo.convert('P'), 'PNG'), True),
            'moves.webp': (saved(photo, 'WEBP', save_all=True, append_images=[photo.rotate(9)]), True),
            'sixty.jpg': (big, True), 'pages.tif': (tif, True), 'icons.ico': (ico, None),
            'flat.png': (saved(im, 'PNG'), True),
            'waves.jpg': (saved(Image.new('RGB', (8500, 7000)), 'JPEG', progressive=True, subsampling=0),
                          False),
            'fine.png': (saved(Image.new('P', (5000, 5000)), 'PNG', transparency=0), True),
            'deep.tif': (saved(Image.new('I', (5000, 5000)), 'TIFF', compression='tiff_deflate'), True),
            '../../etc/<img src=x onerror="parent.hit = 1">.png': (saved(photo, 'PNG'), True)}

KINDS = kinds()


def by_hand(msg, buffers):
    "What a visitor's kernel says to a message: the note, and the name of the photo that it has then"
    up = PhotoUpload()
    up._handle_custom_msg(msg, buffers)
    return up.note, up.photo and up.photo[0]

@pytest.mark.parametrize('name', KINDS)
def test_straight_to_the_kernel(name):
    "An answer or one sentence"
    data, good = KINDS[name]
    note, photo = by_hand(dict(kind='photo', name=name, seen=False), [memoryview(data)])
    assert bool(note) != bool(photo) and (good is None or bool(photo) == good), note
    assert '\n' not in note and len(note) < 300 and '..' not in (photo or note)

@pytest.mark.parametrize('msg, buffers', [
    ({}, []), ([], []), ('photo', []), (None, None), (dict(kind='photo'), []), (dict(kind='photo', name='a.jpg'), []),
    (dict(kind='photo', name=7), [b'x']), (dict(kind='photo', name={'a': 1}), [b'x']), (dict(kind=['photo']), [b'x']),
    (dict(kind='photo', name='a.jpg'), [b'x']*10), (dict(kind='paint', name='a.jpg'), [b'x'])])
def test_messages_made_by_hand(msg, buffers):
    assert by_hand(msg, buffers) == ('No photo came with this message. Load the page again, and choose one.', None)

def test_the_limit_is_not_the_browsers():
    "Who raises the trait from the browser raises nothing"
    up = PhotoUpload()
    up.message_mb = up.limit_mb = 1e9
    up._handle_custom_msg(dict(kind='photo', name='a.jpg', seen=True), [bytes(8_000_001)])
    assert up.photo is None and up.note == 'a.jpg is larger than 8 MB; make it smaller first.'

MEMORY = '''
import pickle, re
from bearclf.ship.page import PhotoUpload
up = PhotoUpload()
for name, data in pickle.load(open('uploads', 'rb')):
    up._handle_custom_msg(dict(kind='photo', name=name, seen=False), [data])
    print(name, re.search(r'VmHWM:\\s*(\\d+)', open('/proc/self/status').read())[1])
'''

@pytest.mark.skipif(sys.platform != 'linux', reason='others have no /proc')
def test_memory(tmp_path):
    "All of them, one after the other, and one of 100 MB, which no connection would bring"
    sent = [(name, data) for name, (data, _) in KINDS.items()]
    (tmp_path/'uploads').write_bytes(pickle.dumps([*sent, ('huge.jpg', bytes(100_000_000))]))
    said = python(MEMORY, tmp_path, PYTHONPATH=str(top))
    first, *_, last = [int(o.split()[-1]) for o in said.splitlines()]
    assert last - first < 350_000, said  # KB; a kernel that has loaded its model has 220 MB


def test_what_the_browser_says_of_a_photo_comes_in_its_order():
    "With the messages, not as a state: that may wait in the browser, and then wipe out the sentence that came after it"
    up = PhotoUpload()
    said = lambda **msg: (up._received(up, msg, []), up.note)[1]
    assert said(kind='none', note='too large') == 'too large' and said(kind='coming', note='') == ''
    assert said(kind='photo', name='a.jpg', seen=True) and up.note == said(kind='none', note=['odd'])
    assert len(said(kind='none', note='x'*10**6)) < 1000
    assert "'note'" not in static_text('upload.js').replace("model.get('note')", '')


def test_what_visitors_send(tmp_path):
    "Several at once, a photo with a place in it, bounds, and a folder that cleaning reads as it is"
    kept, exif = Feedback(tmp_path/'wrong', most=8), Image.Exif()
    exif[0x010f] = 'MyCamera'
    photos = [saved(Image.new('RGB', (80, 60), (i*20, 90, 60)), 'JPEG', exif=exif) for i in range(8)]
    with ThreadPoolExecutor(4) as pool:
        names = [*pool.map(lambda o: Feedback(tmp_path/'wrong').keep(o, 'black', 'teddy', .7), photos)]
    report = check_folder(tmp_path/'wrong')
    assert report.counts == {'teddy': 8} and len(kept._rows()) == 8 and not report.left_out
    assert not any(b'MyCamera' in o.read_bytes() for o in report.photos)
    assert 'No more photos' in error_text(kept.keep, photos[0], 'black', 'teddy', .7)
    for o in ('../x', '/x', ''): assert error_text(Feedback(tmp_path/'wrong').keep, photos[0], 'black', o, .7)
    kept.take_back(names[0])
    assert len(kept._rows()) == 7 == len([*(tmp_path/'wrong').glob('*/*')])
    (tmp_path/'wrong/mine.jpg').write_bytes(b'mine')
    kept._write([dict(file='../wrong/mine.jpg', said='', answer='', probability='', when='2020')])
    kept.expire()
    assert (tmp_path/'wrong/mine.jpg').exists() and kept._rows() == [], 'a row deletes only what we have named'


def test_through_the_page(browser, demo_model, fresh_bears, tmp_path):
    "One visit: each gets its answer or its sentence, nothing of it acts, and the next photo is answered"
    from test_page import served
    with served(demo_model, tmp_path) as url, visit(browser, url) as v:
        page = v.page
        page.wait_for_selector('.bearclf-head b')
        for name, (data, good) in KINDS.items():
            page.set_input_files('.bearclf-upload input[type=file]', as_file(name, data))
            page.click('.bearclf-go')  # at once: it waits for the photo
            page.wait_for_selector('.bearclf-right h2, .bearclf-upload .note:not(:empty)')
            said = page.inner_text('.bearclf-upload .note')
            assert good is None or bool(said) != good or name == 'waves.jpg', (name, said)  # a browser scales it down
        many = [as_file(f'{i}.jpg', fresh_bears['teddy'][0].read_bytes()) for i in range(50)]
        dropped = page.evaluate_handle('''n => { const all = new DataTransfer();
            for (let i = 0; i < n; i++) all.items.add(new File(['x'], `${i}.txt`)); return all }''', len(many))
        page.dispatch_event('body', 'drop', dict(dataTransfer=dropped))
        page.wait_for_selector('.bearclf-upload .note:not(:empty)')
        assert page.evaluate('window.hit') is None
        page.set_input_files('.bearclf-upload input[type=file]', many[0])
        page.wait_for_selector('.bearclf-upload .note', state='hidden')
        page.click('.bearclf-go')
        page.wait_for_selector('.bearclf-of:text-is("0.jpg")')
