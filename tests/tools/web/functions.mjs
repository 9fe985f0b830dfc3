// Calls functions of the page's modules for tests: reads [{module, name, arguments}] as JSON, writes what each gives.
// {float32: [...]} and {uint32: [...]} stand for typed arrays.
import {readFileSync} from "node:fs";

const [folder] = process.argv.slice(2);
const revive = value => {
  if (value?.float32) return Float32Array.from(value.float32);
  return value?.uint32 ? Uint32Array.from(value.uint32) : value;
};
const plain = value => ArrayBuffer.isView(value) ? Array.from(value) : Array.isArray(value) ? value.map(plain) : value;

const results = [];
for (const call of JSON.parse(readFileSync(0, "utf8"))) {
  const module = await import(`${folder}/${call.module}`);
  try {
    results.push({value: plain(module[call.name](...call.arguments.map(revive)))});
  } catch (error) {
    results.push({error: error.message});
  }
}
console.log(JSON.stringify(results));
