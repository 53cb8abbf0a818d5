"""Recipe sr256: 64×64 to 256×256, an Efficient U-Net with noise conditioning augmentation and text (Imagen F.2).

    imagen-lite train sr256 --max-minutes 60

Cosine schedule, eps-prediction, attention to pixels and text at the lowest level, to text alone at the one above. It
sees crops of 128 px, as it is convolutional but for that attention, and on a GPU more often where there is a thing than
where there is none. CPU: about 38 crops/s on 2 cores (bf16), after rendering its pool (about 6 pictures/s, once). GPU:
about 4,000 crops/s on an H200. The shipped weights are 1.5 hours of the first, eight minutes of the second, and then
two hours of `experiments.heed` on 2 cores, for neither had taught letters, and patterns only in part.
"""

import dataclasses
from functools import partial

from imagen_lite.recipes import super_resolution
from imagen_lite.recipes.super_resolution import Recipe
from imagen_lite.stage import Sampling
from imagen_lite.train import TrainConfig
from imagen_lite.unet import UNetConfig

UNET = UNetConfig(  # 3.4 M parameters, 8.8 GFLOP a call
    channels=(32, 64, 96, 128), blocks=(1, 2, 2, 2), attention=(None, None, "cross", "self"), strides=(1, 2, 2, 2),
    head_channels=32, low_res=True, low_res_error=0.093, gate=True,
)  # fmt: skip
SAMPLING = Sampling(steps=12, guidance_weight=1.0, spacing="log_snr", lambda_start=-5.0, aug_level=0.0)
CPU = Recipe(UNET, TrainConfig(batch=16, lr=1e-3, warmup=500, ema=0.9995), pictures=12_000, sampling=SAMPLING)
GPU = dataclasses.replace(
    CPU,
    train=TrainConfig(batch=256, lr=1e-3, warmup=200, steps=9_000, decay_from=5_400, ema=0.9995),
    pictures=16_000,
    near=0.6,
)
run, doctor = partial(super_resolution.run, CPU, GPU), partial(super_resolution.doctor, CPU, GPU)
