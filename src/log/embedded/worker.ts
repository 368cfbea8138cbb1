import { parentPort, workerData } from 'node:worker_threads'
import { nodeClock, nodeDisk } from '../../core/env/node-env.ts'
import { Board } from './board.ts'
import { Engine } from './engine.ts'
import type { WorkerStart } from './links.ts'
import type { Job } from './protocol.ts'

const { settings, board } = workerData as WorkerStart
const engine = new Engine({ settings, disk: nodeDisk, clock: nodeClock, board: new Board(board) })

parentPort?.on('message', (job: Job) => {
  parentPort?.postMessage(engine.run(job))
})
