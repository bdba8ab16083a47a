// oidc-provider, configured as an authorization server for service-to-service clients, and one small API
// that it protects. Nothing of the protocol is written here: only the configuration, the API and a counter.
//
// Protocol with the test process: one JSON line of settings comes in on stdin, one JSON line goes out on
// stdout once the server listens, and the server ends when stdin does, so that it never outlives the tests.

import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';

import { createLocalJWKSet, jwtVerify } from 'jose';
import Provider, { errors } from 'oidc-provider';

const API_SCOPES = 'api:read api:write';

/** The public half of a JWK of an elliptic curve. */
function publicJwk({ d, ...jwk }) {
  return jwk;
}

/** Make the configured Provider. A client's `lifetime` (seconds) wins over the server's. */
function makeProvider(issuer, settings, signingKey) {
  const lifetimes = new Map(settings.clients.map((client) => [client.client_id, client.lifetime]));
  const lifetimeOf = (client) => lifetimes.get(client.clientId) ?? settings.lifetime;

  return new Provider(issuer, {
    clients: settings.clients.map((client) => ({
      client_id: client.client_id,
      client_secret: client.client_secret,
      token_endpoint_auth_method: client.method,
      grant_types: ['client_credentials'],
      response_types: [],
      redirect_uris: [],
      scope: API_SCOPES,
    })),
    clientDefaults: { id_token_signed_response_alg: 'ES256' },
    jwks: { keys: [signingKey] },
    scopes: [...API_SCOPES.split(' '), 'api:admin'], // the last is known, and allowed to no client
    ttl: { ClientCredentials: (ctx, token, client) => lifetimeOf(client) },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo(ctx, resource) {
          if (!settings.resources.includes(resource)) {
            throw new errors.InvalidTarget('unknown resource');
          }
          return {
            scope: API_SCOPES,
            audience: resource,
            accessTokenFormat: 'jwt',
            jwt: { sign: { alg: 'ES256' } },
          };
        },
      },
    },
  });
}

/** Return a function that maps an access token of either form to its scopes, or to undefined when invalid. */
function makeVerifier(provider, issuer, settings, signingKey) {
  const keys = createLocalJWKSet({ keys: [publicJwk(signingKey)] });
  return async (accessToken) => {
    if (accessToken.split('.').length === 3) {
      try {
        const { payload } = await jwtVerify(accessToken, keys, {
          issuer,
          audience: settings.resources,
          algorithms: ['ES256'],
          typ: 'at+jwt',
        });
        return (payload.scope ?? '').split(' ');
      } catch {
        return undefined;
      }
    }
    const token = await provider.ClientCredentials.find(accessToken);
    return token?.isValid ? (token.scope ?? '').split(' ') : undefined;
  };
}

function answer(response, status, body, headers = {}) {
  response.writeHead(status, { 'content-type': 'application/json', ...headers });
  response.end(JSON.stringify(body));
}

/** GET /api: needs a valid token; ?scope=NAME also demands that scope (RFC 6750, section 3). */
async function serveApi(request, response, url, verify) {
  const [scheme, accessToken] = (request.headers.authorization ?? '').split(' ');
  if (scheme.toLowerCase() !== 'bearer' || !accessToken) {
    answer(response, 401, { error: 'no_token' }, { 'www-authenticate': 'Bearer realm="api"' });
    return;
  }
  const scopes = await verify(accessToken);
  if (scopes === undefined) {
    const challenge = 'Bearer realm="api", error="invalid_token", error_description="expired, revoked or unknown"';
    answer(response, 401, { error: 'invalid_token' }, { 'www-authenticate': challenge });
    return;
  }
  const demanded = url.searchParams.get('scope');
  if (demanded !== null && !scopes.includes(demanded)) {
    const challenge = `Bearer realm="api", error="insufficient_scope", scope="${demanded}"`;
    answer(response, 403, { error: 'insufficient_scope' }, { 'www-authenticate': challenge });
    return;
  }
  answer(response, 200, { scopes });
}

function start(settings) {
  const counts = new Map();
  const server = createServer();

  server.listen(0, '127.0.0.1', () => {
    const origin = `http://127.0.0.1:${server.address().port}`;
    const mount = settings.path ?? '';
    const issuer = origin + mount;
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const signingKey = { ...privateKey.export({ format: 'jwk' }), kid: 'es256-1', alg: 'ES256', use: 'sig' };
    const provider = makeProvider(issuer, settings, signingKey);
    const verify = makeVerifier(provider, issuer, settings, signingKey);
    const handle = provider.callback();

    server.on('request', (request, response) => {
      const url = new URL(request.url, origin);
      if (url.pathname === '/__requests') {
        answer(response, 200, Object.fromEntries(counts));
        return;
      }
      counts.set(url.pathname, (counts.get(url.pathname) ?? 0) + 1);
      if (url.pathname === '/api') {
        serveApi(request, response, url, verify).catch((error) => {
          console.error(error);
          answer(response, 500, { error: 'server_error' });
        });
      } else if (url.pathname.startsWith(`${mount}/`)) {
        request.originalUrl = request.url;
        request.url = request.url.slice(mount.length);
        handle(request, response);
      } else {
        answer(response, 404, { error: 'not_found' });
      }
    });

    console.log(JSON.stringify({
      port: server.address().port,
      issuer,
      token_endpoint: `${issuer}/token`,
      introspection_endpoint: `${issuer}/token/introspection`,
      revocation_endpoint: `${issuer}/token/revocation`,
      api: `${origin}/api`,
    }));
  });
}

const input = createInterface({ input: process.stdin });
input.once('line', (line) => start(JSON.parse(line)));
input.once('close', () => process.exit(0));
