import os
from datetime import date
from functools import partialmethod

import pytest

from bearclf.collect.fetch import Connections
from bearclf.folder.look import class_of
from bearclf.practice.drawn import drawn_path
from bearclf.ship import predict
from helpers import LONG, SHARED, Child, browser_path


os.environ.setdefault('BEARCLF_DAY', str(date.today().toordinal()))  # one day for all workers, also at midnight
os.environ.setdefault('OMP_NUM_THREADS', '1')  # threads are in each other's way, and lost in a fork


def pytest_collection_modifyitems(items):
    "The notebooks come first: the longest of them at the end would leave the other cores without work"
    items.sort(key=lambda o: o.path.stem != 'test_notebooks')


@pytest.fixture(scope='session', autouse=True)
def patient():
    "A site may take as long as a busy machine needs, unless a test says how long"
    with pytest.MonkeyPatch.context() as mp:
        mp.setattr(Connections, '__init__', partialmethod(Connections.__init__, timeout=LONG, patience=LONG))
        yield


@pytest.fixture(scope='session')
def demo_model():
    "A folder with the export.pkl of a model of the drawn bears"
    return predict.demo_model()


@pytest.fixture(scope='session')
def fresh_folder():
    "Class folders of 300 drawn bears that no model has trained on; nothing in it may be changed"
    return drawn_path(n=300, size=128, seed='unseen')


@pytest.fixture(scope='session')
def fresh_bears(fresh_folder, demo_model):
    """Class -> files of drawn bears that no model has trained on, and that the demo model knows.

    They test the page and the command. How often the model is right is tested on all of `fresh_folder`."""
    clf, files = predict.load_classifier(demo_model), sorted(fresh_folder.glob('*/*.jpg'))
    known = {c: [o for o in [o for o in files if class_of(o) == c][:9] if clf(o).label == c][:5]
             for c in ('black', 'grizzly', 'teddy')}
    assert all(len(o) == 5 for o in known.values())
    return known


@pytest.fixture(scope='session')
def shared():
    "Real photos and ImageNet weights beside the checkout; without them, skip, unless BEARCLF_NEEDS_SHARED is set"
    if SHARED.is_dir(): return SHARED
    if os.environ.get('BEARCLF_NEEDS_SHARED'): pytest.fail(f'there is no folder {SHARED}')
    pytest.skip(f'the real photos are not here ({SHARED})')


@pytest.fixture(scope='session')
def child(tmp_path_factory):
    "`child(f, *args)` is a process that does this; see `helpers.Child`"
    folder = tmp_path_factory.mktemp('said')
    return lambda f, *args, **kw: Child(folder, f, *args, **kw)


FLAGS = ['--no-sandbox', '--disable-gpu', '--disable-background-networking', '--disable-component-update',
         '--disable-sync', '--no-first-run']

@pytest.fixture(scope='module')
def browser():
    "For one file: Playwright keeps an event loop running, which others do not expect"
    path = browser_path()
    if not path:
        why = 'NO BROWSER: the page was NOT tested. Install chromium (or google-chrome) and run again.'
        if os.environ.get('CI'): pytest.fail(why)
        pytest.skip(why)
    from playwright.sync_api import sync_playwright
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=path, args=FLAGS)
        yield b
        b.close()
