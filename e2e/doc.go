// Package e2e holds the end-to-end tests: a cluster of seven real processes on real disks, written to through all its masters
// while its processes are killed, stopped, halted, cut off from each other, and given bad disks and wrong clocks; see docs/faults.md.
//
// Every test ends in the full verifier (cluster.verify): each acknowledged record is read back byte for byte at its position
// through every master; the chain of every storage node passes [audit.Verify] with the same head; each record of the chain is
// one that was acknowledged at that place, or one whose outcome stayed unknown; the states of all masters are the same at the same
// index of the log; an outsider who has nothing but the log's keys and a token ([verify.Log]) finds every leaf, block, payload and signature good; each
// checkpoint that a master gave out under load, all of them polled throughout, is of one history and none went back; the history of appends and reads fits one log (by porcupine, and by the order of what did not overlap); and no log
// holds a token, a race or a panic. That the checkers notice is shown by TestCheckersNotice, on broken builds of the program.
//
// The environment: CHAINSTORE_SOAK is how long the random tests go on (12s), CHAINSTORE_SEED repeats a schedule, CHAINSTORE_FAULTS and
// CHAINSTORE_APPENDS are how many steps and acknowledged appends TestRandomFaults has at least, CHAINSTORE_LOAD multiplies the load of all tests (1),
// CHAINSTORE_E2E_NETWORK=netns or =proxy forces the mechanism of network faults, which is namespaces where the machine has them,
// CHAINSTORE_TIMES=1 has TestFailoverGap hold what it measures to its limits, in twenty tries, CHAINSTORE_E2E_INPUT names a folder whose *.log files TestRealInput takes
// too, CHAINSTORE_E2E_BINARY an executable to test in the place of one that is built first, and CHAINSTORE_E2E_KEEP=1 keeps the
// folders of all tests, not only of those that failed.
// With -short the package runs no process.
package e2e
