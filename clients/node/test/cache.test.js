// What the package adds to the calls that all languages share.
'use strict';

const assert = require('node:assert');
const test = require('node:test');
const { Cache } = require('../lib/index.js');
const { makeSegment } = require('./segment.js');

test('values are strings and views of bytes', () => {
  const { cache } = makeSegment();
  const bytes = Uint8Array.of(1, 2, 3, 4);
  for (const [value, expected] of [
    ['grün', Buffer.from('grün')],
    [Buffer.from('b'), Buffer.from('b')],
    [bytes.subarray(1, 3), Buffer.of(2, 3)],
    [bytes.buffer, Buffer.of(1, 2, 3, 4)],
    [new DataView(bytes.buffer, 2), Buffer.of(3, 4)],
    [new Uint16Array([0x0201]), Buffer.of(1, 2)],
  ]) {
    cache.set('key', value);
    assert.deepStrictEqual(cache.get('key'), expected);
  }
  cache.set('key', 'grün');
  assert.strictEqual(cache.getString('key'), 'grün');
  assert.strictEqual(cache.getString('absent'), undefined);
  assert.deepStrictEqual(cache.getManyStrings(new Set(['key', 'absent'])), ['grün', undefined]);
  assert.deepStrictEqual([...cache.keys()], [Buffer.from('key')]);
  assert.deepStrictEqual([...cache.keys('other')], []);
});

test('values beside and above the size of the first buffer come back whole, also many', () => {
  const { cache } = makeSegment({ size: 64 << 20 });
  const sizes = [0, 1, 16383, 16384, 16385, 1 << 20];
  const values = sizes.map((size) => Buffer.alloc(size, 'x'));
  cache.setMany(new Map(values.map((value, at) => [`v${at}`, value])));
  for (const [at, value] of values.entries()) {
    assert.ok(cache.get(`v${at}`).equals(value));
    assert.strictEqual(cache.getString(`v${at}`), value.toString());
    assert.strictEqual(cache.getEntry(`v${at}`).value.length, value.length);
  }
  const found = cache.getMany(sizes.map((size, at) => `v${at}`));
  assert.ok(found.every((value, at) => value.equals(values[at])));
  assert.strictEqual(cache.stats().pinnedMemory, 0);
});

test('a value stays as it is while others are fetched', () => {
  const { cache } = makeSegment();
  const count = 2000;
  for (let at = 0; at < count; ++at) cache.set(`${at}`, `value ${at}`.padEnd(at % 100, '.'));
  const found = Array.from({ length: count }, (_, at) => cache.get(`${at}`));
  const many = cache.getMany(found.map((_, at) => `${at}`));
  found.forEach((value, at) => {
    assert.strictEqual(value.toString(), `value ${at}`.padEnd(at % 100, '.'));
    assert.ok(value.equals(many[at]));
  });
});

test('an entry tells its token, flags and times', () => {
  const { cache } = makeSegment();
  const before = Date.now();
  cache.set('key', 'value', { ttl: 5000, flags: 7 });
  const entry = cache.getEntry('key');
  assert.strictEqual(typeof entry.token, 'bigint');
  assert.strictEqual(entry.flags, 7);
  assert.ok(Math.abs(entry.createdAt - before) < 1000 && Math.abs(entry.expiresAt - before - 5000) < 1000);
  cache.set('key', 'value', 5000);
  assert.ok(cache.getEntry('key').expiresAt > before);
});

test('a sum is a number, and a bigint where it was asked with one', () => {
  const { cache } = makeSegment();
  assert.strictEqual(cache.incr('n'), undefined);
  assert.strictEqual(cache.incr('n', 2, { initial: 40 }), 42);
  assert.strictEqual(cache.incr('n'), 43);
  assert.strictEqual(cache.incr('n', 1n), 44n);
  cache.set('n', String(Number.MAX_SAFE_INTEGER));
  assert.throws(() => cache.incr('n', 1), { name: 'RangeError', message: /stored/ });
  assert.strictEqual(cache.incr('n', 0n), BigInt(Number.MAX_SAFE_INTEGER) + 1n);
});

test('each wrong argument is an error that names it', () => {
  const { cache } = makeSegment();
  const range = { name: 'RangeError', code: 'ERR_OUT_OF_RANGE' };
  const type = { name: 'TypeError', code: 'ERR_INVALID_ARG_TYPE' };
  for (const ttl of [0, -1, NaN, Infinity, '5']) {
    assert.throws(() => cache.set('key', 'v', { ttl }), { ...range, message: /^Invalid ttl/ });
    assert.throws(() => cache.touch('key', ttl), range);
  }
  for (const flags of [-1, 0.5, 2 ** 32, 'x']) assert.throws(() => cache.set('key', 'v', { flags }), { ...range, message: /^Invalid flags/ });
  for (const value of [7, {}, undefined, null]) {
    assert.throws(() => cache.set('key', value), { ...type, message: /^Invalid value/ });
    assert.throws(() => cache.setMany([['key', value]]), type);
  }
  for (const key of [7, {}, undefined]) {
    for (const call of [() => cache.get(key), () => cache.delete(key), () => cache.getMany([key])]) {
      assert.throws(call, { ...type, message: /^Invalid key/ });
    }
  }
  for (const delta of [0.5, 2 ** 60, '1', 2n ** 64n]) assert.throws(() => cache.incr('n', delta), range);
  assert.throws(() => cache.cas('key', 'v', 7), { ...type, message: /^Invalid token/ });
  assert.throws(() => cache.set('key', 'v', 'soon'), TypeError);
  assert.throws(() => Cache.prototype.get.call({}, 'key'), TypeError);
  assert.throws(() => cache.set('', 'v'), { code: 'CACHE_BAD_KEY', status: -2 });
});

test('options reach the library, which names those that are not valid', () => {
  const { options } = makeSegment();
  const reader = new Cache({ ...options, readOnly: true });
  assert.throws(() => reader.set('key', 'v'), { code: 'CACHE_READ_ONLY' });
  reader.close();
  const other = new Cache({ ...options, size: 16 << 20 });
  assert.match(other.openNote(), /size|bytes|MiB/);
  other.close();
  assert.throws(() => new Cache({ name: 'a b' }), { code: 'CACHE_BAD_NAME', message: /'a b'/ });
  assert.throws(() => new Cache({ name: 'node-test-none', existing: true }), { code: 'CACHE_NO_SEGMENT' });
  assert.throws(() => new Cache({ size: -1 }), RangeError);
  assert.throws(() => new Cache({ name: 7 }), TypeError);
  assert.throws(() => new Cache({ readOnly: 'yes' }), TypeError);
  assert.throws(() => new Cache(7), TypeError);
});

test('a closed cache says so, and closing twice is harmless', () => {
  const { options } = makeSegment();
  const cache = new Cache(options);
  cache.close();
  cache.close();
  assert.throws(() => cache.get('key'), { code: 'CACHE_NOT_CONNECTED' });
});
