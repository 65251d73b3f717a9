import { describe, expect, test } from 'vitest'
import { parseProxy, proxyFromEnv } from '../src/proxy.ts'

const WSS = 'wss://edge.example.org:8788/agent'

describe('which proxy', () => {
  const cases: readonly [target: string, env: Record<string, string>, proxy: string | undefined][] = [
    [WSS, {}, undefined],
    [WSS, { HTTPS_PROXY: 'http://proxy:3128' }, 'http://proxy:3128/'],
    [WSS, { https_proxy: 'http://lower:1', HTTPS_PROXY: 'http://upper:1' }, 'http://lower:1/'],
    [WSS, { HTTPS_PROXY: 'proxy:3128' }, 'http://proxy:3128/'],
    [WSS, { HTTPS_PROXY: 'http://user:secret@proxy:3128' }, 'http://user:secret@proxy:3128/'],
    [WSS, { HTTP_PROXY: 'http://proxy:1' }, undefined],
    [WSS, { ALL_PROXY: 'http://all:1' }, 'http://all:1/'],
    [WSS, { HTTPS_PROXY: '', ALL_PROXY: 'http://all:1' }, 'http://all:1/'],
    ['ws://edge.example.org/agent', { HTTPS_PROXY: 'http://proxy:1' }, 'http://proxy:1/'],
    ['ws://edge.example.org/agent', { HTTPS_PROXY: 'http://s:1', http_proxy: 'http://p:1' }, 'http://s:1/'],
    ['ws://localhost:8788/agent', { HTTPS_PROXY: 'http://proxy:1', http_proxy: 'http://p:1' }, undefined],
    ['ws://[::1]:8788/agent', { ALL_PROXY: 'http://proxy:1' }, undefined],
    ['wss://localhost:8788/agent', { HTTPS_PROXY: 'http://proxy:1' }, 'http://proxy:1/'],
    ['ws://edge.example.org/agent', { http_proxy: 'http://proxy:1' }, 'http://proxy:1/'],
    ['ws://edge.example.org/agent', { HTTP_PROXY: 'http://proxy:1' }, undefined],
    [WSS, { HTTPS_PROXY: 'http://proxy:1', NO_PROXY: '*' }, undefined],
    [WSS, { HTTPS_PROXY: 'http://proxy:1', NO_PROXY: 'example.org' }, undefined],
    [WSS, { HTTPS_PROXY: 'http://proxy:1', NO_PROXY: '.example.org' }, undefined],
    [WSS, { HTTPS_PROXY: 'http://proxy:1', NO_PROXY: 'other, EDGE.example.org:8788' }, undefined],
    [WSS, { HTTPS_PROXY: 'http://proxy:1', NO_PROXY: 'edge.example.org:443' }, 'http://proxy:1/'],
    [WSS, { HTTPS_PROXY: 'http://proxy:1', NO_PROXY: 'ample.org' }, 'http://proxy:1/'],
    ['wss://edge.example.org/agent', { HTTPS_PROXY: 'http://proxy:1', no_proxy: 'edge.example.org:443' }, undefined],
    ['wss://[::1]:8788/agent', { HTTPS_PROXY: 'http://proxy:1', NO_PROXY: '::1' }, undefined],
    ['wss://[::1]:8788/agent', { HTTPS_PROXY: 'http://proxy:1', NO_PROXY: '[::1]:8788' }, undefined],
    ['wss://127.0.0.1:8788/agent', { HTTPS_PROXY: 'http://proxy:1', NO_PROXY: 'localhost,127.0.0.1' }, undefined],
  ]
  test.each(cases)('%s with %j', (target, env, proxy) => {
    expect(proxyFromEnv(new URL(target), env)?.href).toBe(proxy)
  })

  test.each(['socks5://proxy:1080', 'https://proxy:443', 'http://', '://'])(
    'refuses %s without repeating it',
    (raw) => {
      expect(() => parseProxy(raw)).toThrow(/must be http:\/\/host:port/)
    },
  )

  test.each(['http://user:%zz@proxy:1', 'http://%:secret@proxy:1', 'http://user:%ff@proxy:1'])(
    'refuses %s, whose user or password nobody can decode, without repeating it',
    (raw) => {
      expect(() => parseProxy(raw)).toThrow(/^the proxy's user and password must be percent-encoded/)
    },
  )
})
