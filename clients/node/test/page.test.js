// The examples of docs/languages.md in JavaScript, as they stand but for the names of modules.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const { test } = require('node:test');
const { Cache } = require('../lib/index.js');

const page = fs.readFileSync(path.join(__dirname, '../../../docs/languages.md'), 'utf8');
const blocks = [...page.matchAll(/^```js\n(.*?)^```$/gms)].map((found) => found[1]);
const AsyncFunction = (async () => {}).constructor;

// Keyv's own suite, in keyv.test.js, needs the real one.
class Keyv {
  static made = [];

  constructor(options) {
    Keyv.made.push(options);
  }
}

// Runs a block. Its modules are those of the tree, and the name of its cache is one of this process.
async function run(block, names = {}) {
  const lib = path.join(__dirname, '../lib');
  const here = (name) => name.replace('./clients/node', lib).replace('memstream/', `${lib}/`);
  const load = Object.assign((name) => (name === 'keyv' ? { Keyv } : require(here(name))), { resolve: (name) => require.resolve(here(name)) });
  const given = { require: load, module: {}, ...names };
  const text = block.replaceAll("'site'", `'node-page-${process.pid}'`);
  await new AsyncFunction(...Object.keys(given), text)(...Object.values(given));
  return given;
}

test('the page has an example of the package, of Keyv and of Next.js', () => {
  assert.strictEqual(blocks.length, 3);
});

test('the example of the package runs and stores what it says', async () => {
  await run(blocks[0], { makeReport: async () => 'made' });
  const cache = new Cache({ name: `node-page-${process.pid}`, existing: true });
  try {
    assert.deepStrictEqual(cache.getManyStrings(['key', 'visits', 'report']), ['value', '1', '"made"']);
  } finally {
    cache.destroy();
  }
});

test('the example of Keyv makes a store that keeps a value', async () => {
  await run(blocks[1]);
  const [{ store, namespace }] = Keyv.made;
  try {
    assert.strictEqual(namespace, 'users');
    await store.set('users:7', 'Ada');
    assert.strictEqual(await store.get('users:7'), 'Ada');
  } finally {
    store.cache.destroy();
  }
});

test('the example of Next.js names a module that has a handler', async () => {
  const { module: settings } = await run(blocks[2]);
  assert.strictEqual(typeof require(settings.exports.cacheHandler).prototype.revalidateTag, 'function');
});
