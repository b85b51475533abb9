/**
 * A cache handler for Next.js 14 to 16. In next.config.js:
 *
 *     module.exports = { cacheHandler: require.resolve('memstream/next'), cacheMaxMemorySize: 0 };
 *
 * MEMSTREAM_NEXT_NAME names the cache. MEMSTREAM_NEXT_PREFIX keeps several sites in one cache apart.
 */
declare class MemStreamCacheHandler {
  constructor(context?: { revalidatedTags?: string[] });
  get(key: string, context?: object): Promise<{ value: unknown; lastModified: number; cacheControl?: object } | null>;
  set(key: string, data: unknown, context?: object): Promise<void>;
  revalidateTag(tags: string | string[], durations?: { expire?: number }): Promise<void>;
  resetRequestCache(): void;
}
export = MemStreamCacheHandler;
