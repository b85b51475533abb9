// Uses each declaration once; tsc compares it with what the declarations say.
import { Cache, CacheError, Lease } from '../index';
import { KeyvMemStream } from '../keyv';

const cache = new Cache({ name: 'types', size: 1 << 20 });
const bytes: Buffer | undefined = cache.get('key');
cache.set('key', bytes ?? Uint8Array.of(1), { ttl: 1000 });
const text: (string | undefined)[] = cache.getManyStrings(['a', 'b']);
cache.setMany({ a: 'b' }, 1000);
cache.setMany([['a', text[0] ?? '']]);
const sum: number | undefined = cache.incr('n', 1, { initial: 0 });
const large: bigint | undefined = cache.incr('n', 1n);
const lease: Lease | 'held' | 'exists' = cache.lease('key', { duration: 1000 });
if (typeof lease === 'object') lease.fulfil('value');
const value: Promise<{ a: number }> = cache.memoize('key', async () => ({ a: 1 }), { ttl: 1000 });
// @ts-expect-error: a value is bytes.
cache.set('key', 7);
// @ts-expect-error: a token is a bigint.
cache.cas('key', 'value', 7);
const code = (error: CacheError): string => error.code;
export { sum, large, value, code, KeyvMemStream };
