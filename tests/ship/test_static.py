"What a browser reads, `bearclf/static/`: deno, a linter from PyPI, looks at it, and so does a browser"
import json, os, re, subprocess, sysconfig
from pathlib import Path

from helpers import top
from bearclf.ship.page import percent

static, CONFIG = top/'bearclf/static', ('--config', top/'tests/deno.json')


def deno(*args):
    "What deno prints; what it finds fails the test, and so does a deno that is missing"
    done = subprocess.run([Path(sysconfig.get_path('scripts'))/'deno', *args], cwd=top, capture_output=True,
                          encoding='utf-8', env=os.environ | dict(NO_COLOR='1', DENO_NO_UPDATE_CHECK='1'))
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_deno_finds_nothing():
    "Form, what a linter knows to be wrong, names and types that a browser does not have; see `tests/deno.json`"
    files = [o.suffix for o in static.rglob('*') if o.suffix in ('.js', '.css', '.html', '.json')]
    assert files.count('.js') > 4 and files.count('.css') > 3
    assert f'Checked {len(files)} files' in deno('fmt', *CONFIG, '--check')
    assert f'Checked {files.count(".js")} files' in deno('lint', *CONFIG)
    deno('check', *CONFIG, *static.glob('*.js'))


def test_a_browser_knows_every_property(browser):
    "What a browser does not know of a style sheet it leaves out, without a word"
    page = browser.new_page()
    for o in static.glob('*.css'):
        said = re.findall(r'([-\w]+):\s*([^;{}]+?)(?:\s*!important)?;', o.read_text(encoding='utf-8'))
        assert len(said) > 10 and page.evaluate('said => said.filter(([k, v]) => !CSS.supports(k, v))', said) == [], o
    page.close()


def test_no_line_is_long():
    assert [o for f in static.glob('*.*') if f.suffix != '.json' for o in f.read_text(encoding='utf-8').splitlines()
            if len(o) > 120] == []


def test_percent_is_the_same_in_both_languages():
    values = [0.0005, 0.00049, 0.9995, 0.99951, 0.25, 0.125, 0.0625, 1/3, *(i/2000 for i in range(2001))]
    code = f'import {{ percent }} from "./bearclf/static/loop.js"; console.log(JSON.stringify({values}.map(percent)))'
    said = json.loads(deno('eval', code))
    assert said == [percent(o) for o in values] and said[-2:] == ['>99.9%', '>99.9%'] and percent(0.0625) == '6.3%'
    same = [re.search(r'function percent.*?\n}', (static/o).read_text(encoding='utf-8'), re.DOTALL)[0]
            for o in ('loop.js', 'site.js')]
    assert same[0] == same[1]
