// Loopback HTTP server: serves the pages and bundles, and is the sync backend.
//
//   POST /ns/<ns>/api/v1/sync/batch   {operations:[{id, op, data}]}  at most 100 per request
//   GET  /ns/<ns>/api/v1/sync/pull?since=<n>&limit=<n>               -> {records, checkpoint, hasMore}
//   /ns/<ns>/api/v1/landfall/...      docs/PROTOCOL.md, see landfall-protocol.mjs
//   /ns/<ns>/couch/db/...             the part of the CouchDB protocol that PouchDB replication needs
//
// A namespace is created on first use and remembers what was pushed to it, for verification.
import http from 'node:http';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { landfallBackend } from './landfall-protocol.mjs';

export const MAX_BATCH = 100;
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.mjs': 'text/javascript', '.json': 'application/json', '.wasm': 'application/wasm' };
const ISOLATION = {
  // Cross-origin isolation gives the page 5 us timers instead of 100 us.
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Cross-Origin-Embedder-Policy': 'require-corp',
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cache-Control': 'no-store',
};

export async function startServer({ records, roots }) {
  const namespaces = new Map();
  const dataJson = JSON.stringify(records);
  const pullCache = new Map();

  const namespace = (name) => {
    let ns = namespaces.get(name);
    if (!ns) namespaces.set(name, (ns = { requests: 0, bytes: 0, received: new Map(), local: new Map(), total: records.length }));
    return ns;
  };

  const accept = (ns, id, data) => {
    const seen = ns.received.get(id);
    if (seen) { seen.count++; seen.data = data; } else ns.received.set(id, { count: 1, data });
  };

  const pull = (since, limit, total) => {
    const key = `${since}/${limit}/${total}`;
    let body = pullCache.get(key);
    if (!body) {
      const page = records.slice(since, Math.min(total, since + limit));
      body = Buffer.from(JSON.stringify({ records: page, checkpoint: since + page.length, hasMore: since + page.length < total }));
      pullCache.set(key, body);
    }
    return body;
  };

  const landfall = landfallBackend({ records, accept });

  const server = http.createServer(async (req, res) => {
    const send = (status, body, type = 'application/json') => {
      const buf = Buffer.isBuffer(body) ? body : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
      res.writeHead(status, { ...ISOLATION, 'Content-Type': type, 'Content-Length': buf.length });
      res.end(buf);
    };
    try {
      const url = new URL(req.url, 'http://localhost');
      const parts = url.pathname.split('/').filter(Boolean);
      if (parts[0] === 'data.json') return send(200, dataJson);
      if (parts[0] === 'ns') {
        const ns = namespace(parts[1]);
        const body = req.method === 'GET' ? null : await readBody(req);
        if (body) { ns.requests++; ns.bytes += body.length; }
        if (parts[2] === 'couch') return couch({ ns, parts: parts.slice(4), url, req, body, send });
        if (parts[2] === 'api' && parts[3] === 'v1' && parts[4] === 'landfall') return landfall({ ns, what: parts[5], url, req, body, send });
        if (parts[2] === 'api' && parts[3] === 'v1' && parts[4] === 'sync') {
          if (parts[5] === 'batch') {
            const { operations } = JSON.parse(body);
            if (operations.length > MAX_BATCH) return send(413, { error: `more than ${MAX_BATCH} operations` });
            for (const op of operations) accept(ns, op.id, op.data);
            return send(200, { results: operations.map((op) => ({ id: op.id, status: 'ok' })), checkpoint: ns.received.size });
          }
          if (parts[5] === 'pull') {
            ns.requests++;
            const since = Number(url.searchParams.get('since') || 0);
            const limit = Math.min(1000, Number(url.searchParams.get('limit') || 100));
            const out = pull(since, limit, ns.total);
            ns.bytes += out.length;
            return send(200, out);
          }
        }
        return send(404, { error: 'not found' });
      }
      const root = roots[parts[0]];
      if (!root) return send(404, 'not found', 'text/plain');
      const file = path.join(root, ...parts.slice(1));
      if (!file.startsWith(root)) return send(403, 'no', 'text/plain');
      return send(200, await readFile(file), TYPES[path.extname(file)] || 'application/octet-stream');
    } catch (err) {
      if (!res.headersSent) send(err.code === 'ENOENT' ? 404 : 500, String(err), 'text/plain');
    }
  });

  // --- CouchDB replication protocol, just enough for PouchDB push and pull -------------------
  const rev = (i) => `1-${String(i).padStart(32, '0')}`;
  function couch({ ns, parts, url, req, body, send }) {
    const [what, id] = parts;
    if (!what) return send(200, { db_name: 'db', update_seq: records.length, instance_start_time: '0' });
    if (what === '_local') {
      if (req.method === 'PUT') { ns.local.set(id, JSON.parse(body)); return send(201, { ok: true, id: '_local/' + id, rev: '0-1' }); }
      const doc = ns.local.get(id);
      return doc ? send(200, { ...doc, _id: '_local/' + id, _rev: '0-1' }) : send(404, { error: 'not_found', reason: 'missing' });
    }
    if (what === '_revs_diff') {
      return send(200, Object.fromEntries(Object.entries(JSON.parse(body)).map(([k, revs]) => [k, { missing: revs }])));
    }
    if (what === '_bulk_docs') {
      for (const { _id, _rev, _revisions, ...data } of JSON.parse(body).docs) accept(ns, _id, { id: _id, ...data });
      return send(201, []);
    }
    if (what === '_changes') {
      const since = Number(url.searchParams.get('since') || 0);
      const limit = Number(url.searchParams.get('limit') || 100);
      const page = records.slice(since, since + limit);
      return send(200, {
        results: page.map((r, i) => ({ seq: since + i + 1, id: r.id, changes: [{ rev: rev(since + i) }] })),
        last_seq: since + page.length, pending: Math.max(0, records.length - since - page.length),
      });
    }
    if (what === '_bulk_get') {
      const docs = JSON.parse(body).docs;
      return send(200, { results: docs.map(({ id: docId, rev: r }) => {
        const { id: _, ...data } = records[Number(docId.slice(5))];
        return { id: docId, docs: [{ ok: { _id: docId, _rev: r, _revisions: { start: 1, ids: [r.slice(2)] }, ...data } }] };
      }) });
    }
    return send(404, { error: 'not_found', reason: 'unsupported' });
  }

  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { port: server.address().port, namespace, drop: (n) => namespaces.delete(n), close: () => server.close() };
}

function readBody(req) {
  return new Promise((resolve, reject) => {
    const chunks = [];
    req.on('data', (c) => chunks.push(c));
    req.on('end', () => resolve(Buffer.concat(chunks)));
    req.on('error', reject);
  });
}
