/** The one major version everything is tested on (docs/decisions has why older and newer ones are refused). */
const MAJOR = 24

/**
 * Which Node runs the program: this one, the one installed beside the packages, or none.
 *
 * @param {{ version: string, pinned: string | undefined }} found `version` as in process.versions.node
 * @returns {{ kind: 'here' } | { kind: 'other', node: string } | { kind: 'refused', message: string }}
 */
export function chooseNode(found) {
  if (Number.parseInt(found.version, 10) === MAJOR) return { kind: 'here' }
  if (found.pinned !== undefined) return { kind: 'other', node: found.pinned }
  return {
    kind: 'refused',
    message: `Cyberun runs on Node ${MAJOR}, this is ${found.version}: run "npm ci" in its folder, which brings one, or install Node ${MAJOR}`,
  }
}
