//go:build !race

package e2e

// underRace reports whether the test and the processes are built with the race detector.
const underRace = false

// slower divides the load, and the amount of it that a test waits for.
const slower = 1

// raftTimeout is the timeout of raft; zero means its default.
const raftTimeout = 0
