// A browser for browser_test.py: takes one request in JSON a line, and answers each with a line.
// Usage: node browser.mjs FOLDER_WITH_NODE_MODULES CHROMIUM FOLDER_FOR_THE_PROFILE
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { createInterface } from "node:readline";

const [modules, executablePath, profile] = process.argv.slice(2);
const require = createRequire(join(modules, "package.json"));
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const context = await chromium.launchPersistentContext(profile, {
  executablePath,
  headless: true,
  viewport: { width: 1440, height: 900 },
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const page = context.pages()[0] ?? (await context.newPage());
page.setDefaultTimeout(60_000);
const messages = [];
const requests = [];
page.on("console", (message) => messages.push(`${message.type()}: ${message.text()}`));
page.on("pageerror", (error) => messages.push(`error: ${error.message}`));
page.on("request", (request) => requests.push(request.url()));

const operations = {
  open: ({ url }) => page.goto(url).then(() => null),
  // The policy of the page forbids what waitForFunction() does.
  wait: async ({ script }) => {
    for (const end = Date.now() + 60_000; !(await page.evaluate(script)); ) {
      if (Date.now() > end) throw new Error(`never true: ${script}`);
      await new Promise((resolve) => setTimeout(resolve, 30));
    }
  },
  evaluate: ({ script }) => page.evaluate(script),
  click: ({ selector }) => page.click(selector).then(() => null),
  fill: ({ selector, text }) => page.fill(selector, text).then(() => null),
  press: ({ key }) => page.keyboard.press(key).then(() => null),
  scheme: ({ scheme }) => page.emulateMedia({ colorScheme: scheme }).then(() => null),
  size: ({ width, height }) => page.setViewportSize({ width, height }).then(() => null),
  picture: ({ path, whole }) => page.screenshot({ path, fullPage: whole }).then(() => null),
  seen: async () => ({ messages, requests }),
  axe: async () => {
    await page.evaluate(axe);
    const found = await page.evaluate(() => globalThis.axe.run(document));
    return found.violations
      .filter(({ impact }) => impact === "serious" || impact === "critical")
      .map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join("; ")}`);
  },
};

console.log(JSON.stringify({ ready: true }));
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line);
  try {
    console.log(JSON.stringify({ result: (await operations[request.operation](request)) ?? null }));
  } catch (error) {
    console.log(JSON.stringify({ error: String(error) }));
  }
}
await context.close();
