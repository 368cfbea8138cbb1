import { Buffer } from 'node:buffer'
import { kernelsBase64 } from './kernels.generated.ts'
import type { Loops } from './loops.ts'
import { plainLoops } from './plain.ts'

export interface Kernels {
  readonly loops: Loops
  /** The memory, of at least `count` floats; what was in it stays where it was. A view is good until the next call. At most `memoryFloatsMax`. */
  reserve(count: number): Float32Array
}

interface Memory {
  readonly buffer: ArrayBuffer
  grow(pages: number): number
}

/** What is used of WebAssembly, whose types come with those of browsers, which are not for this room. */
declare const WebAssembly: {
  readonly Module: new (bytes: Uint8Array) => object
  readonly Memory: new (pages: { readonly initial: number; readonly maximum: number }) => Memory
  readonly Instance: new (module: object, imports: { readonly env: { readonly memory: Memory } }) => { readonly exports: object }
}

/** 16 MiB, as the kernels are compiled. */
export const memoryFloatsMax = 4_194_304
const pageFloats = 16_384
/** Sets of kernels that are kept for the next one who needs them: a memory of WebAssembly reserves gigabytes of addresses. */
const keptMost = 4

const free: Kernels[] = []
let compiled: object | undefined

/** Kernels for one training, or one forecast; `giveBack` when it ends. Vectors where the machine has them; else the same bits, some twenty times slower. */
export function borrow(): Kernels {
  const kept = free.pop()
  if (kept !== undefined) return kept
  return vectorKernels() ?? plainKernels()
}

export function giveBack(kernels: Kernels): void {
  if (free.length < keptMost) free.push(kernels)
}

/** Undefined: this machine, or its policy, has no WebAssembly with vectors. `bytes`: other ones than the kernels' own. */
export function vectorKernels(bytes?: Uint8Array): Kernels | undefined {
  try {
    const module = bytes === undefined ? (compiled ??= new WebAssembly.Module(Buffer.from(kernelsBase64, 'base64'))) : new WebAssembly.Module(bytes)
    const memory = new WebAssembly.Memory({ initial: 1, maximum: memoryFloatsMax / pageFloats })
    const { exports } = new WebAssembly.Instance(module, { env: { memory } })
    if (!hasLoops(exports)) return undefined
    return {
      loops: exports,
      reserve(count) {
        const missing = Math.ceil(count / pageFloats) - memory.buffer.byteLength / (4 * pageFloats)
        if (missing > 0) memory.grow(missing)
        return new Float32Array(memory.buffer)
      },
    }
  } catch {
    return undefined
  }
}

function hasLoops(exports: object): exports is Loops {
  return ['multiply', 'forward', 'backward', 'adam'].every((name) => typeof Reflect.get(exports, name) === 'function')
}

export function plainKernels(): Kernels {
  let floats = new Float32Array(pageFloats)
  return {
    loops: plainLoops(() => floats),
    reserve(count) {
      if (count > memoryFloatsMax) throw new RangeError(`${count} floats; at most ${memoryFloatsMax} are possible`)
      if (count > floats.length) {
        const grown = new Float32Array(count)
        grown.set(floats)
        floats = grown
      }
      return floats
    },
  }
}
