// Installs the npm package that scripts/languages.sh pack-node makes into a folder of its own, and uses it from there.
//
//     node packed.js PACKAGE.tgz VERSION
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { spawnSync } = require('node:child_process');

const FILES = ['README.md', 'index.d.ts', 'keyv.d.ts', 'libcache.so.1', 'memstream.node', 'next.d.ts', 'package.json'];

// What a user's program does: every entry of the package, in a process that knows nothing of a source tree.
const PROGRAM = `
const fs = require('node:fs');
const { Cache } = require('memstream');
const { KeyvMemStream } = require('memstream/keyv');
const Handler = require('memstream/next');
const cache = new Cache({ name: 'npm-' + process.pid, size: 4 << 20 });
(async () => {
  cache.set('key', 'value', { ttl: 60000 });
  const computed = await cache.memoize('report', async () => 'made');
  const store = new KeyvMemStream({ cache });
  await store.set('a', 'b');
  const libraries = new Set(fs.readFileSync('/proc/self/maps', 'utf8').match(/\\/.*(?:libcache|memstream\\.node).*/g));
  console.log(JSON.stringify({
    value: cache.getString('key'),
    computed: String(computed),
    stored: await store.get('a'),
    handler: typeof Handler,
    version: require('memstream/package.json').version,
    libraries: [...libraries],
  }));
})().finally(() => cache.destroy());
`;

function run(folder, command, ...words) {
  const environment = { PATH: process.env.PATH, HOME: folder };
  return spawnSync(command, words, { cwd: folder, env: environment, encoding: 'utf8' });
}

function checkUse(folder, archive, version) {
  fs.writeFileSync(path.join(folder, 'package.json'), '{"private": true}');
  // Neither the registry nor a compiler is needed, and no script runs.
  const options = ['--offline', '--ignore-scripts', '--no-audit', '--no-fund'];
  const installed = run(folder, 'npm', 'install', ...options, archive);
  assert.strictEqual(installed.status, 0, installed.stdout + installed.stderr);
  const place = path.join(folder, 'node_modules', 'memstream');
  assert.deepStrictEqual(fs.readdirSync(path.dirname(place)).filter((name) => !name.startsWith('.')), ['memstream']);
  assert.deepStrictEqual(fs.readdirSync(place).sort(), [...FILES, 'lib'].sort());
  const used = run(folder, process.execPath, '-e', PROGRAM);
  assert.strictEqual(used.status, 0, used.stderr);
  const said = JSON.parse(used.stdout);
  assert.deepStrictEqual(said.libraries.sort(), ['libcache.so.1', 'memstream.node'].map((name) => path.join(place, name)));
  delete said.libraries;
  assert.deepStrictEqual(said, { value: 'value', computed: 'made', stored: 'b', handler: 'function', version });
}

// npm itself refuses to pack the source folder, which has neither the addon nor the library.
function checkRefusal(folder) {
  const source = path.join(__dirname, '..');
  const refused = run(folder, 'npm', 'pack', '--pack-destination', folder, source);
  assert.notStrictEqual(refused.status, 0, 'npm packs a folder without an addon');
  assert.match(refused.stderr, /memstream\.node is missing.*scripts\/languages\.sh pack-node/);
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'memstream-npm-'));
try {
  checkUse(folder, path.resolve(process.argv[2]), process.argv[3]);
  checkRefusal(folder);
} finally {
  fs.rmSync(folder, { recursive: true });
}
console.log('the npm package installs and serves without a source tree, a compiler or a network');
