// Opens the page in Chromium as a user would, for test_page.py; writes what was seen as JSON.
// The one argument is JSON: {node_modules, browser, profile, flags, screenshots, steps: [{name, url, act}]}.
import {createRequire} from "node:module";
import {join} from "node:path";

const options = JSON.parse(process.argv[2]);
const {chromium} = createRequire(join(options.node_modules, "/"))("playwright-core");

const idle = page => page.waitForFunction(() => document.querySelector("main").ariaBusy === "false");

/** Does something to the page and waits until nothing is left to be drawn. */
async function settled(page, action) {
  await action();
  await page.evaluate(() => new Promise(resolve => setTimeout(resolve)));
  await idle(page);
}

/** Slider or number set to a value, with the event that a user's change gives. */
const set = (page, id, value) => settled(page, () => page.evaluate(([id, value]) => {
  const input = document.getElementById(id);
  input.value = value;
  input.dispatchEvent(new Event("input", {bubbles: true}));
}, [id, value]));

/** Radio button chosen. It may be put back at once, which `page.check` would take for a failure. */
const check = (page, selector) => settled(page, () => page.click(selector, {force: true}));

/** Texts and pixels as they are now. */
const seen = page => page.evaluate(() => ({
  status: document.getElementById("status").textContent,
  facts: document.getElementById("facts").textContent,
  sameSeed: document.getElementById("same-seed").checkVisibility(),
  problem: document.getElementById("problem").textContent,
  webgpuProblem: document.getElementById("webgpu-problem").textContent,
  webgpuDisabled: document.querySelector("[value=webgpu]").disabled,
  accelerator: document.querySelector("[name=accelerator]:checked").value,
  chosen: document.querySelector("[name=chosen]:checked")?.value,
  values: Object.fromEntries(["temperature", "seed", "kept", "fraction"].map(id => [id, document.getElementById(id).value])),
  pictures: Object.fromEntries(["samples", "variations", "path"].map(id => [
    id,
    [...document.getElementById(id).querySelectorAll("canvas")].map(canvas => ({
      width: canvas.width,
      height: canvas.height,
      bytes: [...canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data],
    })),
  ])),
}));

/** What Tab reaches from the top of the page until it leaves it, and how each shows that it has the focus. */
async function tabbed(page) {
  const stops = [];
  await page.evaluate(() => document.activeElement.blur());
  for (let i = 0; i < 40; i++) {
    await page.keyboard.press("Tab");
    const stop = await page.evaluate(() => {
      const active = document.activeElement;
      if (active === document.body) return null;
      const shown = active.name === "chosen" ? active.nextElementSibling : active;
      const named = active.labels?.length || active.textContent || active.ariaLabel;
      return {id: active.id || active.name, outline: getComputedStyle(shown).outlineStyle, named: Boolean(named)};
    });
    if (!stop) return stops;
    stops.push(stop);
  }
  return stops;
}

/** Widths of the page on a desktop and on a phone, with screenshots; whether its policy refuses a request elsewhere. */
async function outlook(page) {
  const widths = {};
  for (const [name, width] of [["desktop", 1280], ["phone", 360]]) {
    await page.setViewportSize({width, height: 800});
    widths[name] = await page.evaluate(() => document.documentElement.scrollWidth);
    await page.screenshot({path: join(options.screenshots, `${name}.png`), fullPage: true});
  }
  await page.emulateMedia({colorScheme: "dark"});
  await page.screenshot({path: join(options.screenshots, "dark.png"), fullPage: true});
  const refused = await page.evaluate(() => new Promise(resolve => {
    document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
    fetch("http://127.0.0.1:9/").catch(() => {});
  }));
  return {widths, refused, isolated: await page.evaluate(() => crossOriginIsolated)};
}

/** Reloads the page with a decoder.json that `change` has edited. */
async function withSidecar(page, change) {
  await page.route("**/decoder.json", async route => {
    const response = await route.fetch(), json = await response.json();
    change(json);
    await route.fulfill({response, json});
  });
  await page.reload();
  await idle(page);
}

const acts = {
  /** Everything that there is to set, on both accelerators. */
  async everything(page, look) {
    await look("wasm");
    await set(page, "rows", 3);
    await set(page, "temperature", 1.2);
    await set(page, "seed", 2 ** 40 + 1);
    await check(page, "[name=chosen][value='2']");
    await set(page, "kept", 1);
    await set(page, "other", 4);
    await set(page, "fraction", 0.25);
    await look("set");
    await settled(page, () => page.click("#redraw"));
    await look("redrawn");
    await check(page, "[value=webgpu]");
    await look("webgpu");
    await check(page, "[value=sample]");
    await look("drawn");
    await look("outlook", await outlook(page));
  },

  async keyboard(page, look) {
    await look("before", {stops: await tabbed(page)});
    await page.focus("#temperature");
    await settled(page, () => page.keyboard.press("ArrowRight"));
    await page.focus("#next-seed");
    await settled(page, () => page.keyboard.press("Enter"));
    await page.focus("[name=chosen]:checked");
    await settled(page, () => page.keyboard.press("ArrowRight"));
    await page.focus("#other");
    await settled(page, () => page.keyboard.press("ArrowDown"));
    await page.focus("#kept");
    await settled(page, () => page.keyboard.press("End"));
    await look("after");
  },

  async accelerators(page, look) {
    await set(page, "rows", 2);
    await look("wasm");
    await check(page, "[value=webgpu]");
    await look("webgpu");
    await check(page, "[value=sample]");
    await look("drawn");
  },

  /** Back on the page after WebGPU was chosen on it. */
  async back(page, look) {
    await set(page, "rows", 2);
    await check(page, "[value=webgpu]");
    await look("webgpu");
    await page.goto("about:blank");
    await page.goBack();
    await idle(page);
    await look("back");
  },

  async nothing(page, look) {
    await look("opened");
  },

  async touched(page, look) {
    await look("opened");
    await set(page, "rows", 2);
    await look("touched");
  },

  /** A decoder that samples only the first two of nine groups, at a temperature beyond the slider's range. */
  async fewerGroups(page, look) {
    await withSidecar(page, sidecar => Object.assign(sidecar, {num_groups: 9, temperature: 2.02}));
    await look("opened");
  },

  async withoutInputs(page, look) {
    await withSidecar(page, sidecar => delete sidecar.inputs);
    await look("opened");
  },

  async withoutLiteRt(page, look) {
    await page.route("**/litert_wasm*.js", route => route.abort());
    await page.reload();
    await idle(page);
    await look("opened");
  },

  async withoutModel(page, look) {
    await page.route("**/*.tflite", route => route.fulfill({status: 404}));
    await page.reload();
    await idle(page);
    await look("opened");
  },
};

const context = await chromium.launchPersistentContext(options.profile, {
  executablePath: options.browser,
  headless: true,
  args: options.flags,
  viewport: {width: 1280, height: 800},
});
context.setDefaultTimeout(120_000);
const results = {}, requests = new Set(), errors = [];
context.on("request", request => requests.add(request.url()));
try {
  for (const {name, url, act} of options.steps) {
    const page = await context.newPage();
    page.on("pageerror", error => errors.push(error.message));
    await page.goto(url);
    await idle(page);
    results[name] = {};
    await acts[act](page, async (moment, more) => results[name][moment] = {...await seen(page), ...more});
    await page.close();
  }
} finally {
  await context.close();
}
console.log(JSON.stringify({results, requests: [...requests], errors}));
