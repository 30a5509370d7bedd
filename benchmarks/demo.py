"""What the demo model says of drawn bears, of real ones, and of what is no bear of its three kinds.

    python benchmarks/demo.py ../shared/bears_unseen ../shared/others
    python benchmarks/demo.py --smoke     # 9 small drawn bears
"""
import sys
from pathlib import Path

from bearclf.practice.drawn import drawn_path
from common import heading, row, words


def main(bears, others, n=600):
    from bearclf.folder.look import class_of, find_photos
    from bearclf.photo import read_photo
    from bearclf.ship.predict import demo_model, load_classifier
    clf = load_classifier(demo_model())
    def answers(path):
        files = find_photos(path)
        preds = [o for i in range(0, len(files), 32) for o in clf.many([read_photo(f) for f in files[i:i+32]])]
        return files, preds
    heading('pictures', 'named rightly', 'named wrongly', '"not seen anything like this"')
    fresh = {f'{n} drawn bears of {o} px': drawn_path(n, o, 'fresh') for o in (256, 128, 512)}
    for name, path in (fresh | {'real bears': Path(bears)}).items():
        files, preds = answers(path)
        right = sum(p.familiar and p.label == class_of(f) for f, p in zip(files, preds))
        refused = sum(not p.familiar for p in preds)
        row(name, right, len(files) - right - refused, refused)
    files, preds = answers(others)
    named = sum(p.familiar for p in preds)
    row('other mammals, and things', '-', named, len(files) - named)


if __name__ == '__main__':
    main(*((*[drawn_path(9, 64)]*2, 9) if '--smoke' in words(__doc__) else words(__doc__)))
