// Keyv's published suite for its stores, and what it does not ask for. Runs under vitest, as that suite does.
import { createRequire } from 'node:module';
import { expect, it } from 'vitest';
import * as vitest from 'vitest';
import suite, { keyvIteratorTests } from '@keyv/test-suite';
import { Keyv } from 'keyv';

const require = createRequire(import.meta.url);
const { Cache } = require(`${process.env.MEMSTREAM_NODE_PACKAGE}/lib/index.js`);
const { KeyvMemStream } = require(`${process.env.MEMSTREAM_NODE_PACKAGE}/lib/keyv.js`);

const cache = new Cache({ name: `node-keyv-${process.pid}`, size: 16 << 20 });

const store = () => new KeyvMemStream(cache);
suite(vitest, Keyv, store);
keyvIteratorTests(vitest, Keyv, store);

it('clears its own keys alone', async () => {
  cache.set('another program', 'stays');
  const keyv = new Keyv({ store: store() });
  await keyv.set('foo', 'bar');
  await new Keyv({ store: store(), namespace: undefined }).clear();
  expect(cache.getString('another program')).toBe('stays');
  expect([...cache.keys('keyv:')].length).toBeLessThanOrEqual(1);
});

it('lets an entry expire in the cache itself', async () => {
  const keyv = new Keyv({ store: store(), namespace: 'n' });
  await keyv.set('foo', 'bar', 30);
  expect(cache.has('keyv:n:foo')).toBe(true);
  await new Promise((resolve) => setTimeout(resolve, 60));
  expect(cache.has('keyv:n:foo')).toBe(false);
});

it('keeps strings, bytes and structures apart', async () => {
  const direct = store();
  for (const value of ['text', Buffer.from('bytes'), { deep: [1, new Map([[1, 2]])] }]) {
    await direct.set('key', value);
    expect(await direct.get('key')).toEqual(value);
  }
  expect(await direct.hasMany(['key', 'absent'])).toEqual([true, false]);
});

it('leaves no segment behind', () => {
  cache.destroy();
  expect(() => cache.get('key')).toThrow(/closed/);
});
