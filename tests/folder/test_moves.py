"One history for whoever moves photos: any order of what bearclf does and a person does ends with all of it taken back"
import json, os, shutil
from collections import Counter
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp

import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from helpers import can_fork, killed_at
from bearclf.core import BearclfError
from bearclf.clean.decisions import Decisions
from bearclf.folder.look import class_of
from bearclf.folder.moves import ASIDE, DELETE, HOME, KEEP, History, _line, undo
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
        self.decided = {sha(o): what for o, what in self.decisions.pending.items() if sha(o) in self.alone}
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
