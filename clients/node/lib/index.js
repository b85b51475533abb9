// The package: the class Cache of the addon, with calls that need JavaScript. index.d.ts documents them.
'use strict';

const { markAsUntransferable } = require('node:worker_threads');
const { memoize, Lease } = require('./memoize.js');
const addon = require('./addon.js');

// So long a call may wait for a lock that another process holds. The event loop stands still meanwhile.
const TIMEOUT_MS = 20;

// Small values are parts of a common buffer, as those of Buffer.from() are: a memory of its own for each would cost more
// than the get.
const POOL_SIZE = 32768;
const POOLED_SIZE = 2048;
let pool;
let poolUsed = POOL_SIZE;

function renewPool() {
  pool = Buffer.allocUnsafeSlow(POOL_SIZE);
  markAsUntransferable(pool.buffer);
  poolUsed = 0;
}

const NOTHING = Object.freeze({});

// The options of a call that stores: a number is the time to live.
function storing(options) {
  if (options === undefined || options === null) return NOTHING;
  if (typeof options === 'number') return { ttl: options };
  if (typeof options === 'object') return options;
  throw new TypeError('Invalid options: expected milliseconds to live, or an object with ttl and flags.');
}

class Cache extends addon.Cache {
  #memos = new Map();

  constructor(options = {}) {
    if (typeof options !== 'string' && (typeof options !== 'object' || options === null)) {
      throw new TypeError('Invalid options: expected the name of a cache, or an object.');
    }
    const timeout = process.env.MEMSTREAM_TIMEOUT_MS === undefined ? TIMEOUT_MS : undefined;
    super(typeof options === 'string' ? { timeout, name: options } : { timeout, ...options });
  }

  get(key) {
    if (POOL_SIZE - poolUsed < POOLED_SIZE) renewPool();
    const size = this._into(key, pool, poolUsed, POOLED_SIZE);
    if (size === undefined) return undefined;
    if (size < 0) return this._get(key);
    const begin = poolUsed;
    poolUsed = (begin + size + 7) & ~7; // Aligned, for users who look at numbers in it.
    return pool.subarray(begin, begin + size);
  }

  set(key, value, options) {
    if (options === undefined) return this._set(key, value);
    const { ttl, flags } = storing(options);
    return this._set(key, value, ttl, flags);
  }

  add(key, value, options) {
    const { ttl, flags } = storing(options);
    return this._add(key, value, ttl, flags);
  }

  replace(key, value, options) {
    const { ttl, flags } = storing(options);
    return this._replace(key, value, ttl, flags);
  }

  cas(key, value, token, options) {
    const { ttl, flags } = storing(options);
    return this._cas(key, value, token, ttl, flags);
  }

  incr(key, delta = 1, { initial, ttl } = NOTHING) {
    return this._incr(key, delta, initial, ttl);
  }

  getMany(keys) {
    const asked = Array.isArray(keys) ? keys : [...keys];
    const spans = new Int32Array(2 * asked.length);
    const found = this._getMany(asked, false, spans);
    if (Array.isArray(found)) return found;
    const values = new Array(asked.length);
    for (let at = 0; at < values.length; ++at) {
      const begin = spans[2 * at];
      values[at] = begin < 0 ? undefined : found.subarray(begin, begin + spans[2 * at + 1]);
    }
    return values;
  }

  getManyStrings(keys) {
    return this._getMany(Array.isArray(keys) ? keys : [...keys], true);
  }

  setMany(values, options) {
    const { ttl, flags } = storing(options);
    const keys = [];
    const contents = [];
    for (const [key, value] of Symbol.iterator in values ? values : Object.entries(values)) {
      keys.push(key);
      contents.push(value);
    }
    return this._setMany(keys, contents, ttl, flags);
  }

  * keys(prefix = '') {
    const wanted = Buffer.from(prefix);
    let cursor = 0n;
    do {
      let keys;
      [cursor, keys] = this._scan(cursor);
      for (const key of keys) {
        if (key.subarray(0, wanted.length).equals(wanted)) yield key;
      }
    } while (cursor !== 0n);
  }

  lease(key, { duration, stale } = NOTHING) {
    const token = this._lease(key, duration, stale);
    return typeof token === 'bigint' ? new Lease(this, key, token) : token;
  }

  memoize(key, compute, options = NOTHING) {
    return memoize(this, this.#memos, key, compute, options);
  }

  [Symbol.dispose ?? Symbol.for('nodejs.dispose')]() {
    this.close();
  }
}

module.exports = { Cache, Lease, version: addon.version };
