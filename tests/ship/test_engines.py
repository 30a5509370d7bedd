"""The page without a server in the browsers of other makers: Firefox, and WebKit, the engine of Safari; see engines.py.

A pixel that their decoders give is Pillow's pixel, but for AVIF, which Firefox enlarges in colour in its own way."""
import os

import pytest
from PIL import Image

import engines
from bearclf.ship.predict import load_classifier
from bearclf.ship.site import write_site
from bearclf.ship.texts import Words, all_texts
from outcomes import CARDS, agree, doubtful

ENGLISH, RUSSIAN = (Words(all_texts(), o) for o in ('en', 'ru'))
pytestmark = pytest.mark.exhaustive
# How far a probability may be from Python's
NEAR = {'turned.jpg': .001, 'grey.jpg': .001, 'ink.jpg': .001, 'clear.png': .001, 'few.png': .001, 'deep.png': .001,
        'few.gif': .001, 'waves.webp': .001, 'plain.bmp': .001, 'new.avif': .005}


@pytest.fixture(scope='module')
def forms(fresh_bears, tmp_path_factory):
    "One bear in ten forms of file"
    folder, turned = tmp_path_factory.mktemp('forms'), Image.Exif()
    turned[0x0112] = 6
    im = Image.open(fresh_bears['teddy'][0]).convert('RGB').resize((320, 240))
    clear = im.copy()
    clear.putalpha(Image.linear_gradient('L').resize(im.size))
    deep = Image.frombytes('I;16', im.size, b''.join(bytes([o, o]) for o in im.convert('L').tobytes()))
    for name, o, how in [
            ('turned.jpg', im, dict(exif=turned, progressive=True)), ('grey.jpg', im.convert('L'), {}),
            ('ink.jpg', im.convert('CMYK'), {}), ('clear.png', clear, {}), ('few.png', im.quantize(40), {}),
            ('deep.png', deep, {}), ('few.gif', im.quantize(40), {}), ('waves.webp', im, {}), ('plain.bmp', im, {}),
            ('new.avif', im, {})]: o.save(folder/name, **how)
    assert {o.name for o in folder.iterdir()} == {*NEAR}
    return folder


@pytest.fixture(scope='module')
def site(demo_model, tmp_path_factory): return write_site(demo_model, tmp_path_factory.mktemp('site')/'bears.html')


@pytest.fixture(scope='module', params=[engines.Firefox, engines.WebKit], ids=lambda o: o.__name__)
def page(request, site):
    kind = request.param
    if not kind.program():
        why = f'NO {kind.__name__}: the page was NOT tested in it. {kind.lacks}'
        if os.environ.get('CI'): pytest.fail(why)
        pytest.skip(why)
    with engines.opened(kind) as p:
        p.open(f'{site.as_uri()}#en')
        p.wait('document.documentElement.dataset.ready')
        yield p


def answer(page, file):
    "The newest card of the page, once it speaks of `file`"
    page.ask("document.querySelector('#clear').click()")
    page.choose('#zone input[type=file]', file)
    page.wait("document.querySelector('#list > li .bearclf-note, #list > li h2')")
    return page.ask(CARDS)[0]


def test_ready(page):
    assert page.ask('document.documentElement.dataset.ready') == 'yes', page.ask('document.body.innerText')


@pytest.mark.parametrize('name', NEAR)
def test_it_answers_as_python_does(page, forms, demo_model, name):
    said, card = load_classifier(demo_model)(forms/name), answer(page, forms/name)
    assert said.label in card['text'] and not card['refused']
    assert card['bars'].keys() == said.probabilities.keys()
    assert all(abs(card['bars'][k] - p) <= NEAR[name] for k, p in said.probabilities.items()), (card, said)


def test_all_three_outcomes(page, demo_model, tmp_path):
    clf, files = load_classifier(demo_model), doubtful(tmp_path)
    agree([answer(page, o) for o in files], [*map(clf, files)])


def test_a_text_gets_a_sentence(page, forms, tmp_path):
    (tmp_path/'bear.jpg').write_text('a bear')
    card = answer(page, tmp_path/'bear.jpg')
    assert card['refused'] and card['text'] == ENGLISH('is_text', name='bear.jpg')
    assert answer(page, forms/'grey.jpg')['bars']  # it goes on


def test_russian(page, forms):
    page.ask("location.replace('#ru')")
    page.wait("document.documentElement.lang === 'ru'")
    assert answer(page, forms/'grey.jpg')['text'].startswith(RUSSIAN('looks_like'))
    page.ask("location.replace('#en')")
    page.wait("document.documentElement.lang === 'en'")


def test_no_host_is_asked(page, forms):
    "Not even if somebody's script tried to; the last address is asked by us, to see that it would be seen"
    answer(page, forms/'grey.jpg')
    assert page.ask("fetch('http://bears.example/a').then(() => 'asked', () => 'refused')") == 'refused'
    assert [o for o in page.asked if not o.startswith(('file:', 'blob:', 'data:'))] == []
    page.try_to_open('http://bears.example/')
    assert any('bears.example' in o for o in page.asked)
