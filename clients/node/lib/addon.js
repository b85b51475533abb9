// Finds memstream.node: where MEMSTREAM_NODE_ADDON says, in the package, or in the build folder of a source tree.
'use strict';

const fs = require('node:fs');
const path = require('node:path');

function candidates() {
  if (process.env.MEMSTREAM_NODE_ADDON) return [path.resolve(process.env.MEMSTREAM_NODE_ADDON)];
  return [path.join(__dirname, '..', 'memstream.node'), path.join(__dirname, '..', '..', '..', 'build', 'memstream.node')];
}

const tried = candidates();
const found = tried.find((file) => fs.existsSync(file));
if (!found) {
  throw new Error(`The addon is missing: expected ${tried.join(' or ')}. Build it with scripts/languages.sh build-node.`);
}
module.exports = require(found);
