"What goes wrong between the steps: kills, races, spawned workers, files of other machines"
import os, pickletools, random, sys, time, zipfile
from pathlib import Path

import pytest

from helpers import script
from bearclf import core
from bearclf.core import BearclfError, atomic_path, cached, empty_cache, inside, made_once
from bearclf.practice.drawn import draw_bears


def test_killed_while_drawing_leaves_no_half_folder(child, tmp_path):
    dest = tmp_path/'bears'
    run = child(draw_bears, dest, 3000)
    while not [o for o in tmp_path.rglob('*.jpg')]: time.sleep(.05); assert run.process.is_alive()
    run.kill()
    assert not dest.exists()
    draw_bears(dest, n=6, size=32)
    assert len(list(dest.rglob('*.jpg'))) == 6


def test_several_processes_draw_once(child, tmp_path):
    code = ('from bearclf.practice.drawn import drawn_path; p = drawn_path(n=60, size=64); '
            'print(p, p.stat().st_ino, len(list(p.rglob("*.jpg"))))')
    runs = [child(script, code, env=os.environ | {'BEARCLF_CACHE': str(tmp_path)}) for _ in range(3)]
    said = {o.finish().stdout.strip() for o in runs}
    assert len(said) == 1 and said.pop().endswith(' 60')
    assert not [o for o in tmp_path.rglob('.*') if o.suffix != '.lock'], 'something half made was left'


def test_a_failed_making_can_be_made_again(tmp_path):
    def fail(p): p.write_text('half'); raise OSError(28, 'No space left on device')
    with pytest.raises(OSError): made_once(tmp_path/'x', fail)
    assert made_once(tmp_path/'x', lambda p: p.write_text('whole')).read_text() == 'whole'


def test_atomic_path_replaces_a_file_only_when_all_is_written(tmp_path):
    (tmp_path/'x').write_text('old')
    with pytest.raises(RuntimeError):
        with atomic_path(tmp_path/'x') as p: p.write_text('new'); raise RuntimeError
    assert (tmp_path/'x').read_text() == 'old' and [o.name for o in tmp_path.iterdir()] == ['x']


def spawned(path):
    import multiprocessing
    from bearclf.train.data import photo_dls
    multiprocessing.set_start_method('spawn', force=True)
    dls = photo_dls(path, size=32, bs=8, num_workers=1)
    assert dls.train.fake_l.num_workers == 1
    x, y = next(iter(dls.train))
    print(tuple(x.shape), multiprocessing.get_start_method())


def test_workers_that_are_spawned(child, tmp_path):
    "As on Windows and macOS, where a worker starts as a new Python and gets everything pickled"
    draw_bears(tmp_path/'bears', n=24, size=64)
    res = child(spawned, tmp_path/'bears').finish()
    assert res.stdout.splitlines()[-1:] == ['(8, 3, 32, 32) spawn'], res.stderr


def test_names_that_windows_can_write(tmp_path):
    draw_bears(tmp_path/'bears', n=30, size=32, near_duplicated=3, wrong_extension=2, not_images=2)
    assert not [o for o in tmp_path.rglob('*') if set(o.name) & set('<>:"|?*\\')]


def test_export_loads_anywhere(demo_model):
    "Nothing of `__main__`, no kind of path that only this machine has, and no compiled code, which names its file"
    with zipfile.ZipFile(demo_model/'export.pkl') as z:
        data = z.read(next(o for o in z.namelist() if o.endswith('data.pkl')))
    words = [arg for _, arg, _ in pickletools.genops(data) if isinstance(arg, str)]
    assert any('_OpenCopy' in o for o in words)
    assert not [o for o in words if '__main__' in o or 'PosixPath' in o or 'WindowsPath' in o or o.startswith(os.sep)]


def test_a_function_of_the_notebook_is_exported_and_said(child, tmp_path):
    draw_bears(tmp_path/'bears', n=24, size=64)
    res = child(script, f'''
from bearclf.all import *
def my_label(o): return o.parent.name.upper()
dls = photo_dls({str(tmp_path/"bears")!r}, size=32, get_y=my_label)
export_classifier(photo_learner(dls, pretrained=False), {str(tmp_path/"model")!r})
''').finish()
    assert 'my_label of this notebook went into the file' in res.stdout, res.stderr
    code = f'import bearclf.ship.predict as p; print(p.load_classifier({str(tmp_path/"model")!r}).classes)'
    res = child(script, code).finish()
    assert res.stdout.strip() == "['BLACK', 'GRIZZLY', 'TEDDY']", res.stderr


def test_a_model_that_needs_a_module_that_is_gone(tmp_path):
    import torch, types
    gone = types.ModuleType('my_own_labels'); gone.Thing = type('Thing', (), {'__module__': 'my_own_labels'})
    sys.modules['my_own_labels'] = gone
    torch.save(gone.Thing(), tmp_path/'export.pkl')
    del sys.modules['my_own_labels']
    from bearclf.ship.predict import load_classifier
    with pytest.raises(ValueError, match="needs the module 'my_own_labels'"):
        load_classifier(tmp_path, trust=True)


def test_a_cache_that_can_only_be_read_is_read(tmp_path, monkeypatch):
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path))
    cached('bears', 'brown').write_text('a bear')
    os.utime(tmp_path/'bears/brown', (0, 0))
    def refuse(*args, **kwargs): raise PermissionError(13, 'Permission denied')
    monkeypatch.setattr(os, 'utime', refuse)
    assert cached('bears', 'brown').read_text() == 'a bear'


def test_what_other_programs_keep_stays(tmp_path, monkeypatch):
    "They mark their caches with the same tag, and `BEARCLF_CACHE` may be a folder that holds some"
    monkeypatch.setenv('BEARCLF_CACHE', str(tmp_path))
    for o in 'uv', 'target': (tmp_path/o).mkdir(); (tmp_path/o/'theirs').touch(); os.utime(tmp_path/o/'theirs', (0, 0))
    (tmp_path/'target/CACHEDIR.TAG').write_text('Signature: 8a477f597d28d172789f06886806bc55\n# Made by cargo\n')
    cached('bears', 'brown').touch()
    assert empty_cache() == 1 and all((tmp_path/o/'theirs').exists() for o in ('uv', 'target'))


# --- names from strangers ---

OUTSIDE = ['', '.', '..', '../x', 'a/../../x', 'a/..', 'a/../b', './a', 'a//b', 'a/', '/x', '//x/y', '//?/C:/x', 'C:',
           'C:x', 'c:/x', 'C:\\x', 'a\0b', 'x\ud800', 'a/'*3000 + 'b', None, 3, b'x', Path('x')]

@pytest.mark.parametrize('name', OUTSIDE, ids=[ascii(o)[:20] for o in OUTSIDE])
def test_names_that_do_not_lie_inside(tmp_path, name):
    with pytest.raises(BearclfError, match=r'(no name of a file|not begin in the folder|has parts that are)'):
        inside(tmp_path, name)


@pytest.mark.parametrize('name', ['\\x', '\\\\server\\x', '..\\x', 'a\\..\\..\\x', 'a/C:/x', 'a/x.jpg:stream',
                                  '.. /x', 'a/... ', 'a /x', 'x.', '...'])
def test_names_that_windows_reads_in_a_way_of_its_own(name, monkeypatch):
    assert not core._no_name(name), 'elsewhere it is a name like another'
    monkeypatch.setattr(core.os, 'name', 'nt')
    assert core._no_name(name)


@pytest.mark.parametrize('name', ['x', 'a/b/c.jpg', '-x', '=1', '..x', 'a/..b', 'x..', 'Медведь/ё.jpg', 'a b/c d',
                                  '~/x', '.hidden/x', 'a' + '\udcff', 'x'*300])
def test_names_that_lie_inside(tmp_path, name):
    if os.name == 'nt' and name in ('x..',): pytest.skip('no name there')
    assert inside(tmp_path, name) == tmp_path/name and inside(str(tmp_path), name, link=True) == tmp_path/name


needs_links = pytest.mark.skipif(os.name == 'nt', reason='links need rights there')

@needs_links
def test_links_lead_nowhere_else(tmp_path):
    root, out = tmp_path/'root', tmp_path/'root-and-more'
    for o in root/'a', root/'b', out: o.mkdir(parents=True)
    (out/'x').write_text('secret')
    for name, to in [('up', '..'), ('out', out), ('a/out', '../../root-and-more'), ('a/b', '../b'), ('round', 'round'),
                     ('a/x', out/'x'), ('a/none', '../../none'), ('b/back', '../../root/a'), ('a/here', '.'),
                     ('twice', 'out'), ('b/y', '../a/x')]: (root/name).symlink_to(to)
    (out/'back').symlink_to(root/'b')
    for o in 'up/x', 'out/x', 'a/out/x', 'twice/x', 'a/b/../../x':
        for link in False, True:
            with pytest.raises(BearclfError): inside(root, o, link)
    for o in 'up/root/a/y', 'out/back/x': assert inside(root, o) == root/o, 'it comes back'
    for o in 'a/x', 'a/none', 'out', 'b/y', 'up':
        with pytest.raises(BearclfError, match='is a link that leads out'): inside(root, o)
        assert inside(root, o, link=True) == root/o
    for o in 'a/b', 'a/b/new', 'b/back/new', 'round', 'round/x', 'a/here/here/z': assert inside(root, o) == root/o
    (tmp_path/'link').symlink_to(root)
    assert inside(tmp_path/'link', 'a/new') == tmp_path/'link/a/new'
    with pytest.raises(BearclfError): inside(tmp_path/'link', 'up/x')


@needs_links
def test_a_folder_that_became_a_link_meanwhile(tmp_path, monkeypatch):
    (tmp_path/'root/a').mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert inside('root', 'a/x') == Path('root/a/x') and inside('.', 'root/x') == Path('root/x')
    (tmp_path/'root/a').rmdir(); (tmp_path/'root/a').symlink_to(tmp_path)
    with pytest.raises(BearclfError, match='leads out of the folder by a link'): inside('root', 'a/x')


@needs_links
@pytest.mark.parametrize('seed', range(20))
def test_whatever_is_linked_only_what_lies_below_is_named(tmp_path, seed):
    r, targets = random.Random(seed), ['.', '..', '../..', 'a', 'b/a', '../c', '/', tmp_path, tmp_path/'root',
                                       tmp_path/'root/b', tmp_path/'root2', 'c/../..']
    folders = [tmp_path/o for o in ('root', 'root/a', 'root/b', 'root/a/b')]
    for o in folders: o.mkdir()
    for o in (tmp_path, *folders): (o/'x').write_text('')
    for _ in range(6):
        file = r.choice(folders)/r.choice('abc')
        if not os.path.lexists(file): file.symlink_to(r.choice(targets))
    named, root = 0, os.path.realpath(tmp_path/'root')
    for _ in range(100):
        name = '/'.join(r.choices(['a', 'b', 'c', '..', 'x', 'root', '~'], [4, 4, 4, .3, 2, 2, 1], k=r.randint(1, 5)))
        try: file = inside(tmp_path/'root', name)
        except BearclfError: continue
        named += 1
        assert '..' not in file.parts and file == tmp_path/'root'/name
        for o in file, file.parent: assert os.path.commonpath([root, os.path.realpath(o)]) == root
    assert named


def test_holm_as_in_the_book():
    assert core.holm([.01, .04, .03, .005]) == pytest.approx([.03, .06, .06, .02])
    assert core.holm([]) == [] and core.holm([.9, .8]) == pytest.approx([1, 1])
