"""Draws one built-in face with Pillow: large, with soft shading, then reduced.

Parts are painted back to front; a part is a function of the sheet, the face's traits and the measures of its head.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageChops

from vaegan_kernels.data.drawn.face_head import Head, draw_behind, draw_hair, draw_hat, draw_skin
from vaegan_kernels.data.drawn.face_sheet import BLACK, Point, Sheet, shade
from vaegan_kernels.data.drawn.face_traits import Face, blend


def draw_beard(sheet: Sheet, face: Face, head: Head, mask: Image.Image) -> None:
    color = blend(face.hair_color, (30, 22, 20), 0.2)
    if face.beard:
        y, low = head.mouth_y, head.chin + 1 + 5 * face.beard_length
        w = head.w
        region = [
            (head.x - w - 1, head.eye_y + 7), (head.x - w * 0.8, head.eye_y + 9),
            (head.fx - 13, y - 3.5), (head.fx - 7, y - 4.5), (head.fx, y - 3.5), (head.fx + 7, y - 4.5), (head.fx + 13, y - 3.5),
            (head.x + w * 0.8, head.eye_y + 9), (head.x + w + 1, head.eye_y + 7), (head.x + w, head.chin + 4), (head.x - w, head.chin + 4),
        ]  # fmt: skip
        sheet.image.paste(color, (0, 0), ImageChops.multiply(sheet.mask(region), mask))
        sheet.ellipse(head.x, head.chin - 3, w * (0.42 + 0.25 * face.jaw), low - head.chin + 3, color)
        sheet.glow(head.fx + 6 * face.light, head.chin - 6, 14, 9, shade(color, 1.25), 0.35, mask)
        sheet.ellipse(head.fx, y + 0.6, face.mouth_width * 0.95, 4.2 + 1.6 * face.mouth_open, blend(face.skin, color, 0.35))
    if face.mustache:
        y, w = head.mouth_y - 4.6, face.mouth_width + 1.5
        lift = 1.4 * max(face.smile, 0.0)
        shape = [
            (-1.0, 0.0 - lift),
            (-0.55, -1.9),
            (-0.1, -2.4),
            (0.1, -2.4),
            (0.55, -1.9),
            (1.0, 0.6 - lift),
            (0.9, 2.4 - lift),
            (0.4, 1.6),
            (0.0, 1.0),
            (-0.4, 1.6),
            (-0.9, 2.4 - lift),
        ]
        sheet.polygon([(head.fx + dx * w, y + dy) for dx, dy in shape], shade(color, 0.9))


def draw_nose(sheet: Sheet, face: Face, head: Head, mask: Image.Image) -> None:
    x, y, w = head.fx + 1.2 * face.yaw, head.nose_y, face.nose_width
    dark = shade(blend(face.skin, (150, 60, 40), 0.18), 0.72)
    side = -1 if face.light > 0 else 1
    sheet.glow(x + side * w * 0.75, y - 3.5, w * 0.75, 8.0, dark, 0.7, mask)
    sheet.glow(x, y + 1.6, w * 1.25, 2.6, dark, 1.0)
    sheet.glow(x, y - 0.8, w * 0.95, 3.4, shade(face.skin, 1.3), 0.8)
    for sign in (-1, 1):
        sheet.ellipse(x + sign * w * 0.48, y + 1.5, 1.15, 0.8, shade(face.skin, 0.42))


def draw_mouth(sheet: Sheet, face: Face, head: Head) -> None:
    """Upper and lower lip as curves between the corners; open, there are teeth and a dark gap between them."""
    x, y, w = head.fx + 0.6 * face.yaw, head.mouth_y, face.mouth_width
    corner = -3.2 * face.smile
    gap = face.mouth_open * (3.4 if face.smile > 0.3 else 4.4)
    thick = 2.3 if face.lipstick else 1.6
    steps = [t / 6 for t in range(-6, 7)]

    def curve(offset: float, bulge: float) -> list[Point]:
        return [(x + w * t, y + corner * (t * t - 0.45) + (offset + bulge) * (1 - t * t)) for t in steps]

    upper = curve(-thick * 0.9, -gap * 0.25)
    upper[6] = (upper[6][0], upper[6][1] + 0.6)
    lower = curve(thick * 1.35, gap * 0.95)
    sheet.polygon(upper + lower[::-1], face.lip_color)
    if gap > 0:
        top, bottom = curve(0.1, -gap * 0.25), curve(-0.1, gap * 0.95)
        sheet.polygon(top + bottom[::-1], (78, 22, 26))
        teeth = curve(0.0, gap * (0.55 if face.smile > 0.3 else 0.1))
        sheet.polygon(top[1:-1] + teeth[-2:0:-1], (250, 248, 242))
    else:
        sheet.line(curve(0, 0), shade(face.lip_color, 0.5), 0.9)


def draw_eyes(sheet: Sheet, face: Face, head: Head) -> None:
    rx, ry = face.eye_size, face.eye_size * face.eye_open * 0.95
    lid = shade(blend(face.skin, (120, 60, 50), 0.3), 0.62)
    brow = blend(face.hair_color, (40, 28, 22), 0.45 if face.hair != "Gray_Hair" else 0.2)
    for sign, x in ((-1, head.left_x), (1, head.right_x)):
        y = head.eye_y
        sheet.glow(x, y - 0.6, rx + 2.6, ry + 3.4, lid, 0.55)
        sheet.ellipse(x, y, rx, ry, (246, 244, 240))
        gx = x + 1.3 * face.gaze + 0.5 * face.yaw
        iris = min(ry * 1.02, rx * 0.62)
        sheet.ellipse(gx, y, iris, iris, face.iris)
        sheet.ellipse(gx, y, iris * 0.5, iris * 0.5, BLACK)
        sheet.ellipse(gx + 0.9, y - 0.9, 0.75, 0.75, (255, 255, 255))
        lash = 1.7 if face.lipstick else 1.15
        sheet.line(
            [
                (x - rx - 0.3, y + 0.5),
                (x - rx * 0.6, y - ry * 0.75),
                (x, y - ry - 0.1),
                (x + rx * 0.6, y - ry * 0.75),
                (x + rx + 0.3, y + 0.5),
            ],
            (34, 24, 24),
            lash,
        )
        thick = 3.3 if face.bushy else 1.7
        by = head.brow_y
        inner, outer = x - sign * (rx + 0.6), x + sign * (rx + 1.6)
        sheet.line(
            [(inner, by + 0.9 + face.brow_tilt), (x, by - 0.7), (x + sign * rx * 0.7, by - 0.8), (outer, by + 1.3 - face.brow_tilt * 0.4)],
            brow,
            thick,
        )


def draw_worn(sheet: Sheet, face: Face, head: Head) -> None:
    """Glasses or sunglasses, and earrings."""
    if face.eyewear:
        k = sheet.k
        color = face.frame_color if face.eyewear == 1 else BLACK
        rx = face.eye_gap * 0.80
        ry = rx * (0.68 + 0.22 * face.frame_round)
        y = head.eye_y + 0.8
        radius = (0.35 + 0.45 * face.frame_round) * ry * k  # a little less than half: Pillow fails on full half-circles
        for sign, x in ((-1, head.left_x), (1, head.right_x)):
            sheet.line([(x + sign * rx, y - 1.5), (head.x + sign * head.w, y - 1)], color, 1.5)
            if face.eyewear == 2:
                sheet.pen.rounded_rectangle(sheet.box(x, y, rx, ry), radius, fill=(24, 24, 32))
                sheet.glow(x + 2.5 * face.light, y - ry * 0.4, rx * 0.6, ry * 0.45, (120, 130, 150), 0.7)
            else:
                sheet.pen.rounded_rectangle(sheet.box(x, y, rx, ry), radius, outline=color, width=max(1, round(1.5 * k)))
        sheet.line([(head.left_x + rx - 0.5, y - 1.2), (head.right_x - rx + 0.5, y - 1.2)], color, 1.6)
    if face.earrings:
        for sign in (-1, 1):
            x = head.x + sign * (head.w + 0.8)
            sheet.ellipse(x, head.eye_y + 14.5, 2.7, 3.4, shade(face.earring_color, 0.7))
            sheet.ellipse(x - 0.4, head.eye_y + 14, 2.2, 2.9, face.earring_color)


def draw_face(face: Face, image_size: int, channels: int) -> np.ndarray:
    """Draw ``face``.

    Args:
        face: the traits.
        image_size: pixels a side of the result.
        channels: 1 (grey) or 3 (RGB).

    Returns:
        uint8 [image_size, image_size, channels].
    """
    over = max(2, math.ceil(96 / image_size))  # drawn at 96 pixels or more a side
    drawn = image_size * over
    sheet = Sheet(drawn / 100.0, face.backdrop)
    head = Head(face)
    draw_behind(sheet, face, head)
    mask = draw_skin(sheet, face, head)
    draw_beard(sheet, face, head, mask)
    draw_nose(sheet, face, head, mask)
    draw_mouth(sheet, face, head)
    draw_eyes(sheet, face, head)
    draw_hair(sheet, face, head)
    draw_hat(sheet, face, head)
    draw_worn(sheet, face, head)
    return _reduced(sheet, face, drawn, over, channels)


def _reduced(sheet: Sheet, face: Face, drawn: int, over: int, channels: int) -> np.ndarray:
    """Turn, shift and zoom in one affine map from the result to the sheet, then average ``over`` x ``over`` pixels."""
    angle = math.radians(face.roll)
    c, s = math.cos(angle) / face.zoom, math.sin(angle) / face.zoom
    middle, half = sheet.size / 2, drawn / 2
    tx, ty = half + face.shift[0] * sheet.k, half + face.shift[1] * sheet.k
    matrix = (c, s, middle - c * tx - s * ty, -s, c, middle + s * tx - c * ty)
    smooth = Image.Resampling.NEAREST if over > 2 else Image.Resampling.BILINEAR  # the average below smooths enough
    turned = sheet.image.transform((drawn, drawn), Image.Transform.AFFINE, matrix, smooth)
    small = turned.reduce(over)
    pixels = np.asarray(small if channels == 3 else small.convert("L"))
    return pixels.reshape(pixels.shape[0], pixels.shape[1], channels)
