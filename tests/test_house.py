"The house in order: modules, README and notebooks agree, and imports cost what they may"
import ast, configparser, json, re, shutil, subprocess, sys, sysconfig, zipfile
from pathlib import Path

import pytest

top = Path(__file__).resolve().parent.parent
notebooks = sorted((top/'nbs').glob('*.ipynb'))
scripts = Path(sysconfig.get_path('scripts'))


def code_cells(file): return [o for o in json.loads(file.read_text(encoding='utf-8'))['cells'] if o['cell_type'] == 'code']
def source(cell): return ''.join(cell['source'])


def python(code):
    "What a new Python prints when it runs `code`"
    return subprocess.run([sys.executable, '-W', 'ignore', '-c', code], cwd=top, check=True, capture_output=True, text=True).stdout


def test_modules_are_what_the_notebooks_export(tmp_path):
    for o in ('nbs', 'bearclf'): shutil.copytree(top/o, tmp_path/o, ignore=shutil.ignore_patterns('__pycache__'))
    for o in ('pyproject.toml', 'settings.ini'): shutil.copy(top/o, tmp_path)
    for o in (tmp_path/'bearclf').glob('*.py'):
        if o.name != '__init__.py': o.unlink()
    subprocess.run([scripts/'nbdev-export'], cwd=tmp_path, check=True, capture_output=True)
    exported = {o.name: o.read_text(encoding='utf-8') for o in (tmp_path/'bearclf').glob('*.py')}
    committed = {o.name: o.read_text(encoding='utf-8') for o in (top/'bearclf').glob('*.py')}
    assert exported.keys() == committed.keys() and len(exported) > 10
    assert [o for o in exported if exported[o] != committed[o]] == [], 'run nbdev-export'


def test_readme_is_what_the_index_says():
    res = subprocess.run([sys.executable, top/'nbs/readme.py', '--check'], capture_output=True, text=True)
    assert res.returncode == 0, res.stdout + res.stderr


@pytest.mark.parametrize('file', notebooks, ids=lambda o: o.stem)
def test_saved_outputs_are_clean(file):
    outputs = [o for c in code_cells(file) for o in c['outputs']]
    assert outputs or file.stem == 'bear_classifier', 'nothing is saved'
    assert not [o for o in outputs if o['output_type'] == 'error' or o.get('name') == 'stderr']
    text = json.dumps([{k: v for k, v in o.items() if k != 'data'} | {k: v for k, v in o.get('data', {}).items() if not k.startswith('image/')}
                       for o in outputs])
    assert not re.search(r'/(root|home|Users|tmp|work|private|var)/|Warning|<progress', text), 'a path of one machine, a warning or a progress bar'


@pytest.mark.parametrize('file', notebooks, ids=lambda o: o.stem)
def test_cells_are_short(file):
    assert [source(o) for o in code_cells(file) if source(o).count('\n') > 29] == []


def test_a_module_imports_only_earlier_ones():
    order = {m.group(1): i for i, o in enumerate(notebooks) if (m := re.search(r'#\| ?default_exp (\w+)', ' '.join(map(source, code_cells(o)))))}
    assert len(order) > 9
    for name, i in order.items():
        tree = ast.parse((top/'bearclf'/f'{name}.py').read_text(encoding='utf-8'))
        used = {o.module for o in ast.walk(tree) if isinstance(o, ast.ImportFrom) and o.level == 1 and o.module}
        assert name in ('core', 'cli') or 'core' in used
        later = [o for o in used if order[o] >= i]
        assert later == [], f'{name} imports {later}'


def test_import_bearclf_costs_nothing():
    heavy = python('import sys; before = set(sys.modules); import bearclf; print(*(set(sys.modules) - before))').split()
    assert set(heavy) == {'bearclf'}


@pytest.mark.parametrize('module', ['predict', 'app', 'cli'])
def test_what_serves_a_page_imports_no_torch(module):
    loaded = python(f'import sys, bearclf.{module}; print(*sys.modules)').split()
    assert f'bearclf.{module}' in loaded and not {'torch', 'fastai', 'torchvision', 'bearclf.data', 'bearclf.train'} & set(loaded)


def test_metadata():
    cfg = configparser.ConfigParser(delimiters=['='])
    cfg.read(top/'settings.ini', encoding='utf-8')
    cfg = cfg['DEFAULT']
    assert cfg['version'] == python('import bearclf; print(bearclf.__version__)').strip()
    wanted = ' '.join(cfg[f'{o}requirements'] for o in ('', 'train_', 'dev_')).split()
    assert [o for o in wanted if not re.fullmatch(r'[a-zA-Z0-9_-]+(>=[\d.]+)?', o)] == [], 'lower bounds only'


def test_the_wheel_holds_the_page(tmp_path):
    src = tmp_path/'src'
    shutil.copytree(top, src, ignore=shutil.ignore_patterns('.venv', '.git', 'models', '__pycache__', '*.egg-info', 'build'))
    subprocess.run([sys.executable, '-m', 'pip', 'wheel', '-q', '--no-deps', '-w', tmp_path, src], check=True, capture_output=True)
    names = zipfile.ZipFile(next(tmp_path.glob('*.whl'))).namelist()
    assert 'bearclf/nbs/bear_classifier.ipynb' in names and 'bearclf/app.py' in names
    assert not [o for o in names if o.startswith(('tests/', 'nbs/'))]


def test_api_pages_without_quarto(tmp_path):
    src = tmp_path/'src'
    shutil.copytree(top, src, ignore=shutil.ignore_patterns('.venv', '.git', 'models', '__pycache__', '_docs', '_proc'))
    subprocess.run([sys.executable, '-W', 'ignore', src/'nbs/docs.py'], check=True, capture_output=True)
    page = (src/'_docs/04_data.html').read_text(encoding='utf-8')
    assert 'id="photo_dls"' in page and 'The four things a' in page
    assert {o.stem for o in (src/'_docs').glob('*.html')} == {o.stem for o in notebooks} - {'bear_classifier'}


@pytest.mark.parametrize('file', [o for o in notebooks if o.stem[0].isdigit()], ids=lambda o: o.stem)
def test_colab_installs(file):
    "The install cell does install; it is easily commented out by an editor that knows no magics"
    lines = next(o for o in map(source, code_cells(file)) if 'own_torch.txt' in o).splitlines()
    assert [o.split()[:2] for o in lines[-2:]] == [['!pip', 'list'], ['!pip', 'install']]
