// Package e2e holds the end-to-end tests: a cluster of seven real processes on real disks, written to through all its masters
// while its processes are killed, stopped, halted and started again.
//
// Every test ends in the full verifier (cluster.verify): each acknowledged record is read back byte for byte at its position
// through every master; the chain of every storage node passes [storagenode.Verify] with the same head; each record of the chain is
// one that was acknowledged at that place, or one whose outcome stayed unknown; and no log holds a token, a race or a panic.
//
// The environment: CHAINSTORE_SOAK is how long TestRandomKills goes on (20s), CHAINSTORE_SEED repeats its schedule,
// CHAINSTORE_LOAD multiplies the load of all tests (1), CHAINSTORE_E2E_INPUT names a folder whose *.log files TestRealInput takes
// too, CHAINSTORE_E2E_BINARY an executable to test in the place of one that is built first, and CHAINSTORE_E2E_KEEP=1 keeps the
// folders of all tests, not only of those that failed.
// With -short the package runs no process.
package e2e
