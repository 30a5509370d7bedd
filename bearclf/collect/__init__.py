"""From words to photos: the one room that asks other hosts. It writes into the folder that you name, and keeps what it fetched in the cache."""
