"""From a camera to photos, and a model at work: frames of a film, what moves in them, crops. A film is read and never changed."""
