import { textAnswer } from '../build.ts'
import { type CaseGroup, type ComparedCase, compared } from '../cases.ts'
import type { Field } from '../message.ts'

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
