"Every benchmark still runs, on little"
import os, re, subprocess, sys

import pytest

from helpers import SHARED, top


FILES = sorted((top/'benchmarks').glob('*.py'))


def test_each_can_be_tried_on_little():
    assert [o.stem for o in FILES if '--smoke' not in o.read_text(encoding='utf-8')] == ['common']


@pytest.mark.exhaustive
@pytest.mark.parametrize('file', FILES, ids=lambda o: o.stem)
def test_smoke(file, tmp_path):
    env = os.environ | {'BEARCLF_CACHE': str(tmp_path)}
    if SHARED.is_dir(): env['TORCH_HOME'] = str(SHARED/'torch')
    res = subprocess.run([sys.executable, file, '--smoke'], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert res.returncode == 0 or 'There is no GPU here' in res.stderr, res.stderr[-3000:]


@pytest.mark.exhaustive
def test_a_body_without_weights_has_no_errors(tmp_path):
    "Its speed and size are measured, what it would get wrong is left blank"
    env = os.environ | {'BEARCLF_CACHE': str(tmp_path), 'TORCH_HOME': str(tmp_path), 'HF_HUB_OFFLINE': '1',
                        'https_proxy': 'http://127.0.0.1:9'}
    res = subprocess.run([sys.executable, top/'benchmarks/bodies.py', '--smoke'], cwd=tmp_path, env=env,
                         capture_output=True, text=True)
    rows = {o[0]: o for o in (re.split(r' *\| *', line)[1:-1] for line in res.stdout.splitlines() if line[:1] == '|')}
    assert rows['squeezenet1_0'][1] == rows['squeezenet1_0'][5] == rows['squeezenet1_0'][9] == '', res.stderr
    assert float(rows['squeezenet1_0'][2]) > 0 and rows['squeezenet1_0'][3] == '1.00'
    assert re.fullmatch(r'\d+\.\d of 24: .*%\)', rows['efficientnet_lite0'][1])
