"""
What an operator can set, and how it is read.

`sections` says what there is, with every default and its comment; `loading` reads a TOML file into
it and names each mistake by its path; `sample` writes the commented file; `location` decides which
file is meant and what happens without one. Domains, accounts and aliases are no configuration:
they live in the directory.

Only the outermost modules see a `Config`: everything below takes plain values in its constructor.
"""
