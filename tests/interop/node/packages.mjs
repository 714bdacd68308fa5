// Finds packages in the directory that MAILHOST_NODE_MODULES names, and reads the test's options.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';

const require = createRequire(`${process.env.MAILHOST_NODE_MODULES}/x.js`);

export const load = (name) => require(name);

export const options = JSON.parse(process.argv[2]);

export const tls = { ca: readFileSync(options.certificate), servername: 'localhost' };

export const answer = (value) => process.stdout.write(JSON.stringify(value));
