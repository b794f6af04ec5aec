"""Pictures: arrays in, images and files out. Nothing here knows a model.

sheet      grids of images: reconstructions, samples, transfer, manifolds
scatter    posterior means, coloured by class
curves     losses over the steps of a run
film       MP4 and WebP, and the frames of a manifold through training
report     one self-contained HTML page
output     save a picture, whole or not at all
theme      colours, markers and the matplotlib style that all of them share
"""
