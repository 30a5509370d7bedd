"""Bears, pets, sounds, films and a web to practise on, offline. It touches nothing but folders that you name and the cache."""
