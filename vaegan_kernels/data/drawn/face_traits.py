"""What a built-in face looks like: traits drawn from (seed, index), and the binary attributes that can be seen in the picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Color = tuple[int, int, int]

ATTRIBUTE_NAMES = (
    "Bald", "Bangs", "Beard", "Black_Hair", "Blond_Hair", "Brown_Hair", "Bushy_Eyebrows", "Dark_Skin", "Eyeglasses", "Gray_Hair",
    "Long_Hair", "Mouth_Slightly_Open", "Mustache", "Narrow_Eyes", "Oval_Face", "Pale_Skin", "Red_Hair", "Rosy_Cheeks", "Smiling",
    "Sunglasses", "Wavy_Hair", "Wearing_Earrings", "Wearing_Hat", "Wearing_Lipstick",
)  # fmt: skip

_SKIN: tuple[Color, ...] = (
    (253, 228, 208),
    (242, 202, 170),
    (228, 178, 140),
    (206, 150, 110),
    (168, 114, 78),
    (130, 85, 58),
    (100, 65, 46),
)
_HAIR: dict[str, tuple[Color, Color]] = {
    "Black_Hair": ((20, 17, 20), (46, 38, 40)),
    "Brown_Hair": ((82, 48, 26), (124, 78, 44)),
    "Blond_Hair": ((216, 172, 84), (246, 216, 140)),
    "Red_Hair": ((168, 62, 22), (206, 92, 38)),
    "Gray_Hair": ((150, 150, 156), (212, 212, 214)),
}
_IRIS: tuple[Color, ...] = ((66, 38, 22), (112, 70, 36), (58, 122, 196), (86, 136, 82))
_CLOTHES: tuple[Color, ...] = (
    (52, 70, 120), (158, 44, 52), (56, 112, 84), (228, 224, 214), (42, 44, 52), (210, 152, 60), (114, 84, 144), (92, 150, 186),
    (214, 122, 136),
)  # fmt: skip
_BACKGROUND: tuple[Color, ...] = (
    (150, 190, 220), (208, 202, 190), (126, 154, 128), (98, 108, 130), (224, 198, 168), (178, 162, 194), (80, 128, 150), (234, 232, 226),
    (58, 60, 72),
)  # fmt: skip
_FRAMES: tuple[Color, ...] = ((28, 26, 30), (96, 52, 28), (150, 36, 44), (60, 66, 90))
_EARRINGS: tuple[Color, ...] = ((250, 214, 90), (240, 244, 250), (70, 200, 190), (230, 70, 80))


class Draws:
    """A stream of uniform numbers that is a pure function of (seed, index).

    Only the raw words of NumPy's Philox bit generator are used: the algorithm fixes them, whereas NumPy may change how its
    distributions use them.
    """

    def __init__(self, seed: int, index: int) -> None:
        key = np.array([seed & 0xFFFFFFFFFFFFFFFF, index], dtype=np.uint64)
        words = np.random.Philox(key=key).random_raw(128) >> np.uint64(11)
        self._values = iter((words * 2.0**-53).tolist())

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * next(self._values)

    def around(self, center: float, spread: float) -> float:
        """Triangular around ``center``, never further than ``spread``."""
        return center + spread * (next(self._values) + next(self._values) - 1.0)

    def chance(self, probability: float) -> bool:
        return next(self._values) < probability

    def weighted(self, *weights: float) -> int:
        mark = next(self._values) * sum(weights)
        for i, weight in enumerate(weights):
            mark -= weight
            if mark < 0:
                return i
        return len(weights) - 1

    def pick(self, values: tuple[Color, ...]) -> Color:
        return values[int(next(self._values) * len(values))]


def blend(a: Color, b: Color, t: float) -> Color:
    """``a`` at t = 0, ``b`` at t = 1."""
    return (round(a[0] + (b[0] - a[0]) * t), round(a[1] + (b[1] - a[1]) * t), round(a[2] + (b[2] - a[2]) * t))


@dataclass(frozen=True)
class Face:
    """Everything the drawing needs. Lengths are in hundredths of the visible picture's width."""

    # pose
    shift: tuple[float, float]
    zoom: float
    roll: float  # degrees
    yaw: float  # -1 turned to the left, 1 to the right
    pitch: float  # -1 up, 1 down
    light: float  # -1 from the left, 1 from the right
    # head
    half_width: float
    half_height: float
    jaw: float  # 0 pointed, 1 square
    skin_tone: int
    skin: Color
    rosy: bool
    # hair
    hair: str  # a hair colour among ATTRIBUTE_NAMES
    hair_color: Color
    bald: bool
    long_hair: bool
    bangs: bool
    wavy: bool
    volume: float
    hairline: float
    part: float
    # features
    iris: Color
    eye_gap: float
    eye_size: float
    eye_open: float
    gaze: float
    brow_tilt: float
    bushy: bool
    nose_length: float
    nose_width: float
    mouth_width: float
    smile: float  # -0.25 a little sad .. 1 a broad smile
    mouth_open: float
    lipstick: bool
    lip_color: Color
    mustache: bool
    beard: bool
    beard_length: float
    # worn
    eyewear: int  # 0 none, 1 glasses, 2 sunglasses
    frame_color: Color
    frame_round: float
    hat: int  # 0 none, 1 woollen, 2 cap, 3 brimmed
    hat_color: Color
    earrings: bool
    earring_color: Color
    clothes: Color
    collar: int  # 0 round, 1 shirt, 2 high
    backdrop: tuple[Color, Color, Color, Color]  # the corners of a soft gradient

    def attributes(self) -> list[int]:
        """+1 or -1 for each of `ATTRIBUTE_NAMES`: what can be seen in the picture."""
        seen = {
            self.hair: not self.bald, "Bald": self.bald, "Bangs": self.bangs, "Beard": self.beard,
            "Bushy_Eyebrows": self.bushy and self.eyewear < 2, "Dark_Skin": self.skin_tone >= 5, "Eyeglasses": self.eyewear > 0,
            "Long_Hair": self.long_hair, "Mouth_Slightly_Open": self.mouth_open > 0, "Mustache": self.mustache,
            "Narrow_Eyes": self.eye_open < 0.55 and self.eyewear < 2, "Oval_Face": self.jaw < 0.4, "Pale_Skin": self.skin_tone == 0,
            "Rosy_Cheeks": self.rosy, "Smiling": self.smile > 0.3, "Sunglasses": self.eyewear == 2,
            "Wavy_Hair": self.wavy and (self.long_hair or not self.hat),
            "Wearing_Earrings": self.earrings, "Wearing_Hat": self.hat > 0, "Wearing_Lipstick": self.lipstick,
        }  # fmt: skip
        return [1 if seen.get(name, False) else -1 for name in ATTRIBUTE_NAMES]


def draw_traits(seed: int, index: int) -> Face:
    """The face number ``index`` of the set ``seed``.

    Traits lean together as they do among people (long hair with lipstick, say), but never wholly.
    """
    d = Draws(seed, index)
    lean = d.uniform()  # towards long hair, lipstick, earrings at 1; towards beards and short hair at 0
    tone = d.weighted(3, 4, 3, 3, 2, 2, 2)
    skin = _SKIN[tone] if tone == 0 else blend(_SKIN[tone], _SKIN[tone - 1], d.uniform(0, 0.35))
    dark = 1.0 + 0.5 * (tone >= 4)
    hair = ("Black_Hair", "Brown_Hair", "Blond_Hair", "Red_Hair", "Gray_Hair")[
        d.weighted(2.2 * dark, 2.2, 2.2 / dark**3, 1.0 / dark**3, 1.4)
    ]
    hat = (0, 1, 2, 3)[d.weighted(0.86, 0.05, 0.05, 0.04)]
    bald = hat == 0 and lean < 0.6 and d.chance(0.17)
    long_hair = not bald and d.chance(0.12 + 0.75 * (lean > 0.45))
    bangs = not bald and hat == 0 and d.chance(0.28)
    wavy = not bald and d.chance(0.3)
    beard = lean < 0.5 and d.chance(0.36)
    mustache = (beard and d.chance(0.75)) or (lean < 0.5 and d.chance(0.14))
    lipstick = lean > 0.5 and d.chance(0.55)
    smiling = d.chance(0.5)
    opened = d.chance(0.6) if smiling else d.chance(0.18)
    lips = blend(skin, (176, 70, 70), 0.5) if not lipstick else blend((206, 24, 52), (168, 20, 84), d.uniform())
    eyewear = d.weighted(0.76, 0.17, 0.07)
    base, other = d.pick(_BACKGROUND), d.pick(_BACKGROUND)
    corners = [
        blend(blend(base, other, d.uniform(0, 0.6)), (255, 255, 255) if d.chance(0.5) else (20, 20, 30), d.uniform(0, 0.18))
        for _ in range(4)
    ]
    return Face(
        shift=(d.around(0, 3.5), d.around(0, 3.0)),
        zoom=d.around(1.14, 0.08),
        roll=d.around(0, 8),
        yaw=d.around(0, 1.0),
        pitch=d.around(0, 1.0),
        light=d.uniform(-1, 1),
        half_width=d.around(25.5, 2.6),
        half_height=d.around(34, 2.6),
        jaw=d.uniform(0, 1),
        skin_tone=tone,
        skin=skin,
        rosy=tone < 5 and d.chance(0.18),
        hair=hair,
        hair_color=blend(*_HAIR[hair], d.uniform()),
        bald=bald,
        long_hair=long_hair,
        bangs=bangs,
        wavy=wavy,
        volume=d.uniform(3.5, 8.5),
        hairline=d.uniform(0.0, 1.0),
        part=d.uniform(-0.7, 0.7),
        iris=_IRIS[d.weighted(3, 2, 2, 1)] if tone < 4 else _IRIS[d.weighted(4, 1)],
        eye_gap=d.around(10.8, 1.0),
        eye_size=d.around(5.4, 0.7),
        eye_open=d.uniform(0.6, 0.8) if d.chance(0.85) else d.uniform(0.38, 0.46),
        gaze=d.around(0, 1.0),
        brow_tilt=d.around(0, 1.4),
        bushy=d.chance(0.25),
        nose_length=d.around(12, 2.0),
        nose_width=d.around(4.6, 1.1),
        mouth_width=d.around(9.6, 1.4) + 2.4 * smiling,
        smile=d.uniform(0.6, 1.0) if smiling else d.uniform(-0.25, 0.12),
        mouth_open=d.uniform(0.55, 1.0) if opened else 0.0,
        lipstick=lipstick,
        lip_color=lips,
        mustache=mustache,
        beard=beard,
        beard_length=d.uniform(0.0, 1.0),
        eyewear=eyewear,
        frame_color=d.pick(_FRAMES),
        frame_round=d.uniform(0, 1),
        hat=hat,
        hat_color=d.pick(_CLOTHES),
        earrings=lean > 0.5 and d.chance(0.4),
        earring_color=d.pick(_EARRINGS),
        clothes=d.pick(_CLOTHES),
        collar=d.weighted(2, 1, 1),
        backdrop=(corners[0], corners[1], corners[2], corners[3]),
    )
