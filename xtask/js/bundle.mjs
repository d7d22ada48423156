/**
 * What a user's bundler ships of the npm package: `node bundle.mjs ENTRY FILE…` bundles and
 * minifies ENTRY, adds the FILEs (the wasm), and prints the sizes of both as JSON.
 */
import { readFileSync } from "node:fs";
import { brotliCompressSync, constants, gzipSync } from "node:zlib";
import { rolldown } from "rolldown";

const [entry, ...files] = process.argv.slice(2);

/** @param {Uint8Array[]} parts each is compressed by itself, as a server would send it */
function sizes(parts) {
  const sum = (of) => parts.reduce((total, part) => total + of(part), 0);
  const params = { [constants.BROTLI_PARAM_QUALITY]: 11 };
  return {
    raw: sum((part) => part.byteLength),
    gzip: sum((part) => gzipSync(part, { level: 9 }).byteLength),
    brotli: sum((part) => brotliCompressSync(part, { params }).byteLength),
  };
}

const bundle = await rolldown({ input: entry, platform: "browser", treeshake: true });
const { output } = await bundle.generate({ format: "esm", minify: true });
await bundle.close();

const chunks = output.filter((part) => part.type === "chunk").map((part) => Buffer.from(part.code));
console.log(JSON.stringify({ js: sizes(chunks), wasm: sizes(files.map((f) => readFileSync(f))) }));
