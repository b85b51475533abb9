// Many processes and threads on one cache: cluster's and worker_threads' ways of having several.
'use strict';

const assert = require('node:assert');
const { fork } = require('node:child_process');
const cluster = require('node:cluster');
const { once } = require('node:events');
const path = require('node:path');
const test = require('node:test');
const { setTimeout: pause } = require('node:timers/promises');
const { Worker } = require('node:worker_threads');
const { makeSegment } = require('./segment.js');

const CHILD = path.join(__dirname, 'child.js');
const startProcess = (given) => fork(CHILD, [JSON.stringify(given)]);
const startWorker = (given) => new Worker(CHILD, { workerData: given });
function startClusterWorker(given) {
  cluster.setupPrimary({ exec: CHILD, args: [JSON.stringify(given)] });
  return cluster.fork();
}

for (const [kind, start] of Object.entries({ processes: startProcess, worker_threads: startWorker, cluster: startClusterWorker })) {
  test(`of several ${kind} one computes, and all get its value`, async () => {
    const { cache, options } = makeSegment();
    const children = Array.from({ length: 4 }, () => start({ options }));
    const ends = children.map((child) => once(child, 'exit'));
    const answers = await Promise.all(children.map(async (child) => (await once(child, 'message'))[0]));
    assert.strictEqual(answers.reduce((sum, { computed }) => sum + computed, 0), 1);
    assert.strictEqual(new Set(answers.map(({ value }) => value.by)).size, 1);
    for (const [code] of await Promise.all(ends)) assert.strictEqual(code, 0);
    assert.strictEqual(cache.stats().processes, 1);
  });
}

test('callers of one process share one computation', async () => {
  const { cache } = makeSegment();
  let computed = 0;
  const compute = async () => (await pause(50), ++computed);
  const values = await Promise.all(Array.from({ length: 20 }, () => cache.memoize('key', compute)));
  assert.deepStrictEqual(new Set(values), new Set([1]));
  assert.strictEqual(await cache.memoize('key', compute), 1);
});

test('waiting for another process leaves the event loop free', async () => {
  const { cache, options } = makeSegment();
  const child = startProcess({ options });
  while (cache.lease('key') !== 'held') {
    cache.delete('key'); // Ends the lease that this process has got.
    await pause(1);
  }
  let longest = 0;
  let last = performance.now();
  const tick = () => {
    longest = Math.max(longest, performance.now() - last);
    last = performance.now();
  };
  const timer = setInterval(tick, 5);
  const answered = once(child, 'message');
  const value = await cache.memoize('key', () => assert.fail('the other process computes'));
  tick();
  clearInterval(timer);
  assert.strictEqual(value.by, child.pid);
  assert.ok(longest < 150, `the event loop stood still for ${longest} ms`);
  await answered;
});

test('a holder that is killed leaves the work to the next', async () => {
  const { cache, options } = makeSegment();
  const child = startProcess({ options, role: 'holder' });
  await once(child, 'message');
  const value = cache.memoize('key', () => 'mine');
  await pause(50);
  child.kill('SIGKILL');
  assert.strictEqual(await value, 'mine');
  assert.strictEqual(cache.getString('key'), '"mine"');
});

test('a caller waits no longer than it is told, and computes alone', async () => {
  const { cache, options } = makeSegment();
  const child = startProcess({ options, role: 'holder' });
  await once(child, 'message');
  assert.strictEqual(await cache.memoize('key', () => 'alone', { wait: 50 }), 'alone');
  child.kill('SIGKILL');
  await once(child, 'exit');
});

test('a failure reaches the caller and ends the lease; undefined is not stored', async () => {
  const { cache } = makeSegment();
  await assert.rejects(cache.memoize('key', async () => { throw new Error('no data'); }), /no data/);
  await assert.rejects(cache.memoize('key', () => 1n), TypeError);
  assert.strictEqual(await cache.memoize('key', () => undefined), undefined);
  assert.strictEqual(cache.has('key'), false);
  assert.strictEqual(await cache.memoize('key', () => 'now', { ttl: 50 }), 'now');
  await pause(120);
  assert.strictEqual(cache.has('key'), false);
  await assert.rejects(cache.memoize('key', 7), TypeError);
});

test('a value that cannot be stored is returned all the same, and reported', async () => {
  const { cache } = makeSegment();
  const large = 'x'.repeat(8 << 20);
  let reported;
  assert.strictEqual(await cache.memoize('key', () => large, { onNotStored: (error) => { reported = error; } }), large);
  assert.strictEqual(reported.code, 'CACHE_TOO_LARGE');
  assert.strictEqual(typeof cache.lease('key'), 'object');
});

test('a worker that ends leaves no handle open', async () => {
  const { cache, options } = makeSegment();
  const { Worker: Thread } = require('node:worker_threads');
  const source = `const { Cache } = require(${JSON.stringify(path.join(__dirname, '..', 'lib', 'index.js'))});
    new Cache(${JSON.stringify(options)}).lease('key');`;
  const worker = new Thread(source, { eval: true });
  await once(worker, 'exit');
  // Its lease went with its handle.
  assert.strictEqual(typeof cache.lease('key'), 'object');
});
