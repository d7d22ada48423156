import { defineConfig } from "vite";

/** Where a server listens while `npm run dev` serves the page. */
const server = process.env.LANDFALL_SERVER ?? "http://127.0.0.1:8787";

export default defineConfig({
  build: {
    target: "es2022",
    // index.html is the demo; lab.html is a blank page for the browser checks (tests/e2e).
    rollupOptions: { input: ["index.html", "lab.html"] },
  },
  // The package finds its wasm beside itself, which pre-bundling would break.
  optimizeDeps: { exclude: ["landfall"] },
  server: { proxy: { "/api": server, "/demo": server } },
});
