"""README.md and docs/: short sentences, links and names that exist, commands that parse, and line counts that are the files' own."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest
from app_case import ROOT

README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PAGES}
LONGEST = 30  # words in a sentence
ROUNDING = 0.05  # of a line count in the README; the failing test prints the right lines
SUFFIXES = {".py", ".cu", ".cuh", ".h", ".c", ".cpp", ".js", ".css", ".html"}  # of code
FOLDERS = ("kernels", "models", "vaegan_kernels", "tests", "bench", "docs")
#: "The core": what README says can be read in a day.
CORE = ("models/", "kernels/*.py", "kernels/contract/", "kernels/cpu/*.py", "vaegan_kernels/runs/trainer.py")
#: Whether a sentence ends behind these is for the next word to say: it goes on.
SHORT = re.compile(r"(?:\b(?:Figs?|Eqs?|al|vs|e\.g|i\.e)|\d\.\.\.)\.$")

pages = pytest.mark.parametrize("page", TEXTS)


def prose(text):
    """What is read as text, block by block: paragraphs, headings, list items, table cells; code blocks, comments and pictures left out."""
    text = re.sub(r"^```.*?^```$|<!--.*?-->", "", text, flags=re.DOTALL | re.MULTILINE)
    blocks = [[]]
    for line in text.splitlines():
        if re.match(r"\s*\|", line):
            blocks += [[cell] for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))] + [[]]
        elif item := re.match(r"\s*(?:[-*]|\d+\.|#+)\s+(.*)", line):
            blocks.append([item[1]])
        elif line.strip():
            blocks[-1].append(line.strip())
        else:
            blocks.append([])
    return [" ".join(block) for block in blocks if block]


def sentences(block):
    """Its sentences without markup: a link is its text, a piece of code is one word."""
    block = re.sub(r"!\[[^]]*\]\([^)]*\)", "", block)
    block = re.sub(r"`[^`]+`", "Code", block)
    block = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", block)
    found = [""]
    for piece in re.split(r"(?<=[.!?])(?=[*_)\"”]*\s)", block.replace("**", "")):
        found.append(piece) if not SHORT.search(found[-1]) else found.append(found.pop() + piece)
    return [sentence.strip() for sentence in found if sentence.strip()]


def words(sentence):
    """What is counted: signs alone (+, –, =) are no words."""
    return re.findall(r"\S*\w\S*", sentence)


def long_ones(text):
    return [s for block in prose(text) for s in sentences(block) if len(words(s)) > LONGEST]


@pytest.mark.parametrize(
    "form",
    ["{}.", "- {}.", "1. {}", "| a | {} |", "*{}.*", "[{}](x.md).", "Short. {}, see Fig. 3. Short.", "> {}", "# {}", "A.\n{}\nmore.\n"],
)  # fmt: skip
def test_a_long_sentence_is_found_wherever_it_stands(form):
    assert len(long_ones(form.format("word " * LONGEST + "end"))) == 1
    assert not long_ones(form.format("word " * (LONGEST - 4) + "end"))


def test_what_is_no_sentence_is_not_counted():
    many = "word " * 40
    assert not long_ones(f"```\n{many}\n```\n\n`{many}` is one word. <!-- {many} -->\n\n![{many}](x.png)\n\n[text](x{'y ' * 40}.md)")
    assert not long_ones("- word\n" * 40 + "\n" + "| word " * 40 + "|\n")
    assert not long_ones("This is one. " * 20 + "**Bold.** " * 20)


@pages
def test_no_sentence_is_long(page):
    found = [f"{len(words(s))} words: {s}" for s in long_ones(TEXTS[page])]
    assert not found, f"{page}: {len(found)} sentences of more than {LONGEST} words\n" + "\n".join(found)


# ---- links and names ----


def anchors(text):
    """The anchors of a page's headings, as GitHub makes them."""
    titles = re.findall(r"^#+\s+(.*)$", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page, text):
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists():
            yield f"{target} is not there"
        elif anchor and anchor not in anchors(path.read_text(encoding="utf-8")):
            yield f"{target}: no such heading"


def spans(text):
    return re.findall(r"(?<!`)`([^`\n]+)`(?!`)", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))


def resolves(name):
    """Whether a dotted name is a module of this repository, or something in one."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        file = ROOT.joinpath(*parts[:count])
        if file.with_suffix(".py").exists() or (file.is_dir() and count == len(parts)) or (file / "__init__.py").exists():
            thing = importlib.import_module(".".join(parts[:count]))
            for part in parts[count:]:
                if not hasattr(thing, part):
                    return False
                thing = getattr(thing, part)
            return True
    return False


def missing_names(page, text):
    """Code spans that name a file or something in a module of this repository, and what they name is not there."""
    files = [path.as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.*")]
    for span in spans(text):
        if re.fullmatch(r"[\w./*-]+", span) and span.split("/")[0] in FOLDERS and "/" in span:
            if not any(ROOT.glob(span.rstrip("/"))):
                yield f"{span} is not there"
        elif re.fullmatch(r"[\w./-]+\.(?:py|cu|cuh|cpp|h|md)", span):
            if not any(file.endswith(f"/{span}") for file in files) and not (page.parent / span).exists():
                yield f"no file ends in {span}"
        elif re.fullmatch(r"(?:kernels|models|vaegan_kernels)(?:\.\w+)+", span) and not resolves(span):
            yield f"{span} is not there"


def test_what_is_not_there_is_found():
    assert len(list(broken_links(README, "[a](docs/no.md) [b](README.md#no-such) [c](#no)"))) == 3
    gone = "`kernels/cuda/taps.py` `tests/*_no.py` `taps.py` `taps.cpp` `models.schedules` `models.vaegan.no`"
    assert len(list(missing_names(README, gone))) == 6
    assert not list(missing_names(README, "`kernels/cuda/` `cpu/conv2d.py` `models.vaegan.step_of` `runs/a/curves.png` `tests/test_*.py`"))


@pages
def test_links_and_names_exist(page):
    wrong = [*broken_links(ROOT / page, TEXTS[page]), *missing_names(ROOT / page, TEXTS[page])]
    assert not wrong, f"{page}: " + "; ".join(wrong)


def test_every_page_is_reached_from_the_readme():
    reached, todo = set(), ["README.md"]
    while todo:
        for name in set(re.findall(r"([\w-]+\.md)", TEXTS[todo.pop()])) - reached:
            reached.add(name)
            todo += [page for page in TEXTS if page == f"docs/{name}"]
    assert {Path(page).name for page in TEXTS} - {"README.md"} <= reached


def defines(code, name):
    """Whether Python or C++ code has a function or class of that name: not only a call of it."""
    return re.search(rf"^\s*(?:def|class) {name}\b|^(?:[\w*&:]+ )+(?:\w+::)?{name}\(", code, re.MULTILINE)


def test_a_call_is_no_definition():
    assert defines("    def f(x):\n", "f") and defines("EXPORT void f(int n) {\n", "f") and defines("static INLINE void f(\n", "f")
    assert not defines("    f(x)\n", "f") and not defines("    return f(x);\n", "f") and not defines("void ff(int n);\n", "f")


def test_functions_that_the_architecture_page_names_are_in_the_files_that_it_links():
    """In each block of the page: `name()` is defined in one of the files that the block links."""
    page = ROOT / "docs" / "architecture.md"
    found = 0
    for block in re.split(r"\n\n+|\n(?=\d+\.|- |\|)", TEXTS["docs/architecture.md"]):
        files = [page.parent / target for target in re.findall(r"\]\(([^)#\s]+\.(?:py|cu|cpp|h))\)", block)]
        code = "\n".join(path.read_text(encoding="utf-8") for path in files)
        for name in re.findall(r"`(?:\w+\.)*(\w+)\(\)`", block):
            found += 1
            assert defines(code, name), f"{name}: not in {[file.name for file in files]}"
    assert found > 40


# ---- the README's own promises ----


def lines_of(pattern):
    """Lines of code: of a file, of a folder (``x/``) with all that is in it, or of the files that ``x/*.py`` matches."""
    paths = (ROOT / pattern).rglob("*") if pattern.endswith("/") else ROOT.glob(pattern)
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths if path.suffix in SUFFIXES)


def counted(text):
    """(line, pattern, number it says) of each line of the README's tree of the code."""
    tree = re.search(r"<!-- tree -->\n```\n(.*?)```", text, re.DOTALL)[1]
    open_folders = []
    for line in tree.splitlines():
        indent, name, number = re.match(r"( *)(\S+) +([\d,]+) ", line).groups()
        open_folders = [*open_folders[: len(indent) // 2], name]
        yield line, "".join(open_folders), int(number.replace(",", ""))


def close(said, real):
    return abs(said - real) <= max(5, ROUNDING * real)


def wrong_counts(text):
    """The lines of the tree whose number is off, each with what it should say; and the core's."""
    for line, pattern, said in counted(text):
        real = lines_of(pattern)
        if not close(said, real):
            yield line.replace(f"{said:,}".rjust(len(f"{real:,}")), f"{real:,}".rjust(len(f"{said:,}")), 1)
    said, real = int(re.search(r"core is ([\d,]+) lines", text)[1].replace(",", "")), sum(map(lines_of, CORE))
    if not close(said, real):
        yield f"core is {real:,} lines"


def test_line_counts_of_the_readme():
    wrong = list(wrong_counts(TEXTS["README.md"]))
    assert not wrong, f"off by more than {ROUNDING:.0%}; the README should say:\n" + "\n".join(wrong)


def test_a_wrong_line_count_is_found():
    text = TEXTS["README.md"]
    line, _, said = list(counted(text))[1]
    assert list(wrong_counts(text.replace(line, line.replace(f"{said:,}", f"{said + said // 8:,}"))))
    assert list(wrong_counts(re.sub(r"core is [\d,]+", "core is 4,000", text)))


def test_every_folder_of_code_is_in_the_tree():
    patterns = {pattern.removesuffix("*.py") for _, pattern, _ in counted(TEXTS["README.md"])}
    for top in ("kernels", "models", "vaegan_kernels"):
        for path in (ROOT / top, *(ROOT / top).glob("*/")):
            if any(file.suffix in SUFFIXES for file in path.glob("*")):
                assert f"{path.relative_to(ROOT).as_posix()}/" in patterns


def test_six_files_to_read_in_order():
    section = TEXTS["README.md"].partition("Six files")[2].partition("\n## ")[0]
    files = re.findall(r"^(\d)\. \[`([^`]+)`\]\(([^)]+)\)", section, re.MULTILINE)
    assert [number for number, *_ in files] == list("123456")
    assert all(name == target and (ROOT / target).is_file() for _, name, target in files)


def test_commands_in_the_readme_parse_and_none_is_missing():
    """Each example of the table of commands is accepted by the command's own parser; the table has every command."""
    from vaegan_kernels.shell import commands

    table = TEXTS["README.md"].partition("\n## Commands")[2].partition("\n## ")[0]
    seen = set()
    for words_ in (shlex.split(span) for span in re.findall(r"`(vaegan [^`]+)`", table)):
        name = ".".join(words_[1:3]) if words_[1] == "experiments" else words_[1]
        commands.parser_of(name).parse_args(words_[len(name.split(".")) + 1 :])
        seen.add(name)
    experiments = {f"experiments.{name}" for name in spans(table)}
    assert set(commands.names()) - seen - experiments == {"completion"}  # which stands in its own, eval "$(…)"
    assert 'eval "$(vaegan completion bash)"' in table


def test_the_two_commands_can_be_pasted():
    """One line each; .ci/run takes the second from behind its marker."""
    blocks = re.findall(r"^(<!-- ci: test command -->\n)?```\n(.*?)```$", TEXTS["README.md"], re.DOTALL | re.MULTILINE)
    (_, first), (marker, second) = blocks[:2]
    assert first.count("\n") == second.count("\n") == 1 and marker
    assert first.endswith("&& .venv/bin/python -m vaegan_kernels.train\n") and "-m pytest" in second


def test_the_step_that_each_preset_runs():
    """README and docs/paper.md name the file of the step; `models.vaegan.step_of` says which it is."""
    from dataclasses import fields

    from models.objective import Objective
    from models.presets import PRESETS
    from models.vaegan import step_of

    for page in ("README.md", "docs/paper.md", "docs/architecture.md"):
        rows = re.findall(r"^\| (`\w+`[^|]*) \| \[`([^`]+)`\]", TEXTS[page], re.MULTILINE)
        said = {name: file for names, file in rows for name in re.findall(r"`(\w+)`", names)}
        for name, preset in PRESETS.items():
            objective = Objective(**{field.name: preset[field.name] for field in fields(Objective) if field.name in preset})
            module = step_of("vaegan", objective).__module__
            assert said[name] == module.replace(".", "/") + ".py", (page, name)


def test_files_in_the_drawing_exist():
    text = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
    names = {name for label in re.findall(r'class="file"[^>]*>([^<]+)<', text) for name in re.split(r"[ ,…]+", label) if "." in name}
    files = [path.as_posix() for top in FOLDERS[:3] for path in (ROOT / top).rglob("*.*")]
    assert len(names) > 15
    assert not [name for name in names - {"Parameter.grad"} if not any(file.endswith(f"/{name}") for file in files)]
