"""The ledger: each claim of the paper, how it was tried here, what came of it, and whether that reproduces the claim.

A verdict is a rule, stated before the numbers: the claim is taken apart into things that can be false, each of which
holds where its interval, or every seed, says so. All hold: *reproduced*; some: *partly*; none: *not at this scale*.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.augmentation_report import heeded, nearer_by
from experiments.claims import direct, guidance, lab, metrics, network, results, simple, text
from experiments.claims.figures import BOARD, path_of
from experiments.results import BASE, load_result, table
from experiments.twins import TWINS

Ends = tuple[float, float]


@dataclass(frozen=True)
class Finding:
    """One thing that a claim says, what was found, in words and numbers, and whether it holds."""

    told: str
    holds: bool


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, where it stands there, how it is tried, and what is read from the result."""

    name: str
    says: str
    where: str
    how: str
    find: Callable[[], dict[str, Any]]
    read: Callable[[dict[str, Any]], list[Finding]]
    models: Sequence[str] = BASE

    def verdict(self, result: dict[str, Any]) -> str:
        """ "reproduced", "partly" or "not at this scale"; *indicative* where there is one seed."""
        held = [finding.holds for finding in self.read(result)]
        word = "reproduced" if all(held) else "partly" if any(held) else "not at this scale"
        return word if len(result["seeds"]) > 1 else f"{word} (indicative: one seed)"


def difference(told: str, found: tuple[float, Ends], form: str = "+.2f") -> Finding:
    """A difference that should be above 0."""
    value, (low, high) = found
    return Finding(f"{told} {value:{form}} [{low:{form}}, {high:{form}}]", low > 0)


def every_seed(told: str, pairs: Sequence[tuple[float, float]], form: str = ".3f") -> Finding:
    """That the first number is less than the second, in each seed."""
    numbers = ", ".join(f"{a:{form}} < {b:{form}}" if a < b else f"{a:{form}} ≥ {b:{form}}" for a, b in pairs)
    return Finding(f"{told}: {numbers}", all(a < b for a, b in pairs))


def read_trade_off(result: dict[str, Any]) -> list[Finding]:
    """Alignment gains from w = 1 to the best w; distance is least below the largest w, and grows from there."""
    rows, weights = result["rows"], guidance.WEIGHTS
    right = {w: guidance.pooled(rows, weight=w) for w in weights}
    best = max(weights, key=lambda w: right[w].mean())
    found = [difference(f"right at w = {best:g} against w = 1", results.gain(right[best], right[1.0]))]
    top = result["pooled"][-1]
    low, high = top["more"]
    least = min(row["frechet"] for row in result["pooled"])
    told = f"Fréchet distance {top['frechet']:.3f} at w = {weights[-1]:g}, {least:.3f} at the least: more by"
    found.append(Finding(f"{told} [{low:.3f}, {high:.3f}]", low > 0))
    seeds = [[r["kernel"] for r in rows if r["seed"] == seed] for seed in result["seeds"]]
    return [
        *found,
        every_seed(
            f"least kernel distance against that at w = {weights[-1]:g}", [(min(s), s[-1]) for s in seeds], ".1f"
        ),
    ]


def read_thresholds(result: dict[str, Any]) -> list[Finding]:
    """At the largest w dynamic thresholding is nearest to renders, and right more often than static."""
    rows, w = result["rows"], guidance.HIGH[-1]
    far = {name: guidance.mean_of(rows, "kernel", weight=w, threshold=name) for name in guidance.THRESHOLDS}
    right = {name: guidance.pooled(rows, weight=w, threshold=name) for name in guidance.THRESHOLDS}
    return [
        every_seed(f"distance at w = {w:g}, dynamic against {name}",
                   list(zip(far["dynamic"], far[name], strict=True)), ".1f")  # fmt: skip
        for name in ("none", "static")
    ] + [difference(f"right at w = {w:g}, dynamic against static",
                    results.gain(right["dynamic"], right["static"]))]  # fmt: skip


def read_direct(result: dict[str, Any]) -> list[Finding]:
    """The same of the network that answers with ε itself."""
    return read_thresholds(direct.of(result, direct.ITSELF))


def read_pretraining(result: dict[str, Any]) -> list[Finding]:
    """Reading before helps, most on words that no caption had; captions beside pictures teach less of those."""
    found = []
    for other, name in (
        ("untrained", "random weights"),
        ("joint", "learning with the pictures"),
        ("clip-lite", "CLIP-lite"),
    ):
        rare = results.gain(*(text.share(result, v, "text-only word") for v in ("t5-lite-base", other)))
        found.append(difference(f"text-only words right, t5-lite against {name}", rare))
    more = [
        text.share(result, "t5-lite-base", c) - text.share(result, "untrained", c)
        for c in ("text-only word", "one thing")
    ]
    found.append(
        difference("that gain, against random weights, less the gain on words of captions", results.gain(*more))
    )
    return found


def read_sizes(result: dict[str, Any]) -> list[Finding]:
    """A larger encoder gains; it gains more than a larger U-Net."""
    small, large = text.ENCODERS[0], text.ENCODERS[-1]
    encoder = text.overall(result, large) - text.overall(result, small)
    names = list(text.UNETS)
    unet = text.overall(result, names[-1]) - text.overall(result, names[0])
    return [
        difference(f"right over all categories, {large} against {small}", results.gain(encoder, 0 * encoder)),
        difference(
            f"that gain less the U-Net's ({names[-1]} against {names[0]}: {unet.mean():+.2f})",
            results.gain(encoder, unet),
        ),
    ]


def read_ways(result: dict[str, Any]) -> list[Finding]:
    """Attending to the sequence is better than a pooled vector alone."""
    kinds = [
        difference(
            f"right, {category}: sequence and pooled against pooled alone",
            results.gain(text.share(result, "both", category), text.share(result, "pooled", category)),
        )  # fmt: skip
        for category in ("one thing", "text-only word")
    ]
    losses = [(a["loss"], b["loss"]) for a, b in zip(text.of(result, "both"), text.of(result, "pooled"), strict=True)]
    return [*kinds, every_seed("validation loss", losses, ".4f")]


def read_skips(result: dict[str, Any]) -> list[Finding]:
    """Scaled skips learn faster: a lower loss after the same steps."""
    losses = [(a["loss"], b["loss"]) for a, b in zip(text.of(result, "1/√2"), text.of(result, "1"), strict=True)]
    return [every_seed("validation loss after the same steps, skips scaled by 1/√2 against not", losses, ".4f")]


def read_rivals(result: dict[str, Any]) -> list[Finding]:
    """The encoder that has read is better than each other way for text to come in, over all categories."""
    ours = text.overall(result, "t5-lite-base")
    return [
        difference(
            f"right over all categories, t5-lite against {name}", results.gain(ours, text.overall(result, rival))
        )
        for rival, name in text.RIVAL_NAMES.items()
    ]


def read_designs(result: dict[str, Any]) -> list[Finding]:
    """The Efficient U-Net does twice the steps in a second at least, and has learned more after the same time."""
    ours, classic = ([row for row in result["rows"] if row["variant"] == name] for name in network.DESIGNS)
    pairs = list(zip(ours, classic, strict=True))
    same = [network.at_the_same(a["curve"], b["curve"]) for a, b in pairs]
    return [
        every_seed("pictures a second, twice the classic's against the Efficient's",
                   [(2 * b["rate"], a["rate"]) for a, b in pairs], ".0f"),
        every_seed(f"validation loss after {network.MINUTES:g} minutes, Efficient against classic",
                   [(a["curve"][-1]["loss"], b["curve"][-1]["loss"]) for a, b in pairs], ".4f"),
        every_seed("after the same number of pictures", same, ".4f"),
    ]  # fmt: skip


def read_stages(result: dict[str, Any]) -> list[Finding]:
    """A cascade draws more that is right, and nearer to renders, than one stage trained as long."""
    by_way = {row["variant"]: row["judged"] for row in result["rows"]}
    right, far = {}, {}
    for way, rows in by_way.items():
        found = [{"rows": rows}]
        right[way] = np.concatenate([lab.hits(found, category, text.W) for category in text.CATEGORIES])
        far[way] = np.mean([row["distance"] for row in rows if row["weight"] == text.W])
    return [
        difference(
            "right over all categories, cascade against one stage", results.gain(right["cascade"], right["one stage"])
        ),
        every_seed("distance to renders, cascade against one stage", [(far["cascade"], far["one stage"])], ".1f"),
    ]


def augmentation() -> dict[str, Any]:
    """What `experiments.augmentation` measured of twins that go on from the shipped sr256 and of twins from nothing."""
    nothing = load_result("augmentation")
    return load_result("augmentation_on") | {
        "seeds": [0],
        "from_nothing": {key: nothing[key] for key in ("n", "gains")},
    }


def read_augmentation(result: dict[str, Any]) -> list[Finding]:
    """The twin trained with augmentation is nearer to renders, draws what captions say, answers to w."""
    twins = (("that go on", TWINS["shipped"], result), ("from nothing", TWINS["nothing"], result["from_nothing"]))
    gains = [
        difference(f"twins {which}, {given}, {told}", (gain, ends))
        for which, pair, measured in twins
        for given, told, gain, ends in nearer_by(pair, measured)
    ]
    gains += [difference(told, (gain, ends)) for told, gain, ends in heeded(result)]
    moved = {}
    for name, level in (("with", 0.3), ("without", 0.0)):
        way = ("samples", name, level)
        own = [r["frechet"] for r in result["rows"] if (r["input"], r["trained"], r["level"]) == way]
        moved[name] = max(own) - min(own)
    told = f"w moves the distance by {moved['with']:.2f} with it (level 0.3), by {moved['without']:.2f} without"
    return [*gains, Finding(told, moved["with"] > 3 * moved["without"])]


def read_metrics(result: dict[str, Any]) -> list[Finding]:
    """CLIP counts worse than it knows kinds and colours; a distance does not care for captions."""
    clip = {row["question"]: row["clip"] for row in result["clip"]}
    least = min(clip[name]["interval"][0] for name in ("which colour", "which kind"))
    count = clip["how many, 1 to 4"]
    ways = [row["ways"] for row in result["rows"]]
    plain, wrong = ([w[name] for w in ways] for name in ("as they are", "another's caption"))
    told = "{:.2f} [{:.2f}, {:.2f}]".format(count["right"], *count["interval"])
    return [
        Finding(f"CLIP-lite counts right {told}, kinds and colours at least {least:.2f}", count["interval"][1] < least),
        every_seed("aligned with another's caption against its own, at the same Fréchet distance",
                   [(b["aligned"], a["aligned"]) for a, b in zip(plain, wrong, strict=True)], ".2f"),
    ]  # fmt: skip


def read_simple(result: dict[str, Any]) -> list[Finding]:
    """No training diverged, and the loss is a few lines."""
    bad = [row["run"] for row in result["rows"] if row["diverged"]]
    return [
        Finding(f"{len(bad)} of {result['n']} trainings diverged ({', '.join(bad) or 'none'})", not bad),
        Finding(f"the loss has {result['loss_lines']} lines; the three stages differ in {', '.join(result['knobs'])}",
                result["loss_lines"] <= 10),
    ]  # fmt: skip


LAB = "small models of 32 px, one thing a picture"
CLAIMS = (
    Claim("trade-off", "Guidance trades fidelity for alignment", "§2.2, §4.4, Fig. 4",
          "the shipped base at seven weights", guidance.trade_off, read_trade_off, guidance.MODELS),
    Claim("thresholds", "Dynamic thresholding makes large guidance weights usable", "§2.3, Fig. 4c, A.8",
          "the shipped base, three ways at four weights", guidance.thresholds, read_thresholds, guidance.MODELS),
    Claim("direct", "Dynamic thresholding does so where a network answers with ε itself", "§2.3, Figs. 4c, A.8",
          LAB, direct.thresholds, read_direct),
    Claim("pre-training", "Frozen encoders that have read text alone serve text-to-image well", "§2.1, App. D.1",
          LAB, lambda: text.tried(text.variants(text.READ, seeds=text.THREE)), read_pretraining),
    Claim("sizes", "A larger encoder helps more than a larger U-Net", "§4.4, Fig. 4a, b",
          LAB, lambda: text.tried(text.variants(text.ENCODERS, text.UNETS, text.THREE)), read_sizes),
    Claim("augmentation", "Noise conditioning augmentation in training helps super-resolution", "§2.4, D.2, Fig. A.11",
          "twins of sr256, with and without, on the base's samples, and on JPEGs (these were added when the others' "
          "numbers were known; the verdict is the same without them)", augmentation, read_augmentation),
    Claim("rivals", "T5's text makes better pictures than the ways of others", "§4.2, Fig. 3, App. D.1",
          LAB, lambda: text.tried(text.variants(text.RIVALS)), read_rivals),
    Claim("sequence", "Attending to the text's sequence beats a pooled vector", "§4.4, Fig. A.13a",
          LAB, lambda: text.tried(text.variants((), text.WAYS)), read_ways),
    Claim("efficient", "The Efficient U-Net is 2 to 3 times as fast, and learns faster", "§2.5, B.1, Fig. A.14",
          "16 to 64 px, equal parameters, a core each", network.designs, read_designs),
    Claim("skips", "Skips scaled by 1/√2 learn faster", "§2.5, App. B.1",
          LAB, lambda: text.tried(text.variants((), text.SKIPS)), read_skips),
    Claim("cascade", "A cascade is better than one stage of the same compute", "§2.4, Cascaded Diffusion",
          "16 to 64 px against 64 px, a core for as long", network.stages, read_stages),
    Claim("metrics", "CLIP cannot count, and FID does not know what was asked", "§3, §6",
          "real renders, harmed on purpose", metrics.blindness, read_metrics, metrics.MODELS),
    Claim("simple", "The recipe is simple: one loss, few knobs", "§2.2, App. F",
          "the logs of all trainings here", simple.simplicity, read_simple, ()),
)  # fmt: skip


def verdicts() -> dict[str, str]:
    """What each claim says, and what came of it so far."""
    return {
        claim.says: claim.verdict(results.load(claim.name)) if tried(claim) else "not tried yet" for claim in CLAIMS
    }


def tried(claim: Claim) -> bool:
    """Whether a claim has a result."""
    return (results.FOLDER / f"{claim.name}.json").exists()


def as_text() -> str:
    """The ledger as a markdown table, of what has a result, and the figures that there are."""
    found = [claim for claim in CLAIMS if tried(claim)]
    rows = []
    for claim in found:
        result = results.load(claim.name)
        told = "; ".join(f"{f.told} ({'yes' if f.holds else 'no'})" for f in claim.read(result))
        seeds = len(result["seeds"])
        how = f"{claim.how}; n = {result['n']}, {seeds} seed{'s' * (seeds > 1)}"
        rows.append([f"**{claim.says}** ({claim.where})", how, told, claim.verdict(result)])
    shown = [f"![All claims and their verdicts](../data/readme/{BOARD.name})"]
    shown += [f"![{c.says}](../data/readme/{path_of(c.name).name})" for c in found if path_of(c.name).exists()]
    return "\n\n".join([table(["the paper's claim", "tried by", "found", "verdict"], rows), *shown])
