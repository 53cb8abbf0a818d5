"""Recipe sr1024: 256×256 to 1024×1024, without self-attention, with attention to the text (Imagen F.3).

    imagen-lite train sr1024 --max-minutes 60

Linear schedule, eps-prediction, noise conditioning augmentation. It is trained on 256-px windows of 1024-px pictures
and run on whole ones. CPU: after rendering its pool of windows (about 6/s, once).
"""

import dataclasses
from functools import partial

from imagen_lite.recipes import super_resolution
from imagen_lite.recipes.super_resolution import Recipe
from imagen_lite.schedule import LinearSchedule
from imagen_lite.stage import Sampling
from imagen_lite.train import TrainConfig
from imagen_lite.unet import UNetConfig

UNET = UNetConfig(  # 2.0 M parameters, 66 GFLOP a call on a whole picture
    channels=(64, 80, 128), blocks=(1, 1, 1), attention=(None, None, "cross"), strides=(1, 2, 2), patch=4,
    low_res=True, low_res_error=0.09, gate=True,
)  # fmt: skip
SAMPLING = Sampling(steps=8, guidance_weight=1.0, spacing="log_snr", lambda_start=-5.0, aug_level=0.0)
CPU = Recipe(
    UNET, TrainConfig(batch=16, lr=1e-3, warmup=500, ema=0.9995), LinearSchedule(), pictures=8_000, size=1024,
    window=256, sampling=SAMPLING,
)  # fmt: skip
GPU = dataclasses.replace(
    CPU, train=TrainConfig(batch=256, lr=1.5e-3, warmup=500, ema=0.9995), pictures=60_000, crop=256
)
run, doctor = partial(super_resolution.run, CPU, GPU), partial(super_resolution.doctor, CPU, GPU)
