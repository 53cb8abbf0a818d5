"""The paints of things: colours in linear RGB."""

Rgb = tuple[float, float, float]

# The paint of each colour, and the second tone of the same hue that patterns are made with.
TONES: dict[str, tuple[Rgb, Rgb]] = {
    "red": ((0.66, 0.022, 0.022), (0.28, 0.006, 0.012)),
    "orange": ((0.93, 0.20, 0.008), (0.58, 0.085, 0.004)),
    "yellow": ((0.93, 0.66, 0.03), (0.72, 0.40, 0.01)),
    "green": ((0.025, 0.40, 0.085), (0.008, 0.16, 0.04)),
    "blue": ((0.02, 0.105, 0.66), (0.008, 0.035, 0.27)),
    "purple": ((0.235, 0.035, 0.50), (0.09, 0.012, 0.21)),
    "pink": ((0.92, 0.20, 0.42), (0.62, 0.08, 0.23)),
    "white": ((0.88, 0.87, 0.84), (0.50, 0.50, 0.51)),
}
FIXED = {"bark": (0.16, 0.085, 0.045), "dark": (0.045, 0.04, 0.045), "cream": (0.80, 0.70, 0.52),
         "carrot": (0.85, 0.23, 0.03), "steel": (0.45, 0.47, 0.50)}  # fmt: skip
PATTERN_CODES = {"plain": 0, "striped": 1, "dotted": 2, "checkered": 3}
PERIOD = 0.15  # of a pattern, in the thing's own units


def paint_tones(color: str, paint: str) -> tuple[Rgb, Rgb]:
    """First and second tone of a part's paint on a thing of this colour."""
    if paint == "body":
        return TONES[color]
    if paint == "shade":
        r, g, b = TONES[color][1]
        return (r, g, b), (r, g, b)
    return FIXED[paint], FIXED[paint]


def ink(color: str) -> Rgb:
    """The colour of a letter: cream on dark paints, near black on light ones."""
    return (0.03, 0.03, 0.05) if color in ("white", "yellow") else (0.90, 0.86, 0.74)
