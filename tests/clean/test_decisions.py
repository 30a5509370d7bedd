"What is decided is never lost, never done to the wrong photo, and all of it taken back"
import errno, os, shutil, subprocess, sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock

from bearclf.folder import moves as module
from bearclf.core import BearclfError
from bearclf.folder.look import find_photos
from bearclf.folder.moves import ASIDE, HOME
from bearclf.clean.decisions import DELETE, KEEP, Decisions, apply_csv
from bearclf.practice.drawn import draw_bears
from bearclf.folder.verify import verify
from helpers import small_disk
from test_decisions_kill import contents, folder, state


@pytest.fixture
def bears(tmp_path):
    "Four files of each of three classes: black/0.jpg to teddy/3.jpg"
    for i, kind in enumerate(('black', 'grizzly', 'teddy')):
        (tmp_path/'bears'/kind).mkdir(parents=True)
        for j in range(4):
            (tmp_path/f'bears/{kind}/{j}.jpg').write_bytes(b'%d%d' % (i, j) * 100)
            os.utime(tmp_path/f'bears/{kind}/{j}.jpg', ns=(10**18, 10**18 + 10*i + j))
    return tmp_path/'bears'


def names(decisions): return {o.relative_to(decisions.path).as_posix(): what for o, what in decisions.pending.items()}


def test_to_look_leaves_nothing(bears):
    before = state(bears)
    d = Decisions(bears)
    assert d.pending == {} and d.kept == set() and d.conflicts == [] and len(d.table) == 0
    assert str(d.apply()).startswith('0 photos') and str(d.undo()).startswith('0 photos')
    d.drop()
    assert list(d.table) == ['run', 'kind', 'when', 'photo', 'decision', 'to']
    assert state(bears) == before and not (bears/HOME).exists()


def test_decisions_outlive_their_process(bears):
    d = Decisions(bears)
    d.decide(bears/'teddy/1.jpg', 'black'); d.decide('black/0.jpg', DELETE); d.decide(bears/'black/1.jpg', KEEP)
    d.decide('teddy/1.jpg', 'panda')
    code = 'import sys; from bearclf.clean.decisions import Decisions; print(*Decisions(sys.argv[1]).pending.values())'
    assert subprocess.check_output([sys.executable, '-c', code, bears], text=True).split() == [DELETE, KEEP, 'panda']
    d.drop('black/0.jpg')
    assert names(Decisions(bears)) == {'black/1.jpg': KEEP, 'teddy/1.jpg': 'panda'} == names(d)
    Decisions(bears).drop()
    assert names(d) == {} and not (bears/HOME).exists()


def test_apply_undo_apply(bears):
    before, d = state(bears), Decisions(bears)
    d.decide_all({'black/0.jpg': DELETE, 'black/1.jpg': 'teddy', 'black/2.jpg': 'panda', 'black/3.jpg': KEEP,
                  'teddy/0.jpg': 'teddy'})
    report = d.apply()
    assert [tuple(o) for o in report.table.itertuples(index=False)] == [
        ('black/0.jpg', DELETE, '.bearclf/aside/black/0.jpg', ''), ('black/1.jpg', 'teddy', 'teddy/1-2.jpg', ''),
        ('black/2.jpg', 'panda', 'panda/2.jpg', ''), ('black/3.jpg', KEEP, 'black/3.jpg', ''),
        ('teddy/0.jpg', KEEP, 'teddy/0.jpg', '')]
    assert (bears/'teddy/1.jpg').read_bytes()[:2] == b'21' and (bears/'teddy/1-2.jpg').read_bytes()[:2] == b'01'
    assert d.kept == {bears/'black/3.jpg', bears/'teddy/0.jpg'} == Decisions(bears).kept and d.pending == {}
    assert str(report) == '3 photos were moved in bears, 2 stay as they are.'
    assert list(d.table.to) == list(report.table.to)
    assert str(d.undo()) == '3 photos were put back in bears, 2 stay as they are.' and d.conflicts == []
    assert state(bears) == before and list(names(d)) == list(report.table.photo) and d.kept == set()
    after = d.apply().table
    assert after.equals(report.table)
    d.undo(); d.drop()
    assert state(bears) == before and not (bears/HOME).exists()


def test_what_is_set_aside_is_hidden(tmp_path):
    draw_bears(tmp_path/'bears', 12, 64)
    photos = find_photos(tmp_path/'bears')
    d = Decisions(tmp_path/'bears')
    d.decide_all({photos[0]: DELETE, photos[1]: KEEP})
    d.apply()
    from fastai.vision.all import get_image_files
    assert set(find_photos(d.path)) == set(photos[1:]) == set(get_image_files(d.path)) and verify(d.path).n_photos == 11


def test_several_runs_are_taken_back_one_by_one(bears):
    states, d = [state(bears)], Decisions(bears)
    for what in ({'black/0.jpg': 'teddy', 'black/1.jpg': DELETE}, {'teddy/0-2.jpg': 'panda', 'black/2.jpg': KEEP},
                 {'panda/0-2.jpg': DELETE, 'grizzly/0.jpg': 'black'}):
        d.decide_all(what)
        assert not d.apply().problems
        states.append(state(bears))
    for o in states[2::-1]:
        d.undo(); d.drop()
        assert state(bears) == o
    assert not (bears/HOME).exists()


def test_undo_all(bears):
    before, d = state(bears), Decisions(bears)
    for what in ({'black/0.jpg': 'teddy', 'black/1.jpg': 'teddy', 'black/2.jpg': 'teddy'},
                 {'teddy/0-2.jpg': 'panda', 'teddy/1-2.jpg': KEEP, 'teddy/2-2.jpg': 'black'}):
        d.decide_all(what); d.apply()
    assert not d.undo(all=True).problems and state(bears) == before
    assert names(d) == {'black/0.jpg': 'panda', 'black/1.jpg': 'teddy',
                        'black/2.jpg': KEEP}  # each photo's later decision, as of its first place
    assert str(d.undo()).startswith('0 photos') and len(d.table) == 0


def test_the_lines_of_the_book(bears):
    "`fns[idx].unlink()` and `shutil.move(str(fns[idx]), path/cat)`: the decisions count as done"
    d = Decisions(bears)
    d.decide_all({'black/0.jpg': DELETE, 'grizzly/0.jpg': DELETE, 'black/1.jpg': 'panda', 'black/2.jpg': DELETE})
    (bears/'black/0.jpg').unlink()
    (bears/'panda').mkdir()
    shutil.move(str(bears/'black/1.jpg'), bears/'panda')
    assert names(d) == {'grizzly/0.jpg': DELETE, 'panda/1.jpg': KEEP, 'black/2.jpg': DELETE}
    assert d.messages == ['Moved by hand; what was decided about them stands: black/1.jpg (now panda/1.jpg).',
                          'Deleted or changed by hand, so nothing is left to decide: black/0.jpg.']
    assert names(Decisions(bears)) == names(d)
    (bears/'black/2.jpg').unlink()
    report = d.apply()
    assert [o[0] for o in report.rows] == ['black/0.jpg', 'black/2.jpg', 'grizzly/0.jpg', 'panda/1.jpg']
    assert not report.problems and d.kept == {bears/'panda/1.jpg'}
    d.undo()
    assert (bears/'panda/1.jpg').exists() and not (bears/'black/0.jpg').exists()
    assert names(d) == {'grizzly/0.jpg': DELETE, 'panda/1.jpg': KEEP}


def test_another_photo_of_the_same_name_size_and_time(bears):
    d, file = Decisions(bears), bears/'black/0.jpg'
    d.decide_all({'black/0.jpg': DELETE, 'black/1.jpg': DELETE})
    st = file.stat()
    file.write_bytes(b'99' * 100); os.utime(file, ns=(st.st_atime_ns, st.st_mtime_ns))
    os.utime(bears/'black/1.jpg', ns=(1, 1))  # the same photo, only touched
    report = d.apply()
    assert report.problems == ['black/0.jpg has changed since it was decided, or cannot be read any more. '
                               'It was left where it is; decide again.'] and report.problems[0] in str(report)
    assert file.read_bytes()[:2] == b'99' and not (bears/'black/1.jpg').exists() and names(d) == {}


def test_a_kept_photo_that_changes_is_asked_about_again(bears):
    d = Decisions(bears)
    d.decide('black/0.jpg', KEEP); d.apply()
    assert d.kept == {bears/'black/0.jpg'}
    (bears/'black/0.jpg').write_bytes(b'new')
    assert d.kept == set()


def test_a_name_that_is_taken_when_it_is_undone(bears):
    before, d = state(bears), Decisions(bears)
    d.decide_all({'black/0.jpg': DELETE, 'black/1.jpg': DELETE, 'black/2.jpg': 'panda', 'black/3.jpg': DELETE})
    d.apply()
    (bears/'black/0.jpg').write_text('mine')
    (bears/'panda/2.jpg').write_text('turned'); (bears/HOME/'aside/black/3.jpg').unlink()
    said = '\n'.join(d.undo().problems)
    assert 'black/0.jpg is taken meanwhile; .bearclf/aside/black/0.jpg stays where it is.' in said
    assert 'panda/2.jpg has changed since it was moved' in said and 'aside/black/3.jpg is not there any more' in said
    assert (bears/'black/0.jpg').read_text() == 'mine' and (bears/'panda/2.jpg').read_text() == 'turned'
    assert (bears/'black/1.jpg').exists()
    assert list(d.table.photo) == ['black/0.jpg', 'black/2.jpg'] and names(d) == {'black/1.jpg': DELETE}
    (bears/'black/0.jpg').unlink()
    d.undo()
    assert state(bears)['black/0.jpg'] == before['black/0.jpg'] and list(d.table.photo) == ['black/2.jpg']


def test_two_deleted_photos_of_one_name(bears):
    d = Decisions(bears)
    for text in 'first', 'second':
        (bears/'black/new.jpg').write_text(text)
        d.decide('black/new.jpg', DELETE); d.apply()
    trash = bears/HOME/'aside/black'
    assert (trash/'new.jpg').read_text() == 'first' and (trash/'new-2.jpg').read_text() == 'second'
    assert len(d.undo(all=True).problems) == 1 and (bears/'black/new.jpg').read_text() == 'second'
    assert (trash/'new.jpg').read_text() == 'first'
    (bears/'black/new.jpg').unlink()
    d.undo()
    assert (bears/'black/new.jpg').read_text() == 'first'


def test_a_name_that_is_taken_just_before_the_move(bears, monkeypatch):
    d = Decisions(bears)
    d.decide_all({'black/0.jpg': 'teddy', 'black/1.jpg': 'teddy'})
    def fsync(fd):
        if b'teddy/0-2.jpg' in journal(bears).read_bytes() and not (bears/'teddy/0-2.jpg').exists():
            (bears/'teddy/0-2.jpg').write_text('mine')
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', fsync)
        assert d.apply().problems == ['black/0.jpg could not be moved to teddy/0-2.jpg (this name is taken).']
    assert (bears/'teddy/0-2.jpg').read_text() == 'mine' and (bears/'black/0.jpg').exists()
    assert names(d) == {'black/0.jpg': 'teddy'}
    assert not d.apply().problems and (bears/'teddy/0-3.jpg').exists() and (bears/'teddy/0-2.jpg').read_text() == 'mine'


def test_an_undo_that_can_do_nothing_goes_to_the_run_before(bears):
    d = Decisions(bears)
    d.decide('black/0.jpg', 'panda'); d.apply()
    d.decide('black/1.jpg', DELETE); d.apply()
    (bears/'black/1.jpg').write_text('mine')
    report = d.undo()
    assert len(report.problems) == 1 and (bears/'black/0.jpg').exists() and not (bears/'panda').exists()


def test_a_photo_that_was_moved_on_stays(bears):
    d = Decisions(bears)
    d.decide('black/0.jpg', 'panda'); d.apply()
    d.decide('panda/0.jpg', 'teddy'); d.apply()
    (bears/'panda').mkdir(exist_ok=True); (bears/'panda/0.jpg').write_text('mine')
    said = d.undo(all=True).problems
    assert any('panda/0.jpg is taken meanwhile' in o for o in said) and any('panda/0.jpg' in o for o in said[1:])
    assert (bears/'teddy/0-2.jpg').exists() and len(d.table) == 2
    (bears/'panda/0.jpg').unlink()
    assert not d.undo(all=True).problems and (bears/'black/0.jpg').exists()


def test_a_photo_that_was_moved_on_and_then_changed(bears):
    d = Decisions(bears)
    for o, what in ('black/0.jpg', 'panda'), ('panda/0.jpg', 'koala'): d.decide(o, what); d.apply()
    data = (bears/'koala/0.jpg').read_bytes()
    (bears/'koala/0.jpg').write_text('turned')
    assert d.undo(all=True).problems == ['koala/0.jpg has changed since it was moved, and stays where it is.',
                                         'panda/0.jpg was moved on to koala/0.jpg, and stays there.']
    (bears/'koala/0.jpg').write_bytes(data)
    assert not d.undo(all=True).problems and (bears/'black/0.jpg').exists() and not (bears/'koala').exists()


def test_a_folder_that_was_made_and_is_empty_for_a_while(bears):
    before, d = state(bears), Decisions(bears)
    for o, what in ('black/0.jpg', 'panda'), ('panda/0.jpg', 'koala'), ('black/1.jpg', 'otter'):
        d.decide(o, what); d.apply()
    d.undo(); d.drop()
    assert not (bears/'otter').exists()
    d.undo(); d.drop()
    d.undo(); d.drop()
    assert state(bears) == before and not (bears/HOME).exists()


def test_class_folders_that_vanish(bears):
    before, d = state(bears), Decisions(bears)
    d.decide_all({'black/0.jpg': 'teddy', 'grizzly/0.jpg': 'black', 'grizzly/1.jpg': DELETE})
    shutil.move(bears/'teddy', bears.parent/'teddy'); shutil.rmtree(bears/'grizzly')
    report = d.apply()
    assert len(d.messages) == 1 and 'grizzly/0.jpg, grizzly/1.jpg' in d.messages[0] and not report.problems
    assert (bears/'teddy/0.jpg').read_bytes()[:2] == b'00'
    shutil.rmtree(bears/'black')
    d.undo()
    assert state(bears)['black/0.jpg'] == before['black/0.jpg'] and not (bears/'teddy').exists()


@pytest.mark.parametrize('name', ['1.jpg?itok=COe4LoKt', 'a\nb.jpg', 'кот 100 %.jpg', '-rf.jpg', '"quoted", comma.jpg',
                                  os.fsdecode(b'\xff\xfe.jpg'), 'a\u0308.jpg', '.hidden.jpg', "'; drop.jpg",
                                  'no ending'])
@pytest.mark.parametrize('kind', ['кот', 'a\u0308', os.fsdecode(b'\xe9t\xe9'), 'a b'])
@pytest.mark.skipif(sys.platform != 'linux', reason='other systems refuse some of these names')
def test_any_name(name, kind, tmp_path):
    for o in kind, 'other': (tmp_path/'z'/o).mkdir(parents=True)
    (tmp_path/'z'/kind/name).write_text('a'); (tmp_path/'z/other/x.jpg').write_text('b')
    before, d = state(tmp_path/'z'), Decisions(tmp_path/'z')
    d.decide_all({d.path/kind/name: DELETE, 'other/x.jpg': kind})
    assert set(Decisions(d.path).pending) == {d.path/kind/name, d.path/'other/x.jpg'}
    assert not d.apply().problems and str(d.apply())
    assert (d.path/HOME/'aside'/kind/name).read_text() == 'a' and (d.path/kind/'x.jpg').read_text() == 'b'
    assert len(list(d.path.iterdir())) == 3
    assert not Decisions(d.path).undo().problems and state(d.path) == before
    (d.path/kind/name).unlink()
    d.apply()
    print(d, d.messages[-1], repr(d.apply()), d.conflicts)  # what pytest captures is UTF-8


@pytest.mark.parametrize('what', ['a/b', '..', '.', '', '.hidden', 'con', 'NUL.txt', 'a:b', 'x'*300, ' black', 'black ',
                                  'Black', '<Other>', None, 3, 'notes'])
def test_what_is_no_class(what, bears):
    (bears/'notes').write_text('mine')
    before, d = state(bears), Decisions(bears)
    with pytest.raises(BearclfError) as e: d.decide_all({'black/0.jpg': DELETE, 'teddy/0.jpg': what})
    assert '\n' not in str(e.value) and len(str(e.value)) < 500 and names(d) == {} and state(bears) == before
    assert not (bears/HOME).exists()
    d.decide('black/0.jpg', 'panda')
    with pytest.raises(BearclfError, match="There is a class 'panda' already"): d.decide('black/1.jpg', 'Panda')
    with pytest.raises(BearclfError, match="There is a class 'koala' already"):
        d.decide_all({'black/1.jpg': 'koala', 'black/2.jpg': 'Koala'})


def test_what_is_no_photo(bears, tmp_path):
    d = Decisions(bears)
    (tmp_path/'x.jpg').write_text('x')
    for photo, words in (('black/9.jpg', 'black/9.jpg is not there'), (tmp_path/'x.jpg', 'does not lie in'),
                         ('../x.jpg', 'does not lie in'), ('black', 'not there'), (bears, 'does not lie in')):
        with pytest.raises(BearclfError, match=words): d.decide(photo, DELETE)
    d.decide('black/0.jpg', 'panda'); d.apply()
    with pytest.raises(BearclfError, match='it was moved to panda/0.jpg'): d.decide('black/0.jpg', DELETE)
    with pytest.raises(BearclfError, match='There is no folder'): Decisions(tmp_path/'beers')


@pytest.mark.skipif(os.name == 'nt', reason='links need rights there')
def test_links(bears):
    (bears/'black/near.jpg').symlink_to('../teddy/0.jpg'); (bears/'black/far.jpg').symlink_to(bears/'teddy/1.jpg')
    links, d = {o: os.readlink(bears/o) for o in ('black/near.jpg', 'black/far.jpg')}, Decisions(bears)
    with pytest.raises(BearclfError, match='black/near.jpg is a link, which would lead nowhere'):
        d.decide('black/near.jpg', 'teddy')
    d.decide('black/near.jpg', DELETE); d.decide('black/far.jpg', 'grizzly')
    assert not d.apply().problems and (bears/'grizzly/far.jpg').read_bytes() == (bears/'teddy/1.jpg').read_bytes()
    assert not d.undo().problems and {o: os.readlink(bears/o) for o in links} == links


def test_ways_to_name_a_photo(bears, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    d = Decisions('bears')
    d.decide('bears/black/0.jpg', DELETE); d.decide(Path('black/1.jpg'), DELETE)
    d.decide(bears/'black/../black/2.jpg', DELETE)
    assert set(d.pending) == {bears/f'black/{i}.jpg' for i in range(3)}
    (tmp_path/'link').symlink_to(bears)
    linked = Decisions(tmp_path/'link')
    linked.decide(tmp_path/'link/black/3.jpg', DELETE)
    linked.decide(bears/'teddy/0.jpg', DELETE)
    assert len(linked.pending) == 5; linked.drop(bears/'teddy/0.jpg')
    assert set(linked.pending) == {tmp_path/f'link/black/{i}.jpg' for i in range(4)} and len(d.pending) == 4


# --- two at once ---

def test_two_sessions_see_each_other(bears):
    a, b = Decisions(bears), Decisions(bears)
    a.decide('black/0.jpg', DELETE); b.decide('black/1.jpg', 'teddy'); b.decide('black/2.jpg', KEEP)
    assert names(a) == names(b) == {'black/0.jpg': DELETE, 'black/1.jpg': 'teddy', 'black/2.jpg': KEEP}
    assert a.conflicts == b.conflicts == []
    b.decide('black/0.jpg', 'panda')  # seen before
    assert names(a)['black/0.jpg'] == 'panda' and b.conflicts == []
    assert len(a.conflicts) == 1 and a.conflicts[0].startswith('black/0.jpg: <Delete> was decided on')
    assert 'it became panda, which stands' in a.conflicts[0]
    a.decide('black/1.jpg', 'teddy')  # the same again is no conflict
    b.drop('black/2.jpg'); a.decide('black/2.jpg', DELETE); b.drop('black/2.jpg')
    assert len(b.conflicts) == 0 and len(a.conflicts) == 2 and 'it was dropped' in a.conflicts[1]


def test_a_decision_that_was_not_seen_is_said_on_both_sides(bears):
    a, b = Decisions(bears), Decisions(bears)
    assert names(b) == {}
    a.decide('black/0.jpg', DELETE)
    b.decide('black/0.jpg', 'teddy')
    assert names(a) == names(b) == {'black/0.jpg': 'teddy'} and a.conflicts == b.conflicts and len(a.conflicts) == 1
    b.decide('black/0.jpg', KEEP)
    assert len(b.conflicts) == 1 and len(a.conflicts) == 1, 'its own decision'


def test_who_comes_later_is_told_what_is_overruled_then(bears):
    a = Decisions(bears)
    a.decide('black/0.jpg', DELETE); Decisions(bears).decide('black/0.jpg', KEEP)
    c, b = Decisions(bears), Decisions(bears)
    assert c.conflicts == [] and len(a.conflicts) == 1
    b.decide('black/0.jpg', 'teddy')
    assert len(c.conflicts) == 1 and len(a.conflicts) == 2 and '<Keep> was decided' in c.conflicts[0]


def test_one_session_drops_what_the_other_decided(bears):
    a, b = Decisions(bears), Decisions(bears)
    a.decide('black/0.jpg', DELETE)
    b.drop()
    assert not (bears/HOME).exists() and names(a) == {}
    assert len(a.conflicts) == 1 and 'dropped' in a.conflicts[0]
    a.decide('black/1.jpg', DELETE)
    assert names(b) == {'black/1.jpg': DELETE} and len(a.conflicts) == 1


def test_one_applies_and_the_other_goes_on(bears):
    before, a, b = state(bears), Decisions(bears), Decisions(bears)
    a.decide('black/0.jpg', DELETE); b.decide('black/1.jpg', 'panda')
    assert len(b.apply().rows) == 2 and names(a) == {}
    with pytest.raises(BearclfError, match='black/0.jpg is not there; it was moved to .bearclf/aside/black/0.jpg'):
        a.decide('black/0.jpg', KEEP)
    a.decide('black/2.jpg', 'panda'); a.apply()
    assert len(b.table) == 3 and len(b.undo(all=True).rows) == 3 and state(bears) == before


def test_one_takes_back_what_the_other_applied(bears):
    a, b = Decisions(bears), Decisions(bears)
    a.decide('black/0.jpg', DELETE); a.apply()
    assert 'That was the apply of' in str(b.undo()) and (bears/'black/0.jpg').exists()
    assert len(a.conflicts) == 1 and a.conflicts[0].startswith('What was done on') and b.conflicts == []
    assert names(a) == {'black/0.jpg': DELETE}
    a.apply()
    assert 'That was' not in str(a.undo())


def test_lines_that_another_process_has_to_take_out_again(bears):
    "B has read lines of A for which the disk then had no room"
    a, b = Decisions(bears), Decisions(bears)
    a.decide('black/0.jpg', DELETE)
    data = journal(bears).read_bytes()
    a.decide('black/1.jpg', DELETE)
    assert len(b.pending) == 2
    journal(bears).write_bytes(data)
    b.decide('black/2.jpg', DELETE)
    assert set(names(b)) == set(names(Decisions(bears))) == {'black/0.jpg', 'black/2.jpg'}
    assert b'\0' not in journal(bears).read_bytes()


def test_four_processes_at_once(tmp_path):
    "Each decides about its own fifth and the last one, applies and undoes at will; nothing is lost, no decision either"
    photos = folder(tmp_path/'bears', 50)
    before = state(tmp_path/'bears')
    code = '''if True:
        import sys
        from bearclf.core import BearclfError
        from bearclf.folder.moves import *
        from bearclf.clean.decisions import *
        i, photos = int(sys.argv[2]), sys.argv[3:]
        d = Decisions(sys.argv[1])
        for j, o in enumerate(photos[10*i:10*i+10] + photos[40:]):
            try: d.decide(o, [DELETE, 'p', 'q', KEEP][i])
            except BearclfError as e: assert 'is not there' in str(e), e
            if j == 5 + i: d.apply()
            if j == 8 + i: d.undo()
            if j == 3 + i: d.drop(); d.decide(o, DELETE) if j < 10 else None
    '''
    ps = [subprocess.Popen([sys.executable, '-c', code, tmp_path/'bears', str(i), *map(str, photos)],
                           stderr=subprocess.PIPE, text=True) for i in range(4)]
    for p in ps: assert p.communicate()[1] == '' and p.returncode == 0
    assert contents(tmp_path/'bears') == sorted(o[0] for o in before.values() if o)
    d = Decisions(tmp_path/'bears')
    assert not d.messages and len(d.pending) + len(d.table) > 10
    d.apply(); d.undo(all=True); d.drop()
    assert state(tmp_path/'bears') == before and not (tmp_path/'bears'/HOME).exists()


@pytest.mark.parametrize('when', ['mkdir', 'mkdir again', 'open'])
def test_the_folder_goes_as_one_enters(when, bears, monkeypatch):
    "Another process removes `.bearclf` just before we look at it (filelock looks twice), or before the lock is made"
    name, left = when.split()[0], [len(when.split())]
    def call(path, *args, _do=getattr(os, name), **kw):
        if Path(path) in (bears/HOME, bears/HOME/'.lock'): left[0] -= 1
        if left == [0]:
            left[0] -= 1
            if (bears/HOME).exists(): os.rmdir(bears/HOME)
            if name == 'mkdir': raise FileExistsError(errno.EEXIST, 'File exists', str(path))
        return _do(path, *args, **kw)
    monkeypatch.setattr(os, name, call)
    Decisions(bears).decide('black/0.jpg', DELETE)
    assert left[0] < 0 and names(Decisions(bears)) == {'black/0.jpg': DELETE}


def test_another_enters_as_one_leaves(bears, monkeypatch):
    "Who has removed the history touches nothing any more once the lock is free"
    a = Decisions(bears)
    a.decide('black/0.jpg', DELETE)
    trash, release, done = bears/HOME/'aside/black', FileLock.release, []
    def and_another(self, *args, **kw):
        release(self, *args, **kw)
        if not done: done.append((bears/HOME/'.lock').touch()); trash.mkdir(parents=True)
    with monkeypatch.context() as m:
        m.setattr(FileLock, 'release', and_another)
        a.drop()
    assert trash.is_dir()
    a.decide('black/0.jpg', DELETE)
    a.drop()
    assert not (bears/HOME).exists()


def test_a_file_in_place_of_the_folder(bears):
    (bears/HOME).touch()
    with pytest.raises(BearclfError, match='is nothing that bearclf has made'): Decisions(bears)
    assert (bears/HOME).is_file()


def test_the_photos_go_with_their_folder(bears):
    d = Decisions(bears)
    shutil.rmtree(bears)
    with pytest.raises(BearclfError, match='bears'): d.decide('black/0.jpg', DELETE)


# --- a history that suffered ---

def journal(path): return path/HOME/'history.jsonl'


@pytest.mark.parametrize('cut', range(1, 60, 7))
def test_half_a_line_at_the_end(bears, cut, capsys):
    Decisions(bears).decide('black/0.jpg', DELETE)
    data = journal(bears).read_bytes()
    Decisions(bears).decide('black/1.jpg', DELETE)
    journal(bears).write_bytes(journal(bears).read_bytes()[:len(data) + cut])
    d = Decisions(bears)
    assert names(d) == {'black/0.jpg': DELETE} and d.messages == []
    d.decide('black/2.jpg', KEEP)
    assert len(d.messages) == 1 and 'was not written to its end' in d.messages[0]
    assert names(Decisions(bears)) == {'black/0.jpg': DELETE, 'black/2.jpg': KEEP} and Decisions(bears).messages == []


@pytest.mark.parametrize('cut', range(1, 40, 7))
def test_half_of_the_line_that_ends_an_apply(bears, cut):
    "Nothing had been decided in that line, so nothing is to be decided again"
    d = Decisions(bears)
    d.decide('black/0.jpg', DELETE); d.apply()
    after, lines = state(bears), journal(bears).read_bytes().splitlines(keepends=True)
    assert b'"do": "end"' in lines[-1]
    journal(bears).write_bytes(b''.join(lines)[:cut - len(lines[-1])])
    d = Decisions(bears)
    assert d.messages == [] and names(d) == {} and state(bears) == after
    d.undo()
    assert names(d) == {'black/0.jpg': DELETE} and Decisions(bears).messages == []


def test_the_line_that_ended_an_apply_is_damaged(bears):
    "What was decided after it is not applied unasked"
    d = Decisions(bears)
    d.decide('black/0.jpg', KEEP); d.apply(); d.decide('black/0.jpg', DELETE)
    journal(bears).write_bytes(journal(bears).read_bytes().replace(b'"do": "end"', b'"do": "eNd"'))
    assert names(Decisions(bears)) == {'black/0.jpg': DELETE} and (bears/'black/0.jpg').exists()


def test_half_of_the_first_line(bears):
    (bears/HOME).mkdir(); journal(bears).write_bytes(b'1234abcd {"do": "beg')
    d = Decisions(bears)
    assert names(d) == {}
    d.decide('black/2.jpg', KEEP)
    assert names(Decisions(bears)) == {'black/2.jpg': KEEP}


@pytest.mark.parametrize('line, left', [(0, 'abc'), (1, 'bc'), (2, 'ac')])
def test_a_damaged_line(line, left, bears):
    before, d = state(bears), Decisions(bears)
    for o, i in zip('abc', range(3)):
        shutil.copy(bears/'black/0.jpg', bears/f'black/{o}.jpg'); d.decide(f'black/{o}.jpg', DELETE)
    lines = journal(bears).read_bytes().split(b'\n')
    lines[line] = lines[line].replace(b'{"', b'{x')
    journal(bears).write_bytes(b'\n'.join(lines))
    d = Decisions(bears)
    assert names(d) == {f'black/{o}.jpg': DELETE for o in left} and len(d.messages) == 1 and 'damaged' in d.messages[0]
    d.apply(); d.undo(); d.drop()
    for o in 'abc': (bears/f'black/{o}.jpg').unlink()
    assert state(bears) == before and journal(bears).exists(), 'what may be of use is kept'


def test_a_damaged_move_is_still_set_aside(bears):
    d = Decisions(bears)
    d.decide_all({'black/0.jpg': DELETE, 'black/1.jpg': DELETE}); d.apply()
    journal(bears).write_bytes(journal(bears).read_bytes().replace(b'"do": "move", "photo": "black/0',
                                                                   b'"do": "move", "photo": "blank/0'))
    d = Decisions(bears)
    assert names(d) == {} and ASIDE in d.messages[0] and 'by hand' in d.messages[1] and 'black/0.jpg' in d.messages[1]
    d.undo()
    assert (bears/HOME/'aside/black/0.jpg').exists() and (bears/'black/1.jpg').exists()


def test_any_one_line_is_damaged(bears, capsys):
    before, d = state(bears), Decisions(bears)
    for what in ({'black/0.jpg': 'teddy', 'black/1.jpg': DELETE, 'grizzly/1.jpg': KEEP},
                 {'teddy/0-2.jpg': 'panda', 'black/2.jpg': 'panda'}):
        d.decide_all(what); d.apply()
    d.decide('black/3.jpg', DELETE)
    d.undo()
    lines = journal(bears).read_bytes().splitlines(keepends=True)
    shutil.copytree(bears, bears.parent/'saved')
    assert len(lines) > 20
    for i in range(len(lines)):
        shutil.rmtree(bears); shutil.copytree(bears.parent/'saved', bears)
        journal(bears).write_bytes(b''.join(lines[:i] + [lines[i].replace(b'"do"', b'"dO"')] + lines[i+1:]))
        d = Decisions(bears)
        assert 'damaged' in d.messages[0]
        d.pending, d.kept, d.table, d.apply(), d.undo(all=True), Decisions(bears).drop()
        assert contents(bears) == sorted(o[0] for o in before.values() if o), i


def test_rubbish_in_place_of_the_history(bears):
    for rubbish in (b'\x00'*500, b'\xff\xfe\n'*3, b'12345678 [1]\n', b'zz\n', b'12345678 \n', b'\n',
                    module._line(do='later')):
        (bears/HOME).mkdir(exist_ok=True)
        journal(bears).write_bytes(rubbish)
        d = Decisions(bears)
        assert names(d) == {} and len(d.messages) == (b'\n' in rubbish and b'later' not in rubbish and rubbish != b'\n')
        d.decide('black/0.jpg', DELETE)
        assert names(Decisions(bears)) == {'black/0.jpg': DELETE}
        d.drop(); d.apply()


def test_a_history_of_a_newer_version(bears):
    (bears/HOME).mkdir()
    journal(bears).write_bytes(module._line(do='begin', version=2, id='x')
                               + module._line(do='new thing', photo='black/0.jpg'))
    with pytest.raises(BearclfError, match='newer bearclf'): Decisions(bears)
    (bears/HOME).rename(bears/'x'); d = Decisions(bears); (bears/'x').rename(bears/HOME)
    for f in (lambda: d.pending, d.apply, d.undo, d.drop, lambda: d.decide('black/0.jpg', DELETE)):
        with pytest.raises(BearclfError, match='newer bearclf'): f()
    assert journal(bears).read_bytes().count(b'\n') == 2


# --- places that refuse ---

def refusing(monkeypatch, name, bad, error):
    "`os.<name>` fails with `error` where one of its arguments fits `bad`"
    f = getattr(os, name)
    def g(*args, **kw):
        if any(bad(str(o)) for o in args): raise OSError(error, os.strerror(error))
        return f(*args, **kw)
    monkeypatch.setattr(os, name, g)


def test_a_photo_that_may_not_be_moved(bears, monkeypatch):
    before, d = state(bears), Decisions(bears)
    d.decide_all({'black/0.jpg': DELETE, 'black/1.jpg': 'panda', 'grizzly/0.jpg': 'teddy'})
    with monkeypatch.context() as m:
        refusing(m, 'rename', lambda o: o.endswith('black/1.jpg'), errno.EACCES)
        report = d.apply()
    assert report.problems == ['black/1.jpg could not be moved to panda/1.jpg (Permission denied).']
    assert 'Permission denied' in str(report)
    assert names(d) == {'black/1.jpg': 'panda'} and not (bears/'panda').exists() and (bears/'teddy/0-2.jpg').exists()
    assert not d.apply().problems and (bears/'panda/1.jpg').exists()
    with monkeypatch.context() as m:
        refusing(m, 'rename', lambda o: o.endswith('panda/1.jpg'), errno.EBUSY)
        assert 'panda/1.jpg could not be put back' in d.undo(all=True).problems[0]
    assert (bears/'grizzly/0.jpg').exists() and list(d.table.photo) == ['black/1.jpg']
    assert not d.undo().problems and state(bears) == before


def test_a_class_folder_that_cannot_be_made(bears, monkeypatch):
    before, d = state(bears), Decisions(bears)
    d.decide_all({'black/0.jpg': 'panda', 'black/1.jpg': 'teddy'})
    with monkeypatch.context() as m:
        refusing(m, 'mkdir', lambda o: o.endswith('panda'), errno.ENOSPC)
        assert d.apply().problems == ['black/0.jpg could not be moved to panda/0.jpg (No space left on device).']
    assert names(d) == {'black/0.jpg': 'panda'} and (bears/'teddy/1-2.jpg').exists()
    d.undo()
    assert state(bears) == before


def open_to_all(o):
    "pytest's own folders are its user's alone"
    if o.stat().st_uid == os.geteuid() and 'pytest' in str(o): o.chmod(0o755)


@contextmanager
def as_nobody():
    "Without the rights of root, who may write everywhere"
    if not hasattr(os, 'geteuid'): pytest.skip('other systems have other rights')
    if os.geteuid(): yield; return
    os.seteuid(65534)
    try: yield
    finally: os.seteuid(0)


def test_folders_that_are_read_only(bears):
    before, d = state(bears), Decisions(bears)
    d.decide_all({'black/0.jpg': DELETE, 'grizzly/0.jpg': 'teddy', 'grizzly/1.jpg': 'black', 'teddy/0.jpg': DELETE})
    for o in bears.parents: open_to_all(o)
    for o in [bears, *bears.rglob('*')]: o.chmod(0o777)
    (bears/'teddy/0.jpg').chmod(0o444)
    (bears/'black').chmod(0o555)  # photos in a read-only folder cannot leave it; a read-only photo can
    try:
        with as_nobody():
            said = Decisions(bears).apply().problems
    finally: (bears/'black').chmod(0o777)
    assert [o.partition(' ')[0] for o in said] == ['black/0.jpg', 'grizzly/1.jpg']
    assert all('Permission denied' in o for o in said)
    assert (bears/'teddy/0-2.jpg').exists() and not (bears/'teddy/0.jpg').exists()
    d.undo()
    assert state(bears) == before and set(names(d)) == {'black/0.jpg', 'grizzly/0.jpg', 'grizzly/1.jpg', 'teddy/0.jpg'}


def test_a_folder_of_somebody_else(bears):
    for o in bears.parents: open_to_all(o)
    bears.chmod(0o555)
    before = state(bears)
    try:
        with as_nobody():
            d = Decisions(bears)
            assert names(d) == {}
            with pytest.raises(BearclfError, match=r'\.bearclf cannot be written \(Permission denied\)'):
                d.decide('black/0.jpg', DELETE)
    finally: bears.chmod(0o755)
    assert state(bears) == before


@pytest.mark.parametrize('after', range(12))
def test_the_disk_is_full_after_some_lines(after, bears, monkeypatch):
    before, d, left = state(bears), Decisions(bears), [after]
    d.decide_all({'black/0.jpg': DELETE, 'black/1.jpg': 'panda', 'black/2.jpg': KEEP, 'black/3.jpg': 'teddy'})
    def full(fd, fsync=os.fsync):
        left[0] -= 1
        if left[0] < 0: raise OSError(errno.ENOSPC, 'No space left on device')
        fsync(fd)
    with monkeypatch.context() as m:
        m.setattr(os, 'fsync', full)
        if after < 6:
            with pytest.raises(BearclfError, match='No space left on device.*Make room'): d.apply()
        else: d.apply()
        assert contents(bears) == sorted(o[0] for o in before.values() if o)
    again = Decisions(bears)
    assert ('was stopped' in ' '.join(again.messages)) == (0 < after < 5)
    again.apply()
    assert len(again.table) == 4 and names(d) == {}
    d.undo(all=True)
    assert state(bears) == before


def test_a_disk_that_is_really_full(tmp_path):
    with small_disk(tmp_path/'disk', 256) as disk:
        photos = folder(disk/'bears', 30)
        before, d = state(disk/'bears'), Decisions(disk/'bears')
        d.decide_all({o: [DELETE, 'panda', 'teddy'][i%3] for i, o in enumerate(photos)})
        with open(disk/'ballast', 'wb', buffering=0) as f, pytest.raises(OSError):
            while True: f.write(b'x'*4096)
        with pytest.raises(BearclfError, match='No space left on device.*Make room'): d.apply()
        now = state(disk/'bears')
        assert now != before and contents(disk/'bears') == sorted(o[0] for o in before.values() if o)
        again = Decisions(disk/'bears')
        assert len(again.messages) == 1 and 'of 30 photos are done' in again.messages[0]
        with pytest.raises(BearclfError, match='No space left on device'): again.apply()
        (disk/'ballast').unlink()
        again.apply()
        assert len(again.table) == 30 and names(again) == {}
        again.undo(); again.drop()
        assert state(disk/'bears') == before and not (disk/'bears'/HOME).exists()


# --- photos without a class ---

@pytest.mark.parametrize('where', ['../new', 'new', '../new/deep', '.'])
def test_unlabelled_photos_get_a_class(where, bears):
    source = Path(os.path.normpath(bears/where))
    source.mkdir(parents=True, exist_ok=True)
    for i in range(4): (source/f'{i}.jpg').write_bytes(b'new%d' % i)
    before = state(bears.parent)
    d = Decisions(bears, source=source)
    d.decide_all({source/'0.jpg': 'teddy', source/'1.jpg': 'panda', source/'2.jpg': DELETE, source/'3.jpg': KEEP})
    assert list(d.pending) == [source/f'{i}.jpg' for i in range(4)] == list(Decisions(bears, source).pending)
    report = Decisions(bears, source).apply()
    assert not report.problems and (bears/'teddy/0-2.jpg').read_bytes() == b'new0'
    assert (bears/'panda/1.jpg').read_bytes() == b'new1'
    assert [o.name for o in source.glob('*.jpg')] == ['3.jpg'] and d.kept == {source/'3.jpg'}
    assert [o.name for o in (bears/HOME/'aside').rglob('*.jpg')] == ['2.jpg']
    assert not Decisions(bears, source).undo().problems and all(state(bears.parent)[o] == before[o] for o in before)
    d.drop(source/'0.jpg'); d.drop()
    assert state(bears.parent) == before


def test_loose_photos_need_no_source(bears):
    (bears/'loose.jpg').write_text('x')
    d = Decisions(bears)
    d.decide('loose.jpg', 'teddy')
    assert not d.apply().problems and (bears/'teddy/loose.jpg').exists()


def test_a_source_on_another_disk(bears, tmp_path):
    with small_disk(tmp_path/'disk', 64) as disk, pytest.raises(BearclfError, match='on another disk.*Copy'):
        Decisions(bears, source=disk)


def test_classes_within_train_and_valid(tmp_path):
    for o in ('train/a/1.jpg', 'train/b/1.jpg', 'valid/a/2.jpg'):
        (tmp_path/o).parent.mkdir(parents=True, exist_ok=True); (tmp_path/o).write_text(o)
    d = Decisions(tmp_path)
    d.decide_all({'train/a/1.jpg': 'b', 'valid/a/2.jpg': 'c', 'train/b/1.jpg': DELETE})
    assert list(d.apply().table.to) == ['train/b/1-2.jpg', 'valid/c/2.jpg', '.bearclf/aside/train/b/1.jpg']


# --- a table ---

def write(path, text, encoding='utf-8'): path.write_bytes(text.encode(encoding, 'surrogateescape')); return path


@pytest.mark.parametrize('text, encoding', [
    ('file,decision,suggestion,score,reasons\nblack/0.jpg,<Delete>,teddy,0.9,"looks, like a teddy"\n'
     'black/1.jpg,panda,,,\nblack/2.jpg,,,,\nblack/3.jpg,<Keep>,,,\n', 'utf-8'),
    ('file;decision\r\nblack/0.jpg;<Delete>\r\nblack/1.jpg; panda \r\nblack/3.jpg;<Keep>\r\n', 'utf-8-sig'),
    ('decision,file\n<Delete>,"black/0.jpg"\npanda,./black/1.jpg\n<Keep>,black/3.jpg\n\n', 'utf-8')])
def test_a_table(text, encoding, bears, tmp_path):
    before, other = state(bears), Decisions(bears)
    other.decide('teddy/0.jpg', DELETE)
    report = apply_csv(bears, write(tmp_path/'decisions.csv', text, encoding), new_class=True)
    assert not report.problems
    assert [o[2] for o in report.rows] == ['.bearclf/aside/black/0.jpg', 'panda/1.jpg', 'black/3.jpg']
    assert names(other) == {'teddy/0.jpg': DELETE} and other.kept == {bears/'black/3.jpg'}
    again = apply_csv(bears, tmp_path/'decisions.csv', new_class=True)
    assert len(again.problems) == 2
    assert 'black/0.jpg is not there; it was moved to .bearclf/aside/black/0.jpg' in again.problems[0]
    other.undo(all=True)
    assert state(bears) == before and names(other) == {'teddy/0.jpg': DELETE}, 'the person still has the table'


def test_a_table_with_mistakes(bears, tmp_path):
    before = state(bears)
    for text, words in (('photo,what\nblack/0.jpg,<Delete>\n', 'columns file and decision'),
                        ('', 'columns file and decision'),
                        ('file,decision\nblack/0.jpg,<Delete>\nblack/1.jpg,a/b\n',
                         r"decisions.csv, row 3: 'a/b' cannot be the name of a folder.*Nothing was changed")):
        with pytest.raises(BearclfError, match=words):
            apply_csv(bears, write(tmp_path/'decisions.csv', text), new_class=True)
    with pytest.raises(BearclfError, match='cannot be read'): apply_csv(bears, tmp_path/'none.csv')
    assert state(bears) == before and not (bears/HOME).exists()
    report = apply_csv(bears, write(tmp_path/'decisions.csv',
                                    'file,decision\nblack/9.jpg,panda\nblack/0.jpg,<Delete>\n../x.jpg,<Delete>\n'))
    assert len(report.problems) == 2 and 'black/9.jpg is not there' in report.problems[0]
    assert 'x.jpg' in report.problems[1]
    assert not (bears/'black/0.jpg').exists() and str(report).startswith('1 photo was moved in bears.')


def test_many_are_taken_back_in_one_write(bears):
    d = Decisions(bears)
    a, b, c = (bears/f'black/{i}.jpg' for i in range(3))
    d.decide_all({a: DELETE, b: 'toy'})
    written = d.journal.read_bytes()
    d.decide_all({a: KEEP}, drop=[b, c])
    assert d.pending == {a: KEEP} == Decisions(bears).pending
    assert d.journal.read_bytes().startswith(written)
    before = d.journal.read_bytes()
    d.decide_all({}, drop=[c])
    assert d.journal.read_bytes() == before, 'nothing was decided about it, and nothing is written'
    with pytest.raises(BearclfError): d.decide_all({c: '..'}, drop=[a])
    assert d.pending == {a: KEEP}, 'all or nothing'
