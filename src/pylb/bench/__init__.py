"""``pylb bench``: dataplanes side by side, on one lab and one set of load programs.

`engine` runs `blocks` of measurements over `labs` of the `subjects`, interleaved;
what comes of it is a `results.Results`, from which `report`, `plots` and `compare`
are made by the rules of `stats`.  `tools` builds and runs the C programs of
``load/``; `measures`, `scale` and `memory` know what a figure means.
"""
