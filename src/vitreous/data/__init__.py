"""From files to pixels, labels and parts; numpy and Pillow only, read-only towards the user's files.

source    opens every kind of DATA     (folder, table, idx, npz, builtin: one kind each)
decode    THE way from an encoded file to an upright 8-bit picture
preprocess  THE contract from a picture to the network's pixels
split     which image trains, validates, tests
cache     decoded pixels, kept between runs
prepared  all of the above in order: what training and evaluation take
order     in which order an epoch sees the images
"""
