"""From files to pixels, labels and parts; NumPy and Pillow only, and read-only towards the user's files.

prepared     all of the below in order: what training and evaluation take
cache        decoded pixels, kept between runs
source       the one door to every kind of DATA: folder, table (CSV), idx, npz, builtin
images       what each kind becomes: images, and a source of labelled ones
split        which image trains, validates or tests
preprocess   THE contract from a picture to the network's pixels
decode       THE way from an encoded file to an upright 8-bit picture
order        the order of the images in each epoch
"""
