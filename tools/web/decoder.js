// An exported decoder in LiteRT.js: one image a run, on the CPU ("wasm") or through WebGPU ("webgpu").

const WASM_FILES = new URL("node_modules/@litertjs/core/wasm/", import.meta.url).href;

export class Decoder {
  #litert;
  #bytes;
  #model = null;

  /** Use `Decoder.load`. */
  constructor(litert, sidecar, bytes) {
    this.#litert = litert;
    this.#bytes = bytes;
    /** What decoder.json says. */
    this.sidecar = sidecar;
    /** Inputs of noise, {name, shape, size}, in generation order. */
    this.noise = sidecar.inputs
      .filter(({name}) => name !== "temperature")
      .map(({name, shape}) => ({name, shape, size: shape.reduce((product, size) => product * size, 1)}));
  }

  /** Loads LiteRT.js and the model in a folder; rejects with a message for the user. */
  static async load(folder) {
    const sidecar = await fetched(new URL("decoder.json", folder)).then(response => response.json());
    const file = await fetched(new URL(sidecar.files.float32, folder));
    const bytes = new Uint8Array(await file.arrayBuffer());
    try {
      const litert = await import("@litertjs/core");
      await litert.loadLiteRt(WASM_FILES, {threads: crossOriginIsolated});
      return new Decoder(litert, sidecar, bytes);
    } catch (error) {
      throw new Error(`LiteRT.js could not be loaded: ${text(error)}. Its files come with npm ci --prefix tools/web.`);
    }
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

  /** What the model is compiled for. */
  get accelerator() {
    return this.#model.options.accelerator;
  }

  /** Compiles the model for "wasm" or "webgpu"; rejects with a message for the user, and keeps the one before. */
  async compile(accelerator) {
    let model;
    try {
      model = await this.#litert.loadAndCompile(this.#bytes, {accelerator});
    } catch (error) {
      throw new Error(`The model could not be compiled for ${accelerator}: ${text(error)}`);
    }
    // LiteRT.js falls back by itself, in part or whole; a time would then be called WebGPU's that is not.
    if (accelerator === "webgpu" && !(model.options.accelerator === "webgpu" && model.isFullyAccelerated)) {
      model.delete();
      throw new Error("Some operations of this model do not run on WebGPU; tools/check_tflite.py says which.");
    }
    this.#model?.delete();
    this.#model = model;
  }

  /** The likelihood's parameters, Float32Array [H, W, P], from one Float32Array for each input of noise. */
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

async function fetched(url) {
  const response = await fetch(url).catch(error => ({ok: false, statusText: text(error)}));
  if (response.ok) return response;
  throw new Error(
    `No model: ${url.pathname} gave ${response.status ?? ""} ${response.statusText}. Start this page with ` +
    "python tools/serve_page.py --model_dir=DIR, where DIR is a folder that tools/export.py --format=tflite wrote."
  );
}

const text = error => error?.message ?? String(error);
