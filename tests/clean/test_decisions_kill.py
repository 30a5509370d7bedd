"`kill -9` of an apply or an undo, at any step: each photo is in one place, and the next start brings it to its end"
import os, random, signal, sys, time, traceback
from hashlib import sha256

import pytest

from helpers import can_fork, killed_at, seeds
from bearclf.core import BearclfError
from bearclf.folder.moves import HOME, _event
from bearclf.clean.decisions import DELETE, KEEP, Decisions

once_or_all = pytest.mark.parametrize('every', [4, pytest.param(1, marks=pytest.mark.exhaustive)], ids=['some', 'all'])


def state(path):
    "Every file that is no part of the history, with its bytes and its time, and every folder"
    return {o.relative_to(path).as_posix(): (sha256(o.read_bytes()).hexdigest(), o.stat().st_mtime_ns) if o.is_file()
            else None
            for o in path.rglob('*') if o.parent != path/HOME and o != path/HOME}


def contents(path): return sorted(o[0] for o in state(path).values() if o)


def folder(path, n):
    "`n` files of three classes, each with its own bytes; some names are taken in the class that they are to go to"
    for i in range(n):
        file = path/['black', 'grizzly', 'teddy'][i%3]/f'{i//5}_{"?" if i%7 else "кот"}.jpg'
        while file.exists(): file = file.with_name(f'x{file.name}')
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b'%06d ' % i * 50)
        os.utime(file, ns=(10**18 + i, 10**18 + 7*i))
    return sorted(path.rglob('*.jpg'))


def decide(path, photos):
    "A decision of each kind about each photo but some"
    whats = [DELETE, 'teddy', KEEP, 'black', 'полярный', DELETE, 'grizzly']
    Decisions(path).decide_all({o: whats[i%7] for i, o in enumerate(photos) if i%9})


def check_journal(path):
    "Every line but the last is whole, and each photo of each move is in one of its two places"
    lines = (path/HOME/'history.jsonl').read_bytes().split(b'\n')
    events = [_event(o) for o in lines[:-1]]
    assert all(events), 'a damaged line'
    moves = {(o['run'], o['photo']): o for o in events if o['do'] == 'move' and o['what'] != KEEP}
    for o in moves.values(): assert (path/o['photo']).exists() or (path/o['to']).exists(), o
    return events


def wanted(path, photos):
    "What an apply that nobody kills leaves"
    decide(path, photos)
    Decisions(path).apply()
    res = state(path)
    Decisions(path).undo()
    Decisions(path).drop()
    return res


def doing(path, what): getattr(Decisions(path), what)()


@pytest.fixture(scope='module')
def long(tmp_path_factory):
    "A folder with 200 decisions, its state before and after an apply, and how the history grows in apply and undo"
    path = tmp_path_factory.mktemp('long')/'bears'
    photos = folder(path, 225)
    before, after = state(path), wanted(path, photos)
    assert state(path) == before and not (path/HOME).exists()
    decide(path, photos)
    assert len(Decisions(path).pending) == 200
    size, sizes = lambda: (path/HOME/'history.jsonl').stat().st_size, []
    for what in 'apply', 'undo': start = size(); doing(path, what); sizes.append(size() - start)
    assert state(path) == before
    return path, before, after, dict(zip(('apply', 'undo'), sizes))


def killed_in_the_middle(child, path, what, grown):
    "Kill a process that does `what` once it has written so many bytes into its history"
    journal = path/HOME/'history.jsonl'
    start, run = journal.stat().st_size, child(doing, path, what)
    while run.process.is_alive() and journal.stat().st_size < start + grown: time.sleep(.0005)
    run.kill()
    check_journal(path)


@pytest.mark.parametrize('seed', seeds(30))
def test_an_apply_is_killed_at_a_random_moment(seed, child, long, capsys):
    path, before, after, sizes = long
    killed_in_the_middle(child, path, 'apply', random.Random(seed).uniform(0, sizes['apply']))
    now = state(path)
    assert contents(path) == sorted(o[0] for o in before.values() if o)
    decisions = Decisions(path)
    if now not in (before, after):
        assert capsys.readouterr().out.count('\n') == 1 and 'of 200 photos are done' in decisions.messages[0]
    decisions.apply()  # what it had not begun
    assert state(path) == after and not decisions.pending
    assert not decisions.undo(all=True).problems and state(path) == before and len(decisions.pending) == 200


@pytest.mark.parametrize('seed', seeds(10))
def test_an_undo_is_killed_at_a_random_moment(seed, child, long, capsys):
    path, before, after, sizes = long
    Decisions(path).apply()
    killed_in_the_middle(child, path, 'undo', random.Random(seed).uniform(0, sizes['undo']))
    assert contents(path) == sorted(o[0] for o in before.values() if o)
    now, decisions = state(path), Decisions(path)
    if now not in (before, after): assert capsys.readouterr().out.count('\n') == 1
    if state(path) != before: decisions.undo()
    assert state(path) == before and len(decisions.pending) == 200


@pytest.fixture
def short(tmp_path, monkeypatch):
    monkeypatch.setattr(os, 'fsync', lambda fd: None)  # what a killed process has written is there without it
    photos = folder(tmp_path/'bears', 16)
    return tmp_path/'bears', photos, state(tmp_path/'bears'), wanted(tmp_path/'bears', photos)


@can_fork
@once_or_all
@pytest.mark.parametrize('what', ['apply', 'undo', 'decide', 'drop'])
def test_killed_at_every_step(what, every, short):
    path, photos, before, after = short
    f = {'decide': lambda: decide(path, photos)}.get(what, lambda: getattr(Decisions(path), what)())
    step, seen = 0, set()
    while True:
        if what != 'decide': decide(path, photos)
        if what == 'undo': Decisions(path).apply()
        if not killed_at(f, step): break
        now = state(path)
        seen.add(tuple(now))
        assert contents(path) == sorted(o[0] for o in before.values() if o), step
        if what in ('apply', 'undo'): check_journal(path)
        decisions = Decisions(path)
        assert len(decisions.pending) + len(decisions.table) in (0, 14)
        decide(path, photos) if state(path) == before else None
        decisions.apply()
        assert state(path) == after, step
        decisions.undo(all=True); decisions.drop()
        assert state(path) == before and not (path/HOME).exists(), step
        step += every if what in ('apply', 'undo') else 1
    assert step > dict(apply=50, undo=40, decide=5, drop=7)[what]
    assert len(seen) >= ((13 if every == 1 else 10) if what in ('apply', 'undo') else 1)


@can_fork
@once_or_all
def test_what_goes_on_is_killed_too(every, short):
    "An apply that is killed, whose successor is killed, whose successor is killed"
    path, photos, before, after = short
    rng = random.Random(1)
    for _ in range(20//every):
        decide(path, photos)
        for _ in range(4): killed_at(lambda: Decisions(path).apply(), rng.randrange(24)); check_journal(path)
        Decisions(path).apply()
        assert state(path) == after
        for _ in range(4): killed_at(lambda: Decisions(path).undo(all=True), rng.randrange(24)); check_journal(path)
        Decisions(path).undo(all=True)
        assert state(path) == before
        Decisions(path).drop()


def dawdle(rng, name):
    "Let this process linger before and after it calls `os.name`, where another one may come in between"
    def call(*args, _do=getattr(os, name), **kw):
        if rng.random() < .1: time.sleep(rng.uniform(0, .004))
        try: return _do(*args, **kw)
        finally:
            if rng.random() < .1: time.sleep(rng.uniform(0, .004))
    setattr(os, name, call)


def busy(path, seed):
    "Decide, apply, undo and drop at will, for ever"
    rng, sys.stdout = random.Random(seed), open(os.devnull, 'w')
    if rng.random() < .5:
        for o in ('mkdir', 'rmdir', 'open', 'unlink', 'rename', 'stat', 'lstat'): dawdle(rng, o)
    decisions = Decisions(path)
    while True:
        try:
            photos = [o for o in path.rglob('*.jpg') if HOME not in o.parts]
            k = rng.random()
            if k < .5:
                decisions.decide_all({o: rng.choice([DELETE, KEEP, 'p', 'q', 'black', 'teddy'])
                                      for o in rng.sample(photos, min(len(photos), 5))})
            elif k < .75: decisions.apply()
            elif k < .9: decisions.undo(all=rng.random() < .3)
            else: decisions.drop()
        except FileNotFoundError: pass  # a folder that went while we looked for photos
        except BearclfError as e:
            if 'is not there' not in str(e): raise


@can_fork
@once_or_all
def test_three_at_once_are_killed_again_and_again(every, short):
    path, _, before, _ = short
    rng, pids = random.Random(1), []
    for i in range(60//every):
        while len(pids) < 3:
            pid = os.fork()
            if not pid:
                try: busy(path, f'{i} {len(pids)}')
                except BaseException: traceback.print_exc()
                finally: sys.stderr.flush(); os._exit(1)
            pids.append(pid)
        time.sleep(rng.uniform(0, .1))
        pid = pids.pop(rng.randrange(3))
        os.kill(pid, signal.SIGKILL)
        assert os.waitpid(pid, 0)[1] == signal.SIGKILL, 'it had died of itself'
    for pid in pids: os.kill(pid, signal.SIGKILL); os.waitpid(pid, 0)
    assert contents(path) == sorted(o[0] for o in before.values() if o)
    decisions = Decisions(path)
    assert not decisions.undo(all=True).problems
    decisions.drop()
    assert state(path) == before and not (path/HOME).exists()
