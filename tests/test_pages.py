"""The Markdown pages: their links, paths, commands and flags exist, and the README's example runs."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parent.parent
README = REPOSITORY / "README.md"
PAGES = sorted(
    REPOSITORY / name
    for name in subprocess.check_output(["git", "ls-files", "*.md"], cwd=REPOSITORY, text=True).split()
)
PROGRAMS = sorted(path.stem for path in (REPOSITORY / "tools").glob("[a-z]*.py") if path.stem != "flags")
# Flags of absl, Docker, npm, pytest, TensorBoard and TensorFlow Serving.
OTHERS_FLAGS = {"base_path", "dist", "help", "logdir", "model_name", "prefix", "verbosity"}
OTHERS_FLAGS |= {"per_process_gpu_memory_fraction", "profile", "tensorflow_intra_op_parallelism"}
_PRINT_FLAGS = """
import importlib, json, sys
from absl import flags
shared, found = set(flags.FLAGS), {}
for name in sys.argv[1:]:
    importlib.import_module(f"tools.{name}")
    found[name] = sorted(set(flags.FLAGS) - shared)
    for flag in found[name]:
        delattr(flags.FLAGS, flag)  # several programs define flags of the same name
assert "tensorflow" not in sys.modules  # it is imported after the flags have been checked
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def program_flags():
    """{name of a program: set of its flags}."""
    command = [sys.executable, "-c", _PRINT_FLAGS, *PROGRAMS]
    return {name: set(found) for name, found in json.loads(subprocess.check_output(command, cwd=REPOSITORY)).items()}


def _name(page):
    return str(page.relative_to(REPOSITORY))


def _unknown(flags, known):
    return sorted(flag for flag in flags if flag not in known and flag.removeprefix("no") not in known)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_and_paths_exist(page):
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    paths = re.findall(r"(?<![\w./-])((?:configs|nvae_tf|tests|tools)/[\w./]+)", re.sub(r"\]\(.*?\)", "", text))
    assert [path for path in paths if not (REPOSITORY / path.rstrip(".")).exists()] == []
    for target, anchor in re.findall(r"\]\(([^)#]*\.md|)#([^)]+)\)", text):
        headings = re.findall(r"^#+ (.*)$", (page.parent / target if target else page).read_text(), re.MULTILINE)
        assert anchor in [re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings]


# The changelog also names flags of the past.
@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=_name)
def test_commands_and_flags_exist(page, program_flags):
    text = page.read_text().replace("\\\n", " ")
    for name, arguments in re.findall(r"(?:tools/|`)(\w+)\.py\b([^`\n]*)", text):
        if name in program_flags:
            assert _unknown(re.findall(r"--(\w+)", arguments), program_flags[name] | {"config"}) == [], name
    anyones = set().union(OTHERS_FLAGS, *program_flags.values())
    assert _unknown(re.findall(r"(?<![\w-])--(\w+)", text), anyones) == []


def test_readme_fits():
    lines = README.read_text().splitlines()
    assert len(lines) <= 150
    assert any(line.startswith("![") for line in lines[:15])


def test_readme_test_command_is_that_of_ci():
    (command,) = re.findall(r"^    (\S+python -m pytest .*)$", README.read_text(), re.MULTILINE)
    assert re.search(rf"^ +{re.escape(command)}(?= |$)", (REPOSITORY / ".ci" / "run").read_text(), re.MULTILINE)


def test_readme_example_runs(digits_run):
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names = {}
    exec(example.replace("runs/quickstart", str(digits_run)), names)
    assert names["nelbo"].shape == [16]
    assert names["pictures"].shape == [16, 16, 16, 1]
