// A store for Keyv 5: https://keyv.org. keyv.d.ts documents it.
'use strict';

const { EventEmitter } = require('node:events');
const v8 = require('node:v8');
const { Cache } = require('./index.js');

// What the flags of an entry say about its bytes.
const TEXT = 0;
const BINARY = 1;
const STRUCTURED = 2;

class KeyvMemStream extends EventEmitter {
  #owned;

  constructor(options = {}) {
    super();
    const { cache, prefix = 'keyv:', ...rest } = options instanceof Cache ? { cache: options } : options;
    this.#owned = cache === undefined;
    this.cache = cache ?? new Cache(rest);
    this.prefix = prefix;
    // Keyv 5 gives keyv.iterator to stores of the dialects on its own list alone; it uses the dialect for nothing else.
    this.opts = { ...rest, dialect: 'redis', url: 'memstream:' };
    this.namespace = undefined;
  }

  #name(key) {
    return this.prefix + key;
  }

  #pack(value) {
    if (typeof value === 'string') return [value, TEXT];
    if (value instanceof Uint8Array) return [value, BINARY];
    return [v8.serialize(value), STRUCTURED];
  }

  #unpack(entry) {
    if (entry === undefined) return undefined;
    if (entry.flags === TEXT) return entry.value.toString();
    return entry.flags === BINARY ? entry.value : v8.deserialize(entry.value);
  }

  async get(key) {
    return this.#unpack(this.cache.getEntry(this.#name(key)));
  }

  async getMany(keys) {
    return keys.map((key) => this.#unpack(this.cache.getEntry(this.#name(key))));
  }

  async set(key, value, ttl) {
    if (value === undefined) return undefined;
    const [bytes, flags] = this.#pack(value);
    this.cache.set(this.#name(key), bytes, { ttl: ttl > 0 ? ttl : undefined, flags });
    return true;
  }

  async setMany(entries) {
    for (const { key, value, ttl } of entries) await this.set(key, value, ttl);
  }

  async delete(key) {
    return this.cache.delete(this.#name(key));
  }

  async deleteMany(keys) {
    return this.cache.deleteMany(keys.map((key) => this.#name(key))) > 0;
  }

  async has(key) {
    return this.cache.has(this.#name(key));
  }

  async hasMany(keys) {
    return keys.map((key) => this.cache.has(this.#name(key)));
  }

  // The names of a namespace; without one, all of this store.
  * #names(namespace) {
    yield* this.cache.keys(this.prefix + (namespace ? `${namespace}:` : ''));
  }

  async clear() {
    this.cache.deleteMany([...this.#names(this.namespace)]);
  }

  async* iterator(namespace) {
    for (const name of this.#names(namespace)) {
      const entry = this.cache.getEntry(name);
      if (entry !== undefined) yield [name.toString().slice(this.prefix.length), this.#unpack(entry)];
    }
  }

  async disconnect() {
    if (this.#owned) this.cache.close();
  }
}

module.exports = { KeyvMemStream, default: KeyvMemStream };
