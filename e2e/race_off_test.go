//go:build !race

package e2e

// underRace: the processes are built with the race detector, as the test is.
const underRace = false

// slower is by how much the load is thinned out, and how much less of it a test waits for.
const slower = 1

// raftTimeout is raft's: its default.
const raftTimeout = 0
