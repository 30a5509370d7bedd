"The report: alarms at the rate that it states, what it would not see, people, pages that show what a log holds as text"
import numpy as np
import pandas as pd
import pytest

from bearclf.core import error_text
from bearclf.ship.portable import Prediction
from bearclf.watch.log import PredictionLog
from bearclf.watch.report import NUMBERS, add_reference, chance_to_see, find_changes, report
from helpers import SHARED

DAY = 86400


def rows(n, seed, p=(.5, .3, .2), **shift):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(dict(label=rng.choice(['black', 'grizzly', 'teddy'], n, p=p))
                        | {o: rng.normal(.5 + shift.get(o, 0), .1, n) for o in NUMBERS})


def test_false_alarms_are_as_rare_as_stated():
    "400 pairs without a change: at most 5 % (here 5 % and three standard errors)"
    n = sum(bool(find_changes(rows(150, i), rows(150, 1000 + i))) for i in range(400))
    assert n <= 400*.05 + 3*(400*.05*.95)**.5


def test_false_alarms_of_each_level():
    found = [min([1., *(o.p for o in find_changes(rows(150, i), rows(150, 1000 + i), level=2))]) for i in range(400)]
    assert np.mean(np.array(found) < .25) < .65 and 0 < np.mean(np.array(found) < .1)


@pytest.mark.parametrize('name', NUMBERS)
def test_each_number_is_looked_at(name):
    a, b = (find_changes(rows(200, 1), rows(200, 2, **{name: o})) for o in (.1, -.1))
    assert [o.what for o in a] == [o.what for o in b] == [name]
    assert ' more ' in str(a[0]) and ' less ' in str(b[0])


@pytest.mark.parametrize('p, what', [((.65, .15, .2), 'less often'), ((.2, .6, .2), 'more often')])
def test_a_class_that_halves_or_doubles(p, what):
    found = [find_changes(rows(400, i), rows(400, 100 + i, p)) for i in range(40)]
    assert sum('grizzly' in [o.what for o in changes] for changes in found) >= 36
    assert what in str([o for o in found[0] if o.what == 'grizzly'][0])


def test_a_class_that_is_new_and_one_that_is_gone():
    now = rows(200, 2).assign(label=lambda o: o.label.replace('teddy', 'panda'))
    assert {o.what for o in find_changes(rows(200, 1), now)} == {'panda', 'teddy'}


def test_unknown_numbers_are_left_out():
    "A model without `near`, photos without numbers"
    a, b = (rows(100, i).assign(near=None, brightness=np.nan) for i in (1, 2))
    assert find_changes(a, b) == []


def test_the_chance_to_see_is_that_of_the_test():
    from scipy.stats import fisher_exact
    rng, n, hits = np.random.default_rng(0), 150, 0
    for _ in range(600):
        k, m = rng.binomial(n, .4), rng.binomial(n, .2)
        hits += fisher_exact([[k, n - k], [m, n - m]]).pvalue < .01
    assert abs(hits/600 - chance_to_see(.4, .2, n, n, .01)) < .06  # Fisher's test is a little more careful


# --- the report of a log

@pytest.fixture
def log(tmp_path):
    log = PredictionLog(tmp_path/'log.db')
    log.now, log.clock = 1e9, lambda: log.now
    return log


def fill(log, n, seed=0, p=(.5, .5), role='live', **kw):
    rng = np.random.default_rng(seed)
    for _ in range(n):
        label = rng.choice(['black', 'grizzly'], p=p)
        log.now += 600
        yield log.add(Prediction(label, q := rng.uniform(.6, 1), {label: q}, True, near=rng.normal(.6, .1)), role=role,
                      **({'model': 'm'} | kw)), label


def test_what_it_compares_with(log):
    assert 'Nothing has been asked' in error_text(report, log)
    [*fill(log, 50)]
    assert 'add_reference' in str(report(log))
    log.now += 8*DAY
    [*fill(log, 40, 1)]
    res = report(log)
    assert (len(res.now), len(res.before), res.against) == (40, 50, 'the time before') and not res.alarming
    [*fill(log, 60, 2, role='reference')]
    res = report(log)
    assert (len(res.now), len(res.before), res.against) == (40, 60, 'the reference')


def test_too_few_are_not_compared(log):
    [*fill(log, 40, role='reference')]
    [*fill(log, 20, p=(1, 0))]
    assert 'too few to compare' in str(report(log)) and not report(log).alarming
    [*fill(log, 20, p=(1, 0))]
    assert report(log).alarming and 'LOOK' in str(report(log))


def test_each_model_for_itself(log):
    [*fill(log, 50, model='old')], [*fill(log, 40, 1, model='new', source='cam 1')]
    assert (report(log).model, len(report(log).now)) == ('new', 40)
    assert len(report(log, model='old').now) == 50
    assert 'cam 2' in error_text(report, log, source='cam 2') and len(report(log, source='cam 1').now) == 40


def test_shadows_and_references_are_no_traffic(log):
    ids = [n for n, _ in fill(log, 40)]
    for n in ids: log.add(Prediction('x', 1., {'x': 1.}), model='m', role='shadow', of=n)
    assert {*report(log).now.label} == {'black', 'grizzly'}


def test_people(log):
    for i, (n, label) in enumerate(fill(log, 40)):
        log.decide(n, label if i < 30 else 'black' if label == 'grizzly' else 'grizzly', 'anna')
        if i == 0: log.decide(n, None, 'boris')
    said = str(report(log))
    assert '30 of 40 decided photos are what the model said (75.0%; 95% interval 59.8% to 85.8%)' in said
    assert 'anna has looked at 40 and decided about 40; 30 as the model' in said
    assert 'boris has looked at 1 and decided about 0' in said


def test_a_log_with_html_and_dollars_in_it(log, tmp_path):
    evil = '<img src=x onerror=alert(1)> $x_{2$'
    for i in range(80):
        log.now += 3600
        n = log.add(Prediction(evil, .9, {evil: .9}, True, near=.5), model=evil, role='reference' if i < 40 else 'live')
        log.decide(n, evil, evil)
    html = report(log).to_html(tmp_path/'r.html').read_text()
    assert '<img' not in html and '&lt;img' in html and html.count('<svg') == 3


def test_many_classes(log):
    for i in range(200): log.add(Prediction(f'c{i%50}', .9, {'a': 1.}), model='m', role=('live', 'reference')[i%2])
    assert '<svg' in report(log)._repr_html_()


@pytest.mark.skipif(not SHARED.exists(), reason='no real photos')
def test_real_photos(tmp_path):
    "The model has learned from `bears`; these are left out of the reference, and night is an alarm"
    from contextlib import redirect_stdout
    from io import StringIO

    from bearclf.all import drawn_path, export_classifier, load_classifier, precomputed_learner, read_photo
    from bearclf.folder.look import check_folder
    from bearclf.train.features import Familiar
    with redirect_stdout(StringIO()):
        learn = precomputed_learner(SHARED/'bears_unseen', 'efficientnet_lite0')
        learn.familiar = Familiar.of(learn)
        clf = load_classifier(export_classifier(learn, tmp_path/'model'))
    log = PredictionLog(tmp_path/'log.db')
    n = add_reference(log, clf, SHARED/'bears_unseen')
    kept_aside = len(learn.dls.valid_ds)
    assert n <= kept_aside + 5 and n > .9*kept_aside
    from bearclf.watch.log import Logged
    day = Logged(clf, log, 'day')
    files = [*learn.dls.valid_ds.items]
    day.many([read_photo(o, side=256) for o in files[::-1]])
    assert not report(log).alarming
    Logged(clf, log, 'night').many([read_photo(o, side=256).point(lambda v: v//4) for o in files])
    assert 'brightness' in {o.what for o in report(log, source='night').changes}
