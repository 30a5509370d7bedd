"""The cleaning loop: what it holds and answers, and its page of cards in Voilà and in JupyterLab, driven by a real browser"""
import os, shutil, signal, subprocess, sys
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit
from urllib.request import urlopen

import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook

from test_app import FLAGS, LONG, browser, browser_path, free_port
from bearclf.clean import *
from bearclf.core import BearclfError, class_of
from bearclf.data import find_photos, photo_dls
from bearclf.decisions import DELETE, KEEP
from bearclf.drawn import draw_bears
from bearclf.train import photo_learner

CELL = '''
import os
from bearclf.all import *
path = Path(os.environ['PHOTOS'])
learn = photo_learner(photo_dls(path, 64, num_workers=0), pretrained=False)
loop = CleaningLoop(learn)
loop
'''


def is_up(url):
    try: return urlopen(url, timeout=5).status == 200
    except OSError: return False


@contextmanager
def serving(command, url, cwd, photos):
    "A server in a process group of its own, from when it answers"
    root = str(Path(__file__).resolve().parents[1])
    env = os.environ | dict(PHOTOS=str(photos), PYTHONPATH=os.pathsep.join(filter(None, (root, os.environ.get('PYTHONPATH')))), JUPYTER_CONFIG_DIR=str(cwd/'config'))
    with open(cwd/'server.log', 'w') as log:
        proc = subprocess.Popen([sys.executable, '-m', *command], cwd=cwd, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        while not is_up(url):
            assert proc.poll() is None, (cwd/'server.log').read_text()[-2000:]
        yield
    finally:
        os.killpg(proc.pid, signal.SIGTERM)
        try: proc.wait(60)
        except subprocess.TimeoutExpired: os.killpg(proc.pid, signal.SIGKILL)


def snapshot(path):
    "Each file below `path` but the journal, with what it holds and its time"
    return {o.relative_to(path).as_posix(): (o.read_bytes(), o.stat().st_mtime_ns) for o in path.rglob('*') if o.is_file() and '.cleaning' not in o.parts}


@pytest.fixture
def photos(tmp_path):
    "Class folders of drawn bears, some in the wrong one, and a class with another alphabet"
    draw_bears(tmp_path/'мои bears', 90, 128, seed='page', mislabelled=6, duplicated_across=2)
    (tmp_path/'мои bears/teddy').rename(tmp_path/'мои bears/мишка')
    (tmp_path/'мои bears/planted.csv').rename(tmp_path/'planted.csv')
    return tmp_path/'мои bears'


class Voila:
    "The page as `voila` serves a notebook; a reload is a new kernel"
    def __init__(self, page, port): self.page, self.url = page, f'http://127.0.0.1:{port}/'
    @staticmethod
    def command(port): return ['voila', 'loop.ipynb', '--no-browser', f'--port={port}', '--Voila.ip=127.0.0.1']
    def open(self): self.page.goto(self.url, timeout=LONG)
    def new_kernel(self): self.page.reload(timeout=LONG)


class Lab:
    "The notebook in JupyterLab, run from its menu"
    def __init__(self, page, port): self.page, self.url = page, f'http://127.0.0.1:{port}/lab/tree/loop.ipynb'
    @staticmethod
    def command(port): return ['jupyterlab', '--no-browser', f'--port={port}', '--ip=127.0.0.1', '--allow-root', '--IdentityProvider.token=', '--LabApp.news_url=']
    def run(self, command):
        self.page.get_by_role('menuitem', name='Run', exact=True).click()
        self.page.click(f'.lm-Menu-item[data-command="runmenu:{command}"]')
    def open(self):
        self.page.goto(self.url, timeout=LONG)
        self.page.wait_for_selector('.jp-Notebook .jp-CodeCell')
        self.page.wait_for_selector('.jp-Notebook-ExecutionIndicator[data-status=idle]')
        self.run('run-all')
    def new_kernel(self):
        self.run('restart-and-run-all')
        self.page.get_by_role('button', name='Confirm Kernel Restart').click()
        self.page.wait_for_selector('.bearclf-clean', state='detached')


@contextmanager
def shown(browser, tmp_path, photos, place, width=1280, height=900):
    "A page with the loop in it, once the cards are there; `asked` has every address that the browser asked for"
    nbformat.write(new_notebook(cells=[new_code_cell(CELL)], metadata=dict(kernelspec=dict(name='python3', display_name='python3'))), tmp_path/'loop.ipynb')
    (tmp_path/'config').mkdir()
    (tmp_path/'config/voila.py').write_text('from bearclf.app import voila_config; voila_config(c)')  # Voilà's own page asks another host for its fonts
    port, asked = free_port(), []
    with serving(place.command(port), f'http://127.0.0.1:{port}/' + ('api' if place is Lab else 'voila/static/voila.js'), tmp_path, photos):
        page = browser.new_page(viewport=dict(width=width, height=height))
        page.set_default_timeout(LONG)
        page.on('request', lambda r: asked.append(r.url))
        page.on('websocket', lambda w: asked.append(w.url))
        place = place(page, port)
        place.open()
        page.wait_for_selector('.bearclf-clean article')
        try: yield SimpleNamespace(page=page, place=place, asked=asked)
        finally: page.close()


def names(page): return page.locator('.bearclf-clean article .file').all_inner_texts()

def card(page, name): return page.locator('.bearclf-clean article', has=page.locator(f'.file[title="{name}"]'))

def wait_state(page, name, state): page.wait_for_selector(f'article[data-state="{state}"]:has(.file[title="{name}"])')

def choose(page, label, text): page.get_by_label(label, exact=True).first.select_option(label=text)

def said(page, text): page.wait_for_function('t => document.querySelector(".bearclf-clean .said").textContent.includes(t)', arg=text)


@pytest.mark.parametrize('place', (Voila, Lab))
def test_decisions_stay_move_and_come_back(browser, tmp_path, photos, place):
    before = snapshot(photos)
    with shown(browser, tmp_path, photos, place) as v:
        page = v.page
        one, two = names(page)[:2]
        card(page, one).get_by_role('button', name='Delete').click()
        wait_state(page, one, 'delete')
        card(page, two).get_by_role('combobox').select_option(label='a new class …')
        card(page, two).get_by_placeholder('name').fill('кот')
        card(page, two).get_by_placeholder('name').press('Enter')
        wait_state(page, two, 'move')
        label = next(o for o in ('black', 'grizzly', 'мишка') if not one.startswith(o))
        choose(page, 'class', label)
        page.wait_for_function('l => [...document.querySelectorAll(".bearclf-clean .label b")].every(o => o.textContent === l)', arg=label)
        choose(page, 'class', 'all classes')
        wait_state(page, one, 'delete'), wait_state(page, two, 'move')
        assert snapshot(photos) == before, 'nothing moves before it is applied'
        v.place.new_kernel()
        wait_state(page, one, 'delete'), wait_state(page, two, 'move')
        assert card(page, two).locator('.word').inner_text() == '→ кот'
        page.get_by_role('button', name='Apply 2 decisions').click()
        said(page, 'Round 2')
        after = snapshot(photos)
        assert one not in after and two not in after and after[f'кот/{Path(two).name}'] == before[two] and len(after) == len(before) - 1
        assert (photos/'.cleaning/trash'/one).read_bytes() == before[one][0]
        page.get_by_role('button', name='Undo the last apply').click()
        said(page, 'put back')
        wait_state(page, one, 'delete')
        assert snapshot(photos) == before and not (photos/'кот').exists()
        assert {urlsplit(o).hostname for o in v.asked if not o.startswith(('data:', 'blob:'))} == {'127.0.0.1'}
