"bear_classifier.ipynb under Voilà, in a real browser: the course's widgets around `load_learner`"
import warnings

import pytest

from helpers import LONG, free_port, top
from bearclf.ship.page import _voila_command, _voila_env
from test_page import as_file
from test_served import running


@pytest.fixture(scope='module')
def learn(demo_model, tmp_path_factory):
    "The demo model with other names, exported as lesson 06 does it, beside the notebook"
    from fastai.vision.all import CategoryMap, load_learner
    with warnings.catch_warnings(action='ignore'):
        learn = load_learner(demo_model/'export.pkl')
        names = [f'my {o}' for o in learn.dls.vocab]
        for o in learn.dls.loaders: o.dataset.tls[1].tfms[-1].vocab = CategoryMap(names, sort=False)
        learn.path = tmp_path_factory.mktemp('room')
        learn.export()
        (learn.path/'bear_classifier.ipynb').write_bytes((top/'nbs/bear_classifier.ipynb').read_bytes())
        return load_learner(learn.path/'export.pkl')


@pytest.fixture(scope='module')
def page(browser, learn):
    port = free_port()
    command = _voila_command(learn.path/'bear_classifier.ipynb', port, 'localhost', False)
    with running(command, port, learn.path, _voila_env(None)):
        page = browser.new_page(viewport=dict(width=390, height=844))
        page.set_default_timeout(1000*LONG)
        page.goto(f'http://localhost:{port}/')
        page.wait_for_selector('button:has-text("Classify")')
        yield page
        page.close()


def said(page, file, words):
    "Upload, click until there is a label with `words`, since the photo takes its time; the whole text of the page"
    with page.expect_file_chooser() as chooser: page.click('.widget-upload')
    chooser.value.set_files(file)
    found = page.locator(f':is(.widget-label, .widget-output):has-text("{words}")')
    for _ in range(LONG):
        page.click('button:has-text("Classify")')
        page.wait_for_timeout(1000)
        if found.count(): break
    assert found.count(), page.inner_text('body')
    return page.inner_text('body')


def test_its_answer_is_that_of_predict(page, learn, fresh_bears):
    file = fresh_bears['grizzly'][0]
    with learn.no_bar(): label, i, probs = learn.predict(file)
    assert label == 'my grizzly'
    text = said(page, file, f'Prediction: {label}; Probability: {probs[i]:.4f}')
    assert page.locator('.widget-output img').evaluate('o => o.naturalWidth') > 0
    assert not [o for o in ('Error', 'Warning', 'pickle', 'Traceback') if o in text], text


def test_no_photo_gets_a_sentence(page):
    text = said(page, as_file('notes.jpg', b'Masha and the three bears. '*40), 'not an image')
    assert 'Prediction' not in text and page.locator('.widget-output img').count() == 0
