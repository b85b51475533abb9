// Makes one HTML file of the page: scripts and styles lie in it, and its policy names them by their hash, so that nothing
// else can run.
import { createHash } from "node:crypto";
import { defineConfig } from "vite";

const hash = (text) => `'sha256-${createHash("sha256").update(text, "utf8").digest("base64")}'`;

function oneFile() {
  return {
    name: "one-file",
    enforce: "post",
    generateBundle(_, bundle) {
      const files = Object.values(bundle);
      const page = files.find((file) => file.fileName === "index.html");
      const script = files.filter((file) => file.type === "chunk").map((file) => file.code).join("\n");
      const style = files.filter((file) => file.fileName.endsWith(".css")).map((file) => file.source).join("\n");
      if (/<\/script/i.test(script) || /<\/style/i.test(style)) throw new Error("The bundle would end its own element.");
      const policy = [
        "default-src 'none'",
        `script-src ${hash(script)}`,
        `style-src ${hash(style)}`,
        "img-src data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
      ].join("; ");
      page.source = String(page.source)
        .replace(/\s*<script type="module"[^>]*><\/script>/, "")
        .replace(/\s*<link rel="(stylesheet|modulepreload)"[^>]*>/g, "")
        .replace("%POLICY%", () => policy)
        .replace("<!--STYLE-->", () => `<style>${style}</style>`)
        .replace("<!--SCRIPT-->", () => `<script type="module">${script}</script>`);
      for (const file of files) {
        if (file !== page) delete bundle[file.fileName];
      }
    },
  };
}

export default defineConfig({
  build: { target: "es2022", cssCodeSplit: false, modulePreload: false, assetsInlineLimit: 1e8 },
  plugins: [oneFile()],
});
