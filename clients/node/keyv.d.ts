import { EventEmitter } from 'node:events';
import { Cache, CacheOptions } from './index';

/**
 * A store for Keyv 5. Keyv's keys get the prefix "keyv:", so clear() leaves the keys of other programs alone.
 *
 *     new Keyv({ store: new KeyvMemStream({ name: 'sessions' }) })
 */
export class KeyvMemStream extends EventEmitter {
  constructor(options?: Cache | (CacheOptions & { cache?: Cache; prefix?: string }));
  readonly cache: Cache;
  readonly prefix: string;
  opts: Record<string, unknown>;
  namespace: string | undefined;
  get<Value>(key: string): Promise<Value | undefined>;
  getMany<Value>(keys: string[]): Promise<Array<Value | undefined>>;
  set(key: string, value: unknown, ttl?: number): Promise<true | undefined>;
  setMany(entries: Array<{ key: string; value: unknown; ttl?: number }>): Promise<void>;
  delete(key: string): Promise<boolean>;
  deleteMany(keys: string[]): Promise<boolean>;
  has(key: string): Promise<boolean>;
  hasMany(keys: string[]): Promise<boolean[]>;
  clear(): Promise<void>;
  iterator<Value>(namespace?: string): AsyncGenerator<[string, Value], void>;
  /** Closes the cache if the store opened it. */
  disconnect(): Promise<void>;
}
export default KeyvMemStream;
