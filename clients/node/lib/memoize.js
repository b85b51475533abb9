// Leases, and what is built on them: one caller of all processes computes a missing value, the others wait for it.
//
// Waiting is asking again after some milliseconds, by a timer: no call blocks the event loop, and no thread of libuv's
// pool is occupied. Callers of one process share one promise, so a process asks for each key once at a time.
'use strict';

const FIRST_PAUSE_MS = 1;
const LONGEST_PAUSE_MS = 10;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Lease {
  #cache;
  #key;

  constructor(cache, key, token) {
    this.#cache = cache;
    this.#key = key;
    this.token = token;
  }

  fulfil(value, options) {
    const { ttl, flags } = typeof options === 'number' ? { ttl: options } : (options ?? {});
    return this.#cache._fulfil(this.#key, value, this.token, ttl, flags);
  }

  release() {
    return this.#cache._releaseLease(this.#key, this.token);
  }
}

// Waits until the lease that another caller holds has ended. "ended": by its holder or a write; "lost": the holder
// died; "late": the time is over.
async function follow(cache, key, deadline) {
  let followed = 0n;
  let state;
  for (let ms = FIRST_PAUSE_MS; ; ms = Math.min(ms * 1.25, LONGEST_PAUSE_MS)) {
    [state, followed] = cache._followLease(key, followed);
    if (state !== 'held') return state;
    if (performance.now() >= deadline) return 'late';
    await pause(ms);
  }
}

// Computes under the lease and stores the result. A failure ends the lease, so that another caller tries.
async function computeAndFulfil(cache, key, token, compute, { ttl, flags, encode, onNotStored }) {
  let value;
  let bytes;
  try {
    value = await compute();
    bytes = value === undefined ? undefined : encode(value);
  } catch (error) {
    cache._releaseLease(key, token);
    throw error;
  }
  if (bytes === undefined) {
    cache._releaseLease(key, token);
    return value;
  }
  try {
    cache._fulfil(key, bytes, token, ttl, flags);
  } catch (error) {
    // The value is right, though it is not stored: the caller gets it.
    try {
      cache._releaseLease(key, token);
    } finally {
      onNotStored(error);
    }
  }
  return value;
}

async function computeAlone(cache, key, compute, { ttl, flags, encode, onNotStored }) {
  const value = await compute();
  const bytes = value === undefined ? undefined : encode(value);
  if (bytes !== undefined) {
    try {
      cache._add(key, bytes, ttl, flags);
    } catch (error) {
      onNotStored(error);
    }
  }
  return value;
}

async function lookOrCompute(cache, key, compute, options) {
  const deadline = performance.now() + options.wait;
  for (;;) {
    const found = cache.get(key);
    if (found !== undefined) return options.decode(found);
    const token = cache._lease(key, options.lease);
    if (typeof token === 'bigint') return computeAndFulfil(cache, key, token, compute, options);
    if (token === 'exists') continue;
    const state = await follow(cache, key, deadline);
    if (state === 'lost') continue;
    const stored = cache.get(key);
    if (stored !== undefined) return options.decode(stored);
    return computeAlone(cache, key, compute, options);
  }
}

function warn(error) {
  process.emitWarning(`A memoized value was not stored: ${error.message}`, { code: error.code });
}

const DEFAULTS = {
  wait: 10000,
  encode: JSON.stringify,
  decode: (bytes) => JSON.parse(bytes.toString()),
  onNotStored: warn,
};

// The promise of a key's value. `pending` are the promises of this cache that are not settled yet.
function memoize(cache, pending, key, compute, options) {
  if (typeof compute !== 'function') {
    return Promise.reject(new TypeError('Invalid compute: expected a function that returns the value or its promise.'));
  }
  const name = typeof key === 'string' ? key : Buffer.from(key).toString('latin1') + '\0binary';
  const shared = pending.get(name);
  if (shared) return shared;
  const promise = lookOrCompute(cache, key, compute, { ...DEFAULTS, ...options }).finally(() => pending.delete(name));
  pending.set(name, promise);
  return promise;
}

module.exports = { memoize, Lease };
