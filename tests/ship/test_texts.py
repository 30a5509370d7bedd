"What both pages say: the same in each language, a class's own over it, and the zone in a browser that says it"
import base64, io, json, re

import pytest
from PIL import Image

from conftest import FLAGS
from helpers import browser_path
from bearclf.core import error_text
from bearclf.practice.drawn import CLASSES
from bearclf.ship.page import answer_html
from bearclf.ship.predict import load_classifier
from bearclf.ship.texts import Words, all_texts, drawn_examples, holes, module_text, our_texts, static

CODES = '''empty too_many_mb too_many_pixels damaged unreadable is_text is_web_page is_drawing is_pdf is_video
           is_heic is_tiff is_raw is_unknown'''.split()


def test_the_same_in_both_languages():
    ours = our_texts()
    assert [*ours] == ['en', 'ru'] and [*ours['en']] == [*ours['ru']]
    for key, text in ours['en'].items():
        said = ours['ru'][key]
        assert holes(text) == holes(said), key
        assert re.search('[а-яё]', said), key

def test_whatever_is_refused_has_its_sentence():
    filled = dict(name='a.jpg', mb=31, limit_mb=30, millions=90, limit=80)
    for language in our_texts():
        w = Words(our_texts(), language)
        assert all('a.jpg' in w(o, **filled) and '{' not in w(o, **filled) for o in CODES)

def test_whatever_the_page_asks_for_is_there():
    "Each key that a file of ours names is among the texts"
    code = ''.join(o.read_text(encoding='utf-8') for o in [*static.glob('*.js'), static.parent/'ship/page.py'])
    asked = {*re.findall(r"""\bt\('(\w+)'""", code), *re.findall(r"""\bw(?:\.html)?\(["'](\w+)["']""", code)}
    assert len(asked) > 40 and asked <= {*our_texts()['en']}
    code += ''.join((static.parent/f'ship/{o}.py').read_text(encoding='utf-8') for o in ('site', 'hosted'))
    unused = [o for o in our_texts()['en'] if not re.search(rf"""['".]{o}\b|^  {o}:""", code, re.MULTILINE)]
    assert unused == [], 'a class would translate them for nothing'


def deep(n): return {'es': {'title': deep(n - 1) if n else 'x'}}

@pytest.mark.parametrize('own, words', [
    ({'es': {'titel': 'Hola'}}, "'titel' in 'es'"), ({'es': {'title': 7}}, 'no text'),
    ({'es': {'title': ' '}}, 'no text'),
    ({'es': {'empty': 'Está vacío.'}}, 'it names nothing in braces, and {name}'),
    ({'es': {'hint': '{name.__class__} {x}'}}, 'it names {x}, and nothing'), ({'Español': {}}, 'is no language'),
    ({'es': ['title']}, "under 'es'"), ({'es': {'title': 'a'*2001}}, 'more than 2000'), ({7: {}}, 'is no language'),
    ({'es': {'title': 'a\u202eb'}}, 'signs'), ({'es': {'title': 'a\x1b[2J'}}, 'signs'),
    ({'__proto__': {}}, 'is no language'),
    ({f'a{a}{b}': {} for a in 'abcdefgh' for b in 'abcdefgh'}, 'not {"language"')])
def test_what_is_no_text_of_a_page(own, words):
    said = error_text(all_texts, own)
    assert words in said and '\n' not in said and '\x1b' not in said and len(said) < 300

@pytest.mark.parametrize('data', [
    b'', b'{', b'[]', b'\xff\xfe', b'{"es": NaN}', b'['*100_000, b'{"a":'*50 + b'1' + b'}'*50, b' '*(1 << 21),
    json.dumps(deep(9)).encode(), b'7'])
def test_files_that_are_none(data, tmp_path):
    (tmp_path/'own.json').write_bytes(data)
    said = error_text(all_texts, tmp_path/'own.json')
    assert 'own.json' in said and '\n' not in said
    assert 'no file' in error_text(all_texts, tmp_path)

def test_ones_own_texts(tmp_path):
    "English where nothing is said, in one's own words if there are some; and as an editor of Windows saves it"
    own = {'en': {'hint': 'Wait for it.'}, 'pt-BR': {'title': 'Mostre uma foto'}}
    (tmp_path/'own.json').write_text(json.dumps(own), encoding='utf-16')
    texts = all_texts(tmp_path/'own.json')
    assert [*texts] == ['en', 'ru', 'pt-BR'] and all([*o] == [*texts['en']] for o in texts.values())
    assert texts['pt-BR'] | own['pt-BR'] == texts['pt-BR'] and texts['pt-BR']['hint'] == 'Wait for it.'
    assert texts['ru'] == our_texts()['ru'] and all_texts() == our_texts()

def test_html_in_a_text_is_text():
    evil = '<img src=x onerror=alert(1)>'
    w = Words(all_texts({'es': {'nearest': evil + '{label}', 'unlike': evil, 'looks_like': evil}}), 'es')
    class Pred: label, probability, probabilities, familiar = '<i>', .9, {'<i>': .9, 'b': .1}, None
    for Pred.familiar in None, False:
        said = answer_html(Pred, evil, w=w)
        assert said.count('&lt;img') == 2 + (Pred.familiar is False) and '<img' not in said and '<i>' not in said
    assert w('nearest', label='{label}') == evil + '{label}'


def widgets_of(w): return [w, *[p for o in getattr(w, 'children', ()) for p in widgets_of(o)]]

def test_every_sentence_in_russian(tmp_path, demo_model, fresh_bears):
    "All that the page says, from its heading to the photo that was taken back, but for names"
    from bearclf.ship.page import Where, Wrong, classifier_page
    page = classifier_page(load_classifier(demo_model), feedback=tmp_path/'wrong')
    parts = widgets_of(page)
    upload, where, wrong = [next(o for o in parts if hasattr(o, k)) for k in ('examples', 'ask', 'undo')]
    assert isinstance(where, Where) and isinstance(wrong, Wrong) and len(upload.examples) == 3
    def said():
        texts = [str(getattr(o, k, '')) for o in widgets_of(page) for k in ('html', 'note', 'description')]
        texts += [o for o, _ in wrong.choice.options if o not in CLASSES] if wrong.choice in wrong.children else []
        text = re.sub('<style>.*?</style>|<[^>]*>', ' ', ' '.join(texts), flags=re.DOTALL)
        latin = re.findall('[A-Za-z]{2,}', re.sub(r'JPEG|PNG|a\.jpg|efficientnet_lite0', '', text))
        assert {*latin} <= {*CLASSES, 'lt', 'gt'}, text
        return text
    go = next(o for o in parts if 'bearclf-go' in getattr(o, '_dom_classes', ()))
    assert 'Show me a photo' in page.children[1].html
    upload.language = 'ru'
    assert 'Покажите мне фото' in said()
    go.click()
    assert 'Сначала выберите фото' in said()
    def send(data): upload._received(upload, dict(kind='photo', name='a.jpg', seen=True), [data])
    send(b'no photo')
    assert 'не открывается' in said()
    upload.note = ''
    send(fresh_bears['teddy'][0].read_bytes())
    go.click()
    assert 'Похоже, это' in said()
    for o in where.ask, wrong.ask, wrong.yes, wrong.undo: o.click(); said()
    assert 'удалено' in said() and [*(tmp_path/'wrong').glob('*/*.jpg')] == []

def test_the_examples_are_answered(demo_model):
    "The three bears to try are known, and each is of another class"
    clf = load_classifier(demo_model)
    said = [clf(base64.b64decode(o['src'].split(',')[1])) for o in drawn_examples([*CLASSES])]
    assert {o.label for o in said} == {*CLASSES} and all(o.sure and o.familiar is not False for o in said)
    assert drawn_examples(['cat', 'dog']) == [] == drawn_examples([*CLASSES, 'polar'])


PAGE = '''<!DOCTYPE html><meta charset="utf-8">
<main class="bearclf-page"><div id="zone"></div><input id="field"></main>
<script type="module">
%s
window.got = [];
window.zoneOf = (texts, languages, many, examples) => {
  const t = words(texts, languages), size = (o) => createImageBitmap(o).then((o) => [o.width, o.height], () => null);
  const take = async (files, how) => {
    got.push([how, ...await Promise.all(files.map(async (o) => [o.name, await size(o)]))]);
  };
  window.now?.close();
  window.now = photoZone(document.getElementById('zone'), { t, many, examples, take, area: document.body });
};
</script>'''

@pytest.fixture(scope='module')
def zone(browser, tmp_path_factory):
    "A page from a file that is nothing but the zone, in a browser with a camera that draws"
    file = tmp_path_factory.mktemp('zone')/'zone.html'
    file.write_text(PAGE % module_text('photos.js'), encoding='utf-8')
    args = [*FLAGS, '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream']
    b = browser.browser_type.launch(executable_path=browser_path(), args=args)
    page = b.new_page()
    page.goto(file.as_uri())
    def make(languages=('en',), many=False, examples=(), texts=None):
        page.evaluate('o => { got.length = 0; zoneOf(...o) }', [texts or our_texts(), languages, many, examples])
        return page
    yield make
    b.close()

EVENT = '''([kind, names]) => { const data = new DataTransfer();
    const png = Uint8Array.from(atob('%s'), (o) => o.charCodeAt(0));
    for (const o of names) data.items.add(new File([png], o, { type: 'image/png' }));
    const target = kind === 'field' ? document.getElementById('field') : document.body;
    const how = { bubbles: true, cancelable: true };
    if (kind === 'drop') target.dispatchEvent(new DragEvent('drop', { dataTransfer: data, ...how }));
    else target.dispatchEvent(new ClipboardEvent('paste', { clipboardData: data, ...how })) }'''

def happen(page, kind, *names):
    Image.new('RGB', (3, 2), 'peru').save(b := io.BytesIO(), 'PNG')
    page.evaluate(EVENT % base64.b64encode(b.getvalue()).decode(), [kind, names])

def got(page, n=1):
    page.wait_for_function(f'() => got.length === {n}')
    return page.evaluate('got')[-1]

def test_dropped(zone):
    page = zone()
    happen(page, 'drop', 'a.png')
    assert got(page) == ['dropped', ['a.png', [3, 2]]]
    assert page.inner_text('.said') == 'a.png is here.' and page.get_attribute('.said', 'role') == 'status'
    happen(page, 'drop', 'b.png', 'c.png')
    assert got(page, 2) == ['dropped', ['b.png', [3, 2]]] and 'One photo at a time' in page.inner_text('.said')
    happen(page, 'drop')
    assert 'That was no file' in page.inner_text('.note') and page.evaluate('got.length') == 2

def test_pasted(zone):
    "A picture, which a browser calls image.png; what is pasted into a field is the field's"
    page = zone()
    happen(page, 'field', 'image.png')
    happen(page, 'paste', 'image.png')
    assert got(page) == ['pasted', ['pasted.png', [3, 2]]]

def test_many(zone):
    page = zone(many=True)
    page.set_input_files('.zone input', [dict(name=f'{i}.jpg', mimeType='image/jpeg', buffer=b'x') for i in range(3)])
    assert got(page) == ['chosen', ['0.jpg', None], ['1.jpg', None], ['2.jpg', None]]
    assert page.inner_text('.said') == '3 photos are here.' and 'Choose photos' in page.inner_text('.ask')

def test_examples_by_keyboard(zone):
    page = zone(['ru'], examples=drawn_examples(CLASSES))
    page.focus('.zone input')
    while 'examples' not in page.evaluate('document.activeElement.parentElement.className'): page.keyboard.press('Tab')
    page.keyboard.press('Enter')
    assert got(page) == ['example', ['bear-1.jpg', [160, 160]]]
    assert page.get_by_role('button', name='Пример 3').count() == 1

def test_camera(zone):
    "A photo of what it sees; it is off after that, and when the window is closed without one"
    page = zone()
    page.evaluate('''() => { const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
        navigator.mediaDevices.getUserMedia = async (o) => window.stream = await ask(o) }''')
    off = '() => stream.getTracks().every((o) => o.readyState === "ended")'
    page.get_by_role('button', name='Use the camera').click()
    page.locator('.bearclf-camera').get_by_role('button', name='Take the photo', disabled=False).click()
    how, (name, (width, height)) = got(page)
    assert (how, name) == ('camera', 'camera.jpg') and width > height > 200 and page.evaluate(off)
    page.get_by_role('button', name='Use the camera').click()
    page.locator('.bearclf-shoot:enabled').wait_for()
    page.keyboard.press('Escape')
    page.wait_for_function(off)
    page.evaluate('() => { navigator.mediaDevices.getUserMedia = async () => { throw new Error("no") } }')
    page.get_by_role('button', name='Use the camera').click()
    page.wait_for_function('() => document.querySelector(".note").textContent.startsWith("The camera cannot")')
    assert page.evaluate('got.length') == 1 and not page.is_visible('.bearclf-camera')

def test_texts_are_no_markup_in_the_zone_either(zone):
    evil = '<img src=x onerror="window.hit = 1">'
    page = zone(['es-MX', 'en'], texts=all_texts({'es': {'choose': evil, 'examples': evil, 'example': evil + '{i}'}}),
                examples=drawn_examples(CLASSES))
    assert page.inner_text('.ask strong') == evil and page.get_attribute('#zone', 'lang') == 'es'
    assert page.evaluate('[window.hit, document.querySelectorAll("#zone img").length]') == [None, 4]

def test_the_first_language_that_is_known(zone):
    for asked, said in (['fr', 'ru-RU', 'en'], 'ru'), (['de'], 'en'), ([], 'en'), (['__proto__', 'toString'], 'en'):
        assert zone(asked).get_attribute('#zone', 'lang') == said
