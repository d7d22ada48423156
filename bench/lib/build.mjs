// Bundles each adapter into dist/<name>/adapter.js and copies the assets it names. A package or asset
// that begins with ./ or ../ is looked up from the benchmark's own directory, any other in node_modules.
import { build } from 'esbuild';
import { existsSync } from 'node:fs';
import { cp, mkdir, readFile, readdir, rm } from 'node:fs/promises';
import path from 'node:path';
import zlib from 'node:zlib';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));
export const DIST = path.join(ROOT, 'dist');

const locate = (name) => (/^\.\.?\//.test(name) ? path.join(ROOT, name) : path.join(ROOT, 'node_modules', name));

export async function adapterNames() {
  const files = await readdir(path.join(ROOT, 'adapters'));
  return files.filter((f) => f.endsWith('.js') && !f.startsWith('_')).map((f) => f.slice(0, -3)).sort();
}

/** Returns {name, url, dir, meta, versions} for a peer in adapters/. */
export async function buildAdapter(name) {
  const dir = path.join(DIST, name);
  const meta = await readMeta(path.join(ROOT, 'adapters', name + '.js'));
  for (const needed of [...meta.packages, ...Object.keys(meta.assets || {})]) {
    if (!existsSync(locate(needed))) {
      throw new Error(`${name}: ${needed} is missing; ${needed.startsWith('.') ? 'build it first (cargo xtask build)' : 'run npm ci in bench/'}`);
    }
  }
  await rm(dir, { recursive: true, force: true });
  await mkdir(dir, { recursive: true });
  await build({
    entryPoints: { adapter: path.join(ROOT, 'adapters', name + '.js') },
    outdir: dir, bundle: true, format: 'esm', minify: true, target: 'es2022', platform: 'browser',
    legalComments: 'none', logLevel: 'error',
    define: { 'process.env.NODE_ENV': '"production"', global: 'globalThis' },
  });
  for (const [from, to] of Object.entries(meta.assets || {})) {
    await cp(locate(from), path.join(dir, to), { recursive: true });
  }
  const versions = {};
  for (const p of meta.packages) {
    const manifest = JSON.parse(await readFile(path.join(locate(p), 'package.json')));
    versions[manifest.name] = manifest.version;
  }
  return { name, url: `/dist/${name}/adapter.js`, dir, meta, versions };
}

/** A contender that is already built: a directory with adapter.js next to its own js and wasm. */
export async function externalAdapter(name, dir) {
  if (!existsSync(path.join(dir, 'adapter.js'))) throw new Error(`--contender ${name}: no adapter.js in ${dir}`);
  const meta = await readMeta(path.join(dir, 'adapter.js'));
  return { name, url: `/ext-${name}/adapter.js`, dir: path.resolve(dir), meta: { packages: [], ...meta, name }, versions: meta.versions || {}, external: true };
}

// `meta` is a plain object literal, so it can be read without loading the (browser-only) module.
async function readMeta(file) {
  const source = await readFile(file, 'utf8');
  const literal = source.match(/export const meta = (\{[\s\S]*?\});?\n(?=\S|\n|$)/);
  if (!literal) throw new Error(`${file}: no "export const meta = {...};"`);
  return new Function(`return (${literal[1]})`)();
}

/** Bytes of every .js/.mjs/.wasm in the contender's directory: raw, gzip -9, brotli 11. */
export async function sizeOf(dir) {
  const total = { raw: 0, gzip: 0, brotli: 0, wasmRaw: 0, files: 0 };
  for (const f of await readdir(dir, { recursive: true, withFileTypes: true })) {
    if (!f.isFile() || !/\.(m?js|wasm)$/.test(f.name)) continue;
    const buf = await readFile(path.join(f.parentPath ?? f.path, f.name));
    total.files++;
    total.raw += buf.length;
    if (f.name.endsWith('.wasm')) total.wasmRaw += buf.length;
    total.gzip += zlib.gzipSync(buf, { level: 9 }).length;
    total.brotli += zlib.brotliCompressSync(buf, { params: { [zlib.constants.BROTLI_PARAM_QUALITY]: 11 } }).length;
  }
  return total;
}
