// Next.js itself with the cache handler: builds the site in site/ and starts two servers on one cache.
//
//     node next_site.js FOLDER     FOLDER has next, react and react-dom in its node_modules
'use strict';

const assert = require('node:assert');
const { spawn, spawnSync } = require('node:child_process');
const { once } = require('node:events');
const fs = require('node:fs');
const path = require('node:path');
const { setTimeout: pause } = require('node:timers/promises');
const { Cache } = require('../lib/index.js');

const folder = path.resolve(process.argv[2]);
const next = path.join(folder, 'node_modules', 'next', 'dist', 'bin', 'next');
const name = `node-site-${process.pid}`;
const env = {
  ...process.env,
  MEMSTREAM_NEXT_NAME: name,
  MEMSTREAM_SIZE: '32M',
  NEXT_TELEMETRY_DISABLED: '1',
};

// The package as npm would install it.
function installPackage() {
  const source = path.join(__dirname, '..');
  const installed = path.join(folder, 'node_modules', 'memstream');
  const build = path.join(source, '..', '..', 'build');
  fs.mkdirSync(installed, { recursive: true });
  for (const part of ['lib', 'package.json']) fs.cpSync(path.join(source, part), path.join(installed, part), { recursive: true });
  for (const file of ['memstream.node', 'libcache.so.1']) fs.copyFileSync(path.join(build, file), path.join(installed, file));
}

async function startServer(port) {
  const server = spawn(process.execPath, [next, 'start', '-p', String(port)], { cwd: folder, env, stdio: 'ignore' });
  for (let tries = 0; tries < 300; ++tries) {
    try {
      await fetch(`http://127.0.0.1:${port}/revalidate`);
      return server;
    } catch {
      await pause(100);
    }
  }
  throw new Error(`The server on port ${port} does not answer.`);
}

const made = async (port) => /made by (?:<!-- -->)?([\d.]+)/.exec(await (await fetch(`http://127.0.0.1:${port}/`)).text())[1];

// The answer that both servers settle on, when they have settled: a stale page may come once more.
async function settled(ports, before) {
  for (let tries = 0; tries < 100; ++tries) {
    const answers = [];
    for (const port of ports) answers.push(await made(port));
    if (answers.every((answer) => answer === answers[0] && answer !== before)) return answers[0];
    await pause(100);
  }
  throw new Error(`The servers do not agree on a page other than ${before}.`);
}

async function main() {
  fs.cpSync(path.join(__dirname, 'site'), folder, { recursive: true });
  installPackage();
  const build = spawnSync(process.execPath, [next, 'build'], { cwd: folder, env, encoding: 'utf8' });
  assert.strictEqual(build.status, 0, build.stdout + build.stderr);
  const cache = new Cache({ name, size: 32 << 20 });
  const ports = [20000 + (process.pid % 10000) * 2, 20001 + (process.pid % 10000) * 2];
  const servers = [];
  try {
    for (const port of ports) servers.push(await startServer(port));
    let before = await settled(ports);
    for (const port of [...ports, ...ports]) {
      await fetch(`http://127.0.0.1:${port}/revalidate`, { method: 'POST' });
      before = await settled(ports, before);
    }
    const kept = before;
    for (const port of ports) assert.strictEqual(await made(port), kept);
    assert.ok([...cache.keys('next:')].length > 0);
    console.log('Next.js revalidates across two servers, in both directions');
  } finally {
    for (const server of servers) {
      server.kill();
      await once(server, 'exit');
    }
    cache.destroy();
  }
}

main();
