"""From a model to people: one file, an answer, a page. What serves a page imports neither torch nor fastai at the top."""
