"Paths that name nothing, files that are not opened, and fingerprints that cost nothing"
import os, re, socket, sys

import pytest

from bearclf import photo
from bearclf.cli import main
from bearclf.core import BearclfError, error_text, existing_folder
from bearclf.clean.decisions import Decisions
from bearclf.clean.issues import find_issues
from bearclf.folder.look import check_folder, find_photos
from bearclf.folder.moves import undo
from bearclf.folder.verify import verify
from bearclf.photo import PhotoError, ResizedPhotos, fingerprint, forget, look_at, read_photo, real_suffix
from bearclf.practice.drawn import draw_bears
from bearclf.ship.export import export_classifier
from bearclf.ship.predict import load_classifier, model_facts
from bearclf.train.data import photo_dls
from bearclf.train.learner import photo_learner
from helpers import script


# --- an empty path is no path

EMPTY = 'The path is empty. Give the folder or the file; "." is the folder that you are in.'

@pytest.mark.parametrize('f', [existing_folder, verify, undo, find_photos, check_folder, photo_dls, read_photo,
                               real_suffix, load_classifier, model_facts, Decisions,
                               lambda path: export_classifier(None, path)])
def test_an_empty_path_is_not_the_current_folder(f, tmp_path, monkeypatch):
    draw_bears(tmp_path/'bears', 6, 64)
    monkeypatch.chdir(tmp_path/'bears')
    assert error_text(f, '') == EMPTY and not list(tmp_path.glob('bears/.*'))


@pytest.mark.parametrize('words', [['verify', ''], ['verify', '', '--fix'], ['train', ''], ['train', '.', '--out', ''],
                                   ['train', '.', '--out='], ['clean', '', '--undo'], ['clean', '.', '--report', ''],
                                   ['evaluate', '', '.'], ['predict', '', 'a.jpg'], ['predict', '.', ''],
                                   ['app', '--data', ''], ['draw', ''], ['collect', '', '--class', 'teddy'],
                                   ['bundle', '', 'x.zip']], ids=' '.join)
def test_an_empty_word_on_the_command_line(words, tmp_path, monkeypatch, capsys):
    draw_bears(tmp_path/'bears', 6, 64)
    monkeypatch.chdir(tmp_path/'bears')
    before = sorted(tmp_path.rglob('*'))
    assert main(words) == 2 and sorted(tmp_path.rglob('*')) == before
    said = capsys.readouterr().err
    assert said.startswith('bearclf: ') and '"."' in said and said.count('\n') == 1


def test_a_class_that_is_looked_for_as_it_is_may_end_in_a_sign(monkeypatch, tmp_path, capsys):
    "`--class=teddy=` is no empty path"
    from bearclf.collect import collect
    monkeypatch.setattr(collect, 'collect', lambda classes, *_, **__: classes)
    assert main(['collect', str(tmp_path), '--class=teddy=']) == 0 and "{'teddy': 'teddy'}" in capsys.readouterr().out


# --- what is too large, or no plain file, is not opened

opened = []
sys.addaudithook(lambda event, args: opened.append(str(args[0])) if event == 'open' else None)
TOO_LARGE = 'too large to open safely'


@pytest.fixture
def bears(tmp_path):
    draw_bears(tmp_path/'bears', 12, 64)
    return tmp_path/'bears'


@pytest.fixture
def huge(bears):
    "A file of 2 GB that takes no room"
    file = bears/'black/huge.jpg'
    file.touch(); os.truncate(file, 2 << 30)
    yield file
    file.unlink()


def unopened(f, file):
    opened.clear()
    try: return f()
    finally: assert str(file) not in opened


@pytest.mark.parametrize('read', [read_photo, real_suffix, ResizedPhotos()])
def test_what_is_too_large_is_refused_by_its_size(huge, read):
    with pytest.raises(PhotoError) as e: unopened(lambda: read(huge), huge)
    assert str(e.value) == f'huge.jpg is {TOO_LARGE}; make it smaller first, 25 million pixels at most.'


def test_a_folder_with_something_too_large(bears, huge):
    assert unopened(lambda: look_at(huge), huge).reason == TOO_LARGE
    with pytest.raises(OSError, match=TOO_LARGE): unopened(lambda: fingerprint(huge), huge)
    assert unopened(lambda: check_folder(bears), huge).left_out == {huge: TOO_LARGE}
    report = unopened(lambda: verify(bears, fix=True), huge)
    assert [(r[0].file, *r[1:4]) for r in report.rows] == [('black/huge.jpg', 'unreadable', TOO_LARGE,
                                                            'for you to decide')]
    def issues(): return find_issues(photo_learner(photo_dls(bears, 64, num_workers=0), 'squeezenet1_0', False))
    assert len(unopened(issues, huge)) == 12


def test_what_has_grown_since_it_was_looked_at_is_left(bears, huge):
    os.truncate(huge, 100)
    report = verify(bears)
    assert [r[3] for r in report.rows] == ['set aside']
    os.truncate(huge, 2 << 30)
    assert not unopened(report.fix, huge).done and 'has changed' in report.problems[0]


LOOK = '''
import sys
from pathlib import Path
from bearclf.all import *
from bearclf.photo import look_at
path = Path({path!r})
file = path/'black/odd.jpg'
print(look_at(file).reason)
print(error_text(read_photo, file)); print(error_text(real_suffix, file)); print(error_text(ResizedPhotos(), file))
print(check_folder(path).left_out[file])
print(verify(path))
'''

def pipe(file): os.mkfifo(file)
def door(file):
    with socket.socket(socket.AF_UNIX) as s: s.bind(str(file))
def device(file): file.symlink_to('/dev/null')


@pytest.mark.skipif(os.name == 'nt', reason='Windows keeps such things elsewhere')
@pytest.mark.parametrize('make', [pipe, door, device])
def test_what_is_no_plain_file_hangs_nothing(child, bears, make, monkeypatch):
    monkeypatch.chdir(bears/'black')  # a socket's whole name may be too long
    make(type(bears)('odd.jpg'))
    res = child(script, LOOK.format(path=str(bears))).finish(60)
    said = 'a pipe, a socket or a device, not a file'
    assert res.returncode == 0 and len(re.findall(said, res.stdout)) == 6, res.stdout + res.stderr


# --- fingerprints at hand

def test_known_fingerprints_need_no_look_at_the_cache(bears, monkeypatch):
    files = find_photos(bears)
    prints = [*map(fingerprint, files)]
    monkeypatch.setattr(photo, 'cached', lambda *_: pytest.fail('the cache folder was asked'))
    assert [*map(fingerprint, files)] == prints


def test_fingerprints_are_read_from_the_disk_by_the_next_process(bears):
    file = find_photos(bears)[0]
    first = fingerprint(file)
    forget()
    assert unopened(lambda: fingerprint(file), file) == first
