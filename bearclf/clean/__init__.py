"""From a model to better photos: what is suspicious, what you decide about it, and the moves that follow. Nothing is deleted."""
