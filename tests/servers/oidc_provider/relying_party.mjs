// Clients and validators that nobody here wrote, against the development server: openid-client, oauth4webapi and jose.
// Settings come as one JSON line on stdin; what each of them saw goes out as one JSON line. An exception ends it.

import { createInterface } from 'node:readline';

import * as jose from 'jose';
import * as oauth from 'oauth4webapi';
import * as openid from 'openid-client';

const insecure = { [oauth.allowInsecureRequests]: true };

/** openid-client: discovery, token, introspection, revocation, by one way of client authentication. */
async function withOpenidClient(settings, algorithm, authentication) {
  const options = { algorithm, execute: [openid.allowInsecureRequests] };
  const config = await openid.discovery(new URL(settings.issuer), settings.client_id, undefined, authentication, options);
  const granted = await openid.clientCredentialsGrant(config, { scope: 'orders:read', resource: settings.resource });
  const before = await openid.tokenIntrospection(config, granted.access_token);
  await openid.tokenRevocation(config, granted.access_token);
  const after = await openid.tokenIntrospection(config, granted.access_token);
  return { granted, before, after };
}

/** oauth4webapi: the same, step by step, and its own validation of a JWT access token at the API (RFC 9068). */
async function withOauth4webapi(settings) {
  const issuer = new URL(settings.issuer);
  const found = await oauth.discoveryRequest(issuer, { algorithm: 'oauth2', ...insecure });
  const as = await oauth.processDiscoveryResponse(issuer, found);
  const client = { client_id: settings.client_id };
  const authentication = oauth.ClientSecretPost(settings.client_secret);
  const parameters = new URLSearchParams({ scope: 'orders:read' });
  const answer = await oauth.clientCredentialsGrantRequest(as, client, authentication, parameters, insecure);
  const granted = await oauth.processClientCredentialsResponse(as, client, answer);
  const call = new Request(settings.api, { headers: { authorization: `Bearer ${granted.access_token}` } });
  const claims = await oauth.validateJwtAccessToken(as, call, settings.audience, insecure);
  const asked = await oauth.introspectionRequest(as, client, authentication, granted.access_token, insecure);
  const introspected = await oauth.processIntrospectionResponse(as, client, asked);
  const refused = await oauth.clientCredentialsGrantRequest(
    as, client, oauth.ClientSecretPost('wrong'), parameters, insecure,
  );
  let error;
  try {
    await oauth.processClientCredentialsResponse(as, client, refused);
  } catch (problem) {
    error = [problem.status, problem.cause?.[0]?.scheme];
  }
  return { claims, introspected, error };
}

/** jose: the published keys verify the token; those of a rotation are found by a second look. */
async function withJose(settings, token) {
  const keys = jose.createRemoteJWKSet(new URL(`${settings.issuer}/jwks`));
  const options = { issuer: settings.issuer, audience: settings.audience, typ: 'at+jwt', requiredClaims: ['jti', 'client_id'] };
  const { payload, protectedHeader } = await jose.jwtVerify(token, keys, options);
  return { payload, protectedHeader };
}

for await (const line of createInterface({ input: process.stdin })) {
  const settings = JSON.parse(line);
  const key = await jose.importJWK(settings.private_jwk, 'ES256');
  const signer = { key, kid: settings.private_jwk.kid };
  const seen = {
    basic: await withOpenidClient(settings, 'oauth2', openid.ClientSecretBasic(settings.client_secret)),
    post: await withOpenidClient(settings, 'oidc', openid.ClientSecretPost(settings.client_secret)),
    jwt: await withOpenidClient({ ...settings, client_id: settings.jwt_client_id }, 'oauth2', openid.PrivateKeyJwt(signer)),
    oauth4webapi: await withOauth4webapi(settings),
    jose: await withJose(settings, settings.token),
  };
  console.log(JSON.stringify(seen));
  break;
}
