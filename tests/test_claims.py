"""The ledger: verdicts by rules that can go either way, trials that differ in one thing, captions that mean it."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from experiments.claims import direct, encoders, figures, guidance, lab, ledger, network, results, text
from imagen_lite import data
from imagen_lite.data import Pool
from imagen_lite.recipes.evaluation import kept
from imagen_lite.scenes import parse
from imagen_lite.scenes.claims import satisfied
from imagen_lite.scenes.clip_lite import kernel_distance
from imagen_lite.text import null_text
from imagen_lite.train import Ema, Progress
from imagen_lite.unet import EfficientUNet, UNetConfig

SMALL = UNetConfig(channels=(16, 32), blocks=(1, 1), attention=(None, "self"), strides=(1, 2), head_channels=16)


@pytest.fixture
def pool(monkeypatch):
    """Eight grey pictures with captions in two lengths, in the place of the world's."""
    pictures = np.full((8, 32, 32, 3), 120, np.uint8)
    captions = [["a red cone"] * data.CAPTIONS if i % 2 else ["a small blue house on the grass"] * 4 for i in range(8)]
    small = Pool([pictures], captions, [[] for _ in range(8)], list(range(8)))
    monkeypatch.setattr(lab, "one_thing", lambda *_, **__: small)
    return small


# What is asked -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", lab.HARD)
def test_hard_captions_mean_the_scene_and_hide_what_they_should(category):
    for ask in lab.asks(category, 12):
        assert not satisfied(parse(ask.means), ask.scene, exact=True)
        thing = ask.scene.things[0]
        hidden = {"fact of a colour": thing.color, "fact of a kind": thing.kind}.get(category)
        assert hidden is None or hidden not in ask.caption.split()
    assert [a.caption for a in lab.asks(category, 3)] == [a.caption for a in lab.asks(category, 12)[:3]]


def test_guidance_asks_other_captions_of_every_seed():
    asked = [[case.caption for case in guidance.asked(9, seed)] for seed in guidance.SEEDS]
    assert len({caption for some in asked for caption in some}) == 27
    assert asked[0] == [case.caption for case in guidance.asked(9, 0)]


# What is tried -------------------------------------------------------------------------------------------------------


def test_a_direct_network_says_nothing_of_the_noise_unless_its_layers_do():
    text, x, t = null_text(2, 256, 4), torch.randn(2, 3, 32, 32), torch.tensor([0.2, 0.99])
    torch.manual_seed(0)
    one, other = direct.DirectUNet(SMALL), EfficientUNet(SMALL)
    assert one(x, t, text).abs().max() < 1e-4  # the last layer begins at zero
    assert torch.allclose(other(x, t, text), (t * torch.pi / 2).sin().view(-1, 1, 1, 1) * x, atol=1e-6)
    torch.nn.init.normal_(one.out.weight, std=0.1)
    other.load_state_dict(one.state_dict())
    said, as_well = one(x, t, text), other(x, t, text)
    assert said.std() > 0.1 and not torch.allclose(said, as_well, atol=0.1)


def test_both_networks_are_judged_at_each_weight_and_threshold(pool, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(lab, "TRAIN", dataclasses.replace(lab.TRAIN, batch=4, warmup=1))
    monkeypatch.setattr(lab, "SAMPLING", dataclasses.replace(lab.SAMPLING, steps=2))
    monkeypatch.setattr(lab, "a_core_each", lambda jobs: [job() for job in jobs])
    networks = {name: dataclasses.replace(trial, unet=SMALL, steps=2) for name, trial in direct.NETWORKS.items()}
    monkeypatch.setattr(direct, "NETWORKS", networks)
    result = direct.thresholds(2, (0, 1))
    assert len(result["rows"]) == 2 * 2 * len(guidance.HIGH) * len(guidance.THRESHOLDS)
    assert len(figures.networks(result).axes) == 6
    for row in result["rows"]:
        dynamic = row["threshold"] == "dynamic" and row["network"] == direct.ITSELF
        row["right"], row["kernel"] = ([1, 1], 1.0) if dynamic else ([0, 1], 2.0)
    verdict = next(claim.verdict for claim in ledger.CLAIMS if claim.name == "direct")
    assert verdict(result) == "partly"  # of two captions nobody can say which are right more often
    for row in result["rows"]:
        row["kernel"] = -row["kernel"]
    assert verdict(result) == "not at this scale"


def test_an_untrained_encoder_stays_and_a_joint_one_learns(pool, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(encoders, "BASE", dataclasses.replace(encoders.BASE, d_model=32, num_layers=1, num_heads=1))
    monkeypatch.setattr(lab, "TRAIN", dataclasses.replace(lab.TRAIN, batch=4, ema=0.0, warmup=1))
    moved = {}
    for name in ("untrained", "joint"):
        before = encoders.load_encoder(name, 0).model.state_dict()
        cascade, progress = lab.train(lab.Trial(name, name, SMALL, steps=3))
        assert progress.pictures == 12
        after = cascade.text_encoder.model.state_dict()
        moved[name] = any(not torch.equal(before[key], after[key]) for key in before)
    assert moved == {"untrained": False, "joint": True}


def test_a_trial_that_was_interrupted_is_not_judged(pool, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEN_LITE_CACHE", str(tmp_path))
    monkeypatch.setattr(lab, "fit", lambda model, *_, **__: (Ema(model, 0.5), Progress(step=3, seconds=9.0)))
    with pytest.raises(RuntimeError, match="stopped after 3 steps"):
        lab.run(lab.Trial("cut", "untrained", SMALL, steps=4))
    assert not list(tmp_path.rglob("found.json"))
    for steps, minutes in ((3, None), (10, 0.2)):
        lab.check_ended(Progress(step=3, seconds=9.0), steps, minutes)  # whole: its steps, or its minutes, are over
    with pytest.raises(RuntimeError):
        lab.check_ended(Progress(step=3, seconds=9.0), 10, 1.0)


def test_seeds_give_other_random_encoders_and_names_are_checked():
    one, other, again = (encoders.load_encoder("untrained", seed)(["a red cone"]).tokens for seed in (0, 1, 0))
    assert torch.equal(one, again) and not torch.allclose(one, other)
    with pytest.raises(ValueError, match="no encoder is called 'bart'"):
        encoders.load_encoder("bart")


def test_gpt_sees_no_later_word_and_t5_does():
    ids, mask = encoders.load_encoder("untrained").tokenizer(["a red cone on the grass", "a red cone on the sand"])
    for name, same in (("gpt-lite", True), ("bert-lite", False)):
        torch.manual_seed(0)
        a, b = encoders.reader(name).eval()(ids, mask)[:, :3]
        assert torch.allclose(a, b, atol=1e-6) == same


def test_objectives_hide_and_ask_for_what_they_should():
    ids = torch.tensor([[40, 41, 42, 43, 1], [44, 45, 1, 0, 0]])
    source, target = encoders.next_words(ids, np.random.default_rng(0))
    assert torch.equal(source, ids) and target.tolist() == [[41, 42, 43, 1, -100], [45, 1, -100, -100, -100]]
    rng = np.random.default_rng(0)
    many = torch.full((50, 40), 50)
    source, target = encoders.masked_words(many, rng)
    hidden = source != many
    assert torch.equal(hidden, target != -100) and 0.25 < hidden.float().mean() < 0.35 and (target[hidden] == 50).all()
    assert (encoders.masked_words(ids, rng)[0][ids == 0] == 0).all()


def test_variants_differ_in_one_thing_and_share_the_trial_in_the_middle():
    shown = text.variants(text.ENCODERS, text.UNETS, seeds=(0, 1, 2))
    assert shown["t5-lite-base"] == shown["U-Net 1.7 M"]
    assert {t.encoder for t in shown["U-Net 3.4 M"]} == {"t5-lite-base"} and [
        t.seed for t in shown["t5-lite-tiny"]
    ] == [0, 1, 2]
    folders = [t.folder for trials in shown.values() for t in trials]
    assert len(set(folders)) == 15


# What is kept and read ---------------------------------------------------------------------------------------------


def test_parts_are_found_once(tmp_path):
    calls = []
    for _ in range(2):
        part = kept(tmp_path / "a.json", lambda: calls.append(1) or {"x": 3})
        assert part["x"] == 3 and part["seconds"] >= 0
    assert len(calls) == 1 and json.loads((tmp_path / "a.json").read_text()) == part


def test_kernel_distance_is_nothing_between_likes_and_all_between_far_sets():
    class Fixed:
        def of_pictures(self, images):
            return images.flatten(1)[:, :2]

    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(400, 3, 2, 2, generator=generator) for _ in range(2))
    assert abs(kernel_distance(a, b, Fixed())) < 10 < kernel_distance(a, b + 1, Fixed())
    one, far = torch.zeros(4, 3, 2, 2), torch.full((4, 3, 2, 2), 100.0)
    assert kernel_distance(one, far, Fixed()) == pytest.approx(2000)
    with pytest.raises(ValueError, match="two pictures a side"):
        kernel_distance(one[:1], far, Fixed())


def trade_off(frechet, right):
    """A result of the trade-off with the same numbers for three seeds."""
    rows = [
        {"seed": seed, "weight": w, "threshold": "dynamic", "right": r, "kernel": f}
        for seed in (0, 1, 2)
        for w, f, r in zip(guidance.WEIGHTS, frechet, right, strict=True)
    ]
    pooled = [{"frechet": f, "more": (f - min(frechet), f - min(frechet) + 1)} for f in frechet]
    return {"seeds": [0, 1, 2], "rows": rows, "pooled": pooled, "n": 20}


def test_the_trade_off_needs_both_sides():
    claim = next(c for c in ledger.CLAIMS if c.name == "trade-off")
    better, flat = [[0] * 10 + [1] * 10] + [[1] * 20] * 6, [[1] * 20] * 7
    assert claim.verdict(trade_off([2, 1, 1, 1, 1, 2, 3], better)) == "reproduced"
    assert claim.verdict(trade_off([2, 1, 1, 1, 1, 2, 3], flat)) == "partly"
    assert claim.verdict(trade_off([7, 6, 5, 4, 3, 2, 1], flat)) == "not at this scale"


def test_distances_say_how_much_further_off_than_the_nearest():
    generator = np.random.default_rng(0)
    real, same, off = (generator.normal(size=(300, 4)) + shift for shift in (0.0, 0.0, 0.5))
    rows = guidance.distances({(1.0, "a"): same, (2.0, "a"): off}, real)
    assert [row["weight"] for row in rows] == [1.0, 2.0]
    assert rows[0]["frechet"] < 0.1 < rows[1]["frechet"] == pytest.approx(1.0, abs=0.3)
    assert rows[0]["more"] == (0, 0) and 0.5 < rows[1]["more"][0] < rows[1]["frechet"] < rows[1]["more"][1] + 0.2


def trials(rates, losses=None):
    """A result of trials: variant -> how many of twenty captions are right, alike in all categories and seeds."""
    rows = [
        {"variant": name, "seed": seed, "loss": (losses or {}).get(name, 0.1), "rows": [
            {"category": category, "weight": text.W, "right": [1] * count + [0] * (20 - count)}
            for category, count in zip(text.CATEGORIES, counts, strict=True)
        ]}
        for name, counts in rates.items() for seed in (0, 1, 2)
    ]  # fmt: skip
    return {"seeds": [0, 1, 2], "rows": rows, "n": 20}


def test_verdicts_on_trials_can_go_either_way():
    verdict = {claim.name: claim.verdict for claim in ledger.CLAIMS}
    low, high, rare = (4,) * 6, (18,) * 6, (4, 18, 4, 4, 4, 4)
    assert verdict["pre-training"](trials(dict.fromkeys(text.READ, low) | {"t5-lite-base": rare})) == "reproduced"
    assert (
        verdict["pre-training"](trials(dict.fromkeys(text.READ, high) | {"t5-lite-base": low})) == "not at this scale"
    )
    sizes = dict.fromkeys((*text.ENCODERS, *text.UNETS), low)
    assert verdict["sizes"](trials(sizes | {"t5-lite-base": high})) == "reproduced"
    assert verdict["sizes"](trials(sizes | {"U-Net 3.4 M": high})) == "not at this scale"
    both = trials({"both": high, "pooled": low}, {"both": 0.1, "pooled": 0.2})
    assert verdict["sequence"](both) == "reproduced"
    assert verdict["skips"](trials({"1/√2": low, "1": low}, {"1/√2": 0.2, "1": 0.1})) == "not at this scale"
    one = both | {"seeds": [0]}
    assert "indicative" in verdict["sequence"](one)


def test_augmentation_is_judged_by_distance_by_details_and_by_its_answer_to_w():
    def found(nearer, spread, more=0.2):
        rows = [
            {
                "input": "samples",
                "trained": name,
                "level": level,
                "weight": w,
                "frechet": 2 + spread * (name == "with") * w,
            }
            for name, level in (("with", 0.3), ("without", 0.0))
            for w in (1, 8)
        ]
        gain = {"weight": 1.0, "nearer": nearer, "interval": (nearer - 0.1, nearer + 0.1)}
        told = [
            {"trained": name, "level": 0.0, "weight": w, "right": 0.4} for name in ("with", "without") for w in (1, 8)
        ]
        asked = {"letter": {"n": 9, "rows": told, "gain": more, "interval": (more - 0.1, more + 0.1)}}
        nothing = {"n": 60, "gains": {"samples": [gain]}}
        others = {given: {"n": 300, "gains": [gain], "at_best": gain} for given in ("jpegs", "samples")}
        return {"n": 60, "seeds": [0], "rows": rows, "others": others, "from_nothing": nothing, "asked": asked}

    verdict = next(c.verdict for c in ledger.CLAIMS if c.name == "augmentation")
    assert verdict(found(0.5, 0.1)).startswith("reproduced") and "one seed" in verdict(found(0.5, 0.1))
    assert verdict(found(-0.5, 0.1)).startswith("partly") and verdict(found(-0.5, 0.0)).startswith("partly")
    assert verdict(found(-0.5, 0.0, more=0.0)).startswith("not at this scale")


def test_metrics_are_judged_by_counts_and_by_captions():
    def found(counts, wrong):
        clip = [{"question": q, "clip": {"right": v, "interval": (v - 0.05, v + 0.05)}}
                for q, v in (("which colour", 0.9), ("which kind", 0.7), ("how many, 1 to 4", counts))]  # fmt: skip
        ways = {
            "as they are": {"aligned": 0.9, "frechet": 0.3},
            "another's caption": {"aligned": wrong, "frechet": 0.3},
        }
        return {"n": 9, "seeds": [0, 1, 2], "clip": clip, "rows": [{"ways": ways}] * 3}

    verdict = next(c.verdict for c in ledger.CLAIMS if c.name == "metrics")
    assert verdict(found(0.4, 0.0)) == "reproduced" and verdict(found(0.8, 0.0)) == "partly"
    assert verdict(found(0.8, 0.95)) == "not at this scale"


def test_figures_are_drawn_from_results():
    both = trials({"both": (18,) * 6, "pooled": (4,) * 6})
    for row in both["rows"]:
        row["rows"] = [r | {"weight": w} for r in row["rows"] for w in lab.WEIGHTS]
    panel = figures.trials(both).axes[0]
    assert [line.get_label() for line in panel.lines] == ["both", "pooled"]
    assert panel.lines[0].get_ydata() == pytest.approx([0.9] * 4)
    drawn = figures.trade_off(trade_off([2, 1, 1, 1, 1, 2, 3], [[1] * 20] * 7))
    assert drawn.axes[0].lines[0].get_xdata() == pytest.approx([2, 1, 1, 1, 1, 2, 3])
    curve = [{"pictures": p, "seconds": s, "loss": v} for p, s, v in ((500, 5, 0.5), (1000, 10, 0.3))]
    rows = [{"variant": name, "seed": 0, "curve": curve} for name in ("Efficient", "classic")]
    assert len(figures.designs({"rows": rows, "seeds": [0]}).axes[0].lines) == 2
    assert network.at_the_same(curve, curve[:1]) == (0.5, 0.5)


def test_what_has_a_result_is_in_the_ledger():
    told = ledger.as_text()
    for claim in ledger.CLAIMS:
        there = (results.FOLDER / f"{claim.name}.json").exists()
        assert (f"**{claim.says}**" in told) == there
