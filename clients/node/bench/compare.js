// Compares MemStream with Redis on a Unix socket, by ioredis: one awaited call at a time, and pipelines.
//
//     node clients/node/bench/compare.js [SECONDS]     for each measurement; default 1
//
// Starts a redis-server of its own. Measures in turns, five rounds, and prints medians.
'use strict';

const { spawn } = require('node:child_process');
const fs = require('node:fs');
const { createRequire } = require('node:module');
const os = require('node:os');
const path = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');

const BUILD = path.join(__dirname, '..', '..', '..', 'build', 'node');
const Redis = createRequire(`${BUILD}/`)('ioredis');
const { Cache } = require('../lib/index.js');

const SECONDS = Number(process.argv[2] ?? 1);
const KEYS = 10000;
const ROUNDS = 5;
const VALUE = Buffer.alloc(100, 'x');
const keys = Array.from({ length: KEYS }, (_, at) => `user:${at}:profile`);

// Calls a second of `perform(place)`, which does `each` of them.
async function rate(perform, each) {
  const end = performance.now() + SECONDS * 1000;
  const start = performance.now();
  let done = 0;
  do {
    for (let at = 0; at < 16; ++at) await perform((done + at * each) % KEYS);
    done += 16 * each;
  } while (performance.now() < end);
  return (done / (performance.now() - start)) * 1000;
}

const median = (numbers) => [...numbers].sort((a, b) => a - b)[numbers.length >> 1];

async function main() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'memstream-bench-'));
  const socket = path.join(folder, 'redis.sock');
  const server = spawn('redis-server', ['--port', '0', '--unixsocket', socket, '--save', '', '--appendonly', 'no'], { stdio: 'ignore' });
  const cache = new Cache({ name: `node-bench-${process.pid}`, size: 64 << 20 });
  try {
    while (!fs.existsSync(socket)) await pause(10);
    const redis = new Redis(socket);
    for (const key of keys) {
      cache.set(key, VALUE);
      await redis.set(key, VALUE);
    }
    const part = (place, count) => Array.from({ length: count }, (_, at) => keys[(place + at) % KEYS]);
    const ways = [
      ['get, awaited', 1, async (place) => cache.get(keys[place]), (place) => redis.getBuffer(keys[place])],
      ['get of text, awaited', 1, async (place) => cache.getString(keys[place]), (place) => redis.get(keys[place])],
      ['set, awaited', 1, async (place) => cache.set(keys[place], VALUE), (place) => redis.set(keys[place], VALUE)],
    ];
    for (const count of [16, 100]) {
      ways.push([`get, ${count} in one`, count, async (place) => cache.getMany(part(place, count)), (place) => {
        const pipeline = redis.pipeline();
        for (const key of part(place, count)) pipeline.getBuffer(key);
        return pipeline.exec();
      }]);
      ways.push([`get, ${count} by mget`, count, async (place) => cache.getMany(part(place, count)), (place) => redis.mgetBuffer(part(place, count))]);
    }
    console.log('calls a second      MemStream      Redis      ratio');
    for (const [name, each, ours, theirs] of ways) {
      const pairs = [];
      for (let round = 0; round < ROUNDS; ++round) pairs.push([await rate(ours, each), await rate(theirs, each)]);
      const [a, b, ratio] = [pairs.map(([x]) => x), pairs.map(([, y]) => y), pairs.map(([x, y]) => x / y)].map(median);
      console.log(`${name.padEnd(20)}${a.toFixed(0).padStart(9)}${b.toFixed(0).padStart(11)}${ratio.toFixed(1).padStart(11)}`);
    }
    redis.disconnect();
  } finally {
    cache.destroy();
    server.kill();
    await new Promise((resolve) => server.once('exit', resolve));
    fs.rmSync(folder, { recursive: true });
  }
}

main();
