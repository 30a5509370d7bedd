"One history for whoever moves photos: any order of what bearclf does and a person does ends with all of it taken back"
import os, shutil, unicodedata
from collections import Counter
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from helpers import can_fork, killed_at
from bearclf.core import BearclfError
from bearclf.clean.decisions import Decisions
from bearclf.folder.look import class_of
from bearclf.folder.moves import ASIDE, DELETE, HOME, KEEP, History, undo
from bearclf.folder.verify import verify
from bearclf.practice.drawn import draw_bear


def sha(file): return sha256(file.read_bytes()).hexdigest()
def files(path): return {o.relative_to(path).as_posix(): sha(o) for o in path.rglob('*') if o.is_file()}
def visible(path): return {k: v for k, v in files(path).items() if not k.startswith(HOME)}
def state(path): return {o: (path/o).stat().st_mtime_ns for o in files(path)} | files(path)


@pytest.fixture(scope='module')
def drawn(tmp_path_factory):
    "Ten files: wrong endings, a copy within a class and one across, a smaller copy, half a photo"
    path = tmp_path_factory.mktemp('drawn')/'bears'
    for o in 'black', 'teddy': (path/o).mkdir(parents=True)
    for i in range(3): draw_bear('black', i, 48).save(path/f'black/{i}.jpg', ['JPEG', 'PNG', 'JPEG'][i])
    for i in range(2): draw_bear('teddy', i, 48).save(path/f'teddy/{i}.png', ['PNG', 'JPEG'][i])
    shutil.copy(path/'black/0.jpg', path/'black/again.jpg'); shutil.copy(path/'black/2.jpg', path/'teddy/1.jpg')
    draw_bear('teddy', 0, 48).resize((40, 40)).save(path/'teddy/small.jpg')
    draw_bear('teddy', 7, 48).save(path/'teddy/7.webp', 'JPEG')
    (path/'teddy/half.jpg').write_bytes((path/'black/2.jpg').read_bytes()[:500])
    return path


class Anything(RuleBasedStateMachine):
    "What bearclf does and what a person does, in any order"
    def __init__(self, drawn):
        super().__init__()
        self.path = shutil.copytree(drawn, Path(mkdtemp())/'bears')
        self.held = Counter(files(self.path).values())
        self.alone = {k for k, n in self.held.items() if n == 1} # of which there is no copy
        self.homes = {v: k for k, v in files(self.path).items()} # photo -> where it is to be after all is undone
        self.decided, self.n, self.decisions = {}, 0, Decisions(self.path)

    def photo(self, i):
        "The name of a photo, of which there is no copy"
        names = [k for k, v in sorted(visible(self.path).items()) if v in self.alone]
        return names[i % len(names)] if names else None

    @rule(i=st.integers(0, 99), what=st.sampled_from([KEEP, DELETE, 'black', 'teddy', 'panda']))
    def decide(self, i, what):
        if not (name := self.photo(i)): return
        self.decisions.decide(name, what)
        self.decided[sha(self.path/name)] = KEEP if what == class_of(name) else what

    @rule()
    def decide_about_a_copy(self):
        names = [k for k, v in sorted(visible(self.path).items()) if v not in self.alone]
        if names: self.decisions.decide(names[-1], DELETE)

    @rule(i=st.integers(0, 99))
    def drop(self, i):
        name = self.photo(i)
        if name and sha(self.path/name) in self.decided:
            self.decisions.drop(name); del self.decided[sha(self.path/name)]

    @rule()
    def apply(self):
        here = set(visible(self.path).values())
        assert not self.decisions.apply().problems
        self.decided = {k: v for k, v in self.decided.items() if k not in here}

    @rule(kind=st.sampled_from([None, None, 'apply', 'verify']))
    def undo(self, kind):
        before = set(self.decided)
        carried_out = {o['sha'] for o in self.decisions.state().moves if o['kind'] == 'apply'}
        try: problems = History(self.path).undo(kind=kind).problems
        except BearclfError as e: assert kind and 'Take that back first' in str(e); problems = []
        assert all('is not there any more' in o for o in problems), problems
        shown = {sha(o): (what, class_of(o)) for o, what in self.decisions.pending.items() if sha(o) in self.alone}
        as_before = lambda o, what, label: what == KEEP and self.decided.get(o) == label  # a person has moved it there
        self.decided = {o: label if as_before(o, what, label) else what for o, (what, label) in shown.items()}
        back = before | carried_out - {o['sha'] for o in self.decisions.state().moves if o['kind'] == 'apply'}
        assert back & self.alone & set(visible(self.path).values()) <= set(self.decided)

    @rule()
    def fix(self): assert not verify(self.path, fix=True).problems

    @rule(i=st.integers(0, 99), folder=st.sampled_from(['black', 'teddy']))
    def rename_by_hand(self, i, folder):
        if not (name := self.photo(i)): return
        self.n += 1
        photo, new = sha(self.path/name), f'{folder}/by hand {self.n}{Path(name).suffix}'
        (self.path/name).rename(self.path/new)
        moves = [o for o in self.decisions.state().moves if o['sha'] == photo and o['photo'] != o['to']]
        if not moves: self.homes[photo] = new

    @rule(i=st.integers(0, 99))
    def delete_by_hand(self, i):
        if not (name := self.photo(i)): return
        photo = sha(self.path/name)
        (self.path/name).unlink()
        del self.held[photo], self.homes[photo]
        self.alone.remove(photo); self.decided.pop(photo, None)

    @rule()
    def open_again(self): self.decisions = Decisions(self.path)

    @invariant()
    def each_photo_is_in_one_place(self):
        assert Counter(v for k, v in files(self.path).items() if Path(k).parent.name != HOME) == self.held

    @invariant()
    def each_decision_is_on_its_photo(self):
        found = {sha(o): (what, class_of(o)) for o, what in self.decisions.pending.items() if sha(o) in self.alone}
        here = set(visible(self.path).values())
        for photo, what in self.decided.items():
            if photo not in here: assert photo not in found; continue
            said, label = found[photo]
            assert said == (KEEP if what == label else what)
        assert set(found) <= set(self.decided)

    def teardown(self):
        problems = undo(self.path, all=True).problems
        assert all('is not there any more' in o for o in problems), problems
        Decisions(self.path).drop()
        copies = {k for k, n in self.held.items() if n > 1}
        now = files(self.path)
        assert {v: k for k, v in now.items() if v not in copies} == {
            k: v for k, v in self.homes.items() if k not in copies}
        assert Counter(now.values()) == self.held
        shutil.rmtree(self.path.parent)


@pytest.mark.parametrize('n', [10, pytest.param(200, marks=pytest.mark.exhaustive)])
def test_anything_in_any_order(n, drawn, capsys):
    run_state_machine_as_test(lambda: Anything(drawn), settings=settings(
        max_examples=n, stateful_step_count=25, deadline=None, derandomize=n == 10, database=None, print_blob=True,
        suppress_health_check=list(HealthCheck)))


# --- one history for verify and decisions ---

@pytest.fixture
def bears(drawn, tmp_path): return shutil.copytree(drawn, tmp_path/'bears')


def names(decisions): return {o.relative_to(decisions.path).as_posix(): what for o, what in decisions.pending.items()}
def journal(path): return path/HOME/'history.jsonl'


def test_a_decision_goes_along_when_verify_renames_its_photo(bears):
    before, d = state(bears), Decisions(bears)
    d.decide_all({'black/1.jpg': 'teddy', 'black/0.jpg': KEEP, 'teddy/7.webp': DELETE})
    verify(bears, fix=True)
    assert names(d) == names(Decisions(bears)) == {'black/1.png': 'teddy', 'black/0.jpg': KEEP, 'teddy/7.jpg': DELETE}
    assert d.messages == [] and not d.apply().problems and (bears/'teddy/1.png').exists()
    assert d.kept == {bears/'black/0.jpg'}
    assert not undo(bears).problems and names(d) == {'black/1.png': 'teddy', 'black/0.jpg': KEEP, 'teddy/7.jpg': DELETE}
    assert not undo(bears).problems and names(d) == {'black/1.jpg': 'teddy', 'black/0.jpg': KEEP,
                                                     'teddy/7.webp': DELETE}
    d.drop()
    assert state(bears) == before and not (bears/HOME).exists()


def test_what_was_kept_is_kept_whoever_renames_it(bears):
    d = Decisions(bears)
    d.decide_all({'black/1.jpg': KEEP, 'teddy/0.png': KEEP}); d.apply()
    verify(bears, fix=True)
    (bears/'teddy/0.png').rename(bears/'teddy/mine.png')
    assert d.kept == {bears/'black/1.png', bears/'teddy/mine.png'} == Decisions(bears).kept


def test_an_undo_that_would_break_a_later_run_says_so(bears):
    before = state(bears)
    verify(bears, fix=True)
    d = Decisions(bears)
    d.decide('black/1.png', 'teddy'); d.apply()
    with pytest.raises(BearclfError, match='apply of .* moved on what the verify of .* Take that back first: bearclf'):
        History(bears).undo(kind='verify')
    (bears/'teddy/1.png').rename(bears/'teddy/mine.png')  # also if a person has renamed it since
    with pytest.raises(BearclfError, match='Take that back first'): History(bears).undo(kind='verify')
    assert not d.undo().problems and not History(bears).undo(kind='verify').problems
    d.drop()
    assert state(bears) == before and not (bears/HOME).exists()


def test_an_undo_of_what_nothing_builds_on_may_come_first(bears):
    before = state(bears)
    verify(bears, fix=True)
    d = Decisions(bears)
    d.decide('black/2.jpg', 'teddy'); d.apply()
    assert not History(bears).undo(kind='verify').problems and not d.undo().problems
    d.drop()
    assert state(bears) == before and not (bears/HOME).exists()


def test_a_photo_waits_while_it_is_set_aside(bears):
    d = Decisions(bears)
    d.decide('teddy/small.jpg', 'black')
    (bears/'teddy/small.jpg').rename(bears/'teddy/mine.jpg')
    verify(bears, fix=True)
    assert names(d) == {} and (bears/ASIDE/'teddy/mine.jpg').exists()
    assert '1 photos that were set aside wait' in str(d.apply())
    undo(bears)
    assert names(d) == names(Decisions(bears)) == {'teddy/mine.jpg': 'black'}


def test_a_copy_stands_in_for_the_one_that_was_set_aside(bears):
    d = Decisions(bears)
    d.decide('black/again.jpg', 'teddy')
    verify(bears, fix=True)
    assert (bears/ASIDE/'black/again.jpg').exists() and names(d) == {'black/0.jpg': 'teddy'}


def test_the_last_copy_stays_when_a_person_deletes_the_other(bears):
    d = Decisions(bears)
    d.decide('black/again.jpg', DELETE); d.apply(); d.undo()
    (bears/'black/again.jpg').unlink()
    assert names(d) == names(Decisions(bears)) == {} and not d.apply().problems and (bears/'black/0.jpg').exists()
    shutil.copy(bears/'black/0.jpg', bears/'black/again.jpg'); d.decide('black/again.jpg', DELETE)
    (bears/'black/again.jpg').rename(bears/'black/mine.jpg')
    assert names(d) == {'black/mine.jpg': DELETE}, 'the one that was meant'


def test_of_two_copies_in_a_source_one_is_deleted_by_hand(bears):
    (bears/'new').mkdir()
    for o in 'ab': (bears/f'new/{o}.jpg').write_bytes((bears/'black/2.jpg').read_bytes() + b'more')
    d = Decisions(bears, bears/'new')
    d.decide_all({'new/a.jpg': 'black', 'new/b.jpg': 'teddy'})
    (bears/'new/a.jpg').unlink(); (bears/'new/b.jpg').rename(bears/'new/mine.jpg')
    assert len(names(d)) == 1 and not d.apply().problems and len(d.table) == 1


def test_who_moved_to_and_fro_and_was_renamed_comes_home(bears):
    before, d = state(bears), Decisions(bears)
    for name, what in ('teddy/0.png', 'black'), ('black/0.png', 'teddy'): d.decide(name, what); d.apply()
    (bears/'teddy/0.png').rename(bears/'black/mine.png')
    assert not undo(bears, all=True).problems
    d.drop()
    assert state(bears) == before


def test_a_history_tells_a_person_what_was_done(bears, capsys):
    verify(bears, fix=True)
    d = Decisions(bears)
    d.decide_all({'black/1.png': 'teddy', 'black/0.jpg': KEEP}); d.apply()
    d.decide('teddy/0.png', DELETE)
    said = str(History(bears)).splitlines()
    assert said[0] == 'What was done in bears:' and said[3] == '1 decision is pending.' and len(said) == 4
    assert 'verify' in said[1] and '3 set aside' in said[1] and 'renamed' in said[1]
    assert said[2].endswith('apply   1 moved, 1 kept') or '1 moved' in said[2] and '1 kept' in said[2]
    undo(bears)
    assert 'taken back on' in str(History(bears))
    assert list(History(bears).table.kind.unique()) == ['verify']


@pytest.mark.parametrize('change', [lambda o: o.replace(b'\n', b'\r\n'), lambda o: b'\xef\xbb\xbf' + o,
                                    lambda o: o.rstrip(b'\n'), lambda o: o.rstrip(b'\n').replace(b'\n', b'\r\n'),
                                    lambda o: o + b'\n\r\n'], ids=['CRLF', 'BOM', 'no end', 'CRLF, no end', 'blank'])
def test_a_history_that_an_editor_or_git_has_saved(bears, change):
    before = state(bears)
    verify(bears, fix=True)
    d = Decisions(bears)
    d.decide('black/1.png', 'teddy'); d.apply()
    d.decide('teddy/0.png', 'black')
    journal(bears).write_bytes(change(journal(bears).read_bytes()))
    other = Decisions(bears)
    assert names(other) == names(d) == {'teddy/0.png': 'black'} and other.messages == d.messages == []
    other.decide('teddy/7.jpg', KEEP)
    assert d.conflicts == [] and names(d) == {'teddy/0.png': 'black', 'teddy/7.jpg': KEEP} == names(Decisions(bears))
    assert len(other.table) == 7 and not undo(bears, all=True).problems
    Decisions(bears).drop()
    assert state(bears) == before and not (bears/HOME).exists()


# --- stopped, and not one's own ---

@can_fork
@pytest.mark.parametrize('every', [9, pytest.param(1, marks=pytest.mark.exhaustive)], ids=['some', 'all'])
def test_killed_at_every_step_of_all_kinds(every, bears, monkeypatch):
    "To open it moves nothing, no decision is lost, and undo takes all of it back"
    monkeypatch.setattr(os, 'fsync', lambda fd: None)
    before, step, seen = state(bears), 0, set()
    def everything():
        Decisions(bears).decide_all({'black/1.jpg': 'teddy', 'teddy/0.png': DELETE, 'black/0.jpg': KEEP})
        verify(bears, fix=True)
        Decisions(bears).apply()
        History(bears).undo()
        Decisions(bears).apply()
        undo(bears, all=True)
    while killed_at(everything, step):
        now = state(bears)
        assert Counter(visible(bears).values()) + Counter(sha(o) for o in (bears/ASIDE).rglob('*') if o.is_file()) == \
            Counter(v for k, v in before.items() if isinstance(v, str)), step
        d, _, _ = Decisions(bears), str(History(bears)), verify(bears)
        assert d.pending is not None and state(bears) == now, step
        decided = len(d.pending) + sum(o['kind'] == 'apply' for o in d.state().moves)
        assert decided + bool((bears/ASIDE/'teddy/0.png').exists() and decided == 2) in (0, 3), step
        seen.add((len(d.pending), len(d.table)))
        assert not undo(bears, all=True).problems
        Decisions(bears).drop()
        assert state(bears) == before and not (bears/HOME).exists(), step
        step += every
    assert step > 60 and len(seen) > 5


@can_fork
def test_what_stopped_is_told_and_goes_on_when_a_person_says_so(bears, capsys):
    d = Decisions(bears)
    d.decide_all({'black/1.jpg': 'teddy', 'teddy/0.png': DELETE, 'black/0.jpg': 'teddy', 'black/2.jpg': 'panda'})
    assert killed_at(lambda: Decisions(bears).apply(), 11, ('rename', 'fsync'))
    now, other = state(bears), Decisions(bears)
    assert len(other.messages) == 1 and '2 of 4 photos are done' in other.messages[0] and state(bears) == now
    other.pending, other.kept, other.table, str(other), str(History(bears)), verify(bears)
    assert state(bears) == now and len(other.pending) == 2
    assert len(other.apply().rows) == 2 and set(other.table.run) == {1}, 'the same run goes on'
    assert killed_at(lambda: Decisions(bears).undo(), 9, ('rename', 'fsync'))
    now, other = state(bears), Decisions(bears)
    assert 'The undo of' in other.messages[0] and 'of 4 photos are done' in other.messages[0] and state(bears) == now
    assert not other.undo().problems and len(other.pending) == 4 and Decisions(bears).messages == []


def test_the_nearest_history_above_counts(bears):
    outer = Decisions(bears.parent)
    (bears.parent/'other').mkdir(); draw_bear('grizzly', 3, 48).save(bears.parent/'other/a.jpg')
    outer.decide_all({'bears/black/1.jpg': 'teddy', 'other/a.jpg': KEEP})
    inner = Decisions(bears)
    assert names(inner) == {'black/1.jpg': 'teddy'} and not (bears/HOME).exists()
    verify(bears, fix=True)
    assert names(inner) == {'black/1.png': 'teddy'} and len(outer.pending) == 2
    inner.apply()
    assert (bears/'teddy/1.png').exists() and names(outer) == {'other/a.jpg': KEEP} and not (bears/HOME).exists()
    assert not undo(bears, all=True).problems and (bears/'black/1.jpg').exists()


def test_a_folder_that_can_only_be_looked_at(bears, tmp_path, monkeypatch):
    "As /kaggle/input: what is decided goes into a file that is named"
    held = state(bears)
    def refusing(f):
        def g(path, *args, **kw):
            if Path(path).is_relative_to(bears): raise OSError(30, 'Read-only file system', str(path))
            return f(path, *args, **kw)
        return g
    for o in 'mkdir', 'rename': monkeypatch.setattr(os, o, refusing(getattr(os, o)))
    assert len(verify(bears).rows) > 5 and str(History(bears)) and Decisions(bears).pending == {}
    with pytest.raises(BearclfError, match="Read-only file system.*name a file for what you decide: file="):
        Decisions(bears).decide('black/1.jpg', 'teddy')
    d = Decisions(bears, file=tmp_path/'mine.jsonl')
    d.decide('black/1.jpg', 'teddy')
    assert names(Decisions(bears, file=tmp_path/'mine.jsonl')) == {'black/1.jpg': 'teddy'}
    assert 'Read-only file system' in d.apply().problems[0] and state(bears) == held
    d.drop()
    assert sorted(o.name for o in tmp_path.iterdir()) == ['bears']


@pytest.mark.skipif(os.name == 'nt' or os.uname().sysname == 'Darwin', reason='names are compared by the disk there')
def test_names_in_another_form(bears):
    "A folder that came from a Mac: its names are written in another way, and are the same"
    (bears/'black').rename(bears/'ма\u0306с')  # й as two characters, as a Mac writes
    d = Decisions(bears)
    d.decide('ма\u0306с/0.jpg', 'teddy'); d.decide('teddy/0.png', unicodedata.normalize('NFC', 'ма\u0306с'))
    d.apply()
    assert not (bears/unicodedata.normalize('NFC', 'ма\u0306с')).exists() and (bears/'ма\u0306с/0.png').exists()
    (bears/'ма\u0306с').rename(bears/unicodedata.normalize('NFC', 'ма\u0306с'))
    assert not undo(bears).problems and (bears/'teddy/0.png').exists()
