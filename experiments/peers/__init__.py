"""Our U-Net beside those of `diffusers` and `imagen-pytorch`, and beside what the machine can do.

python -m experiments.peers setup      # the peers' packages, a few MB in the cache; .venv stays as it is
python -m experiments.peers            # every part of the speed; parts: networks, speed, machine, user
python -m experiments.peers quality    # hours: the same minutes of training for all three
python -m experiments.peers --show     # the tables of data/results/peers.json
"""
