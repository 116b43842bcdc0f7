// Package e2e contains the end-to-end tests: clusters of seven real processes on real disks. Clients append through all
// masters while processes are killed, stopped, halted and cut off from each other, and get bad disks and wrong clocks.
// See docs/faults.md for the faults, and README.md for the files, the settings and the mutants.
//
// Every test ends in the full verifier, cluster.verify. It checks that
//   - every acknowledged record is read back byte for byte at its position through every master;
//   - the chain of every storage node passes [audit.Verify] with the same head;
//   - each record of the chain was acknowledged at that place, or its outcome stayed unknown;
//   - the states of all masters are equal at an equal index of the log;
//   - [verify.Log], with only the log's keys and a token, finds every leaf, block, payload and signature good;
//   - the checkpoints that the masters gave out under load belong to one history, and none went back;
//   - the history of appends and reads fits one log, by porcupine and by the order of what did not overlap;
//   - no process log contains a token, a data race or a panic.
package e2e
