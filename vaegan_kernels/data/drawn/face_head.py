"""The head of a built-in face: its measures, neck and clothes, skin, hair and hat."""

from __future__ import annotations

import math

from PIL import Image, ImageChops

from vaegan_kernels.data.drawn.face_sheet import POINTS, TURN, Point, Sheet, rim_mask, shade
from vaegan_kernels.data.drawn.face_traits import Face, blend


class Head:
    """Where things are on this head, in units."""

    def __init__(self, face: Face) -> None:
        self.x, self.y = 50.0, 50.0
        self.w, self.h = face.half_width, face.half_height
        self.fx = self.x + face.yaw * 3.4  # the middle line of the features: turning moves them further than the outline
        self.eye_y = self.y - 1.5 + face.pitch * 1.8
        self.left_x, self.right_x = self.fx - face.eye_gap * (1 + 0.07 * face.yaw), self.fx + face.eye_gap * (1 - 0.07 * face.yaw)
        self.brow_y = self.eye_y - face.eye_size * 0.78 - 3.2
        self.nose_y = self.eye_y + face.nose_length
        self.mouth_y = self.nose_y + 8.6
        self.top = self.y - self.h
        self.chin = self.y + self.h
        self.hairline_y = self.top + 7.5 + 5.0 * face.hairline + face.pitch

    def outline(self, jaw: float) -> list[Point]:
        """Round above, a jaw below: the width of the lower half falls off as a power that the jaw sets."""
        points = []
        for c, s in TURN:
            if s <= 0:
                points.append((self.x + self.w * c, self.y + self.h * 0.98 * s))
            else:
                side = math.copysign(abs(c) ** (1.12 - 0.46 * jaw), c)
                points.append((self.x + self.w * side * (1 - 0.12 * s), self.y + self.h * s))
        return points


def draw_behind(sheet: Sheet, face: Face, head: Head) -> None:
    """Hair that falls behind the neck, then the neck and the clothes."""
    if face.long_hair:
        color = shade(face.hair_color, 0.72)
        w = head.w + face.volume * 0.9 + 2
        side = [
            (head.x - w, head.y - 8),
            (head.x - w - 1, head.y + 20),
            (head.x - w + 1, 104),
            (head.x + w - 1, 104),
            (head.x + w + 1, head.y + 20),
            (head.x + w, head.y - 8),
        ]
        sheet.polygon(side, color)
        sheet.ellipse(head.x, head.y - 6, w, head.h, color)
        if face.wavy:
            for i in range(7):
                for sign in (-1, 1):
                    sheet.ellipse(head.x + sign * (w - 0.5), head.y - 6 + 9 * i, 4.2, 5.6, color)
    dark = shade(face.skin, 0.8)
    neck = head.w * (0.44 + 0.1 * face.jaw)
    sheet.polygon([(head.x - neck, head.y + 10), (head.x + neck, head.y + 10), (head.x + neck + 2, 104), (head.x - neck - 2, 104)], dark)
    body = face.clothes
    sheet.ellipse(head.x, 118, 47, 30, body)
    sheet.glow(head.x - 20 * face.light, 104, 34, 20, shade(body, 1.25), 0.45)
    if face.collar == 0:
        sheet.ellipse(head.x, 88, neck + 3, 8, dark)
    elif face.collar == 1:
        sheet.polygon([(head.x - neck - 4, 88), (head.x, 102), (head.x + neck + 4, 88), (head.x, 84)], dark)
        sheet.polygon([(head.x - neck - 5, 86), (head.x - 1, 103), (head.x - 10, 104)], shade(body, 1.3))
        sheet.polygon([(head.x + neck + 5, 86), (head.x + 1, 103), (head.x + 10, 104)], shade(body, 1.3))
    else:
        sheet.ellipse(head.x, 94, neck + 4, 9, shade(body, 0.8))
    if not face.bald:
        w = head.w + face.volume * 0.6
        sheet.ellipse(head.x, head.top + head.h * 0.55, w, head.h * 0.62 + face.volume * 0.4, shade(face.hair_color, 0.85))


def draw_skin(sheet: Sheet, face: Face, head: Head) -> Image.Image:
    """Ears and head with light from one side and a shaded rim. Returns the head's mask."""
    for sign in (-1, 1):
        x = head.x + sign * head.w * (0.99 - 0.05 * sign * face.yaw)
        sheet.ellipse(x, head.eye_y + 5, 3.6, 6.4, shade(face.skin, 0.86))
        sheet.ellipse(x, head.eye_y + 5, 1.7, 3.8, shade(face.skin, 0.7))
    outline = head.outline(face.jaw)
    mask = sheet.mask(outline)
    sheet.image.paste(face.skin, (0, 0), mask)
    left, top, right, bottom = (round(v) for v in sheet.box(head.x + 2.5 * face.light, head.y, head.w + 3, head.h + 3))
    rim = ImageChops.multiply(
        rim_mask().resize((right - left, bottom - top), Image.Resampling.NEAREST), mask.crop((left, top, right, bottom))
    )
    sheet.image.paste(shade(blend(face.skin, (150, 60, 40), 0.2), 0.52), (left, top, right, bottom), rim)
    sheet.glow(head.x + face.light * 10, head.y - 10, 22, 24, shade(face.skin, 1.32), 0.6, mask)
    cheek = (236, 84, 92) if face.rosy else blend(face.skin, (220, 96, 80), 0.4)
    for x in (head.left_x - 3.5, head.right_x + 3.5):
        sheet.glow(x, head.nose_y + 1.0, 9, 7.5, cheek, 0.85 if face.rosy else 0.3, mask)
    return mask


def draw_hair(sheet: Sheet, face: Face, head: Head) -> None:
    """The cap of hair between the outer line and the hairline, with strands; curtains at both sides where it is long."""
    if face.bald:
        sheet.glow(head.x + 8 * face.light, head.top + 9, 11, 7, (255, 255, 255), 0.45)
        return
    color, v = face.hair_color, face.volume
    w, x = head.w + v * 0.55, head.x
    temple = head.eye_y - 1
    crown = head.top - v
    outer = [(x + w * c, temple + (temple - crown) * s) for c, s in TURN[POINTS // 2 :]] + [(x + w, temple)]
    side = head.w * 0.9
    tip = head.fx + face.part * head.w * 0.55
    if face.bangs:
        y = head.brow_y - 0.5
        sweep = 3.0 * face.part
        line = [
            (x + side, temple + 4),
            (x + side * 0.93, y + 2),
            (tip + side * 0.5, y - sweep),
            (tip, y - 1.0),
            (tip - side * 0.5, y + sweep),
            (x - side * 0.93, y + 2),
            (x - side, temple + 4),
        ]
    else:
        y = head.hairline_y
        line = [
            (x + side, temple + 5), (x + side * 0.9, temple - 5), (head.fx + side * 0.74, (temple + 2 * y) / 3 - 1.5),
            (tip + side * 0.32, y + 0.8), (tip, y - 1.6), (tip - side * 0.32, y + 0.8),
            (head.fx - side * 0.74, (temple + 2 * y) / 3 - 1.5), (x - side * 0.9, temple - 5), (x - side, temple + 5),
        ]  # fmt: skip
    if face.wavy:
        for c, s in TURN[POINTS // 2 :: 3]:
            sheet.ellipse(x + w * c, temple + (temple - crown) * s, 4.6, 4.6, color)
    if face.long_hair:
        for sign in (-1, 1):
            inner, out = x + sign * head.w * (0.88 if face.bangs else 0.84), x + sign * (w + 1)
            low = head.chin + 10
            sheet.polygon(
                [
                    (out, temple - 2),
                    (out + sign * 1.5, head.y + 18),
                    (out - sign * 1.0, low),
                    (inner + sign * 1.5, low - 2),
                    (inner + sign * 2.6, head.y + 20),
                    (inner, temple - 6),
                ],
                color,
            )
            if face.wavy:
                for i in range(5):
                    sheet.ellipse(out, temple + 5 + 10 * i, 3.8, 5.0, color)
    sheet.polygon(outer + line, color)
    strand = shade(color, 0.72)
    for i in range(-3, 4):
        bend = 3.0 if face.wavy and i % 2 else 0.0
        top_x, low_x = tip + i * 2.4, x + i * w * 0.29
        low_y = (head.brow_y - 3 if face.bangs else head.hairline_y - 1) if abs(i) < 3 else temple - 3
        sheet.line([(top_x, crown + 1.5), ((top_x + low_x) / 2 + bend + i, (crown * 1.2 + low_y * 0.8) / 2), (low_x, low_y)], strand, 0.6)
    sheet.glow(x + 11 * face.light, crown + 7.5, 15, 5.5, shade(color, 1.45), 0.5)


def draw_hat(sheet: Sheet, face: Face, head: Head) -> None:
    if face.hat == 0:
        return
    color, x = face.hat_color, head.x
    w, top, rim = head.w + face.volume * 0.5 + 1.5, head.top - face.volume - 2, head.brow_y - 5.5
    dome = [(x + w * c, rim + (rim - top) * s) for c, s in TURN[POINTS // 2 :]] + [(x + w, rim)]
    sheet.polygon(dome, color)
    sheet.glow(x + 10 * face.light, top + 9, 17, 10, shade(color, 1.4), 0.5)
    if face.hat == 1:
        sheet.polygon([(x - w - 1, rim - 4), (x + w + 1, rim - 4), (x + w + 1, rim + 3.5), (x - w - 1, rim + 3.5)], shade(color, 0.72))
        sheet.ellipse(x, top - 1, 5, 5, shade(color, 1.3))
    elif face.hat == 2:
        bill = head.fx + face.yaw * 6
        sheet.ellipse(bill, rim + 1.2, w * 0.9, 4.6, shade(color, 0.6))
        sheet.line([(x, top), (x, rim - 3)], shade(color, 0.75), 0.8)
    else:
        sheet.ellipse(x, rim + 0.5, w + 14, 5.2, shade(color, 0.82))
        sheet.polygon([(x - w, rim - 6), (x + w, rim - 6), (x + w, rim - 1.5), (x - w, rim - 1.5)], shade(color, 0.45))
