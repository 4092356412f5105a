"""The meta-game: policies as the strategies of a game, its solutions, and what they say; arrays only, no policy."""
