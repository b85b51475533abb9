// A process or worker of the tests: waits for a start, memoizes one key, and tells how often it computed.
'use strict';

const { workerData, parentPort, isMainThread } = require('node:worker_threads');
const { setTimeout: pause } = require('node:timers/promises');
const { Cache } = require('../lib/index.js');

const { options, role } = isMainThread ? JSON.parse(process.argv[2]) : workerData;
const cache = new Cache(options);
const tell = (message) => (isMainThread ? process.send(message) : parentPort.postMessage(message));

async function main() {
  let computed = 0;
  if (role === 'holder') {
    // Takes the lease, says so, and never comes back.
    cache.lease('key');
    tell({ ready: true });
    return new Promise((resolve) => setTimeout(resolve, 60000));
  }
  const value = await cache.memoize('key', async () => {
    computed += 1;
    await pause(300);
    return { by: process.pid };
  });
  tell({ computed, value, attached: cache.stats().processes });
  cache.close();
  if (isMainThread) process.disconnect();
  return undefined;
}

main();
