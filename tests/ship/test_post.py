"A post shows only what may be shown, says what it was made of, and overwrites nothing"
import json, re, subprocess, sys
from types import SimpleNamespace

import pytest
from PIL import Image

from bearclf.cli import main
from bearclf.core import error_text, sha256_of, table_text
from bearclf.clean.decisions import Decisions
from bearclf.collect.collect import MANIFEST
from bearclf.folder.moves import DELETE
from bearclf.practice.drawn import draw_bear, draw_bears
from bearclf.ship import post
from bearclf.ship.post import blog_post


def row(path, file, **more):
    return [(dict.fromkeys(MANIFEST, '') | dict(
        file=file, rank='1', term='bear', address='https://a.example/1.jpg', page='https://a.example/1',
        sha256=sha256_of(path/file), perceptual_hash='0'*144, size=str((path/file).stat().st_size),
        **{'class': file.split('/')[0]}) | more)[o] for o in MANIFEST]


@pytest.fixture
def bears(tmp_path, monkeypatch):
    "Six drawn bears; the first of each class is in a manifest, and one of these has no known licence"
    monkeypatch.chdir(tmp_path)
    draw_bears(path := tmp_path/'bears', 6, 48)
    exif = Image.Exif()
    exif[0x013b] = 'Masha at home'
    draw_bear('black', 'private', 48).save(path/'black/00000000.jpg', exif=exif)
    rows = [row(path, 'black/00000000.jpg', licence='CC BY 4.0', title='<b>A | bear</b>', creator='Bärí'),
            row(path, 'grizzly/00000001.jpg', licence='unknown', creator='nobody knows'),
            row(path, 'teddy/00000002.jpg', licence='CC0', page='javascript:alert(1)')]
    (path/'manifest.csv').write_text(table_text(MANIFEST, rows), encoding='utf-8')
    return path


def model(folder, name='export', **facts):
    folder.mkdir(exist_ok=True)
    (folder/f'{name}.pkl').write_bytes(name.encode())
    facts = dict(classes=['black', 'teddy'], n_photos=40, error_rate=.2, n_wrong=2, n_valid=10) | facts
    (folder/f'{name}.json').write_text(json.dumps(facts | dict(sha256=sha256_of(folder/f'{name}.pkl'))))
    return folder


def test_only_what_may_be_shown(bears):
    file = blog_post(bears, title='Which "one"?')
    text = file.read_text(encoding='utf-8')
    assert text.startswith("---\ntitle: \"Which 'one'?\"\n---\n")
    assert r'\<b\>A \| bear\</b\> by Bärí, CC BY 4.0, [source](<https://a.example/1>)' in text
    assert 'nobody knows' not in text and 'javascript' not in text
    assert '4 of 6 photos were left out' in text
    assert {o.name for o in file.parent.iterdir()} == {'post.md', *re.findall(r'\]\((\d+\.jpg)\)', text)}
    assert len(list(file.parent.glob('*.jpg'))) == 2
    assert b'Masha' in (bears/'black/00000000.jpg').read_bytes()
    assert not any(b'Masha' in o.read_bytes() for o in file.parent.iterdir())
    own = blog_post(bears, 'mine', own=True).read_text(encoding='utf-8')
    assert 'my own photo' in own and 'nobody knows' not in own and '1 of 6 photos were left out' in own


def test_a_photo_that_cleaning_moved_keeps_its_credit(bears):
    decisions = Decisions(bears)
    decisions.decide_all({'black/00000000.jpg': 'teddy', 'grizzly/00000001.jpg': DELETE})
    decisions.apply()
    text = blog_post(bears).read_text(encoding='utf-8')
    assert 'by Bärí' in text and 'Set aside while cleaning: 1. Given another class: 1.' in text
    assert '| teddy | 3 |' in text and '3 of 5 photos were left out' in text


def test_before_and_after_and_the_surest_mistakes(bears, monkeypatch):
    a, b, c = (bears/o for o in ('black/00000000.jpg', 'grizzly/00000001.jpg', 'teddy/00000002.jpg'))
    judged = (a, 'black', 'teddy', .6), (b, 'grizzly', 'black', .9), (c, 'teddy', 'black', .8)
    found = SimpleNamespace(judged=judged, _said=lambda: '3 of 6 photos are wrong.')
    monkeypatch.setattr(post, 'load_classifier', lambda o: o)
    monkeypatch.setattr(post, 'evaluate', lambda *_: found)
    model(folder := bears.parent/'model', 'export-before', n_wrong=5, error_rate=.5)
    text = blog_post(bears, model=model(folder), n=1).read_text(encoding='utf-8')
    assert re.search(r'before cleaning \| 40 \| 5 of 10 photos.*\n\| now \| 40 \| 2 of 10 photos', text)
    assert '3 of 6 photos are wrong.' in text
    assert text.count('taken for') == 2 and 'teddy, taken for black (80.0%)' in text  # its words stand twice
    alone = blog_post(bears, model=model(bears.parent/'other')).read_text(encoding='utf-8')
    assert 'before cleaning' not in alone and 'so a small difference' not in alone


def test_nothing_is_overwritten(bears, monkeypatch):
    first = blog_post(bears)
    assert (first.parent.name, blog_post(bears).parent.name) == ('bears-post', 'bears-post-2')
    assert 'stays' in error_text(blog_post, bears, first.parent)
    assert 'among the photos' in error_text(blog_post, bears, bears/'post')
    def full(*_): raise OSError(28, 'No space left on device')
    monkeypatch.setattr(post, 'without_personal_data', full)
    there = sorted(bears.parent.iterdir())
    with pytest.raises(OSError): blog_post(bears)
    assert sorted(bears.parent.iterdir()) == there


def test_sentences(bears, tmp_path, capsys):
    (tmp_path/'empty').mkdir()
    assert 'nothing to tell' in error_text(blog_post, tmp_path/'empty')
    assert 'no model at' in error_text(blog_post, bears, model=tmp_path/'empty')
    assert 'Name the model, too' in error_text(blog_post, bears, before=tmp_path)
    (bears/'manifest.csv').write_text('a,b\n1,2\n')
    assert 'not a table that collect wrote' in error_text(blog_post, bears)
    assert main(['post', str(tmp_path/'nowhere')]) == 2
    assert 'There is no folder' in capsys.readouterr().err


def test_the_command(bears, capsys):
    assert main(['post', str(bears), '--own']) == 0
    assert capsys.readouterr().out.startswith('The post is bears-post')
    assert (bears.parent/'bears-post/post.md').is_file()


def test_it_needs_neither_torch_nor_fastai():
    code = 'import sys, bearclf.ship.post; print({"torch", "fastai"} & {*sys.modules})'
    assert subprocess.run([sys.executable, '-c', code], capture_output=True, text=True).stdout == 'set()\n'
