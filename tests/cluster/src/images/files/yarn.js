#!/usr/local/bin/node
// The file operations of yarn 1 without a network: "install" makes one folder per
// package in node_modules and fills the cache folder, scripts run as yarn runs them.
'use strict';
const fs = require('fs');
const path = require('path');
const { spawnSync } = require('child_process');

function fail(message) {
  console.error(`error ${message}`);
  process.exit(1);
}

function packages(manifest, production) {
  const wanted = { ...manifest.dependencies, ...(production ? {} : manifest.devDependencies) };
  return Object.keys(wanted).sort().map((name) => ({ name, version: wanted[name].replace(/^[^0-9]*/, '') }));
}

function install(manifest, args) {
  if (args.includes('--frozen-lockfile') && !fs.existsSync('yarn.lock')) {
    fail('Your lockfile needs to be updated, but yarn was run with `--frozen-lockfile`.');
  }
  const at = args.indexOf('--cache-folder');
  const cache = at < 0 ? path.join(process.env.HOME || '/root', '.cache/yarn') : args[at + 1];
  const list = packages(manifest, args.includes('--production'));
  const keep = new Set(list.map(({ name }) => name));
  fs.mkdirSync('node_modules', { recursive: true });
  for (const name of fs.readdirSync('node_modules')) {
    if (!name.startsWith('.') && !keep.has(name)) fs.rmSync(path.join('node_modules', name), { recursive: true });
  }
  for (const { name, version } of list) {
    const cached = path.join(cache, 'v6', `npm-${name.replace('/', '-')}-${version}`);
    const files = {
      'package.json': `${JSON.stringify({ name, version, main: 'index.js' }, null, 2)}\n`,
      'index.js': `module.exports = ${JSON.stringify({ name, version })};\n`,
    };
    for (const folder of [cached, path.join('node_modules', name)]) {
      fs.mkdirSync(folder, { recursive: true });
      for (const [file, text] of Object.entries(files)) {
        const target = path.join(folder, file);
        if (!fs.existsSync(target) || fs.readFileSync(target, 'utf8') !== text) fs.writeFileSync(target, text);
      }
    }
  }
  fs.writeFileSync('node_modules/.yarn-integrity', `${JSON.stringify([...keep])}\n`);
  console.log(`success Installed ${list.length} packages.`);
}

function run(manifest, name, args) {
  const script = (manifest.scripts || {})[name];
  if (script === undefined) fail(`Command "${name}" not found.`);
  const env = { ...process.env, PATH: `${process.cwd()}/node_modules/.bin:${process.env.PATH}` };
  const command = [script, ...args].join(' ');
  const result = spawnSync('/bin/sh', ['-c', command], { stdio: 'inherit', env });
  process.exit(result.status === null ? 1 : result.status);
}

const [command = 'install', ...args] = process.argv.slice(2);
if (!fs.existsSync('package.json')) {
  // As yarn 1 does it: an empty project installs nothing, and succeeds.
  if (command === 'install') {
    console.log('info No lockfile found.');
    process.exit(0);
  }
  fail("Couldn't find a package.json file.");
}
const manifest = JSON.parse(fs.readFileSync('package.json', 'utf8'));
if (command === 'install') install(manifest, args);
else if (command === 'run') run(manifest, args[0], args.slice(1));
else run(manifest, command, args);
