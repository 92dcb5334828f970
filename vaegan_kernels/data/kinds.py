"""Which files are pictures: by their endings, or by their first bytes where the ending says nothing; what is nobody's picture."""

from __future__ import annotations

import os
from functools import cache
from importlib.util import find_spec

from PIL import Image

#: Plug-ins of Pillow for the formats that are read, whatever a file's name. None starts another program, as those for PostScript do.
_PLUGINS = ("Jpeg", "Mpo", "Png", "WebP", "Bmp", "Gif", "Tiff", "Ppm", "Jpeg2K", "Avif", "Tga", "Pcx", "Qoi", "Sgi", "Dds", "Ico", "Psd")
#: The formats, as Pillow calls them, and the endings of their files.
_ENDINGS = {
    "JPEG": ".jpg .jpeg .jpe .jfif", "PNG": ".png .apng", "WEBP": ".webp", "BMP": ".bmp .dib", "GIF": ".gif", "TIFF": ".tif .tiff",
    "PPM": ".ppm .pgm .pbm .pnm", "JPEG2000": ".jp2 .j2k .jpx", "AVIF": ".avif .avifs", "TGA": ".tga", "PCX": ".pcx", "QOI": ".qoi",
    "SGI": ".sgi", "DDS": ".dds", "ICO": ".ico", "PSD": ".psd", "HEIF": ".heic .heif .hif",
}  # fmt: skip
#: Endings of pictures that are never read, with what would help.
_OTHERS = {
    **dict.fromkeys((".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raf", ".pef"), "save them as JPEG or PNG"),
    **dict.fromkeys((".svg", ".svgz", ".eps", ".ai", ".xcf", ".exr", ".hdr", ".jxl"), "save them as PNG"),
}
_PACKAGES = {"HEIF": "pip install pillow-heif", "AVIF": "pip install -U pillow", "WEBP": "this Pillow was built without WebP"}

#: Files and folders that systems and archivers leave about.
_JUNK = frozenset(
    ("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "system volume information", "@eadir", "lost+found")
)


def is_junk(name: str) -> bool:
    """Whether a file or folder of this name (without its folder) is hidden or a system's own."""
    return name.startswith(".") or name.lower() in _JUNK


@cache
def formats() -> tuple[str, ...]:
    """Formats that can be read here, as Pillow calls them; HEIF where the package pillow-heif is installed."""
    for name in _PLUGINS:
        try:
            __import__(f"PIL.{name}ImagePlugin")
        except ImportError:
            continue  # an older Pillow has no such plug-in
    if find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in ("DIB", *_ENDINGS) if name in Image.OPEN)


@cache
def endings() -> frozenset[str]:
    """Endings of the files that are taken for pictures unopened, in small letters."""
    return frozenset(ending for name, listed in _ENDINGS.items() if name in formats() for ending in listed.split())


def picture_kind(path: str) -> str | None:
    """None for a picture that can be read, "" for no picture, else what kind of picture it is, and what would read it.

    A file with an ending that is not known is opened for its first bytes. Raises OSError.
    """
    ending = os.path.splitext(path)[1].lower()
    if ending in endings():
        return None
    if ending in _OTHERS:
        return f"the ending {ending} ({_OTHERS[ending]})"
    what = f"the ending {ending}" if ending else "no ending"
    found = next((name for name, listed in _ENDINGS.items() if ending in listed.split()), "")
    if not found:
        with open(path, "rb") as stream:
            found = format_of(stream.read(32))
        what += f", {found} inside"
    if not found or found in formats():
        return None if found else ""
    return f"{what} ({_PACKAGES.get(found, 'this Pillow cannot read them')})"


def unreadable(head: bytes) -> str:
    """Why a file with these first 32 bytes is no picture that can be read, and what would help, if anything."""
    found = format_of(head)
    if not found:
        return "it is none, or one to be saved as JPEG or PNG first"
    return "its contents are damaged" if found in formats() else f"{found} ({_PACKAGES.get(found, 'this Pillow cannot read them')})"


def format_of(head: bytes) -> str:
    """The format that the first 32 bytes of a file tell, as Pillow calls it, or ""."""
    for start, name in (
        (b"\xff\xd8\xff", "JPEG"), (b"\x89PNG\r\n\x1a\n", "PNG"), (b"GIF8", "GIF"), (b"II*\0", "TIFF"), (b"MM\0*", "TIFF"),
        (b"qoif", "QOI"), (b"8BPS", "PSD"), (b"DDS ", "DDS"), (b"\0\0\0\x0cjP  ", "JPEG2000"), (b"\xff\x4f\xff\x51", "JPEG2000"),
    ):  # fmt: skip
        if head.startswith(start):
            return name
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:2] == b"BM" and head[6:10] == b"\0\0\0\0":
        return "BMP"
    if head[:1] == b"P" and head[1:2] in b"456" and head[2:3] in (b" ", b"\n", b"\r", b"\t"):
        return "PPM"
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "AVIF" if brand in (b"avif", b"avis") else "HEIF" if brand in (b"heic", b"heix", b"hevc", b"mif1", b"msf1") else ""
    return ""
