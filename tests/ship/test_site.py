"""The page without a server, opened as a file in a real browser. Its policy forbids `eval`, so nothing here waits for
a function."""
import io, json, re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
from PIL import Image

from helpers import LONG
from bearclf.core import error_text
from bearclf.ship import site
from bearclf.ship.predict import load_classifier
from bearclf.ship.hosted import site_files
from bearclf.ship.site import example_photos, site_html, write_site
from bearclf.ship.texts import Words, all_texts

EVIL = '</script><script>parent.hit=1</script><img src=x onerror=parent.hit=1>'


@pytest.fixture(scope='module')
def written(demo_model, tmp_path_factory, fresh_bears):
    examples = [fresh_bears['teddy'][0]]
    return write_site(demo_model, tmp_path_factory.mktemp('site')/'bears #1.html', examples=examples)

@contextmanager
def opened(browser, file, ready=True, **more):
    "The page in a context of its own; `page.asked` has every address, `page.said` what the console says"
    context = browser.new_context(**dict(viewport=dict(width=390, height=844)) | more)
    page = context.new_page()
    page.set_default_timeout(1000*LONG)
    page.asked, page.said = [], []
    page.on('request', lambda r: page.asked.append(r.url))
    page.on('console', lambda m: page.said.append(m.text))
    page.on('pageerror', lambda e: page.said.append(str(e)))
    try:
        page.goto(Path(file).as_uri())
        if ready: page.wait_for_selector('html[data-ready=yes]')
        yield page
    finally: context.close()

def choose(page, *files):
    "Choose photos, and wait until all have an answer or a sentence"
    n = page.locator('#list > li').count() + len(files)
    page.set_input_files('#zone input', files)
    answered(page, n)

def answered(page, n):
    page.wait_for_selector(f'#list > li:nth-child({n})')
    page.wait_for_selector('#list:not(:has(.bearclf-wait))')

def shares(page, n=1):
    "What the `n`th card says: class -> share in percent"
    rows = page.locator(f'#list > li:nth-child({n}) .bearclf-bars li').all()
    return {o.locator('.name').inner_text(): o.locator('.share').inner_text() for o in rows}


def test_it_answers_as_python_does_and_asks_nobody(browser, written, demo_model, fresh_bears):
    clf = load_classifier(demo_model)
    with opened(browser, written) as page:
        for label, (file, *_) in fresh_bears.items():
            choose(page, file)
            pred = clf(file)
            assert page.inner_text('#list > li:first-child h2 b') == label == pred.label
            for name, share in shares(page).items():
                assert abs(float(share.strip('<>%'))/100 - pred.probabilities[name]) < 0.002
            assert page.inner_text('#said') == f'{file.name}: This looks like {label}, {shares(page)[label]}.'
        asked = {o.split(':')[0] for o in page.asked if o != written.as_uri()}
        assert asked <= {'blob', 'data'} and page.said == []

def test_the_browser_is_forbidden_to_ask(browser, written):
    with opened(browser, written) as page:
        assert not page.evaluate('fetch("http://127.0.0.1:9/").then(() => true, () => false)')
        page.evaluate('document.body.append(Object.assign(new Image(), { src: "http://127.0.0.1:9/a.png" }))')
        page.evaluate('document.body.insertAdjacentHTML("beforeend", "<b onclick=\\"hit = 1\\">hit</b>")')
        page.get_by_text('hit').click()
        assert page.evaluate('self.hit') is None and sum('Content Security Policy' in o for o in page.said) >= 3

def test_five_files_at_once_by_drop(browser, written, fresh_bears):
    "Four answers and a sentence, the newest on top, and all of it goes away"
    files = {o[0].name: list(o[0].read_bytes()) for o in fresh_bears.values()}
    files |= {'notes.jpg': list(b'Masha and the three bears'), 'last.jpg': [*files.values()][0]}
    drop = '''files => {
        const data = new DataTransfer();
        for (const [k, o] of Object.entries(files)) data.items.add(new File([new Uint8Array(o)], k));
        document.body.dispatchEvent(new DragEvent('drop', { dataTransfer: data, bubbles: true, cancelable: true })) }'''
    with opened(browser, written) as page:
        page.evaluate(drop, files)
        answered(page, 5)
        assert [o.inner_text() for o in page.locator('#list .bearclf-of').all()] == [
            'last.jpg', *[o for o in reversed(files) if o not in ('last.jpg', 'notes.jpg')]]
        assert 'notes.jpg is not an image but text' in page.inner_text('#list > li:nth-child(2)')
        assert page.locator('#list img').count() == 4 and page.locator('#list h2').count() == 4
        page.click('#clear')
        assert page.locator('#list > li').count() == 0 and page.is_visible('#empty')
        assert page.evaluate('document.activeElement.type') == 'file'

def test_keyboard_alone(browser, written, fresh_bears):
    "By Tab to the zone and Enter, to an example, and by pasting"
    paste = '''bytes => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], 'image.png', { type: 'image/jpeg' }));
        document.body.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, bubbles: true })) }'''
    with opened(browser, written) as page:
        page.on('filechooser', lambda _: None)  # Playwright begins to listen before a key is pressed
        page.keyboard.press('Tab')
        assert page.evaluate('document.activeElement.tagName') == 'SELECT'
        page.keyboard.press('Tab')
        with page.expect_file_chooser() as asked: page.keyboard.press('Enter')
        assert asked.value.is_multiple()
        asked.value.set_files(fresh_bears['black'][0])
        answered(page, 1)
        page.keyboard.press('Tab')
        page.keyboard.press('Enter')
        answered(page, 2)
        assert page.inner_text('#list > li:first-child h2 b') == 'teddy'
        page.evaluate(paste, list(fresh_bears['grizzly'][0].read_bytes()))
        answered(page, 3)
        assert page.inner_text('#list > li:first-child h2 b') == 'grizzly'
        for _ in range(9):
            page.keyboard.press('Tab')
            if page.evaluate('document.activeElement.id') == 'clear': break
        page.keyboard.press('Enter')
        assert page.locator('#list > li').count() == 0

def test_in_the_language_of_the_browser(browser, written, fresh_bears, tmp_path):
    "And in another one that is chosen, with the answers that are there"
    (tmp_path/'notes.jpg').write_text('Маша и медведи')
    with opened(browser, written, locale='ru-RU') as page:
        choose(page, fresh_bears['teddy'][0], tmp_path/'notes.jpg')
        own = re.sub(r'teddy|grizzly|black|efficientnet_lite0|\S+\.(jpg|html)|JPEG|Voilà|English', '',
                     page.inner_text('body') + page.title() + page.inner_text('#said'))
        assert page.get_attribute('html', 'lang') == 'ru' and not re.search('[a-zA-Z]', own), own
        page.select_option('#language select', 'en')
        page.wait_for_selector('html[lang=en]')
        assert page.inner_text('#list h2') == 'This looks like\nteddy' and page.title() == 'Show me a photo'
        assert 'not an image but text' in page.inner_text('#list > li:first-child')
        assert not re.search('[а-яё]', page.inner_text('body').replace('Русский', ''))

def small_page(file, classes, texts=None, embedded=None, title=None):
    "A page without a model, which shows all but answers"
    facts = dict(classes=classes, portable=dict(mode='RGB', steps=[dict(do='squish', size=[32, 32])]))
    file.write_text(site_html(facts, title, texts, embedded=embedded), encoding='utf-8')
    return file

def test_languages_that_are_written_from_right_to_left(browser, tmp_path):
    "A sentence keeps its direction whatever the name of a file, or of a class, is written in"
    (tmp_path/'notes.jpg').write_text('a text')
    texts = {'he': {'is_text': '{name} אינו תמונה.', 'hint_many': 'התשובות יופיעו כאן.'}}
    with opened(browser, small_page(tmp_path/'a.html', ['עברית', 'b'], texts), ready=False, locale='he-IL') as page:
        assert page.get_attribute('html', 'dir') == 'rtl' == page.get_attribute('#zone', 'dir')
        choose(page, tmp_path/'notes.jpg')
        note = page.locator('#list .bearclf-note')
        assert note.evaluate('o => getComputedStyle(o).direction') == 'rtl' and note.locator('bdi').count() == 1
        assert note.evaluate('o => getComputedStyle(o).borderRightWidth') == '4px'
        page.select_option('#language select', 'ru')
        page.wait_for_selector('html[dir=ltr][lang=ru]')

def test_it_prints_dark_on_white(browser, tmp_path):
    with opened(browser, small_page(tmp_path/'a.html', ['a', 'b']), ready=False, color_scheme='dark') as page:
        ink = 'getComputedStyle(document.body).color'
        page.wait_for_selector('html[data-ready=no]')
        assert page.evaluate(ink) == 'rgb(246, 234, 219)'
        page.emulate_media(media='print', color_scheme='dark')
        assert page.evaluate(ink) == 'rgb(51, 36, 26)'

@pytest.mark.parametrize('width', [320, 1280])
def test_names_that_are_longer_than_a_phone_is_wide(browser, tmp_path, width):
    classes = [f'american_bulldog_{i}_of_a_name_that_never_ends' for i in range(37)]
    with opened(browser, small_page(tmp_path/'a.html', classes, title='x'*90), ready=False,
                viewport=dict(width=width, height=800)) as page:
        assert page.locator('#knows b').count() == 8
        assert page.evaluate('document.documentElement.scrollWidth') <= width

def test_it_speaks_before_all_of_it_has_been_read(browser, tmp_path):
    "In the visitor's language, and takes photos, while the long parts are still to come; these are then looked for"
    class Halting(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header('Content-Type', 'text/html; charset=utf-8')
            self.end_headers()
            self.wfile.write(small_page(tmp_path/'a.html', ['a', 'b']).read_bytes().replace(b'</body>', b' '*5000))
            go_on.wait(LONG)
        def log_message(self, *_): pass

    go_on, server = Event(), ThreadingHTTPServer(('127.0.0.1', 0), Halting)
    Thread(target=server.serve_forever, daemon=True).start()
    page = browser.new_page(locale='ru-RU')
    page.goto(f'http://127.0.0.1:{server.server_port}/', wait_until='commit')
    page.wait_for_selector('html[lang=ru] #zone input', state='attached', timeout=1000*LONG)
    assert page.inner_text('#state') == Words(all_texts(), 'ru')('waking')
    (tmp_path/'notes.jpg').write_text('a text')
    choose(page, tmp_path/'notes.jpg')
    assert page.get_attribute('html', 'data-ready') is None
    go_on.set()
    page.wait_for_selector('html[data-ready=no]', timeout=1000*LONG)
    page.close()
    server.shutdown()
    server.server_close()

def evil_page(file, parts, facts):
    "A page whose classes, title, texts and examples are markup"
    texts = {'en': {'hint_many': EVIL, 'looks_like': EVIL, 'no_script': EVIL}}
    facts = facts | dict(classes=[EVIL, *facts['classes'][1:]], arch=EVIL, date=EVIL)
    file.write_text(site_html(facts, EVIL + '{{ code }}', texts, [dict(name=EVIL, src='data:,', alt=EVIL)], parts),
                    encoding='utf-8')
    return file

def test_what_people_wrote_is_text(browser, demo_model, fresh_bears, tmp_path):
    facts, onnx = site.portable_parts(demo_model)
    parts = dict(zip(('ort', 'wasm'), site.runtime().values()), model=onnx)
    with opened(browser, evil_page(tmp_path/'evil.html', parts, facts)) as page:
        assert EVIL in page.inner_text('#knows') and page.inner_text('h1') == EVIL + '{{ code }}'
        assert EVIL in page.inner_text('#empty') and EVIL in page.inner_text('#foot')
        photo = fresh_bears['black'][0].read_bytes()
        page.set_input_files('#zone input', dict(name=f'{EVIL}.jpg', mimeType='image/jpeg', buffer=photo))
        answered(page, 1)
        assert page.inner_text('#list h2') == f'{EVIL}\n{EVIL}'
        assert page.evaluate('self.hit') is None and page.locator('body img[src=x]').count() == 0

@pytest.mark.parametrize('old, words', [(None, 'JavaScript'), ('WebAssembly', 'newer'),
                                        ('DecompressionStream', 'newer')])
def test_where_it_cannot_run_it_says_so(browser, written, old, words):
    "In all languages, as nothing is there that could choose one"
    context = browser.new_context(java_script_enabled=old is not None)
    if old: context.add_init_script(f'delete self.{old}')
    page = context.new_page()
    page.goto(written.as_uri())
    said = page.inner_text('body')
    assert words in said and re.search('[а-яё]', said) and not page.is_visible('#main')
    context.close()

def test_a_page_that_was_not_saved_whole(browser, written, tmp_path):
    (tmp_path/'half.html').write_bytes(written.read_bytes()[:-3_000_000])
    with opened(browser, tmp_path/'half.html', ready=False) as page:
        page.wait_for_selector('html[data-ready=no]')
        assert 'was not saved whole' in page.inner_text('#state')

def test_only_the_newest_are_kept(browser, written, fresh_bears, tmp_path):
    "And the pictures of the others do not stay in memory"
    (tmp_path/'a.jpg').write_text('no photo')
    with opened(browser, written) as page:
        page.set_input_files('#zone input', [fresh_bears['teddy'][0]])
        answered(page, 1)
        first = page.get_attribute('#list img', 'src')
        page.set_input_files('#zone input', [tmp_path/'a.jpg']*101)
        page.wait_for_selector('#kept:visible')
        page.wait_for_selector('#count[hidden]', state='attached')
        assert page.locator('#list > li').count() == 100 and page.locator('#list img').count() == 0
        gone = '''src => new Promise(done => {
            Object.assign(new Image(), { src, onload: () => done(0), onerror: () => done(1) }) })'''
        assert page.evaluate(gone, first)


def test_a_foreign_file_stays(demo_model, written, tmp_path):
    (foreign := tmp_path/'mine.html').write_text('<p>My page')
    assert 'no page that bearclf has written' in error_text(write_site, demo_model, foreign)
    assert foreign.read_text() == '<p>My page' and len([*tmp_path.iterdir()]) == 1
    assert 'end in .html' in error_text(write_site, demo_model, tmp_path/'bears.txt')
    assert 'no model' in error_text(write_site, tmp_path, tmp_path/'bears.html')
    (tmp_path/'export.onnx').write_bytes((Path(demo_model)/'export.onnx').read_bytes())
    assert 'needs the export.json' in error_text(write_site, tmp_path, tmp_path/'bears.html')
    assert 'There is no file' in error_text(write_site, demo_model, tmp_path/'b.html', texts=tmp_path/'none.json')
    assert not [*tmp_path.glob('b*.html')]

def test_the_folder_shows_the_same_bears(demo_model, tmp_path):
    "Where nobody gave examples, and the classes are those of the drawn bears"
    said = site_files(demo_model)['index.html'].decode(), write_site(demo_model, tmp_path/'a.html').read_text('utf-8')
    shown = [json.loads(re.search('id="bearclf-data">(.*?)</script>', o)[1])['examples'] for o in said]
    assert len(shown[0]) == 3 and shown[0] == shown[1]

def test_examples(tmp_path):
    "Photos of one name are all shown; what is none, none at all, and too many get a sentence"
    for i, o in enumerate(['a/1.jpg', 'b/1.png', 'b/2.jpg']):
        (file := tmp_path/'ok'/o).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (700, 40), (80*i, 9, 9)).save(file)
    shown = example_photos(tmp_path/'ok')
    assert len({*shown.values()}) == 3 and {*shown} == {'1.jpg', '2-1.jpg', '2.jpg'}
    assert max(Image.open(io.BytesIO(shown['1.jpg'])).size) == 512
    (tmp_path/'ok/broken.jpg').write_bytes(b'')
    assert 'broken.jpg is no example: ' in error_text(example_photos, tmp_path/'ok')
    (tmp_path/'none').mkdir()
    assert 'no photo in' in error_text(example_photos, tmp_path/'none')
    assert 'There is no folder' in error_text(example_photos, tmp_path/'nowhere')
    assert '13 example photos' in error_text(example_photos, [tmp_path/'ok/a/1.jpg']*13)

def test_an_own_page_is_replaced_and_a_failed_one_leaves_nothing(demo_model, tmp_path, monkeypatch):
    dest = write_site(demo_model, tmp_path/'bears.html', title='First')
    assert b'<h1 id="title" dir="auto">First</h1>' in dest.read_bytes()
    monkeypatch.setattr(site, 'runtime', lambda: 1/0)
    with pytest.raises(ZeroDivisionError): write_site(demo_model, dest, title='Second')
    assert b'>First</h1>' in dest.read_bytes() and [*tmp_path.iterdir()] == [dest]

def test_facts_tell_nothing_of_the_photos(demo_model):
    facts, onnx = site.portable_parts(demo_model)
    assert {*facts} <= {*site._FACTS, 'classes', 'portable'} and {*facts['portable']} <= {'mode', 'steps', 'near_limit'}
