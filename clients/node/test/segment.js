// A segment of its own for each test file, which is gone when the file has run.
'use strict';

const { after } = require('node:test');
const { Cache } = require('../lib/index.js');

let number = 0;

function makeSegment(options = {}) {
  const given = { name: `node-test-${process.pid}-${++number}`, size: 8 << 20, shards: 1, ...options };
  const cache = new Cache(given);
  after(() => cache.destroy());
  return { cache, options: given };
}

module.exports = { makeSegment };
