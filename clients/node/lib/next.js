// A cache handler for Next.js 14 to 16 (`cacheHandler` of next.config.js): all server processes of a machine share one
// cache, and revalidateTag() of one of them holds for all. next.d.ts documents it.
//
// Each tag has a stamp, whose id changes when the tag is revalidated. An entry keeps the ids of its tags, and is outdated
// as soon as one of them differs or is gone. So an entry never outlives the revalidation of a tag whose stamp the cache
// has evicted meanwhile.
'use strict';

const { randomBytes } = require('node:crypto');
const v8 = require('node:v8');
const { Cache } = require('./index.js');

const TAGS_HEADER = 'x-next-cache-tags';
// Entries without a lifetime of their own leave the cache by eviction alone.
const caches = new Map();

function openCache(name) {
  if (!caches.has(name)) caches.set(name, new Cache(name === undefined ? {} : { name }));
  return caches.get(name);
}

const makeId = () => randomBytes(9).toString('base64');

// How an entry stands to the times of a stamp: what was stored before `revalidated` is outdated; what was stored before
// `stale` is to be renewed, and outdated from `expired` on.
function judge({ revalidated, stale, expired }, lastModified) {
  if (revalidated >= lastModified) return 'outdated';
  if (!(stale >= lastModified)) return 'fresh';
  return expired <= Date.now() ? 'outdated' : 'stale';
}

class MemStreamCacheHandler {
  constructor(context = {}) {
    this.cache = openCache(process.env.MEMSTREAM_NEXT_NAME);
    this.prefix = `next:${process.env.MEMSTREAM_NEXT_PREFIX ?? ''}`;
    this.revalidatedTags = context.revalidatedTags ?? [];
  }

  #entryName(key) {
    const name = `${this.prefix}:entry:${key}`;
    if (Buffer.byteLength(name) <= 1024) return name;
    return `${this.prefix}:entry:${require('node:crypto').createHash('sha256').update(key).digest('hex')}`;
  }

  #tagName(tag) {
    return `${this.prefix}:tag:${tag}`;
  }

  // The stamps of tags; undefined where there is none.
  #stamps(tags) {
    const names = tags.map((tag) => this.#tagName(tag));
    return this.cache.getManyStrings(names).map((text) => (text === undefined ? undefined : JSON.parse(text)));
  }

  // The id of a tag's stamp, which is made if there is none.
  #idOf(tag) {
    const name = this.#tagName(tag);
    for (;;) {
      const text = this.cache.getString(name);
      if (text !== undefined) return JSON.parse(text).id;
      this.cache.add(name, JSON.stringify({ id: makeId() }));
    }
  }

  async get(key, context = {}) {
    const bytes = this.cache.get(this.#entryName(key));
    if (bytes === undefined) return null;
    const { value, lastModified, cacheControl, tags, ids } = v8.deserialize(bytes);
    const asked = [...(context.tags ?? []), ...(context.softTags ?? [])];
    if ([...tags, ...asked].some((tag) => this.revalidatedTags.includes(tag))) return null;
    const states = this.#stamps(tags).map((stamp, at) => (stamp?.id === ids[at] ? judge({ ...stamp, revalidated: undefined }, lastModified) : 'outdated'));
    // Tags that the entry was stored without, such as those of its path: only the time of their revalidation tells.
    for (const stamp of this.#stamps(asked.filter((tag) => !tags.includes(tag)))) {
      if (stamp !== undefined) states.push(judge(stamp, lastModified));
    }
    if (states.includes('outdated')) return null;
    const isStale = states.includes('stale');
    return { value, lastModified: isStale ? -1 : lastModified, cacheControl };
  }

  async set(key, data, context = {}) {
    const name = this.#entryName(key);
    if (data === null || data === undefined) {
      this.cache.delete(name);
      return;
    }
    const header = data.headers?.[TAGS_HEADER];
    const tags = [...new Set([...(context.tags ?? []), ...(data.tags ?? []), ...(typeof header === 'string' ? header.split(',') : [])])];
    const entry = {
      value: data,
      lastModified: Date.now(),
      cacheControl: context.fetchCache ? undefined : context.cacheControl,
      tags,
      ids: tags.map((tag) => this.#idOf(tag)),
    };
    const { expire } = context.cacheControl ?? {};
    this.cache.set(name, v8.serialize(entry), { ttl: expire > 0 ? expire * 1000 : undefined });
  }

  async revalidateTag(tags, durations) {
    for (const tag of [tags].flat()) {
      if (durations) {
        this.#makeStale(tag, durations.expire);
      } else {
        this.cache.set(this.#tagName(tag), JSON.stringify({ id: makeId(), revalidated: Date.now() }));
      }
    }
  }

  // Next.js 16 renews such entries in the background: they keep their id until `expire` seconds have passed.
  #makeStale(tag, expire) {
    const name = this.#tagName(tag);
    const now = Date.now();
    for (;;) {
      const entry = this.cache.getEntry(name);
      const known = entry === undefined ? { id: makeId() } : JSON.parse(entry.value.toString());
      const stamp = JSON.stringify({ ...known, stale: now, expired: expire === undefined ? undefined : now + expire * 1000 });
      if (entry === undefined ? this.cache.add(name, stamp) : this.cache.cas(name, stamp, entry.token)) return;
    }
  }

  resetRequestCache() {}
}

module.exports = MemStreamCacheHandler;
module.exports.default = MemStreamCacheHandler;
