// The cases that every language runs: tests/conformance/README.md.
'use strict';

const assert = require('node:assert');
const fs = require('node:fs');
const path = require('node:path');
const test = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');
const { makeSegment } = require('./segment.js');

const file = path.join(__dirname, '..', '..', '..', 'tests', 'conformance', 'cases.json');
const { segment, cases } = JSON.parse(fs.readFileSync(file, 'utf8'));

function bytes(given) {
  if (typeof given === 'string') return Buffer.from(given);
  return given.hex === undefined ? Buffer.from(given.repeat.repeat(given.count)) : Buffer.from(given.hex, 'hex');
}

// Text as text: the addon encodes it.
const keyOf = (given) => (typeof given === 'string' ? given : bytes(given));
const storing = (step) => ({ ttl: step.ttl_ms, flags: step.flags });

// Each returns the status that its outcome stands for. cas() does not tell a conflict from a miss.
const calls = {
  get(cache, step, key, saved) {
    const entry = cache.getEntry(key);
    assert.deepStrictEqual(cache.get(key), entry?.value);
    if (entry === undefined) return 'MISS';
    assert.ok(entry.value.equals(bytes(step.value)));
    if (step.flags !== undefined) assert.strictEqual(entry.flags, step.flags);
    if (step.save) saved[step.save] = entry.token;
    return 'OK';
  },
  set: (cache, step, key) => (cache.set(key, bytes(step.value), storing(step)), 'OK'),
  add: (cache, step, key) => (cache.add(key, bytes(step.value), storing(step)) ? 'OK' : 'EXISTS'),
  replace: (cache, step, key) => (cache.replace(key, bytes(step.value), storing(step)) ? 'OK' : 'MISS'),
  cas(cache, step, key, saved) {
    if (cache.cas(key, bytes(step.value), saved[step.token], storing(step))) return 'OK';
    return ['CONFLICT', 'MISS'].includes(step.expect) ? step.expect : 'CONFLICT';
  },
  delete: (cache, step, key) => (cache.delete(key) ? 'OK' : 'MISS'),
  exists: (cache, step, key) => (cache.has(key) ? 'OK' : 'MISS'),
  touch: (cache, step, key) => (cache.touch(key, step.ttl_ms) ? 'OK' : 'MISS'),
  ttl(cache, step, key) {
    const entry = cache.getEntry(key);
    if (entry === undefined) return 'MISS';
    assert.strictEqual(entry.expiresAt === undefined, step.never === true);
    if (entry.expiresAt !== undefined) {
      const left = entry.expiresAt - Date.now();
      assert.ok(left >= step.at_least && left <= step.at_most, `${left} ms are left`);
    }
    return 'OK';
  },
  incr(cache, step, key) {
    const initial = step.initial === undefined ? undefined : BigInt(step.initial);
    const sum = cache.incr(key, BigInt(step.delta), { initial, ttl: step.ttl_ms });
    if (sum === undefined) return 'MISS';
    assert.strictEqual(sum, BigInt(step.result));
    return 'OK';
  },
  get_many(cache, step) {
    const found = cache.getMany(step.keys.map(keyOf));
    assert.deepStrictEqual(found, step.values.map((value) => (value === null ? undefined : bytes(value))));
    return 'OK';
  },
  set_many(cache, step) {
    cache.setMany(Object.entries(step.values).map(([key, value]) => [key, bytes(value)]), storing(step));
    return 'OK';
  },
  delete_many(cache, step) {
    assert.strictEqual(cache.deleteMany(step.keys), step.removed);
    return 'OK';
  },
  lease(cache, step, key, saved) {
    const lease = cache.lease(key);
    if (typeof lease === 'string') return lease.toUpperCase();
    saved[step.save] = lease;
    return 'OK';
  },
  fulfil: (cache, step, key, saved) => (saved[step.token].fulfil(bytes(step.value)) ? 'OK' : 'CONFLICT'),
  release: (cache, step, key, saved) => (saved[step.token].release() ? 'OK' : 'CONFLICT'),
  clear: (cache) => (cache.clear(), 'OK'),
  wait: async (cache, step) => (await pause(step.ms), 'OK'),
};

for (const { name, steps } of cases) {
  test(name, async () => {
    const { cache } = makeSegment({ size: segment.size_bytes, shards: segment.shards });
    const saved = {};
    for (const step of steps) {
      let status;
      let message = '';
      try {
        status = await calls[step.call](cache, step, step.key === undefined ? undefined : keyOf(step.key), saved);
      } catch (error) {
        if (!error.code?.startsWith('CACHE_')) throw error;
        status = error.code.slice('CACHE_'.length);
        message = error.message;
      }
      assert.strictEqual(status, step.expect, JSON.stringify(step));
      assert.ok(message.includes(step.message ?? ''), message);
    }
  });
}
