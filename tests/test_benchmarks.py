"Every benchmark still runs, on little"
import os, subprocess, sys

import pytest

from helpers import SHARED, top


@pytest.mark.exhaustive
@pytest.mark.parametrize('file', sorted((top/'benchmarks').glob('*.py')), ids=lambda o: o.stem)
def test_smoke(file, tmp_path):
    env = os.environ | {'BEARCLF_CACHE': str(tmp_path)}
    if SHARED.is_dir(): env['TORCH_HOME'] = str(SHARED/'torch')
    res = subprocess.run([sys.executable, file, '--smoke'], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert res.returncode == 0 or 'There is no GPU here' in res.stderr, res.stderr[-3000:]
