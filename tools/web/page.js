// The page: the decoder draws what the controls ask for, one picture after the other.

import {Decoder} from "./decoder.js";
import {cropPadding, drawImage, latentNoise, meanImage, toUint8} from "./host_sampler.js";
import {slerp} from "./slerp.js";

const NUM_VARIATIONS = 8;
// Images of a seed below this index are samples; the finer noise of the variations comes from the images above.
const FIRST_VARIATION = 1000;
// Pictures up to this size are shown with visible pixels.
const SMALL_SIZE = 64;
// The relative error of float32 is far smaller on any device, that of wrong kernels far larger.
const LARGEST_ERROR = 1e-2;
const ACCELERATORS = {wasm: "the CPU (wasm)", webgpu: "the GPU (WebGPU)"};

const main = document.querySelector("main");
const element = id => document.getElementById(id);
const number = id => element(id).valueAsNumber;
const checked = name => document.querySelector(`[name=${name}]:checked`).value;
const canvases = id => [...element(id).querySelectorAll("canvas")];

let decoder;
let goldenError = 0;
let redraws = 0;
// Problems that pass when a control changes, and those that last until the model is compiled again.
const problems = {passing: "", lasting: ""};
const noiseOf = index => latentNoise(decoder.noise.map(({size}) => size), number("seed"), index);

// Tasks to be done, one at a time; a task that is requested again while it runs starts again.
const wanted = new Set();
const everything = ["samples", "variations", "path"];
const tasks = {
  async compile() {
    try {
      await decoder.compile(checked("accelerator"));
    } catch (problem) {
      // The previous model is still there and draws what was requested.
      document.querySelector(`[value=${decoder.accelerator}]`).checked = true;
      showProblem(problem.message);
      return;
    }
    await compare();
  },

  async samples(superseded) {
    const times = [];
    for (const [index, canvas] of canvases("samples").entries()) {
      times.push(await draw(canvas, noiseOf(index), index));
      if (superseded()) return;
    }
    const median = times.sort((a, b) => a - b)[Math.floor(times.length / 2)];
    const milliseconds = Number(median.toPrecision(3)).toLocaleString("en");
    element("status").textContent =
      `${times.length} pictures, ${milliseconds} ms each on ${ACCELERATORS[checked("accelerator")]}; ` +
      `its numbers are within ${goldenError.toExponential(0)} of those of the export.`;
  },

  async variations(superseded) {
    const kept = number("kept"), coarse = noiseOf(Number(checked("chosen")));
    for (const [i, canvas] of canvases("variations").entries()) {
      const index = FIRST_VARIATION + redraws * NUM_VARIATIONS + i;
      const noise = noiseOf(index).map((fine, group) => group < kept ? coarse[group] : fine);
      await draw(canvas, noise, index);
      if (superseded()) return;
    }
  },

  async path() {
    const indices = [Number(checked("chosen")), Number(element("other").value)];
    const [first, second] = indices.map(noiseOf);
    const between = first.map((values, group) => slerp(values, second[group], number("fraction")));
    const [start, middle, end] = canvases("path");
    await draw(start, first, indices[0]);
    await draw(middle, between, indices[0]);
    await draw(end, second, indices[1]);
  },
};

/** Runs tasks in the order in which they are requested; an error cancels them all and is shown. */
async function request(...names) {
  for (const name of names) wanted.add(name);
  if (main.ariaBusy === "true") return;
  main.ariaBusy = "true";
  try {
    for (const name of wanted) {
      wanted.delete(name);
      await tasks[name](() => wanted.has(name));
    }
  } catch (problem) {
    wanted.clear();
    showProblem(problem.message);
  }
  main.ariaBusy = "false";
}

/** Measures the decoder's error for the golden input, and shows a problem if it is larger than rounding. */
async function compare() {
  showProblem("", "lasting");
  goldenError = await decoder.error();
  if (!(goldenError <= LARGEST_ERROR)) {
    const name = ACCELERATORS[checked("accelerator")];
    const difference = `${goldenError.toPrecision(2)} of the largest`;
    showProblem(`The numbers from ${name} are not those of the export, by ${difference}.`, "lasting");
  }
}

/** Draws a picture from noise; returns the milliseconds of decoding it and of making its pixels. */
async function draw(canvas, noise, index) {
  const {image: {height, width, channels, padding}, likelihood} = decoder.sidecar, started = performance.now();
  const params = await decoder.run(noise, number("temperature"));
  const image = checked("pixels") === "mean"
    ? meanImage(params, likelihood, channels)
    : drawImage(params, likelihood, channels, number("seed"), index);
  const bytes = toUint8(cropPadding(image, height, width, padding));
  const milliseconds = performance.now() - started;
  const pixels = new ImageData(width, height);
  for (let i = 0; i < height * width; i++) {
    for (let c = 0; c < 3; c++) pixels.data[4 * i + c] = bytes[i * channels + Math.min(c, channels - 1)];
    pixels.data[4 * i + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  // The page stays responsive between pictures.
  await (globalThis.scheduler?.yield?.() ?? new Promise(resolve => setTimeout(resolve)));
  return milliseconds;
}

/** Shows a problem, or "" for none; `kind` is a key of `problems`. */
function showProblem(message, kind = "passing") {
  problems[kind] = message;
  const shown = Object.values(problems).filter(Boolean).join(" ");
  // Screen readers read an alert whenever it is written.
  if (element("problem").textContent !== shown) element("problem").textContent = shown;
  if (message) element("status").textContent = "";
}

function newCanvas(label) {
  const {height, width} = decoder.sidecar.image;
  const canvas = Object.assign(document.createElement("canvas"), {height, width, role: "img", ariaLabel: label});
  canvas.classList.toggle("small", Math.max(height, width) <= SMALL_SIZE);
  return canvas;
}

/** Lays out the samples, each with a radio button that chooses it, and the list of pictures to interpolate to. */
function layOutSamples() {
  const count = number("rows") ** 2, indices = Array.from({length: count}, (_, index) => index);
  const chosen = Math.min(document.querySelector("[name=chosen]:checked")?.value ?? 0, count - 1);
  const other = Math.min(element("other").value || 1, count - 1);
  canvases("samples").forEach(canvas => canvas.parentElement.remove());
  element("samples").style.setProperty("--columns", number("rows"));
  element("samples").append(...indices.map(index => {
    const label = document.createElement("label"), input = document.createElement("input");
    Object.assign(input, {type: "radio", name: "chosen", value: index, checked: index === chosen});
    label.append(input, newCanvas(`Picture ${index + 1}`));
    return label;
  }));
  element("other").replaceChildren(...indices.map(index => new Option(`picture ${index + 1}`, index)));
  element("other").value = other;
}

/** Shows the values beside the sliders. */
function showValues() {
  element("temperature-value").value = number("temperature").toFixed(2);
  element("rows-value").value = element("rows").ariaValueText = `${number("rows") ** 2}`;
  element("kept-value").value = element("kept").ariaValueText = `${number("kept")} of ${element("kept").max}`;
  element("fraction-value").value = element("fraction").ariaValueText = `${Math.round(100 * number("fraction"))} %`;
  for (const span of document.querySelectorAll(".chosen")) span.textContent = Number(checked("chosen")) + 1;
}

function describe({sidecar, noise}) {
  const {image, likelihood, checkpoint, temperature, num_groups: numGroups} = sidecar, slider = element("temperature");
  const step = checkpoint?.step == null ? "" : `, step ${checkpoint.step.toLocaleString("en")}`;
  const whole = noise.length === numGroups;
  const groups = whole ? `${numGroups} groups of latents` : `${noise.length} of ${numGroups} groups of latents are sampled`;
  element("facts").textContent =
    `${groups}, pictures of ${image.height} × ${image.width} × ${image.channels}, ` +
    `${likelihood.kind.replace("_", " ")} likelihood${step}.`;
  element("same-seed").hidden = !whole;
  // The slider's range includes the temperature that the export recommends.
  slider.min = Math.min(slider.min, temperature ?? 1);
  slider.max = Math.max(slider.max, temperature ?? 1);
  slider.value = temperature ?? 1;
  element("kept").max = noise.length;
  element("kept").value = Math.ceil(noise.length / 2);
}

/** Connects each control to the tasks that it requests. */
function listen() {
  const on = (id, event, names, before) => element(id).addEventListener(event, ({target}) => {
    if (!target.checkValidity()) return;
    showProblem("");
    before?.();
    showValues();
    request(...names);
  });
  on("temperature", "input", everything);
  on("seed", "input", everything);
  on("next-seed", "click", everything, () => element("seed").stepUp());
  on("rows", "input", everything, layOutSamples);
  on("pixels", "input", everything);
  on("accelerator", "input", ["compile", ...everything]);
  on("samples", "input", ["variations", "path"]);
  on("kept", "input", ["variations"]);
  on("redraw", "click", ["variations"], () => redraws++);
  on("other", "input", ["path"]);
  on("fraction", "input", ["path"]);
}

/** Shows the models of the server if there are several; returns the number of the one that the address names. */
async function chooseModel() {
  const names = await fetch("models.json").then(response => response.json(), () => []);
  const chosen = Number(new URLSearchParams(location.search).get("model"));
  element("model").replaceChildren(...names.map((name, index) => new Option(name, index)));
  element("model").value = chosen;
  element("models").hidden = names.length < 2;
  element("model").addEventListener("change", ({target}) => location.search = `?model=${target.value}`);
  return names[chosen] === undefined ? 0 : chosen;
}

async function start() {
  decoder = await Decoder.load(new URL(`model/${await chooseModel()}/`, document.baseURI));
  describe(decoder);
  const problem = decoder.webGpuProblem;
  document.querySelector("[value=webgpu]").disabled = problem !== null;
  element("webgpu-problem").textContent = problem ? `No WebGPU: ${problem}.` : "";
  if (!problem) decoder.webGpuLoss().then(message => showProblem(message, "lasting"));
  layOutSamples();
  element("variations").append(...Array.from({length: NUM_VARIATIONS}, (_, i) => newCanvas(`Variation ${i + 1}`)));
  element("path").append(...["The first picture", "The picture between them", "The second picture"].map(newCanvas));
  showValues();
  await decoder.compile("wasm");
  await compare();
  listen();
}

start().then(() => {
  main.inert = false;
  main.ariaBusy = "false";
  request(...everything);
}, problem => {
  showProblem(problem.message);
  main.hidden = true;
  main.ariaBusy = "false";
});
