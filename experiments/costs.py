"""What training on your own pictures costs here, piece by piece: the numbers of docs/scale.md.

    python -m experiments.costs      # 8 minutes on 2 cores, alone on the machine

Reading pictures, embedding captions with an encoder as large as T5-small, the embedding cache against memory and
against encoding on the fly, and two processes against one.
"""

import dataclasses
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tqdm.auto import tqdm

from experiments.results import ROOT, save_result, table
from imagen_lite import data, processes
from imagen_lite.data import Pool
from imagen_lite.recipes import base64
from imagen_lite.recipes.material import embedded
from imagen_lite.recipes.pictures import own_pictures
from imagen_lite.recipes.stages import ENCODER, Captioned, EncodedText, caption_rows
from imagen_lite.stage import default_dtype
from imagen_lite.text import TextEmbedding, load_text_encoder
from imagen_lite.train import Ema, TrainConfig, _step
from imagen_lite.unet import EfficientUNet

PICTURES, BATCH = 640, 32
CPU = torch.device("cpu")
# Any port that is free; without a GPU the processes talk by Gloo.
LAUNCH = "--multi_gpu --num_machines=1 --mixed_precision=no --dynamo_backend=no --main_process_port=0".split()  # noqa: SIM905
SPEED = """
import json, sys, time, torch
from pathlib import Path
import experiments.costs as costs
told = costs.steps_a_second(Path(sys.argv[1]))
if costs.processes.place()[0] == 0:
    print(json.dumps(told))
costs.processes.leave()
"""


class HeldText:
    """Captions' embeddings in memory: what the cache on disk is compared with."""

    def __init__(self, embeddings: list[torch.Tensor]):
        self.embeddings = embeddings

    def __call__(self, row: torch.Tensor) -> TextEmbedding:
        """As `stages.CachedText`."""
        chosen = [self.embeddings[i] for i in row.tolist()]
        tokens = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True).float()
        lengths = torch.tensor([len(tokens) for tokens in chosen])
        return TextEmbedding(tokens, torch.arange(tokens.shape[1]) < lengths[:, None])


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds, and what came of it."""
    start = time.perf_counter()
    made = work()
    return time.perf_counter() - start, made


def write_folder(folder: Path, pool: Pool) -> None:
    """An image folder of 512-px JPEGs with metadata.jsonl."""
    folder.mkdir(parents=True)
    rows = []
    for i in range(PICTURES):
        picture = Image.fromarray(np.asarray(pool.picture(i))).resize((512, 512), Image.Resampling.BICUBIC)
        picture.save(folder / f"{i:05d}.jpg", quality=90)
        rows.append(json.dumps({"file_name": f"{i:05d}.jpg", "text": pool.captions[i][0]}))
    (folder / "metadata.jsonl").write_text("\n".join(rows))


def write_encoder(folder: Path) -> Path:
    """A T5 with the shape of google/t5-v1_1-small (but for its vocabulary) and random weights."""
    import transformers

    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=2048, d_model=512, d_kv=64, d_ff=1024, num_layers=8, num_heads=6, feed_forward_proj="gated-gelu"
    )
    transformers.T5EncoderModel(config).save_pretrained(folder)
    shutil.copy(ENCODER / "tokenizer.json", folder)
    return folder


def epoch(batches: Captioned, model: torch.nn.Module) -> float:
    """Seconds that an epoch takes."""
    loss = base64.Base64Loss(model, batches, 0, default_dtype(CPU))
    optimizer, ema = torch.optim.AdamW(model.parameters(), 1e-4, fused=True), Ema(model, 0.999)

    def steps() -> None:
        for step in range(PICTURES // BATCH):
            _step(model, loss, optimizer, batches.recipe.train, step)
            ema.update(model, step)

    return timed(steps)[0]


def epochs(pool: Pool, encoder: Path, repeats: int = 3) -> dict[str, Any]:
    """An epoch with embeddings in memory, in the cache, and made on the fly, taking turns; medians in seconds."""
    cache, captions = embedded(caption_rows(pool)[0], encoder, CPU), caption_rows(pool)[0]
    unet = dataclasses.replace(base64.UNET, text_dim=cache.dim)
    recipe = base64.Recipe(unet, TrainConfig(batch=BATCH))
    model = EfficientUNet(unet).to(memory_format=torch.channels_last)  # pyright: ignore
    batches = Captioned(pool, cache, recipe, CPU)
    held = HeldText([cache([caption]).tokens[0].half() for caption in captions])
    ways = {
        "memory": held, "cache": batches.text,
        "encoder": EncodedText(captions, load_text_encoder(encoder), recipe.text_length, CPU),
    }  # fmt: skip
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in tqdm(range(repeats + 1), desc="epochs"):
        for name, text in ways.items():
            batches.text = text
            found[name].append(epoch(batches, model))
    medians = {name: round(statistics.median(seconds[1:]), 2) for name, seconds in found.items()}
    rows = torch.arange(BATCH)
    reads = {name: statistics.median(timed(lambda text=text: text(rows))[0] for _ in range(20))
             for name, text in ways.items()}  # fmt: skip
    return {
        "pictures": PICTURES, "repeats": repeats, "seconds": medians,
        "cache_against_memory": round(medians["cache"] / medians["memory"], 4),
        "encoder_against_cache": round(medians["encoder"] / medians["cache"], 4),
        "milliseconds_a_batch": {name: round(1000 * seconds, 2) for name, seconds in reads.items()},
    }  # fmt: skip


def steps_a_second(folder: Path, steps: int = 12) -> dict[str, Any]:
    """In each process of a launch: steps of the base's training a second, its loss, and what averaging costs."""
    device = processes.join(CPU)
    pool = own_pictures(folder, progress=False).pool
    recipe = base64.Recipe(base64.UNET, TrainConfig(batch=BATCH))
    torch.manual_seed(0)
    model = EfficientUNet(recipe.unet).to(memory_format=torch.channels_last)  # pyright: ignore
    batches = Captioned(pool, load_text_encoder(ENCODER), recipe, device, processes.share(BATCH))
    loss = base64.Base64Loss(model, batches, 0, default_dtype(CPU))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)

    def run(first: int, last: int) -> list[torch.Tensor]:
        return [_step(model, loss, optimizer, recipe.train, step) for step in range(first, last)]

    run(0, 2)
    seconds, losses = timed(lambda: run(2, 2 + steps))
    mean = torch.stack(losses).mean()
    processes.average([mean])
    gradients = [torch.zeros_like(p) for p in model.parameters()]
    averaging = statistics.median(timed(lambda: processes.average(gradients))[0] for _ in range(10))
    return {"steps_a_second": round(steps / seconds, 4), "loss": float(mean), "averaging_ms": 1000 * averaging,
            "gradient_mb": sum(g.numel() for g in gradients) * 4 / 1e6}  # fmt: skip


def launch(code: str, folder: Path, *arguments: object, count: int) -> str:
    """What code prints, run with arguments by so many processes of one thread each (or alone), as a launcher does it.

    Raises:
        RuntimeError: it failed.
    """
    script = folder / "script.py"
    script.write_text(code)
    together = ["-m", "accelerate.commands.launch", *LAUNCH, "--num_processes", str(count)] if count > 1 else []
    command = [sys.executable, *together, script, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise RuntimeError(done.stderr[-3000:])
    return done.stdout


def launched(folder: Path, count: int) -> dict[str, Any]:
    """`steps_a_second` of so many processes, as the first of them tells."""
    printed = launch(SPEED, folder.parent, folder, count=count)
    return json.loads(next(line for line in printed.splitlines() if line.startswith("{")))


def processes_against_one(folder: Path) -> dict[str, Any]:
    """Two processes of one thread against one, each with half of the batch."""
    one, two = launched(folder, 1), launched(folder, 2)
    return {
        "one": one["steps_a_second"], "two": two["steps_a_second"],
        "speedup": round(two["steps_a_second"] / one["steps_a_second"], 3),
        "loss_difference": abs(two["loss"] - one["loss"]), "averaging_ms": round(two["averaging_ms"], 1),
        "gradient_mb": round(two["gradient_mb"], 1),
    }  # fmt: skip


def reading(folder: Path) -> dict[str, Any]:
    """Pictures a second from JPEGs of 512 px into the cache, by one process."""
    import datasets  # noqa: F401  (seconds that are not reading)

    seconds, own = timed(lambda: own_pictures(folder))
    stored = sum(path.stat().st_size for path in own.folder.iterdir())
    return {"pictures_a_second": round(PICTURES / seconds, 1), "bytes_a_picture": round(stored / PICTURES)}


def embedding(pool: Pool, encoder: Path) -> dict[str, Any]:
    """Captions a second into the cache, and bytes a caption in it."""
    captions = sorted({text for own in pool.captions for text in own})
    load_text_encoder(encoder)
    load = timed(lambda: load_text_encoder(encoder))[0]
    seconds, cache = timed(lambda: embedded(captions, encoder, CPU))
    tokens = int(cache(captions).mask.sum())
    return {
        "captions": len(captions), "captions_a_second": round(len(captions) / (seconds - load), 1),
        "tokens_a_caption": round(tokens / len(captions), 1), "dim": cache.dim,
        "bytes_a_caption": round(cache.path.stat().st_size / len(captions)),
    }  # fmt: skip


def as_text(result: dict[str, Any]) -> str:
    """The measured costs as markdown."""
    read, text, epochs, two = (result[name] for name in ("reading", "embedding", "epochs", "processes"))
    seconds, batch = epochs["seconds"], epochs["milliseconds_a_batch"]
    rows = [
        ["reading 512-px JPEGs into the cache, one process", f"{read['pictures_a_second']:.0f} pictures/s"],
        ["what a picture takes there (64 px)", f"{read['bytes_a_picture'] / 1000:.1f} kB"],
        [f"embedding captions, a T5 of the size of T5-small (D = {text['dim']})", f"{text['captions_a_second']:.0f}/s"],
        [f"what a caption takes, {text['tokens_a_caption']:.0f} tokens", f"{text['bytes_a_caption'] / 1000:.1f} kB"],
        ["a batch of 32 captions from memory; the cache; the encoder",
         f"{batch['memory']:.1f}; {batch['cache']:.1f}; {batch['encoder']:.0f} ms"],
        [f"an epoch of {epochs['pictures']} pictures, embeddings in memory; in the cache",
         f"{seconds['memory']:.1f}; {seconds['cache']:.1f} s (× {epochs['cache_against_memory']:.3f})"],
        ["the same, the encoder on the fly, against the cache",
         f"{seconds['encoder']:.1f} s (× {epochs['encoder_against_cache']:.2f})"],
        ["steps of 32 a second: one process of one thread; two",
         f"{two['one']:.2f}; {two['two']:.2f} (× {two['speedup']:.2f})"],
        ["how far their losses differ", f"{two['loss_difference']:.1e}"],
        [f"averaging {two['gradient_mb']:.0f} MB of gradients between the two", f"{two['averaging_ms']:.0f} ms"],
    ]  # fmt: skip
    told = (
        f"Epochs: medians of {epochs['repeats']}; the rest one run each; one seed; {result['hardware']}; "
        f"`python -m experiments.costs`."
    )
    return table(["what", "measured"], rows) + f"\n\n{told}"


def main() -> None:
    """Command line."""
    rendered = data.pool(PICTURES)
    with tempfile.TemporaryDirectory() as temporary:
        place = Path(temporary)
        os.environ["IMAGEN_LITE_CACHE"] = str(place / "cache")
        write_folder(place / "folder", rendered)
        encoder = write_encoder(place / "t5")
        result = {"reading": reading(place / "folder")}
        pool = own_pictures(place / "folder").pool
        result |= {"embedding": embedding(pool, encoder), "processes": processes_against_one(place / "folder")}
        result |= {"epochs": epochs(pool, encoder)}
    print(json.dumps(save_result("costs", result, models=()), indent=1))


if __name__ == "__main__":
    main()
