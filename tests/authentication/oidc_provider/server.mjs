// A certified OpenID provider (npm: oidc-provider) for the tests: server.mjs PORT CERTIFICATE KEY MODULES
// POST /rotate makes new keys, as a provider does from time to time. Prints "ready" when it listens.
import crypto from "node:crypto";
import fs from "node:fs";
import https from "node:https";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [port, certificate, key, modules] = process.argv.slice(2);
const entry = path.join(modules, "oidc-provider", "lib", "index.js");
const { default: Provider } = await import(pathToFileURL(entry));
const issuer = `https://127.0.0.1:${port}`;
let generation = 0;

function provider() {
  generation += 1;
  const { privateKey } = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
  const jwk = { ...privateKey.export({ format: "jwk" }), kid: `key-${generation}`, use: "sig", alg: "RS256" };
  const made = new Provider(issuer, {
    clients: [
      {
        client_id: "kubernetes",
        client_secret: "not-so-secret",
        redirect_uris: ["http://127.0.0.1/callback"],
        grant_types: ["authorization_code"],
        response_types: ["code"],
      },
      {
        client_id: "kubegate-cli",
        application_type: "native",
        token_endpoint_auth_method: "none",
        redirect_uris: ["http://127.0.0.1/callback"],
        grant_types: ["authorization_code", "refresh_token", "urn:ietf:params:oauth:grant-type:device_code"],
        response_types: ["code"],
      },
    ],
    jwks: { keys: [jwk] },
    cookies: { keys: ["cookie-key"] },
    conformIdTokenClaims: false,
    claims: { openid: ["sub", "groups"] },
    features: { devInteractions: { enabled: true }, deviceFlow: { enabled: true } },
    ttl: { IdToken: Number(process.env.ID_TOKEN_SECONDS ?? 3600) },
    async findAccount(_, id) {
      return { accountId: id, claims: () => ({ sub: id, groups: ["dev", "ops"] }) };
    },
  });
  return made.callback();
}

let current = provider();
const options = { cert: fs.readFileSync(certificate), key: fs.readFileSync(key) };
https
  .createServer(options, (request, response) => {
    if (request.method === "POST" && request.url === "/rotate") {
      current = provider();
      response.end("rotated");
    } else {
      current(request, response);
    }
  })
  .listen(Number(port), "127.0.0.1", () => console.log("ready"));
