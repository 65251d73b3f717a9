import { expect } from 'vitest'
import { answer, type RequestSpec, textAnswer } from '../build.ts'
import { type CaseGroup, hopVerdict, type Stage } from '../cases.ts'
import { type Field, valuesOf } from '../message.ts'
import { schemeOf } from '../visitor.ts'

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
      const { pathPrefix } = stage.direct
      const told = pathPrefix === '' ? [] : [pathPrefix]
      expect(valuesOf(seen, 'x-forwarded-prefix'), 'it holds the token').toEqual(told)
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
    hopVerdict('Host, Origin and Referer name the service together, as it knows itself', async (stage) => {
      const seen = await fieldsAtService(stage, {
        method: 'POST',
        target: '/form',
        fields: [
          ['Origin', '{origin}'],
          ['Referer', '{origin}{prefix}/page?q=%2f'],
        ],
      })
      const { hostHeader, pathPrefix } = stage.direct
      expect(valuesOf(seen, 'host')).toEqual([hostHeader])
      expect(valuesOf(seen, 'origin')).toEqual([`http://${hostHeader}`])
      expect(valuesOf(seen, 'referer')).toEqual([`http://${hostHeader}${pathPrefix}/page?q=%2f`])
    }),
    hopVerdict('what lets a visitor in never reaches the service', async (stage) => {
      const seen = await fieldsAtService(stage, { fields: [['Cookie', 'a=1']] })
      // But a base path that it was started with, which is told as it is.
      const told = seen.filter(([, value]) => value !== stage.direct.pathPrefix)
      const text = told.map(([name, value]) => `${name}: ${value}`).join('\n')
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
    hopVerdict(
      'an absolute Location that names the service as it was asked leads back into the tunnel',
      async (stage) => {
        stage.origin.handle(async (request) => {
          await request.readBody()
          const [local] = valuesOf(request.head.fields, 'host')
          await request.reply(
            answer({
              status: '302 Found',
              fields: [
                ['Location', `http://${local}${stage.direct.pathPrefix}/next?a=b`],
                ['Content-Length', '0'],
              ],
            }),
          )
        })
        const { head } = await (await stage.connect()).exchange({})
        const { hostHeader, pathPrefix } = stage.visitor
        const leads = [`${schemeOf(stage.visitor)}://${hostHeader}${pathPrefix}/next?a=b`, `${pathPrefix}/next?a=b`]
        expect(leads).toContain(valuesOf(head.fields, 'location').join())
      },
    ),
  ],
}

/** The fields that the service sees of a request with those of `spec`. */
async function fieldsAtService(stage: Stage, spec: RequestSpec): Promise<Field[]> {
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
