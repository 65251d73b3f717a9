import { expect } from 'vitest'
import { answer, type RequestSpec, textAnswer } from '../build.ts'
import { type CaseGroup, type ComparedCase, compared, hopVerdict } from '../cases.ts'
import { type Field, valuesOf } from '../message.ts'
import { schemeOf } from '../visitor.ts'

const many = (count: number, valueLength = 10): Field[] =>
  Array.from({ length: count }, (_, i): Field => [`X-Many-${i}`, `${i}`.padEnd(valueLength, '.')])

/** Lists of fields that must cross unchanged in either direction: names, case, order, number, values. */
const LISTS: readonly (readonly [name: string, fields: readonly Field[]])[] = [
  [
    'raw case',
    [
      ['x-lower', 'a'],
      ['X-UPPER', 'b'],
      ['X-mIxEd', 'c'],
    ],
  ],
  [
    'the same name in several cases',
    [
      ['X-Twin', '1'],
      ['x-twin', '2'],
      ['X-TWIN', '3'],
    ],
  ],
  [
    'duplicates far apart',
    [
      ['X-Dup', '1'],
      ['X-Other', 'o'],
      ['X-Dup', '2'],
      ['X-Dup', '1'],
    ],
  ],
  [
    'an empty value',
    [
      ['X-Empty', ''],
      ['X-After', 'a'],
    ],
  ],
  ['white space around a value', [['X-Padded', ' \t padded \t ']]],
  ['a tab and blanks inside a value', [['X-Inner', 'a \t  b']]],
  ['Latin-1 in a value', [['X-Latin', 'caf\xe9 \xff\x80']]],
  ['UTF-8 bytes in a value', [['X-Utf', 'na\xc3\xafve \xe4\xbd\xa0']]],
  ['every character of a token in a name', [["X-!#$%&'*+.^`|~09-az", 'token']]],
  [
    'names that objects have',
    [
      ['constructor', 'c'],
      ['toString', 't'],
      ['hasOwnProperty', 'h'],
    ],
  ],
  ['commas, quotes, equals', [['X-List', 'a, "b, c"; d="e\\"f", ,']]],
  ['a value of 16 KiB', [['X-Long', 'v'.repeat(16_384)]]],
  ['a name of 200 characters', [[`X-${'n'.repeat(198)}`, 'v']]],
  ['300 fields', many(300)],
  ['60,000 bytes of fields', many(60, 980)],
  [
    'Cache-Control, Vary, Pragma',
    [
      ['Cache-Control', 'no-store, max-age=0'],
      ['Vary', 'Accept, Origin'],
      ['Pragma', 'no-cache'],
    ],
  ],
  [
    'Date and Server-like fields',
    [
      ['Date', 'Sun, 06 Nov 1994 08:49:37 GMT'],
      ['X-Powered-By', 'tests'],
      ['Via', '1.0 far'],
    ],
  ],
  ['Content-Type with parameters', [['Content-Type', 'text/html;charset=utf-8 ; x="y"']]],
  ['an encoding left alone', [['Content-Encoding', 'br']]],
  [
    'Content-MD5, Digest, Warning',
    [
      ['Digest', 'sha-256=abc='],
      ['Warning', '199 - "odd"'],
    ],
  ],
]

const REQUEST_LISTS: readonly (readonly [name: string, fields: readonly Field[]])[] = [
  [
    'Accept and its family',
    [
      ['Accept', '*/*;q=0.1'],
      ['Accept-Encoding', 'gzip, br'],
      ['Accept-Language', 'de, en;q=0.5'],
    ],
  ],
  ['Authorization of the service', [['Authorization', 'Basic dXNlcjpwYXNz']]],
  ['a bearer token of the service', [['authorization', 'Bearer not-ours']]],
  ['cookies of the service', [['Cookie', 'a=1; b="2"; cyberun=theirs; a=3']]],
  [
    'two Cookie lines',
    [
      ['Cookie', 'a=1'],
      ['Cookie', 'b=2'],
    ],
  ],
  [
    'conditionals',
    [
      ['If-None-Match', 'W/"1", "2"'],
      ['If-Modified-Since', 'Sun, 06 Nov 1994 08:49:37 GMT'],
    ],
  ],
  [
    'client hints and fetch metadata',
    [
      ['Sec-CH-UA', '"X";v="1"'],
      ['Sec-Fetch-Mode', 'cors'],
      ['Sec-Fetch-Site', 'same-origin'],
    ],
  ],
  [
    'Origin and Referer of the tunnel',
    [
      ['Origin', '{origin}'],
      ['Referer', '{origin}{prefix}/page?q=1'],
    ],
  ],
  [
    'DNT, Priority, Max-Forwards',
    [
      ['DNT', '1'],
      ['Priority', 'u=1, i'],
      ['Max-Forwards', '5'],
    ],
  ],
  ['User-Agent', [['User-Agent', 'Mozilla/5.0 (compatible; tests)']]],
  ['X-Requested-With', [['X-Requested-With', 'XMLHttpRequest']]],
]

const ANSWER_LISTS: readonly (readonly [name: string, fields: readonly Field[]])[] = [
  [
    'several cookies',
    [
      ['Set-Cookie', 'a=1; Path=/; HttpOnly'],
      ['Set-Cookie', 'b=2; Path=/; Max-Age=3'],
      ['set-cookie', 'c=3; Path=/'],
    ],
  ],
  [
    'CORS',
    [
      ['Access-Control-Allow-Methods', 'GET'],
      ['Access-Control-Expose-Headers', 'X-A, X-B'],
    ],
  ],
  [
    'WWW-Authenticate twice',
    [
      ['WWW-Authenticate', 'Basic realm="a"'],
      ['WWW-Authenticate', 'Digest realm="b"'],
    ],
  ],
  [
    'Server and ETag',
    [
      ['Server', 'tests/1.0 (odd)'],
      ['ETag', 'W/"abc"'],
      ['Last-Modified', 'Sun, 06 Nov 1994 08:49:37 GMT'],
    ],
  ],
  ['Content-Disposition', [['Content-Disposition', "attachment; filename*=UTF-8''%e2%82%ac.txt"]]],
  [
    'Retry-After, Allow, Age',
    [
      ['Retry-After', '120'],
      ['Allow', 'GET, HEAD'],
      ['Age', '5'],
    ],
  ],
  [
    'X-Frame-Options, nosniff',
    [
      ['X-Frame-Options', 'DENY'],
      ['X-Content-Type-Options', 'nosniff'],
    ],
  ],
  [
    'X-Accel and Surrogate fields',
    [
      ['X-Accel-Buffering', 'no'],
      ['Surrogate-Control', 'max-age=1'],
    ],
  ],
  ['Location on the service’s own path', [['Location', '/elsewhere?x=1#top']]],
  ['Location that is relative', [['Location', 'next/page']]],
  ['Location on another host', [['Location', 'https://other.example/login']]],
  ['Content-Location', [['Content-Location', '/file.txt']]],
  ['Refresh', [['Refresh', '5; url=/again']]],
  ['Link', [['Link', '</style.css>; rel=preload, </b>; rel="next"']]],
]

const crossing = (
  lists: typeof LISTS,
  toCase: (name: string, fields: readonly Field[]) => ComparedCase,
): ComparedCase[] => lists.map(([name, fields]) => toCase(name, fields))

export const requestFields: CaseGroup = {
  name: 'request fields',
  cases: crossing([...LISTS, ...REQUEST_LISTS], (name, fields) => compared(name, { fields })),
}

export const answerFields: CaseGroup = {
  name: 'answer fields',
  cases: crossing([...LISTS, ...ANSWER_LISTS], (name, fields) => compared(name, {}, textAnswer('x', fields))),
}

/** What a request says, and which fields of it the service must not see. */
const DROPPED: readonly (readonly [name: string, fields: readonly Field[], gone: readonly string[]])[] = [
  [
    'fields that Connection names',
    [
      ['Connection', 'X-Hop, close'],
      ['X-Hop', '1'],
      ['X-Kept', '2'],
    ],
    ['x-hop'],
  ],
  [
    'Connection in odd spelling',
    [
      ['connection', ' x-a ,,X-B'],
      ['X-A', '1'],
      ['x-b', '2'],
    ],
    ['x-a', 'x-b'],
  ],
  [
    'Keep-Alive and Proxy-Connection',
    [
      ['Keep-Alive', 'timeout=5'],
      ['Proxy-Connection', 'keep-alive'],
    ],
    ['keep-alive', 'proxy-connection'],
  ],
  ['Proxy-Authorization', [['Proxy-Authorization', 'Basic abc']], ['proxy-authorization']],
  [
    'what services believe of a proxy',
    [
      ['Forwarded', 'for=9.9.9.9'],
      ['X-Real-IP', '9.9.9.9'],
      ['X-Client-IP', '9.9.9.9'],
      ['True-Client-IP', '9.9.9.9'],
    ],
    ['forwarded', 'x-real-ip', 'x-client-ip', 'true-client-ip'],
  ],
  [
    'names with an underscore',
    [
      ['X_Team_ID', '1'],
      ['Content_Length', '5'],
    ],
    ['x_team_id', 'content_length'],
  ],
  [
    'Upgrade to what is not WebSocket',
    [
      ['Upgrade', 'h2c'],
      ['Connection', 'Upgrade, HTTP2-Settings'],
      ['HTTP2-Settings', 'AAMAAABk'],
    ],
    ['upgrade', 'http2-settings'],
  ],
]

/** Forwarding fields that a visitor may not decide, even by naming them in Connection. */
const FORGED: readonly Field[] = [
  ['X-Forwarded-For', '9.9.9.9'],
  ['X-Forwarded-Host', 'evil.example'],
  ['X-Forwarded-Proto', 'gopher'],
  ['X-Forwarded-Port', '1'],
  ['X-Forwarded-Prefix', '/evil'],
  ['x-forwarded-for', '8.8.8.8'],
]

export const rewrittenFields: CaseGroup = {
  name: 'fields an HTTP hop must change',
  cases: [
    ...DROPPED.map(([name, fields, gone]) =>
      hopVerdict(`${name}: not for the service`, async (stage) => {
        const seen = await fieldsAtService(stage, { fields })
        for (const name of gone) expect(valuesOf(seen, name), name).toEqual([])
        const kept = fields.filter(([name]) => name === 'X-Kept')
        expect(seen).toEqual(expect.arrayContaining(kept.map(([name, value]) => [name, value])))
      }),
    ),
    hopVerdict('Connection-named fields of an answer: not for the visitor', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.readBody()
        await request.reply(
          textAnswer('x', [
            ['Connection', 'X-Hop'],
            ['X-Hop', '1'],
            ['Keep-Alive', 'max=1'],
            ['X-Kept', '2'],
          ]),
        )
      })
      const { head } = await (await stage.connect()).exchange({})
      expect(valuesOf(head.fields, 'x-hop')).toEqual([])
      expect(valuesOf(head.fields, 'keep-alive')).not.toContain('max=1')
      expect(valuesOf(head.fields, 'x-kept')).toEqual(['2'])
    }),
    hopVerdict('TE: the edge asks for trailers itself, and for no transfer coding', async (stage) => {
      const fields: Field[] = [
        ['TE', 'trailers, deflate'],
        ['Connection', 'TE'],
      ]
      expect(['', 'trailers']).toContain(valuesOf(await fieldsAtService(stage, { fields }), 'te').join())
    }),
    hopVerdict('forged X-Forwarded fields are replaced by the edge’s own', async (stage) => {
      const seen = await fieldsAtService(stage, { fields: FORGED })
      expect(valuesOf(seen, 'x-forwarded-for')).toEqual(['127.0.0.1'])
      expect(valuesOf(seen, 'x-forwarded-proto')).toEqual([schemeOf(stage.visitor)])
      expect(valuesOf(seen, 'x-forwarded-host')).toEqual([stage.visitor.hostHeader])
      expect(valuesOf(seen, 'x-forwarded-port')).toEqual([String(stage.visitor.port)])
      expect(valuesOf(seen, 'x-forwarded-prefix'), 'it would hold the token').toEqual([])
    }),
    ...FORGED.slice(0, 5).map(([name]) =>
      hopVerdict(`${name} named in Connection is there all the same`, async (stage) => {
        const plain = valuesOf(await fieldsAtService(stage, {}), name)
        const named = valuesOf(
          await fieldsAtService(stage, {
            fields: [
              ['Connection', name],
              [name, 'forged'],
            ],
          }),
          name,
        )
        expect(named).toEqual(plain)
      }),
    ),
    hopVerdict('Host, Origin and Referer name the local target together', async (stage) => {
      const seen = await fieldsAtService(stage, {
        method: 'POST',
        target: '/form',
        fields: [
          ['Origin', '{origin}'],
          ['Referer', '{origin}{prefix}/page?q=%2f'],
        ],
      })
      const local = `localhost:${stage.origin.port}`
      expect(valuesOf(seen, 'host')).toEqual([local])
      expect(valuesOf(seen, 'origin')).toEqual([`http://${local}`])
      expect(valuesOf(seen, 'referer')).toEqual([`http://${local}/page?q=%2f`])
    }),
    hopVerdict('what lets a visitor in never reaches the service', async (stage) => {
      const seen = await fieldsAtService(stage, { fields: [['Cookie', 'a=1']] })
      const text = seen.map(([name, value]) => `${name}: ${value}`).join('\n')
      for (const [, secret] of stage.visitor.extraHeaders) expect(text).not.toContain(secret)
      expect(valuesOf(seen, 'cookie')).toEqual(['a=1'])
    }),
    ...['POST', 'PUT', 'PATCH', 'DELETE'].map((method) =>
      hopVerdict(`${method} from another origin is refused at the edge`, async (stage) => {
        const before = stage.origin.receivedBytes
        const connection = await stage.connect()
        const { head } = await connection.exchange({ method, fields: [['Origin', 'http://evil.example']] })
        expect(head.status).toBe(403)
        expect(stage.origin.receivedBytes).toBe(before)
      }),
    ),
    hopVerdict('an absolute Location that names the local target leads back into the tunnel', async (stage) => {
      stage.origin.handle(async (request) => {
        await request.readBody()
        const [local] = valuesOf(request.head.fields, 'host')
        await request.reply(
          answer({
            status: '302 Found',
            fields: [
              ['Location', `http://${local}/next?a=b`],
              ['Content-Length', '0'],
            ],
          }),
        )
      })
      const { head } = await (await stage.connect()).exchange({})
      const { hostHeader, pathPrefix } = stage.visitor
      const leads = [`${schemeOf(stage.visitor)}://${hostHeader}${pathPrefix}/next?a=b`, `${pathPrefix}/next?a=b`]
      expect(leads).toContain(valuesOf(head.fields, 'location').join())
    }),
  ],
}

async function fieldsAtService(
  stage: Parameters<ReturnType<typeof hopVerdict>['run']>[0],
  spec: RequestSpec,
): Promise<Field[]> {
  let seen: Field[] = []
  stage.origin.handle(async (request) => {
    await request.readBody()
    seen = request.head.fields
    await request.reply(textAnswer('ok'))
  })
  const { head } = await (await stage.connect()).exchange(spec)
  expect(head.status).toBe(200)
  return seen
}
