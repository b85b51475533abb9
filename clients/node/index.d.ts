/// <reference types="node" />

/** A string is stored as UTF-8. A key has 1 to 1,024 bytes. */
export type Bytes = string | Uint8Array | ArrayBuffer | DataView | NodeJS.TypedArray;

export interface CacheOptions {
  /** Which cache. Default: MEMSTREAM_NAME, or "default". */
  name?: string;
  /** "posix" or "sysv". */
  backend?: string;
  /** Bytes of a new segment. */
  size?: number;
  /** Parts of a new segment, 1 to 64. */
  shards?: number;
  /** Permission bits of a new segment, such as 0o660. */
  mode?: number;
  /** Group of a new segment, by name or number. */
  group?: string;
  /** Bytes of the largest value that a new segment must accept. */
  maxValue?: number;
  /** Longest wait for a lock, in milliseconds. Default: MEMSTREAM_TIMEOUT_MS, or 20. The event loop stands still meanwhile. */
  timeout?: number;
  /** Take no lock and write nothing. */
  readOnly?: boolean;
  /** Fail with CACHE_NO_SEGMENT if the segment does not exist. */
  existing?: boolean;
  /** Also write to a segment that another user made. */
  anyOwner?: boolean;
  owner?: string;
  hugepages?: 'off' | 'try' | 'require';
  prefault?: 'off' | 'on';
  checksum?: 'off' | 'on';
}

export interface StoreOptions {
  /** Milliseconds to live, above 0. Default: for ever. */
  ttl?: number;
  /** 32 bits of the caller, stored with the value. */
  flags?: number;
}

export interface Entry {
  value: Buffer;
  /** For cas(). Every write of the entry changes it. */
  token: bigint;
  flags: number;
  /** Unix time in milliseconds. */
  createdAt: number;
  /** Unix time in milliseconds; undefined: never. */
  expiresAt: number | undefined;
}

export interface Stats {
  maxMemory: number;
  usedMemory: number;
  pinnedMemory: number;
  maxValueSize: number;
  entries: number;
  shards: number;
  processes: number;
  hits: number;
  misses: number;
  puts: number;
  deletes: number;
  evictions: number;
  expirations: number;
  deadProcesses: number;
}

export interface MemoizeOptions<T> extends StoreOptions {
  /** Longest wait for another process that computes, in milliseconds; then this one computes too. Default: 10,000. */
  wait?: number;
  /** Milliseconds after which another caller may compute too. Default: as long as the process lives. */
  lease?: number;
  /** Makes the bytes of a value. Default: JSON.stringify. */
  encode?: (value: T) => Bytes;
  /** Makes the value of its bytes. Default: JSON.parse. */
  decode?: (bytes: Buffer) => T;
  /** Receives the error of a value that was computed and could not be stored. Default: a process warning. */
  onNotStored?: (error: CacheError) => void;
}

/** An error of the library. Its message names the values of the case and says what to do. */
export interface CacheError extends Error {
  /** Such as "CACHE_TOO_LARGE". */
  code: string;
  /** Such as -3. */
  status: number;
}

/** The right to compute a missing value. It ends with its process, and with any write of the key. */
export class Lease {
  readonly token: bigint;
  /** Stores the value and ends the lease. False: the lease had ended before, and nothing is stored. */
  fulfil(value: Bytes, options?: StoreOptions | number): boolean;
  /** Ends the lease without a value. False: it had ended before. */
  release(): boolean;
}

/**
 * A cache that all processes and worker threads of the machine share. Calls are synchronous: each reads or writes
 * shared memory and returns. An object belongs to the thread that made it.
 */
export class Cache {
  constructor(options?: CacheOptions | string);
  /** A copy of the value; undefined for a miss. */
  get(key: Bytes): Buffer | undefined;
  /** The value as text in UTF-8. */
  getString(key: Bytes): string | undefined;
  /** The value with its token, flags and times. */
  getEntry(key: Bytes): Entry | undefined;
  /** A number is the time to live. */
  set(key: Bytes, value: Bytes, options?: StoreOptions | number): void;
  /** Stores if the key has no entry. Returns whether it did. */
  add(key: Bytes, value: Bytes, options?: StoreOptions | number): boolean;
  /** Stores if the key has an entry. Returns whether it did. */
  replace(key: Bytes, value: Bytes, options?: StoreOptions | number): boolean;
  /** Stores if the entry has not changed since its token was taken. Returns whether it did. */
  cas(key: Bytes, value: Bytes, token: bigint, options?: StoreOptions | number): boolean;
  /** Returns whether the key was there. */
  delete(key: Bytes): boolean;
  has(key: Bytes): boolean;
  /** Gives an entry another time to live. Returns whether the key is there. */
  touch(key: Bytes, ttl?: number): boolean;
  /** Adds to a decimal number. Undefined: there is no entry and no `initial`. Throws beyond the safe integers. */
  incr(key: Bytes, delta?: number, options?: { initial?: number; ttl?: number }): number | undefined;
  incr(key: Bytes, delta: bigint, options?: { initial?: bigint | number; ttl?: number }): bigint | undefined;
  /** The values in the order of the keys. */
  getMany(keys: Iterable<Bytes>): (Buffer | undefined)[];
  getManyStrings(keys: Iterable<Bytes>): (string | undefined)[];
  setMany(values: Iterable<[Bytes, Bytes]> | Record<string, Bytes>, options?: StoreOptions | number): void;
  /** Returns how many of the keys were there. */
  deleteMany(keys: Bytes[]): number;
  clear(): void;
  /** The keys that begin with the prefix. Others may store and remove keys meanwhile. */
  keys(prefix?: string | Uint8Array): Generator<Buffer, void>;
  /** "held": another caller computes. "exists": the key has an entry, and not the stale one. */
  lease(key: Bytes, options?: { duration?: number; stale?: bigint }): Lease | 'held' | 'exists';
  /** The value of the key, which one caller of all processes computes if it is missing. Waiting blocks no event loop. */
  memoize<T>(key: string | Uint8Array, compute: () => T | Promise<T>, options?: MemoizeOptions<T>): Promise<T>;
  stats(): Stats;
  /** How the segment differs from what was asked for; empty if it does not. */
  openNote(): string;
  /** Ends the use of this object. The segment and its contents stay. */
  close(): void;
  /** Removes the segment for all processes, and closes. */
  destroy(): void;
}

/** The version of libcache.so. */
export const version: string;
