"A real model with thousands of accidents is read, or refused in a sentence; nothing is run, imported or written"
import json, subprocess, sys
from pathlib import Path

import pytest


@pytest.mark.exhaustive
@pytest.mark.skipif(sys.platform != 'linux', reason='memory is limited and measured as Linux does it')
@pytest.mark.parametrize('kind', ['pkl', 'onnx', 'json'])
def test_accidents(kind, tmp_path):
    fuzz = Path(__file__).with_name('fuzz.py')
    res = subprocess.run([sys.executable, fuzz, '500', kind], capture_output=True, text=True, cwd=tmp_path)
    found = json.loads(res.stdout)[kind]
    assert {*found} == {'answer', 'sentence'} and sum(found.values()) == 500 and not res.stderr, (found, res.stderr)
