"""The parts of `benches.gpu`: a module a part, each run in a process of its own by ``__main__.py``."""
