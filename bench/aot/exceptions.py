"""Kernels that may break a rule of bench.aot.rules, each with its reason. One that nothing needs any more fails the check."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import NamedTuple


class Exemption(NamedTuple):
    """Patterns (`fnmatch`) of the key after chip and precision, of the chip and of the precision; the rule; why.

    ``everywhere``: needed by the kernels of CI, not only by those of --all.
    """

    kernel: str
    chip: str
    precision: str
    rule: str
    reason: str
    everywhere: bool = True

    def covers(self, key: str, chip: str, precision: str) -> bool:
        name = key.split(" ", 2)[2]
        return fnmatchcase(name, self.kernel) and fnmatchcase(chip, self.chip) and fnmatchcase(precision, self.precision)


SHORT = "the summed axis has one to three steps: every copy is made before the loop"
NARROW_TILE = "a tile of 16 weight columns is 8 bytes for each thread"
FEW_COLUMNS = "a tile of 32 weight columns in float32 is 8 bytes for each of 256 threads"
K_INNERMOST = (
    "wgmma reads tf32 only with the summed axis innermost, and in a weight gradient it is outermost in both operands: the copies "
    "transpose, 4 bytes at a time"
)

PIXEL = "a pixel of four channels is 8 bytes, which half the products and half the copy of the image are worth"
COEFFICIENTS = "three numbers a channel, of a batch norm whose backward is applied at the load: 384 bytes a step beside 16 kB"
FEW_ROWS = "fewer than 64 columns, and wgmma has 64 rows: the product cannot be computed transposed"

EXCEPTIONS: tuple[Exemption, ...] = (
    Exemption("random.cu:gather_batch *", "*", "*", "vectors", "mirrored pixels of three bytes are not in pieces of 16; 2 MB a step"),
    Exemption("random.cu:augment_batch*", "*", "*", "vectors", "four neighbours anywhere in an image, three bytes each; 2 MB a step"),
    Exemption("random.cu:normal ACT_BF16", "*", "bf16", "vectors", "a thread draws four numbers, 8 bytes; only with --dis-noise"),
    Exemption("parts.cu:*", "*", "*", "vectors", "a megabyte at most, once a step and each way; of other layers thousandths of it"),
    Exemption("decoder/fc linear_bn_relu_forward *", "sm_90", "bf16", "asynchronous", SHORT),
    Exemption("encoder/mu linear_dgrad *", "sm_90", "bf16", "asynchronous", SHORT),
    Exemption("regressor/output linear_dgrad *", "sm_90", "bf16", "asynchronous", SHORT),
    Exemption("classifier/output linear_dgrad *", "sm_80", "bf16", "asynchronous", SHORT),
    Exemption("classifier/output linear_wgrad *", "*", "bf16", "whole words", "the error of ten classes: 20 bytes an image"),
    Exemption("discriminator/output linear_dgrad *", "sm_8?", "bf16", "asynchronous", SHORT),
    Exemption("discriminator/output linear_wgrad *", "*", "*", "whole words", "the logit's error has one column: 2 or 4 bytes an image"),
    Exemption("discriminator/output linear_forward *", "sm_75", "float32", "whole words", NARROW_TILE),
    Exemption("decoder/up3 upconv_bn_relu_forward *", "sm_75", "float32", "whole words", FEW_COLUMNS),
    Exemption("* few_outputs*", "sm_90", "*", "shared operands", FEW_ROWS),
    Exemption("*/output linear_forward *", "sm_90", "*", "shared operands", FEW_ROWS),
    Exemption("decoder/up3 upconv_bn_relu_forward *", "sm_90", "tf32", "shared operands", FEW_ROWS),
    Exemption("discriminator/conv2 conv2d_bn_relu_backward *", "sm_90", "tf32", "shared operands", FEW_ROWS),
    Exemption("*conv*_bn_relu_backward * convolve", "sm_8[679]", "bf16", "whole words", COEFFICIENTS),
    Exemption("* image_*", "*", "bf16", "whole words", PIXEL),
    Exemption("* image_* (small32)*", "*", "bf16", "asynchronous", f"{PIXEL}; and {NARROW_TILE}", everywhere=False),
    Exemption("* image_wgrad*", "sm_90", "tf32", "asynchronous", K_INNERMOST),
    Exemption("* image_wgrad*", "sm_90", "tf32", "whole words", K_INNERMOST),
    Exemption("* wgrad_rmsprop*", "sm_90", "tf32", "asynchronous", K_INNERMOST),
    Exemption("* wgrad_rmsprop*", "sm_90", "tf32", "whole words", K_INNERMOST),
    Exemption("discriminator/output linear_wgrad *", "sm_90", "tf32", "asynchronous", K_INNERMOST),
)
