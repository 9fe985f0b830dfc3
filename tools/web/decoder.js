// An exported decoder in LiteRT.js: one image a run, on the CPU ("wasm") or through WebGPU ("webgpu").

const WASM_FILES = new URL("node_modules/@litertjs/core/wasm/", import.meta.url).href;

const TEXT = ["a text", value => typeof value === "string"], NUMBER = ["a whole number", Number.isInteger];
const isInput = value => typeof value?.name === "string" && Array.isArray(value.shape);
// What the page needs of decoder.json: {path: [meaning, test]}.
const FIELDS = {
  "signature": TEXT, "files.float32": TEXT, "golden.file": TEXT, "likelihood.kind": TEXT,
  "image.height": NUMBER, "image.width": NUMBER, "image.channels": NUMBER, "image.padding": NUMBER, "num_groups": NUMBER,
  "golden.arrays": ["a list", Array.isArray],
  "inputs": [
    "a list of {name, shape} with temperature among them",
    value => Array.isArray(value) && value.every(isInput) && value.some(({name}) => name === "temperature"),
  ],
};

export class Decoder {
  #litert;
  #bytes;
  #golden;
  #model = null;

  /** Use `Decoder.load`. */
  constructor(litert, sidecar, bytes, golden) {
    this.#litert = litert;
    this.#bytes = bytes;
    this.#golden = golden;
    /** Content of decoder.json. */
    this.sidecar = sidecar;
    /** Noise inputs, {name, shape, size}, in generation order. */
    this.noise = sidecar.inputs
      .filter(({name}) => name !== "temperature")
      .map(({name, shape}) => ({name, shape, size: shape.reduce((product, size) => product * size, 1)}));
  }

  /** Loads LiteRT.js and the model in a folder; rejects with a message for the user. */
  static async load(folder) {
    const sidecar = parsed(await fetched(new URL("decoder.json", folder)));
    const bytes = new Uint8Array(await fetched(new URL(sidecar.files.float32, folder)));
    const golden = new Float32Array(await fetched(new URL(sidecar.golden.file, folder)));
    let litert;
    try {
      litert = await import("@litertjs/core");
      // LiteRT.js supports threads only on an isolated page and a processor with relaxed SIMD.
      const threads = crossOriginIsolated && await litert.supportsFeature("relaxedSimd");
      await litert.loadLiteRt(WASM_FILES, {threads});
    } catch (error) {
      throw new Error(`LiteRT.js could not be loaded: ${text(error)}. Its files come with npm ci --prefix tools/web.`);
    }
    return new Decoder(litert, sidecar, bytes, golden);
  }

  /** Why WebGPU cannot be used, or null. */
  get webGpuProblem() {
    if (!navigator.gpu) return "this browser does not offer it";
    return this.#litert.getWebGpuDevice() ? null : "this browser found no graphics device for it";
  }

  /** Resolves with a message if the graphics device is lost, as it may be at any time. */
  async webGpuLoss() {
    const {message} = await this.#litert.getWebGpuDevice().lost;
    return `The graphics device was lost: ${message || "no reason given"}. Reload the page.`;
  }

  /** The accelerator that the model is compiled for. */
  get accelerator() {
    return this.#model.options.accelerator;
  }

  /** Compiles the model for "wasm" or "webgpu"; rejects with a message for the user and keeps the previous model. */
  async compile(accelerator) {
    let model;
    try {
      model = await this.#litert.loadAndCompile(this.#bytes, {accelerator, gpuOptions: {precision: "fp32"}});
    } catch (error) {
      throw new Error(`The model could not be compiled for ${accelerator}: ${text(error)}`);
    }
    // LiteRT.js falls back to the CPU on its own, wholly or in part; the time shown would then not be that of WebGPU.
    if (accelerator === "webgpu" && !(model.options.accelerator === "webgpu" && model.isFullyAccelerated)) {
      model.delete();
      throw new Error("Some operations of this model do not run on WebGPU; tools/check_tflite.py says which.");
    }
    this.#model?.delete();
    this.#model = model;
  }

  /** Largest error of the parameters for the golden input, relative to the largest parameter. */
  async error() {
    const {arrays} = this.sidecar.golden, roles = {input: {}, output: {}};
    for (const {role, name, offset, count} of arrays) roles[role][name] = this.#golden.subarray(offset, offset + count);
    const {input, output: {likelihood_params: expected}} = roles;
    const received = await this.run(this.noise.map(({name}) => input[name]), input.temperature[0]);
    const largest = values => values.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
    return largest(expected.map((value, i) => value - received[i])) / largest(expected);
  }

  /** The likelihood's parameters, Float32Array [H, W, P], from one Float32Array for each noise input. */
  async run(noise, temperature) {
    const {Tensor} = this.#litert;
    const inputs = Object.fromEntries(this.noise.map(({name, shape}, i) => [name, new Tensor(noise[i], shape)]));
    const {shape} = this.sidecar.inputs.find(({name}) => name === "temperature");
    inputs.temperature = new Tensor(Float32Array.of(temperature), shape);
    let outputs = {};
    try {
      outputs = await this.#model.run(this.sidecar.signature, inputs);
      return await outputs.likelihood_params.data();
    } finally {
      for (const tensor of [...Object.values(inputs), ...Object.values(outputs)]) tensor.delete();
    }
  }
}

/** Parses decoder.json and checks the fields that this page needs. */
function parsed(bytes) {
  let sidecar;
  try {
    sidecar = JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    throw new Error(`decoder.json: expected JSON. Received: ${text(error)}`);
  }
  for (const [path, [meaning, fits]] of Object.entries(FIELDS)) {
    const value = path.split(".").reduce((value, name) => value?.[name], sidecar);
    if (!fits(value)) throw new Error(`decoder.json: expected ${path}, ${meaning}. Received: ${JSON.stringify(value)}`);
  }
  return sidecar;
}

/** Downloads a file as an ArrayBuffer. */
async function fetched(url) {
  const response = await fetch(url).catch(error => ({ok: false, status: "no answer:", statusText: text(error)}));
  if (response.ok) return response.arrayBuffer();
  throw new Error(
    `No model: ${url.pathname} gave ${response.status} ${response.statusText}. Start this page with ` +
    "python tools/serve_page.py --model_dir=DIR, where DIR is a folder written by tools/export.py --format=tflite."
  );
}

const text = error => error?.message ?? String(error);
