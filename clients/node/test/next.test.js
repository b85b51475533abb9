// The cache handler, by the calls that Next.js 16 makes: two server processes, each with a handler of its own.
'use strict';

const assert = require('node:assert');
const { fork } = require('node:child_process');
const { once } = require('node:events');
const test = require('node:test');
const { after, before } = test;
const { setTimeout: pause } = require('node:timers/promises');

process.env.MEMSTREAM_NEXT_NAME ??= `node-next-${process.pid}`;
process.env.MEMSTREAM_SIZE ??= '16M';
const Handler = require('../lib/next.js');
const { Cache } = require('../lib/index.js');

if (process.argv[2] === 'server') {
  // The other server process: performs what it is told.
  const handler = new Handler();
  process.on('message', async ({ call, parameters }) => process.send({ result: await handler[call](...parameters) }));
  process.send({ ready: true });
} else {
  let other;
  const ask = async (call, ...parameters) => {
    other.send({ call, parameters });
    return (await once(other, 'message'))[0].result;
  };
  before(async () => {
    other = fork(__filename, ['server']);
    await once(other, 'message');
  });
  after(() => {
    other.kill();
    new Cache({ name: process.env.MEMSTREAM_NEXT_NAME }).destroy();
  });

  const handler = new Handler();
  const page = (tags, html = '<p>page</p>') => ({
    kind: 'APP_PAGE',
    html,
    rscData: Buffer.from('rsc'),
    headers: { 'x-next-cache-tags': tags },
    status: 200,
    segmentData: new Map([['/_tree', Buffer.from('segment')]]),
  });
  const fetched = { kind: 'FETCH', data: { body: 'e30=', headers: {}, status: 200, url: 'https://example.org' }, tags: ['list'], revalidate: 60 };

  test('a page comes back with its buffers and maps', async () => {
    await handler.set('/page', page('a,_N_T_/page'), { cacheControl: { revalidate: 60, expire: 3600 } });
    const entry = await handler.get('/page', { kind: 'APP_PAGE' });
    assert.deepStrictEqual(entry.value, page('a,_N_T_/page'));
    assert.ok(Buffer.isBuffer(entry.value.rscData) && Buffer.isBuffer(entry.value.segmentData.get('/_tree')));
    assert.ok(Math.abs(Date.now() - entry.lastModified) < 1000);
    assert.deepStrictEqual(entry.cacheControl, { revalidate: 60, expire: 3600 });
    assert.strictEqual(await handler.get('/absent', { kind: 'APP_PAGE' }), null);
  });

  test('what one process stores and revalidates, the other sees', async () => {
    await handler.set('/shared', page('posts'), {});
    assert.strictEqual((await ask('get', '/shared', { kind: 'APP_PAGE' })).value.html, '<p>page</p>');
    await ask('revalidateTag', ['posts']);
    assert.strictEqual(await handler.get('/shared', { kind: 'APP_PAGE' }), null);
    await ask('set', '/shared', { kind: 'APP_PAGE', html: 'new', headers: { 'x-next-cache-tags': 'posts' } }, {});
    assert.strictEqual((await handler.get('/shared', { kind: 'APP_PAGE' })).value.html, 'new');
  });

  test('a fetch is outdated by its own tags and by the soft tags of its path', async () => {
    for (const tag of ['list', '_N_T_/page']) {
      await pause(2);
      await handler.set('fetch', fetched, { fetchCache: true, tags: ['list'] });
      await pause(2);
      const context = { kind: 'FETCH', tags: ['list'], softTags: ['_N_T_/page'] };
      assert.ok(await handler.get('fetch', context));
      await ask('revalidateTag', tag);
      assert.strictEqual(await handler.get('fetch', context), null);
    }
  });

  test('with a profile an entry is stale at first, and outdated when its time is over', async () => {
    await handler.set('/soft', page('soft'), {});
    await pause(2);
    await ask('revalidateTag', ['soft'], { expire: 0.2 });
    assert.strictEqual((await handler.get('/soft', { kind: 'APP_PAGE' })).lastModified, -1);
    await pause(250);
    assert.strictEqual(await handler.get('/soft', { kind: 'APP_PAGE' }), null);
    await handler.set('/soft', page('soft'), {});
    assert.ok((await handler.get('/soft', { kind: 'APP_PAGE' })).lastModified > 0);
    await ask('revalidateTag', ['soft']);
    await ask('revalidateTag', ['soft'], { expire: 60 });
    assert.strictEqual(await handler.get('/soft', { kind: 'APP_PAGE' }), null);
  });

  test('an entry does not outlive the stamp of its tag', async () => {
    await handler.set('/evicted', page('gone'), {});
    assert.ok(await handler.get('/evicted', { kind: 'APP_PAGE' }));
    handler.cache.delete('next::tag:gone');
    assert.strictEqual(await handler.get('/evicted', { kind: 'APP_PAGE' }), null);
    await handler.set('/other', page('gone'), {});
    assert.strictEqual(await handler.get('/evicted', { kind: 'APP_PAGE' }), null);
  });

  test('null removes an entry; a long key is an entry of its own', async () => {
    const long = `/${'x'.repeat(3000)}`;
    await handler.set(long, page('a'), {});
    assert.ok(await handler.get(long, { kind: 'APP_PAGE' }));
    assert.strictEqual(await handler.get(`${long}y`, { kind: 'APP_PAGE' }), null);
    await handler.set(long, null, {});
    assert.strictEqual(await handler.get(long, { kind: 'APP_PAGE' }), null);
    handler.resetRequestCache();
  });
}
