"""A robot at a station: sessions of episodes, asked for by a socket."""
