"""From photos to a model. Photos are read and never changed; what was computed of them is kept in the cache."""
