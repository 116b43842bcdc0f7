// Package e2e contains the end-to-end tests: clusters of seven real processes on real disks. Clients append through all
// masters while processes are killed, stopped, paused and cut off from each other, and get faulty disks and wrong
// clocks. See docs/faults.md for the faults, and README.md for the files, the settings and the mutants.
//
// Every test ends with the full verifier, cluster.verify. It checks the following:
//   - Every acknowledged record is read back byte for byte at its position through every master.
//   - The chain of every storage node passes [audit.Verify] with the same head.
//   - Each record of the chain was acknowledged at that place, or its outcome stayed unknown.
//   - The states of all masters are equal at an equal index of the log.
//   - [verify.Log], with only the log's keys and a token, accepts every leaf, block, payload and signature.
//   - The checkpoints that the masters served under load belong to one history, and none went back.
//   - The history of appends and reads is linearizable according to porcupine, and respects real-time order.
//   - The totals of the integrity log agree with its events, and the metrics of every master with the totals.
//   - No process log contains a token, a data race or a panic.
package e2e
