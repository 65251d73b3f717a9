import { createHmac, createPrivateKey, generateKeyPairSync, type KeyObject, sign as signBytes } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { importJWK, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest'
import { createLocalBus } from '../../src/bus.ts'
import { AccessTokens } from '../../src/identity/access-tokens.ts'
import { createIdentity } from '../../src/identity/create-identity.ts'
import type { Identity } from '../../src/identity/identity.ts'
import { openServerSecret } from '../../src/store/server-secret.ts'
import { listSigningKeys } from '../../src/store/signing-keys.ts'
import { openStore, type Store } from '../../src/store/store.ts'
import { onBothEngines, silent } from '../store/engines.ts'
import { ADDRESS, DAY, HOUR, identityWorld, PASSWORD, refusalCode, SECOND } from './identity-world.ts'

const ISSUER = 'https://control.example'
const NOBODY = '00000000-0000-7000-8000-000000000000'

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64url')
const decode = (part = '') => JSON.parse(Buffer.from(part, 'base64url').toString()) as Record<string, unknown>

async function temporary(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'cyberun-tokens-'))
  onTestFinished(() => rm(directory, { recursive: true }))
  return directory
}

onBothEngines('access tokens', ({ emptyStore }) => {
  test('are verified by the published keys', async () => {
    const { identity, person, login, now } = await identityWorld(await emptyStore())
    const { userId } = await person('ada')
    const { accessToken } = await login('ada@example.org')
    const [key] = identity.jwks().keys
    expect(key).toMatchObject({ kty: 'OKP', crv: 'Ed25519', alg: 'EdDSA', use: 'sig' })
    expect(Object.keys(key ?? {}).sort()).toEqual(['alg', 'crv', 'kid', 'kty', 'use', 'x'])
    const { payload } = await jwtVerify(accessToken, await importJWK(key ?? {}, 'EdDSA'), {
      currentDate: new Date(now()),
    })
    expect(payload).toMatchObject({ sub: userId, iss: ISSUER, aud: 'cyberun-api' })
  })

  test('outlive a new signing key and a restart', async () => {
    const { identity, another, person, login, pass } = await identityWorld(await emptyStore())
    await person('ada')
    const old = await login('ada@example.org')
    const other = await another()
    pass(SECOND)
    await identity.rotateSigningKey()
    const fresh = await login('ada@example.org')
    expect(identity.jwks().keys).toHaveLength(2)
    pass(SECOND)
    for (const { accessToken } of [old, fresh]) {
      await identity.authenticate(accessToken, ADDRESS)
      await other.authenticate(accessToken, ADDRESS)
      await (await another()).authenticate(accessToken, ADDRESS)
    }
  })

  test('are signed by the newest key on every server; old keys are replaced and, later, forgotten', async () => {
    const { store, now, pass } = await identityWorld(await emptyStore())
    const secret = openServerSecret(join(await temporary(), 'secret.key'))
    const open = () => AccessTokens.open({ store, secret, issuer: ISSUER, now, log: silent })
    const kidOf = async (tokens: AccessTokens) =>
      decode((await tokens.sign({ userId: NOBODY, familyId: NOBODY })).split('.')[0])['kid']
    const [first, second] = [await open(), await open()]
    const before = await kidOf(first)
    expect(await kidOf(second)).toBe(before)

    pass(SECOND)
    await second.rotate()
    const lateToken = await first.sign({ userId: NOBODY, familyId: NOBODY })
    await first.maintain()
    expect(await kidOf(first)).toBe(await kidOf(second))
    expect(await second.verify(lateToken)).toBeDefined()
    pass(2 * HOUR + SECOND)
    await first.maintain()
    expect(first.jwks().keys.map((key) => key['kid'])).not.toContain(before)

    const young = await kidOf(first)
    pass(90 * DAY)
    await first.maintain()
    expect(await kidOf(first)).not.toBe(young)
  })

  test('cannot be signed by who only has a copy of the database', async () => {
    const { store, now, identity } = await identityWorld(await emptyStore())
    const [signingKey] = identity.jwks().keys
    const secret = openServerSecret(join(await temporary(), 'secret.key'))
    const thief = await AccessTokens.open({ store, secret, issuer: ISSUER, now, log: silent })
    const forged = await thief.sign({ userId: NOBODY, familyId: NOBODY })
    expect(decode(forged.split('.')[0])['kid']).not.toBe(signingKey?.['kid'])
  })
})

/** What an attacker may do: change a token, sign with a key of their own, even (which they cannot) with ours. */
interface Forge {
  token: string
  header: Record<string, unknown>
  claims: Record<string, unknown>
  /** In seconds. */
  now: number
  publishedX: string
  own(changedHeader: object, changedClaims: object): string
  foreign(changedHeader: object, changedClaims: object): string
  hmac(secret: Buffer | string): string
}

const stranger = generateKeyPairSync('ed25519')
const strangersJwk = stranger.publicKey.export({ format: 'jwk' })

const parts = ({ token }: Forge) => {
  const [header = '', claims = '', signature = ''] = token.split('.')
  return { header, claims, signature }
}
const unsigned = (forge: Forge, alg: string) => `${encode({ ...forge.header, alg })}.${parts(forge).claims}.`

const ATTACKS: Record<string, (forge: Forge) => string> = {
  'without a signature (alg none)': (forge) => unsigned(forge, 'none'),
  'without a signature (alg nOnE)': (forge) => unsigned(forge, 'nOnE'),
  'with the signature cut off': (forge) => `${parts(forge).header}.${parts(forge).claims}.`,
  'signed with a key of somebody else': ({ foreign }) => foreign({}, {}),
  'that brings its key (jwk)': ({ foreign }) => foreign({ jwk: strangersJwk }, {}),
  'that names a place for its key (jku)': ({ own }) => own({ jku: 'https://evil.example/jwks.json' }, {}),
  'that names a certificate (x5u)': ({ own }) => own({ x5u: 'https://evil.example/cert' }, {}),
  'with an unknown crit': ({ own }) => own({ crit: ['exp'] }, {}),
  'with b64 false': ({ own }) => own({ b64: false, crit: ['b64'] }, {}),
  'with an unknown kid': ({ own }) => own({ kid: 'other' }, {}),
  'with a path as kid': ({ own }) => own({ kid: '../../../../dev/null' }, {}),
  'with SQL as kid': ({ own }) => own({ kid: "x' or '1'='1" }, {}),
  'with the name of a method as kid': ({ own }) => own({ kid: 'constructor' }, {}),
  'with a kid in another case': ({ own, header }) => own({ kid: String(header['kid']).toUpperCase() }, {}),
  'with a number as kid': ({ own }) => own({ kid: 0 }, {}),
  'without kid': ({ own }) => own({ kid: undefined }, {}),
  'of another type': ({ own }) => own({ typ: 'JWT' }, {}),
  'without a type': ({ own }) => own({ typ: undefined }, {}),
  'with the other name of the algorithm': ({ own }) => own({ alg: 'Ed25519' }, {}),
  'as HS256 with the published key as secret': ({ hmac, publishedX }) => hmac(Buffer.from(publishedX, 'base64url')),
  'as HS256 with the text of the published key as secret': ({ hmac, publishedX }) => hmac(publishedX),
  'as HS256 with an empty secret': ({ hmac }) => hmac(''),
  'that is expired': ({ own, now }) => own({}, { exp: now }),
  'without exp': ({ own }) => own({}, { exp: undefined }),
  'with exp as text': ({ own }) => own({}, { exp: '9999999999' }),
  'that is not good yet': ({ own, now }) => own({}, { nbf: now + 60 }),
  'without nbf': ({ own }) => own({}, { nbf: undefined }),
  'without iat': ({ own }) => own({}, { iat: undefined }),
  'for another audience': ({ own }) => own({}, { aud: 'cyberun-peer' }),
  'without an audience': ({ own }) => own({}, { aud: undefined }),
  'of another issuer': ({ own }) => own({}, { iss: 'https://evil.example' }),
  'without an issuer': ({ own }) => own({}, { iss: undefined }),
  'without a subject': ({ own }) => own({}, { sub: undefined }),
  "for another user, with somebody's sign-in": ({ own }) => own({}, { sub: NOBODY }),
  'without a sign-in': ({ own }) => own({}, { sid: undefined }),
  'with a list as sign-in': ({ own, claims }) => own({}, { sid: [claims['sid']] }),
  'of an unknown sign-in': ({ own }) => own({}, { sid: NOBODY }),
  'with changed claims under the old signature': (forge) =>
    `${parts(forge).header}.${encode({ ...forge.claims, sub: NOBODY })}.${parts(forge).signature}`,
  'in five parts (JWE)': ({ token }) => `${token}.AAAA.AAAA`,
  'in two parts': (forge) => `${parts(forge).header}.${parts(forge).claims}`,
  'with a header that is not JSON': (forge) => `AAAA.${parts(forge).claims}.${parts(forge).signature}`,
  'with a list as header': (forge) => `${encode([forge.header])}.${parts(forge).claims}.${parts(forge).signature}`,
  'with padding': ({ token }) => `${token}=`,
  'with a space before it': ({ token }) => ` ${token}`,
  'with a line break after it': ({ token }) => `${token}\n`,
  'given twice': ({ token }) => `${token}.${token}`,
  'that is too large': ({ own }) => own({}, { padding: 'x'.repeat(4096) }),
  'that is empty': () => '',
  'that is two dots': () => '..',
}

describe('an access token is refused', () => {
  let directory: string
  let store: Store
  let identity: Identity
  let tokens: AccessTokens
  let forge: Forge

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'cyberun-forge-'))
    store = await openStore({ dataDir: directory, log: silent })
    const secret = openServerSecret(join(directory, 'secret.key'))
    const now = () => Date.parse('2026-11-01T12:00:00Z')
    const options = { store, secret, bus: createLocalBus(), log: silent, issuer: ISSUER, now }
    identity = await createIdentity(options)
    tokens = await AccessTokens.open(options)
    const emailAddress = 'ada@example.org'
    await identity.createUser({ emailAddress, userPassword: PASSWORD, displayName: 'Ada' })
    const { accessToken: token } = await identity.login(emailAddress, PASSWORD, ADDRESS)

    const [headerPart, claimsPart] = token.split('.')
    const [header, claims] = [decode(headerPart), decode(claimsPart)]
    const [record] = await listSigningKeys(store)
    const opened = record && secret.open('signing-key', record.kid, record.privateSealed)
    const ownKey = createPrivateKey({ key: decode(Buffer.from(opened ?? '').toString('base64url')), format: 'jwk' })
    const signed = (key: KeyObject, changedHeader: object, changedClaims: object) => {
      const input = `${encode({ ...header, ...changedHeader })}.${encode({ ...claims, ...changedClaims })}`
      return `${input}.${signBytes(null, Buffer.from(input), key).toString('base64url')}`
    }
    forge = {
      token,
      header,
      claims,
      now: now() / 1000,
      publishedX: String(identity.jwks().keys[0]?.['x']),
      own: (changedHeader, changedClaims) => signed(ownKey, changedHeader, changedClaims),
      foreign: (changedHeader, changedClaims) => signed(stranger.privateKey, changedHeader, changedClaims),
      hmac(key) {
        const input = `${encode({ ...header, alg: 'HS256' })}.${claimsPart}`
        return `${input}.${createHmac('sha256', key).update(input).digest('base64url')}`
      },
    }
  })
  afterAll(async () => {
    await identity.stop()
    await store.close()
    await rm(directory, { recursive: true })
  })

  test('(and one that we sign is not)', async () => {
    const { userId } = await tokens.verify(forge.own({}, {})).then((claims) => claims ?? { userId: undefined })
    expect(userId).toBe(forge.claims['sub'])
    await identity.authenticate(forge.own({}, {}), ADDRESS)
  })

  test.each(Object.keys(ATTACKS))('%s', async (name) => {
    const bearer = ATTACKS[name]?.(forge) ?? ''
    expect(await refusalCode(identity.authenticate(bearer, `address of ${name}`))).toBe('unauthenticated')
  })

  test('whichever of its characters is changed', async () => {
    const { token } = forge
    for (let at = 0; at < token.length; at++) {
      const changed = `${token.slice(0, at)}${token[at] === 'A' ? 'B' : 'A'}${token.slice(at + 1)}`
      expect(await tokens.verify(changed)).toBeUndefined()
    }
  })

  test('however it is mangled', async () => {
    const piece = fc.string({ unit: fc.constantFrom(...'ABab09-_.=+/ \n\u0000é'), maxLength: 6 })
    const { token } = forge
    await fc.assert(
      fc.asyncProperty(fc.nat(token.length), fc.nat(6), piece, async (at, cut, put) => {
        const mangled = token.slice(0, at) + put + token.slice(at + cut)
        fc.pre(mangled !== token)
        expect(await tokens.verify(mangled)).toBeUndefined()
      }),
      { numRuns: 2000 },
    )
  })
})
