//go:build !race

package e2e

// underRace: the processes are built with the race detector, as the test is.
const underRace = false

// raftTimeout is raft's: its default.
const raftTimeout = 0
