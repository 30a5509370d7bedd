"The share that goes alone rises and falls by the rule; two models; a switch that a kill leaves whole, and its way back"
import itertools, json, shutil

import pytest
from PIL import Image

from bearclf.core import error_text
from bearclf.practice.drawn import drawn_path
from bearclf.ship.page import find_model
from bearclf.ship.portable import Prediction, in_use
from bearclf.ship.predict import load_classifier
from bearclf.watch.log import Logged, PredictionLog, model_id
from bearclf.watch.rollout import Gradual, Rule, compare_models, replay, review, share_of, switch
from helpers import can_fork, killed_at

RULE = Rule(steps=(0., .1, .5), agree=.9, least=50)
im = Image.new('RGB', (32, 32), 'brown')


class Model:
    "Says `label`, with these `facts`"
    classes = ['black', 'grizzly']
    def __init__(self, name='ab', label='grizzly', **facts):
        self.info, self.label, self.facts = dict(sha256=name*32), label, dict(familiar=True) | facts
    def many(self, photos): return [Prediction(self.label, .9, {self.label: .9}, **self.facts) for _ in photos]


@pytest.fixture
def log(tmp_path):
    log = PredictionLog(tmp_path/'log.db')
    log.now, log.clock = 1e9, lambda: log.now
    return log


def work(log, right, wrong=0, model=Model()):
    "Photos of which people say that the model is right or wrong"
    for i in range(right + wrong):
        log.now += 1
        n = log.add(model.many([im])[0], model=model_id(model))
        log.decide(n, 'grizzly' if i < right else 'black', 'ranger')


def test_up_by_one_step_after_enough_decisions(log):
    model = model_id(Model())
    work(log, 49)
    assert review(log, model, RULE) == share_of(log, model) == 0
    work(log, 1)
    assert review(log, model, RULE) == .1
    assert review(log, model, RULE) == .1  # by the same decisions there is no second step
    work(log, 50)
    assert review(log, model, RULE) == .5
    work(log, 200)
    assert review(log, model, RULE) == .5  # the last one
    why = [o for o, in log._ask('SELECT why FROM steps')]
    assert len(why) == 2 and all('50 of 50' in o and str(RULE) in o for o in why)


def test_a_bare_rate_is_not_enough(log):
    work(log, 46, 4)  # 92 %, but by the interval perhaps 81
    assert review(log, model_id(Model()), RULE) == 0


def test_down_at_once_when_people_disagree(log):
    model = model_id(Model())
    log.set_share(model, .5, 'by hand')
    work(log, 6, 6)
    assert review(log, model, RULE) == .1 and '6 of 12' in log._ask('SELECT why FROM steps')[-1][0]
    assert review(log, model, RULE) == .1
    work(log, 6, 6)
    assert review(log, model, RULE) == review(log, model, RULE) == 0


def test_down_when_the_report_is_alarmed(log):
    model = model_id(Model())
    for _ in range(60): log.add(Model(label='black').many([im])[0], model=model, role='reference')
    log.set_share(model, .5, 'by hand')
    work(log, 60)
    assert review(log, model, RULE) == .1 and 'alarm' in log._ask('SELECT why FROM steps')[-1][0]


def test_never_up_while_alarmed(log):
    model = model_id(Model())
    for _ in range(60): log.add(Model(label='black').many([im])[0], model=model, role='reference')
    work(log, 60)
    assert review(log, model, RULE) == 0


def test_a_new_model_begins_with_nothing(log):
    log.set_share('old', .5, 'by hand')
    assert share_of(log, 'new') == 0


@pytest.mark.parametrize('steps', [(0, 1.), (.5, .1), (0, 0), (), (-1, .5)])
def test_rules_that_are_none(steps): assert 'steps' in error_text(Rule, steps)


def test_no_share_of_all(log): assert 'below 1' in error_text(log.set_share, 'm', 1., 'why')


@pytest.mark.parametrize('share', [0., .3, .9])
def test_the_share_that_goes_alone(log, share):
    clf, n = Gradual(Model(), log), 400
    log.set_share(clf.id, share, 'by hand')
    clf.many([im]*n)
    asked = len(log.open_alarms(n))
    assert abs(asked/n - (1 - share)) <= 4*(share*(1 - share)/n)**.5


@pytest.mark.parametrize('facts', [dict(sure=False), dict(familiar=False)])
def test_unsure_and_unlike_never_go_alone(log, facts):
    clf = Gradual(Model(**facts), log)
    log.set_share(clf.id, .99, 'by hand')
    clf.many([im]*100)
    assert len(log.open_alarms(200)) == 100


# --- two models

def test_two_models_are_compared_by_what_people_said(log):
    new = Model('cd', 'black')
    clf = Logged(Model(), log, beside=new)
    assert 'No photo has' in error_text(compare_models, log, clf.id, model_id(new))
    clf.many([im]*20)
    for n in range(1, 21): log.decide(n, 'black' if n < 16 else 'grizzly')
    res = compare_models(log, clf.id, model_id(new))
    assert (res.n, res.wrong_a, res.wrong_b, res.only_a, res.only_b) == (20, 15, 5, 15, 5)
    log.decide(1, 'grizzly')  # the last word counts
    assert compare_models(log, clf.id, model_id(new)).wrong_a == 14


def test_replay_asks_each_photo_once_and_goes_on(tmp_path):
    now = [1e9]
    log = PredictionLog(tmp_path/'log.db', keep_days=10, clock=lambda: now[0])
    clf, new = Logged(Model(), log), Model('cd', 'black')
    clf.many([im]*10)
    now[0] += 11*86400
    log.expire()
    clf.many([im]*25)
    class Stops(Model):
        def many(self, photos):
            if len(log._ask("SELECT 1 FROM predictions WHERE role = 'shadow'")) > 5: raise KeyboardInterrupt
            return super().many(photos)
    with pytest.raises(KeyboardInterrupt): replay(log, Stops('cd', 'black'), bs=8)
    done, gone = replay(log, new, bs=8)
    assert gone == 10 and 0 < done < 25 and replay(log, new) == (0, 10)
    assert log._ask("SELECT count(*), count(DISTINCT of) FROM predictions WHERE role = 'shadow'") == [(25, 25)]


# --- the switch

@pytest.fixture(scope='module')
def models(tmp_path_factory):
    from contextlib import redirect_stdout
    from io import StringIO

    from bearclf.ship.export import export_classifier
    from bearclf.train.features import precomputed_learner
    home = tmp_path_factory.mktemp('models')
    with redirect_stdout(StringIO()):
        return [export_classifier(precomputed_learner(drawn_path(n, 64, f'rollout {n}'), size=64), home/str(n)).parent
                for n in (30, 45)]


def served(folder): return json.loads((in_use(folder)/'export.json').read_text())['sha256']


def test_there_and_back(models, tmp_path):
    a, b = models
    work = tmp_path/'at work'
    assert 'before' in error_text(switch, work, back=True)
    assert switch(work, a) == switch(work, a) and served(work) == served(a) == load_classifier(work).info['sha256']
    assert 'before' in error_text(switch, work, back=True)  # the same model twice is no way back
    switch(work, b)
    assert served(work) == served(b) and find_model(work).parent.parent == work.resolve()
    assert switch(work, back=True) and served(work) == served(a)
    assert switch(work, back=True) and served(work) == served(b)
    assert len([o for o in work.iterdir() if o.is_dir()]) == 2


def test_no_model_no_switch(models, tmp_path):
    work = tmp_path/'at work'
    switch(work, models[0])
    (tmp_path/'bad').mkdir()
    (tmp_path/'bad/export.onnx').write_text('no model')
    for o in tmp_path/'bad', tmp_path/'none': error_text(switch, work, o)
    assert served(work) == served(models[0]) and len([*work.iterdir()]) == 2
    for o in (), (models[1], True): assert 'one of the two' in error_text(switch, work, *o)


@can_fork
@pytest.mark.parametrize('back', [False, True])
def test_a_kill_at_any_step_leaves_a_model_at_work(models, tmp_path, back):
    a, b = models
    switch(tmp_path/'first', a)
    if back: switch(tmp_path/'first', b)
    for at in itertools.count():
        shutil.copytree(tmp_path/'first', work := tmp_path/str(at))
        was = served(work)
        died = killed_at(lambda: switch(work, None if back else b, back=back), at)
        now = served(work)
        assert now in (served(a), served(b)) and (died or now != was)
        if now != was: switch(work, back=True)
        elif back is False: switch(work, b)  # once more, and it is done
        assert served(work) == (was if now != was else was if back else served(b))
        if not died: break
    assert at > 2


@pytest.mark.parametrize('text', ['{"now": "../../etc"}', '{"now": "/"}', '{"now": 7}', '{"now": "gone"}', 'x', '[]'])
def test_a_state_of_somebody_else(models, tmp_path, text):
    work = tmp_path/'work'
    switch(work, models[0])
    (work/'in_use.json').write_text(text)
    assert 'in_use.json' in error_text(load_classifier, work)


def test_a_folder_holds_a_model_or_the_models_at_work(models, tmp_path):
    "What is trained into the second would never be used"
    from bearclf.ship.graph import model_place
    shutil.copytree(models[0], tmp_path/'model')
    assert 'holds a model itself' in error_text(switch, tmp_path/'model', models[1])
    switch(tmp_path/'work', models[0])
    assert 'switch to the new model' in error_text(model_place, tmp_path/'work')


def test_as_commands(models, tmp_path, capsys):
    from bearclf.cli import main
    from bearclf.practice.drawn import draw_bears
    a, b = models
    work = str(tmp_path/'at work')
    assert main(['switch', work, '--model', str(a)]) == main(['switch', work, '--model', str(b)]) == 0
    assert served(work) == served(b) and main(['switch', work, '--back']) == 0 and served(work) == served(a)
    assert capsys.readouterr().out.count('At work is') == 3
    draw_bears(tmp_path/'kept', 12, 64, 'kept aside')
    words = ['monitor', str(tmp_path/'log.db'), '--reference', str(tmp_path/'kept')]
    assert main(words) == 2 and 'go together' in capsys.readouterr().err
    assert main([*words, '--model', work]) == 0 and '12 photos are noted' in capsys.readouterr().out
    assert PredictionLog(tmp_path/'log.db')._ask('SELECT role, count(*) FROM predictions GROUP BY 1') == [
        ('reference', 12)]
