import base64
import html.parser
import io
import json
import os
import re
import shutil
import subprocess

import PIL.Image
import pytest
import tensorflow as tf
from absl import app

from nvae_tf.checkpoint import RunFolder, model_variables
from nvae_tf.checkpoint.statistics import save_statistics
from nvae_tf.config import Config, DataConfig
from nvae_tf.evaluation.readjust import statistics_variables
from nvae_tf.evaluation.report.contents import Report
from nvae_tf.evaluation.report.page import render
from nvae_tf.models.nvae import NVAE
from tests import tiny
from tests.conftest import REPOSITORY
from tests.processes import run

SECTIONS = ["samples", "reconstructions", "likelihood", "groups", "fid", "curves", "speed", "model", "configuration"]
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class _Page(html.parser.HTMLParser):
    """The parts of a page that the tests examine."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.pictures, self.links, self.sections, self.words, self._skipped = [], [], [], [], [], None
        self.feed(text)
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self._skipped = tag if tag == "style" else self._skipped
        self.links += [
            attributes[name] for name in ("href", "src", "xlink:href", "action", "srcset") if name in attributes
        ]
        if tag == "img":
            self.pictures.append(attributes)
        if tag == "section":
            self.sections.append(attributes["id"])

    def handle_endtag(self, tag):
        self._skipped = None if tag == self._skipped else self._skipped

    def handle_data(self, data):
        if self._skipped is None:
            self.words.append(data)


def _image(attributes):
    kind, data = attributes["src"].split(",", 1)
    assert kind == "data:image/png;base64"
    return PIL.Image.open(io.BytesIO(base64.b64decode(data, validate=True)))


def _log(folder):
    writer = tf.summary.create_file_writer(str(folder))
    for step in range(1, 31):
        with writer.as_default(step):
            tf.summary.scalar("train/nelbo", 200.0 / step)
            tf.summary.scalar("train/loss", 210.0 / step)
            tf.summary.scalar("train/gradient_norm", 10.0**-step)
            tf.summary.scalar("schedule/learning_rate", 0.001 * step)
            tf.summary.scalar("schedule/loss_scale", 1.0)
            tf.summary.scalar("train/images_per_second", 100.0 + step)
    writer.close()


def _metrics(step):
    figures = {"nelbo": 123.456, "nelbo_bits_per_dim": 0.6957, "kl": 20.0, "reconstruction": 103.456, "active_units": 3}
    lists = {"kl_per_group": [12.5, 7.5 + step], "active_units_per_group": [2, 1]}
    return json.dumps({"step": step, "epoch": step, "split": "test", **figures, **lists}) + "\n"


def _config():
    """Configuration of a tiny model of the digits with two groups in one scale."""
    model = tiny.model_config(num_scales=1, adaptive_groups=False)
    return Config(model=model, data=DataConfig(dataset="digits", binarize=True))


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    """Run folder of a tiny model of the digits, with curves and with batch-norm statistics for temperature 0.7."""
    config = _config()
    # A name that must be escaped in HTML.
    folder = RunFolder(tmp_path_factory.mktemp("run") / "a <b> & 'c'").create(config)
    model = NVAE(config.model)
    folder.save(30, {"model": model_variables(model)})
    statistics = {name: variable.numpy() * 0.5 for name, variable in statistics_variables(model).items()}
    save_statistics(folder.step_folder(30), 0.7, False, statistics)
    _log(folder.path / "tensorboard")
    (folder.path / "metrics.jsonl").write_text(_metrics(15) + _metrics(30) + '{"step": 4')
    evaluation = {"dataset": "digits", "split": "test", "step": 30, "ema": False, "num_images": 360, "num_samples": 7}
    evaluation |= {"nelbo": 1234.5678, "nelbo_standard_error": 1.5, "nll_bound": 1200.25, "reconstruction": -1100.5}
    evaluation |= {"kl": 134.0, "kl_per_group": [100.0, 34.0], "active_units": [2, 0], "nelbo_bits_per_dim": 6.957}
    (folder.path / "evaluation.json").write_text(json.dumps(evaluation | {"run_images": False}))
    change = {"step": 20, "split": "train", "before": {"num_images": 1400}, "after": {"num_images": 1437}}
    (folder.path / "data.json").write_text(json.dumps({"splits": {}, "changes": [change]}))
    fid = {"fid": 42.125, "kid": None, "num_samples": 50000, "temperature": [0.7, 0.7], "unknown <i>": [1, 2]}
    (folder.path / "fid.json").write_text(json.dumps(fid))
    return folder.path


@pytest.fixture(scope="module")
def page_path(run_dir):
    """Path of the page that report.py wrote for the run."""
    status, text = run(REPOSITORY / "tools" / "report.py", str(run_dir), "--num=5", "--num_reconstructions=6")
    assert status == 0 and f"written: {run_dir / 'report.html'}" in text, text
    return run_dir / "report.html"


@pytest.fixture(scope="module")
def page(page_path):
    """The `_Page` of that file."""
    return _Page(page_path.read_text(encoding="utf-8"))


def test_has_all_sections_and_nothing_from_elsewhere(page, page_path):
    assert page.sections == SECTIONS
    assert all(link.startswith(("#", "data:")) for link in page.links) and "script" not in page.tags
    assert [link[1:] for link in page.links if link[1:] in SECTIONS] == SECTIONS
    text = page_path.read_text(encoding="utf-8")
    assert not re.search(r"https?://|url\((?!#)|@import", text)
    assert "<b>" not in text and "<i>" not in text and "a <b> & 'c'" in page.text and "unknown <i>" in page.text


def test_every_picture_can_be_read(page):
    by_alt = {attributes["alt"]: _image(attributes) for attributes in page.pictures}
    assert all((int(a["width"]), int(a["height"])) == _image(a).size for a in page.pictures)
    grid = (3 * 178 - 2, 2 * 178 - 2)  # 5 images of 16 pixels, each 11 x 11, lines of 2 between them
    sizes = {f"5 samples at temperature {t}": grid for t in ("0.6", "0.7", "0.8", "1")}
    sizes["Pairs of an original and, to its right, its reconstruction"] = (8 * 66 - 2, 2 * 66 - 2)
    sizes["Rows of images that go from one to another"] = (8 * 66 - 2, 6 * 66 - 2)
    sizes["Heat map of the KL of 2 groups over 2 evaluations"] = (8, 8)
    assert {alt: image.size for alt, image in by_alt.items()} == sizes
    for name in ("Pairs", "Rows", "5 samples"):
        image = next(image for alt, image in by_alt.items() if alt.startswith(name))
        assert len(image.getcolors()) > 3


def test_readjusted_statistics_are_used_where_the_checkpoint_has_them(page):
    assert page.text.count("with batch-norm statistics readjusted for this temperature") == 1
    assert page.text.count("with the batch-norm statistics of the checkpoint") == 3
    assert "python tools/readjust_bn.py" in page.text


def test_shows_the_figures_and_curves_of_the_files(page, page_path):
    likelihood = ("1,234.568", "± 1.500", "6.9570", "1,200.250", "1,100.500", "K = 7", "360 images, step 30")
    likelihood += ("not the images of the run", "At step 20 the train images changed, from 1,400 to 1,437: held-out")
    others = ("42.125", "50,000 samples", "0.7", "115.5 images/s", "loss scale 1", "groups_per_scale 2", "2/2", "0/2")
    curves = ("(log scale)", "training: 6.667 at step 30; test: 123.5 at step 30")
    assert [text for text in (*likelihood, *others, *curves) if text not in page.text] == []
    assert "KID" not in page.text  # it is null
    text = page_path.read_text(encoding="utf-8")
    for title in ("NELBO", "Held-out NELBO", "Learning rate", "Norm of the gradient", "Speed", "KL of each group"):
        assert f"<h3>{title}</h3>" in text


def test_a_run_with_nothing_yet_says_what_would_fill_each_section():
    report = Report("my runs/a", _config(), counts={"encoder": (1000, 10), "decoder": (234, 5)})
    page = _Page(render(report, "Made today."))
    assert page.sections == SECTIONS and not page.pictures
    for tool in ("train", "evaluate", "fid"):
        assert f"python tools/{tool}.py --run_dir='my runs/a'" in page.text
    for text in ("python tools/benchmark.py", "no checkpoint", "groups_per_scale 2", "1,234", "Made today."):
        assert text in page.text


def test_figures_of_another_checkpoint_are_marked(page):
    report = Report("run", _config(), evaluation={"step": 20, "nelbo": 1.0}, fid={"step": 10, "fid": 5.0})
    assert "another checkpoint" not in _Page(render(report, "")).text  # it has no figures of its own
    report.step = 30
    text = _Page(render(report, "")).text
    assert "From another checkpoint than this page, which shows step 30." in text
    assert "from another checkpoint than this page, step 10" in text
    assert "another checkpoint" not in page.text


def test_other_data_sets_need_their_folder_for_reconstructions(program, tmp_path):
    config = _config()
    config.data.dataset = "mnist"
    config.model.image_height = config.model.image_width = 32
    config.model.padding = 2
    folder = RunFolder(tmp_path).create(config)
    folder.save(1, {"model": model_variables(NVAE(config.model))})
    program("report", f"--run_dir={tmp_path}", "--num=2", "--temperature=0.5").main([])
    page = _Page((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "The images of mnist are needed, and no folder with them was given" in page.text
    assert [attributes["alt"] for attributes in page.pictures] == [
        "2 samples at temperature 0.5",
        "Rows of images that go from one to another",
    ]
    assert "samples of the prior at temperature 0.8" in page.text


@pytest.mark.parametrize("words", [[], ["nowhere"], ["RUN", "RUN"]])
def test_one_run_folder_is_needed(program, run_dir, words):
    with pytest.raises(app.UsageError, match="expected one run folder with config.json. Received: "):
        program("report").main([str(run_dir) if word == "RUN" else word for word in words])


@pytest.fixture(scope="module")
def browse(tmp_path_factory):
    """Function that shows a page file at two widths: (what its check said at each, lines of the console)."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        reason = f"no browser, one of {', '.join(_BROWSERS)} (Debian: apt-get install chromium)"
        if os.environ.get("NVAE_REQUIRE_SHARED") == "1":
            pytest.fail(f"{reason} (NVAE_REQUIRE_SHARED=1 forbids skipping)")
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("browser")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    quiet += ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-dev-shm-usage"]
    quiet += [f"--user-data-dir={folder / 'profile'}", "--enable-logging=stderr", "--v=0", "--virtual-time-budget=3000"]

    def show(page_path):
        text = page_path.read_text(encoding="utf-8")
        checked = text.replace("default-src 'none';", "default-src 'none'; script-src 'unsafe-inline';", 1)
        assert checked != text
        (folder / "checked.html").write_text(checked.replace("</body>", f"{_CHECK}</body>"), encoding="utf-8")
        frames = [("checked.html", 390), ("checked.html", 1280), (page_path.as_uri(), 390)]
        frames = "".join(f'<iframe src="{address}" style="width:{width}px"></iframe>' for address, width in frames)
        (folder / "frames.html").write_text(_COLLECT + frames)
        command = [browser, *quiet, "--dump-dom", (folder / "frames.html").as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        results = json.loads(html.unescape(re.search(r"<output>(.*?)</output>", done.stdout, re.DOTALL)[1]))
        return results, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return show


# Both run only in the test's copies; the page itself has no script and would not run one.
_CHECK = """<script>
const violations = [];
document.addEventListener("securitypolicyviolation", event => violations.push(event.blockedURI));
addEventListener("load", () => parent.postMessage({
  width: innerWidth,
  page: document.documentElement.scrollWidth,
  pictures: [...document.images].map(image => image.naturalWidth),
  requests: performance.getEntriesByType("resource").map(one => one.name).filter(name => !name.startsWith("data:")),
  violations,
  charts: [...document.querySelectorAll("svg.chart")].map(chart => chart.getBoundingClientRect().width),
}, "*"));
</script>"""
_COLLECT = """<!doctype html><output>[]</output><script>
const results = [];
addEventListener("message", event => {
  results.push(event.data);
  document.querySelector("output").textContent = JSON.stringify(results);
});
</script>"""


def test_a_browser_shows_it_whole_at_any_width_and_asks_for_nothing(browse, page, page_path):
    results, console = browse(page_path)
    assert console == []
    assert sorted(result["width"] for result in results) == [390, 1280]
    for result in results:
        assert len(result["pictures"]) == len(page.pictures) and min(result["pictures"]) > 0
        assert result["requests"] == [] and result["violations"] == []
        assert result["page"] <= result["width"]  # nothing to scroll to at the side
        assert len(result["charts"]) > 6 and min(result["charts"]) > 250
