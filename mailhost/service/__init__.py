"""
The composition root: from a `Config` to a tree of running services.

Here, and nowhere else, the real objects are put behind the seams: `stores` opens the data
directory, `protocols` builds the factories, `outbound` the relay, `threads` are
the pools that keep disk and hashing off the event thread, `watchdog` names what holds it up,
`local` furnishes the safe local mode,
and `root` orders their start, reload and stop.
"""
