"""The promises, tried on the user's own machine: kills, power cuts, damaged files and hostile images.

    proving.py        all of them, as ``vitreous prove`` tries them
    rows.py           what became of one promise
    zoo.py            image files of every kind, with the verdict that each must get
    traps.py          folders with links in circles, pipes, names from hell; each must be read right or refused
    archives.py       archives and weight files made to hurt
    hostile.py        how those two are made, read by another process (hostile_reader.py), and judged
    kills.py          kill -9 at random moments of a training run
    crash_points.py   an end at every single write of a run
    power_loss.py     every state in which a power cut may leave the disk
    corruption.py     files that were damaged or forged
    subject.py        the small run that all of this is done to
    child.py          a process that does not outlive the proof
    watch.py          what a process is about to do to files

Nothing here touches the user's files or runs: all of it happens in a temporary folder, to a small network.
"""
