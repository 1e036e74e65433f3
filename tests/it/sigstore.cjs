// Asks @sigstore/verify about a bundle: node sigstore.cjs MODULES BUNDLE KEY. Ends with 0 where it is signed by the key, with 1 where not.
'use strict';
const { createPublicKey } = require('node:crypto');
const { readFileSync } = require('node:fs');
const { createRequire } = require('node:module');

const [modules, bundle, key] = process.argv.slice(2);
const from = createRequire(`${modules}/`);
const { bundleFromJSON } = from('@sigstore/bundle');
const { Verifier, toSignedEntity, toTrustMaterial } = from('@sigstore/verify');

// No authority, no log, no clock: one key alone is trusted.
const root = { mediaType: 'application/vnd.dev.sigstore.trustedroot+json;version=0.1', tlogs: [], certificateAuthorities: [], ctlogs: [], timestampAuthorities: [] };
const material = toTrustMaterial(root, () => ({ publicKey: createPublicKey(readFileSync(key)), validFor: () => true }));
const verifier = new Verifier(material, { ctlogThreshold: 0, tlogThreshold: 0, timestampThreshold: 0 });
try {
  verifier.verify(toSignedEntity(bundleFromJSON(JSON.parse(readFileSync(bundle, 'utf8')))));
} catch (error) {
  console.error(`${error.code ?? error.name}: ${error.message}`);
  process.exit(1);
}
